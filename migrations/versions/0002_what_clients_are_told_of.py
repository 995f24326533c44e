"""what clients are told of

Old code must run on the new schema: add, use, then remove. A column is dropped one release after the last code that
read it; a NOT NULL column arrives with a server default; an index on a big table is built CONCURRENTLY, in a migration
of its own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TOLD = sa.text("message IS NOT NULL")


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("events") as events:
        events.add_column(sa.Column("client", sa.Text(), server_default="", nullable=False))
        events.add_column(sa.Column("message", sa.Text(), nullable=True))
        events.create_index("ix_events_feed", ["client", "id"], sqlite_where=TOLD, postgresql_where=TOLD)
    op.execute("UPDATE events SET client = (SELECT tasks.client FROM tasks WHERE tasks.id = events.task_id)")
    op.execute(
        "UPDATE events SET message = 'task.' || type WHERE type IN ('submitted', 'running', 'awaiting_input', "
        "'succeeded', 'failed', 'cancelled', 'expired', 'late_result', 'progress')"
    )


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("events") as events:
        events.drop_index("ix_events_feed", sqlite_where=TOLD, postgresql_where=TOLD)
        events.drop_column("message")
        events.drop_column("client")
