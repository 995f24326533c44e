"""the context of a task's trace"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. An older process leaves them empty: its steps are missing in the trace."""
    for table in ("tasks", "webhook_messages"):
        op.add_column(table, sa.Column("traceparent", sa.Text(), nullable=True))


def downgrade() -> None:
    """Remove the columns, not in a batch: that would replace the table, and what refers to it would go."""
    for table in ("webhook_messages", "tasks"):
        op.drop_column(table, "traceparent")
