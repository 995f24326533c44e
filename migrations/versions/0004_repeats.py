"""repeats: requests that clients without idempotency keys repeat

An older process does not read this table and writes nothing to it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "repeats",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("cut_off", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_repeats_task_id_tasks"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_repeats")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("repeats")
