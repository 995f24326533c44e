"""claims, and balances of accounts"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "claims",
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("marked_at", INSTANT, nullable=False),
        sa.CheckConstraint("state IN ('denied', 'filed', 'open', 'paid')", name=op.f("ck_claims_state")),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_claims")),
    )
    op.create_table(
        "balances",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_balances")),
    )
    op.create_index("ix_balances_upstream", "balances", ["upstream", "at"])


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("balances")
    op.drop_table("claims")
