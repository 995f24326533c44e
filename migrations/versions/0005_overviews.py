"""indexes for the overviews of an operator

On a large PostgreSQL database, create them beforehand with CREATE INDEX CONCURRENTLY: then this migration finds them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DUPLICATE_JOB = sa.text("outcome = 'taken' AND superseded_at IS NOT NULL")
COLUMNS = ("state", "family", "upstream")


def upgrade() -> None:
    """Create the indexes."""
    for column in COLUMNS:
        op.create_index(f"ix_tasks_{column}", "tasks", [column, "id"], unique=False, if_not_exists=True)
    op.create_index(
        "ix_submissions_duplicate",
        "submissions",
        ["task_id"],
        unique=False,
        sqlite_where=DUPLICATE_JOB,
        postgresql_where=DUPLICATE_JOB,
        if_not_exists=True,
    )


def downgrade() -> None:
    """Drop the indexes."""
    op.drop_index("ix_submissions_duplicate", table_name="submissions")
    for column in COLUMNS:
        op.drop_index(f"ix_tasks_{column}", table_name="tasks")
