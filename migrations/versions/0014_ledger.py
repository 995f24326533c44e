"""the ledger: reservations, entries and counters of budgets"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables and columns."""
    op.create_table(
        "budget_counters",
        sa.Column("budget", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("soft_noted", sa.Boolean(), nullable=False),
        sa.CheckConstraint("held >= 0", name=op.f("ck_budget_counters_held_not_negative")),
        sa.PrimaryKeyConstraint("budget", "scope", "period", name=op.f("pk_budget_counters")),
    )
    op.create_table(
        "money_entries",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("gross", sa.BigInteger(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("change", sa.BigInteger(), nullable=True),
        sa.Column("quoted", sa.BigInteger(), nullable=True),
        sa.Column("quoted_max", sa.BigInteger(), nullable=True),
        sa.Column("usd", sa.Text(), nullable=True),
        sa.Column("computed", sa.Boolean(), nullable=False),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("corrects", sa.Text(), nullable=True),
        sa.Column("purchased_at", INSTANT, nullable=False),
        sa.Column("booked_at", INSTANT, nullable=False),
        sa.Column("superseded_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "basis IN ('balance', 'none', 'operator', 'price', 'provider', 'quote', 'record', 'rule')",
            name=op.f("ck_money_entries_basis"),
        ),
        sa.CheckConstraint(
            "verdict IN ('charged', 'free', 'probably_charged', 'probably_refunded', 'refunded')",
            name=op.f("ck_money_entries_verdict"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_money_entries")),
        sa.UniqueConstraint("key", name=op.f("uq_money_entries_key")),
    )
    with op.batch_alter_table("money_entries", schema=None) as batch_op:
        batch_op.create_index(
            "ix_money_entries_claims",
            ["upstream", "purchased_at"],
            unique=False,
            sqlite_where=sa.text("superseded_at IS NULL AND NOT delivered AND verdict <> 'free'"),
            postgresql_where=sa.text("superseded_at IS NULL AND NOT delivered AND verdict <> 'free'"),
        )
        batch_op.create_index(
            "ix_money_entries_client",
            ["client", "purchased_at"],
            unique=False,
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )
        batch_op.create_index(
            "ix_money_entries_purchased",
            ["purchased_at"],
            unique=False,
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )
        batch_op.create_index(
            "uq_money_entries_current",
            ["submission_id"],
            unique=True,
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )

    op.create_table(
        "reservations",
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("quote", sa.JSON(), nullable=False),
        sa.Column("holds", sa.JSON(), nullable=False),
        sa.Column("reserved_at", INSTANT, nullable=False),
        sa.Column("settled_at", INSTANT, nullable=True),
        sa.Column("check_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "(settled_at IS NULL) = (check_at IS NOT NULL)", name=op.f("ck_reservations_open_requires_check_at")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_reservations_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_reservations")),
    )
    with op.batch_alter_table("reservations", schema=None) as batch_op:
        batch_op.create_index(
            "ix_reservations_check",
            ["check_at"],
            unique=False,
            sqlite_where=sa.text("check_at IS NOT NULL"),
            postgresql_where=sa.text("check_at IS NOT NULL"),
        )
        batch_op.create_index(batch_op.f("ix_reservations_task_id"), ["task_id"], unique=False)

    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cost_unit", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("usage", sa.JSON(), server_default="{}", nullable=False))
        batch_op.add_column(sa.Column("settlements", sa.JSON(), server_default="[]", nullable=False))


def downgrade() -> None:
    """Remove them."""
    for name in ("settlements", "usage", "cost_unit"):
        op.drop_column("tasks", name)  # not in a batch: what refers to a task goes with the table that a batch replaces
    with op.batch_alter_table("reservations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_reservations_task_id"))
        batch_op.drop_index(
            "ix_reservations_check",
            sqlite_where=sa.text("check_at IS NOT NULL"),
            postgresql_where=sa.text("check_at IS NOT NULL"),
        )

    op.drop_table("reservations")
    with op.batch_alter_table("money_entries", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_money_entries_current",
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )
        batch_op.drop_index(
            "ix_money_entries_purchased",
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )
        batch_op.drop_index(
            "ix_money_entries_client",
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )
        batch_op.drop_index(
            "ix_money_entries_claims",
            sqlite_where=sa.text("superseded_at IS NULL AND NOT delivered AND verdict <> 'free'"),
            postgresql_where=sa.text("superseded_at IS NULL AND NOT delivered AND verdict <> 'free'"),
        )

    op.drop_table("money_entries")
    op.drop_table("budget_counters")
