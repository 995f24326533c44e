"""messages to operators: the scope of an endpoint, and the occurrences that have been reported"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Add the table and the column. An older process ignores both."""
    op.create_table(
        "operator_occurrences",
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reported_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("type", "subject", name=op.f("pk_operator_occurrences")),
    )
    with op.batch_alter_table("webhook_endpoints", schema=None) as batch_op:
        batch_op.add_column(sa.Column("scope", sa.Text(), server_default="client", nullable=False))
        batch_op.create_check_constraint(op.f("ck_webhook_endpoints_scope"), "scope IN ('admin', 'client')")


def downgrade() -> None:
    """Remove the column and the table."""
    with op.batch_alter_table("webhook_endpoints", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_webhook_endpoints_scope"), type_="check")
        batch_op.drop_column("scope")
    op.drop_table("operator_occurrences")
