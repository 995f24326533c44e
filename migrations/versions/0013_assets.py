"""kept copies of results, and when the message about an end is sent"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Add the table and the column."""
    op.create_table(
        "assets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("media_type", sa.Text(), nullable=True),
        sa.Column("marked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("settled_at", INSTANT, nullable=True),
        sa.Column("gone_since", INSTANT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("state IN ('deleting', 'kept', 'lost', 'pending')", name=op.f("ck_assets_state")),
        sa.CheckConstraint(
            "(state IN ('pending', 'deleting')) = (due_at IS NOT NULL)", name=op.f("ck_assets_open_requires_due_at")
        ),
        sa.CheckConstraint(
            "state <> 'kept' OR (object IS NOT NULL AND sha256 IS NOT NULL AND size IS NOT NULL)",
            name=op.f("ck_assets_kept_requires_object"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assets")),
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_assets_due", "assets", ["due_at"], unique=False, sqlite_where=due, postgresql_where=due)
    op.create_index(op.f("ix_assets_task_id"), "assets", ["task_id"], unique=False)
    op.add_column("tasks", sa.Column("callback_when", sa.Text(), server_default="ended", nullable=False))


def downgrade() -> None:
    """Remove them."""
    op.drop_column("tasks", "callback_when")
    op.drop_table("assets")
