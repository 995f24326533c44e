"""a queue of its own for results that expire, for those that last, and for copies that are deleted"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_assets_expiring": (["expires_at", "due_at"], "state = 'pending' AND expires_at IS NOT NULL"),
    "ix_assets_lasting": (["due_at"], "state = 'pending' AND expires_at IS NULL"),
    "ix_assets_deleting": (["due_at"], "state = 'deleting'"),
}


def upgrade() -> None:
    """Create the indexes. Old code claims by the index that stays."""
    for name, (columns, where) in _INDEXES.items():
        op.create_index(name, "assets", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    """Remove the indexes."""
    for name in _INDEXES:
        op.drop_index(name, table_name="assets")
