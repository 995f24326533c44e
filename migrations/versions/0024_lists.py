"""indexes of lists with the columns of the other filters"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

NOT_TO_SUBMIT = sa.text("state NOT IN ('queued', 'submitting')")
WIDE = {
    "ix_tasks_client": ["client", "id", "state", "family", "upstream"],
    "ix_tasks_state": ["state", "id", "family", "upstream", "client"],
    "ix_tasks_family": ["family", "id", "state", "upstream", "client"],
    "ix_tasks_upstream": ["upstream", "id", "state", "family", "client"],
}
"""The columns of each index. It had the first two before."""


def upgrade() -> None:
    """Create each index again with more columns. Old code uses it as before."""
    for name, columns in WIDE.items():
        _replace(name, columns)


def downgrade() -> None:
    """Create the indexes as they were."""
    for name, columns in WIDE.items():
        _replace(name, columns[:2])


def _replace(name: str, columns: list[str]) -> None:
    where = NOT_TO_SUBMIT if name == "ix_tasks_state" else None
    op.drop_index(name, table_name="tasks")
    op.create_index(name, "tasks", columns, sqlite_where=where, postgresql_where=where)
