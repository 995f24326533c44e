"""an index of callbacks by decision, for the inbox"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

DECIDED = sa.text("decision IS NOT NULL")


def upgrade() -> None:
    """Create the index."""
    op.create_index(
        "ix_callbacks_decision",
        "callbacks",
        ["decision", "id"],
        sqlite_where=DECIDED,
        postgresql_where=DECIDED,
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_callbacks_decision", table_name="callbacks")
