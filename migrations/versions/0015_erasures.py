"""erasures that clients asked for, and when a task was erased"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("tasks", sa.Column("erased_at", INSTANT, nullable=True))
    op.create_table(
        "erasures",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("cancel", sa.Boolean(), nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("erased_at", INSTANT, nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint("provider IN ('deleted', 'failed', 'not_possible')", name=op.f("ck_erasures_provider")),
        sa.CheckConstraint(
            "erased_at IS NOT NULL OR due_at IS NOT NULL", name=op.f("ck_erasures_unfinished_requires_due_at")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_erasures_task_id_tasks"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
        sa.UniqueConstraint("request_id", "task_id", name=op.f("uq_erasures_request_id_task_id")),
    )
    op.create_index(op.f("ix_erasures_task_id"), "erasures", ["task_id"])
    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_erasures_due", "erasures", ["due_at"], sqlite_where=due, postgresql_where=due)


def downgrade() -> None:
    """Remove them."""
    op.drop_table("erasures")
    op.drop_column("tasks", "erased_at")
