"""the flows of a worker"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. An older worker writes none: it works on every flow."""
    op.add_column("processes", sa.Column("flows", sa.Text()))


def downgrade() -> None:
    """Remove the column."""
    with op.batch_alter_table("processes") as table:
        table.drop_column("flows")
