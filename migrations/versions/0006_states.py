"""the index of states leaves out the tasks that are to be submitted

The whole one drew claims away from the index of what is due.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NOT_TO_SUBMIT = sa.text("state NOT IN ('queued', 'submitting')")


def upgrade() -> None:
    """Replace the index."""
    op.drop_index("ix_tasks_state", table_name="tasks")
    op.create_index(
        "ix_tasks_state", "tasks", ["state", "id"], sqlite_where=NOT_TO_SUBMIT, postgresql_where=NOT_TO_SUBMIT
    )


def downgrade() -> None:
    """Replace it by the whole one."""
    op.drop_index("ix_tasks_state", table_name="tasks")
    op.create_index("ix_tasks_state", "tasks", ["state", "id"])
