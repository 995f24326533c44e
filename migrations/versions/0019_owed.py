"""an index of the jobs whose price is not given back

It may be added while an older process runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

OWED = sa.text("superseded_at IS NULL AND NOT delivered AND verdict NOT IN ('free', 'refunded')")


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_money_entries_owed", "money_entries", ["upstream"], sqlite_where=OWED, postgresql_where=OWED)


def downgrade() -> None:
    """Remove the index."""
    op.drop_index("ix_money_entries_owed", table_name="money_entries", sqlite_where=OWED, postgresql_where=OWED)
