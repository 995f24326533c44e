"""autovacuum of the tables that retention removes rows from

Old code runs on it as before. It changes nothing on SQLite.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TABLES = (
    "tasks",
    "large_inputs",
    "task_labels",
    "submissions",
    "submission_answers",
    "polls",
    "events",
    "callbacks",
    "webhook_messages",
    "webhook_attempts",
)
SETTINGS = {"autovacuum_vacuum_scale_factor": "0.03", "autovacuum_vacuum_threshold": "1000"}
"""PostgreSQL's default waits until a fifth of a table is dead rows, so that each table is a fifth larger than its rows."""


def upgrade() -> None:
    """Set when autovacuum cleans these tables."""
    _execute("SET (" + ", ".join(f"{name} = {value}" for name, value in SETTINGS.items()) + ")")


def downgrade() -> None:
    """Return to the settings of the server."""
    _execute("RESET (" + ", ".join(SETTINGS) + ")")


def _execute(what: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in TABLES:
            op.execute(f"ALTER TABLE {table} {what}")
