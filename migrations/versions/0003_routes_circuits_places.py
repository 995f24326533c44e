"""routes, circuits, places, extra jobs

Old code must run on the new schema: add, use, then remove. A column is dropped one release after the last code that
read it; a NOT NULL column arrives with a server default; an index on a big table is built CONCURRENTLY, in a migration
of its own.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
"""``timestamptz`` on PostgreSQL, microseconds since 1970 on SQLite."""


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "circuits",
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=False),
        sa.Column("opened_at", INSTANT, nullable=True),
        sa.Column("open_until", INSTANT, nullable=True),
        sa.Column("probe_until", INSTANT, nullable=True),
        sa.CheckConstraint("(opened_at IS NULL) = (open_until IS NULL)", name=op.f("ck_circuits_open_since_and_until")),
        sa.PrimaryKeyConstraint("upstream", "dialect", name=op.f("pk_circuits")),
    )
    op.create_table(
        "upstreams",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("submit_slot_at", INSTANT, nullable=True),
        sa.Column("poll_slot_at", INSTANT, nullable=True),
        sa.Column("credit", sa.Double(), nullable=True),
        sa.Column("credit_unit", sa.Text(), nullable=True),
        sa.Column("credit_error", sa.Text(), nullable=True),
        sa.Column("credit_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_upstreams")),
    )
    for column in _TASKS:
        op.add_column("tasks", column)
    for column in _SUBMISSIONS:
        op.add_column("submissions", column)
    op.execute(
        "UPDATE tasks SET submission_id = "
        "(SELECT id FROM submissions WHERE task_id = tasks.id ORDER BY sent_at DESC, id DESC LIMIT 1)"
    )
    op.drop_index("uq_submissions_one_job", "submissions")
    _index("uq_submissions_one_job", "submissions", ["task_id"], _ONE_JOB + " AND superseded_at IS NULL", unique=True)
    _index("ix_submissions_due", "submissions", ["due_at"], "due_at IS NOT NULL")
    _index("ix_submissions_job", "submissions", ["upstream", "external_id"], "external_id IS NOT NULL")
    _index("ix_tasks_waiting", "tasks", ["waits_for", "client", "id"], "waits_for IS NOT NULL")
    _index("ix_tasks_served", "tasks", ["upstream", "client"], "state IN ('submitting', 'submitted', 'running')")


def downgrade() -> None:
    """Go back."""
    for name in ("ix_tasks_served", "ix_tasks_waiting"):
        op.drop_index(name, "tasks")
    for name in ("ix_submissions_job", "ix_submissions_due", "uq_submissions_one_job"):
        op.drop_index(name, "submissions")
    op.execute("DELETE FROM submissions WHERE superseded_at IS NOT NULL")  # the older schema has no room for them
    _index("uq_submissions_one_job", "submissions", ["task_id"], _ONE_JOB, unique=True)
    # One statement each: to rebuild a table, as a batch would on SQLite, deletes what refers to it.
    for column in reversed(_SUBMISSIONS):
        op.drop_column("submissions", column.name)
    for column in reversed(_TASKS):
        op.drop_column("tasks", column.name)
    op.drop_table("upstreams")
    op.drop_table("circuits")


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


_ONE_JOB = "outcome IN ('sending', 'taken', 'uncertain')"
_TASKS: tuple[sa.Column[Any], ...] = (
    sa.Column("passed_over", sa.JSON(), server_default="{}", nullable=False),
    sa.Column("on_uncertain", sa.Text(), server_default="hold", nullable=False),
    sa.Column("submission_id", sa.Uuid(), nullable=True),
    sa.Column("refunded", sa.Boolean(), nullable=True),
    sa.Column("waits_for", sa.Text(), nullable=True),
    sa.Column("unconfirmed_since", INSTANT, nullable=True),
)
_SUBMISSIONS: tuple[sa.Column[Any], ...] = (
    sa.Column("retry_at", INSTANT, nullable=True),
    sa.Column("superseded_at", INSTANT, nullable=True),
    sa.Column("job_state", sa.Text(), nullable=True),
    sa.Column("cost", sa.Double(), nullable=True),
    sa.Column("refunded", sa.Boolean(), nullable=True),
    sa.Column("due_at", INSTANT, nullable=True),
    sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
)
