"""endpoint formats: the form of the messages to an endpoint

An older process sends Dovecote's own form.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

FORMATS = "'dovecote', 'elkapi', 'fal', 'midjourney-proxy', 'openai', 'replicate', 'runway-gateway', 'suno'"


def upgrade() -> None:
    """Add the column with its rule."""
    with op.batch_alter_table("webhook_endpoints") as table:
        table.add_column(sa.Column("callback_format", sa.Text(), nullable=False, server_default="dovecote"))
        table.create_check_constraint(op.f("ck_webhook_endpoints_callback_format"), f"callback_format IN ({FORMATS})")


def downgrade() -> None:
    """Remove the column. Endpoints that had another form get Dovecote's own."""
    with op.batch_alter_table("webhook_endpoints") as table:
        table.drop_constraint(op.f("ck_webhook_endpoints_callback_format"), type_="check")
        table.drop_column("callback_format")
