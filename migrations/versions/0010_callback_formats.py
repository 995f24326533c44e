"""callback formats: the form of the messages to a task's callback_url

A task that an older process accepts has Dovecote's own form.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("tasks", sa.Column("callback_format", sa.Text(), nullable=False, server_default="dovecote"))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("tasks", "callback_format")
