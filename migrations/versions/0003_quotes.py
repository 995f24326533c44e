"""terms and quotes of tasks

Old code runs on this schema: it writes neither column, and both have a default.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("tasks", sa.Column("terms", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("tasks", sa.Column("quotes", sa.JSON(), server_default="[]", nullable=False))


def downgrade() -> None:
    """Remove the columns."""
    for name in ("quotes", "terms"):
        op.drop_column("tasks", name)  # not in a batch: what refers to a task goes with the table that a batch replaces
