"""upstreams that an operator holds"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "held_upstreams",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.CheckConstraint("mode IN ('draining', 'paused')", name=op.f("ck_held_upstreams_mode")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_held_upstreams")),
    )


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("held_upstreams")
