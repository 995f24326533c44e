"""retention: what was removed, up to where each feed was pruned, and the ledger of removed tasks"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
KEPT = {
    "ix_tasks_input_kept": "finished_at IS NOT NULL AND input_removed_at IS NULL",
    "ix_tasks_results_kept": "finished_at IS NOT NULL AND results_removed_at IS NULL",
}


def upgrade() -> None:
    """Add the columns, their indexes and the tables."""
    op.add_column("tasks", sa.Column("input_removed_at", INSTANT, nullable=True))
    op.add_column("tasks", sa.Column("results_removed_at", INSTANT, nullable=True))
    for name, rows in KEPT.items():
        op.create_index(name, "tasks", ["finished_at"], sqlite_where=sa.text(rows), postgresql_where=sa.text(rows))
    op.create_table(
        "feeds",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("pruned_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client", name=op.f("pk_feeds")),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("adopted", sa.Boolean(), nullable=False),
        sa.Column("serves", sa.Boolean(), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.Column("came_to_nothing", sa.Boolean(), nullable=False),
        sa.Column("refunded", sa.Boolean(), nullable=True),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("sent_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entries")),
    )
    op.create_index(op.f("ix_ledger_entries_sent_at"), "ledger_entries", ["sent_at"])


def downgrade() -> None:
    """Remove them."""
    op.drop_table("ledger_entries")
    op.drop_table("feeds")
    for name, rows in KEPT.items():
        op.drop_index(name, "tasks", sqlite_where=sa.text(rows), postgresql_where=sa.text(rows))
    op.drop_column("tasks", "results_removed_at")
    op.drop_column("tasks", "input_removed_at")
