"""the spine

Old code must run on the new schema: add, use, then remove. A column is dropped one release after the last code that
read it; a NOT NULL column arrives with a server default; an index on a big table is built CONCURRENTLY, in a migration
of its own.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
"""``timestamptz`` on PostgreSQL, microseconds since 1970 on SQLite."""


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "inbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("dedupe_key", sa.LargeBinary(), nullable=False),
        sa.Column("copies", sa.Integer(), nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("decided_at", INSTANT, nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "decision IN ('applied', 'duplicate', 'forged', 'hastened', 'ignored', 'late', 'parked', 'stale', 'unmatched', 'unreadable')",
            name=op.f("ck_inbox_decision"),
        ),
        sa.CheckConstraint(
            "(decision IS NULL) = (due_at IS NOT NULL)", name=op.f("ck_inbox_undecided_is_never_forgotten")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("submission_id", "dedupe_key", name=op.f("uq_inbox_submission_id_dedupe_key")),
    )
    op.create_index(
        "ix_inbox_due",
        "inbox",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )

    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("inherited", sa.JSON(), nullable=False),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("route", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=True),
        sa.Column("dialect", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("progress", sa.Integer(), nullable=True),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("failure", sa.JSON(), nullable=True),
        sa.Column("next_actions", sa.JSON(), nullable=False),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("verdict_by", sa.Text(), nullable=True),
        sa.Column("learned_by", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", INSTANT, nullable=True),
        sa.Column("answered_at", INSTANT, nullable=True),
        sa.Column("callback_expected", sa.Boolean(), nullable=False),
        sa.Column("missing_since", INSTANT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("submitted_at", INSTANT, nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("deadline_at", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'expired', 'failed', 'succeeded')) = (finished_at IS NOT NULL)",
            name=op.f("ck_tasks_ended_has_a_time"),
        ),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'expired', 'failed', 'succeeded')) = (verdict_by IS NOT NULL)",
            name=op.f("ck_tasks_ended_has_a_judge"),
        ),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'expired', 'failed', 'succeeded')) OR due_at IS NOT NULL",
            name=op.f("ck_tasks_open_is_never_forgotten"),
        ),
        sa.CheckConstraint(
            "learned_by IN ('callback', 'client', 'poll', 'submit', 'sweep')", name=op.f("ck_tasks_learned_by")
        ),
        sa.CheckConstraint("state <> 'failed' OR failure IS NOT NULL", name=op.f("ck_tasks_failed_says_why")),
        sa.CheckConstraint(
            "state IN ('awaiting_input', 'cancelled', 'expired', 'failed', 'queued', 'running', 'submitted', 'submitting', 'succeeded', 'unconfirmed')",
            name=op.f("ck_tasks_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('submitted', 'running', 'awaiting_input') OR upstream IS NOT NULL",
            name=op.f("ck_tasks_taken_by_somebody"),
        ),
        sa.CheckConstraint("verdict_by IN ('dovecote', 'provider')", name=op.f("ck_tasks_verdict_by")),
        sa.CheckConstraint(
            "verdict_by IS NULL OR verdict_by <> 'provider' OR due_at IS NULL",
            name=op.f("ck_tasks_final_is_left_alone"),
        ),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("ck_tasks_progress")),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["tasks.id"], name=op.f("fk_tasks_parent_id_tasks"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index("ix_tasks_client", "tasks", ["client", "id"], unique=False)
    op.create_index("ix_tasks_client_family", "tasks", ["client", "family", "id"], unique=False)
    op.create_index("ix_tasks_client_family_state", "tasks", ["client", "family", "state", "id"], unique=False)
    op.create_index("ix_tasks_client_state", "tasks", ["client", "state", "id"], unique=False)
    op.create_index(
        "ix_tasks_due_poll",
        "tasks",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("state NOT IN ('queued', 'submitting') AND due_at IS NOT NULL"),
        postgresql_where=sa.text("state NOT IN ('queued', 'submitting') AND due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_due_submit",
        "tasks",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'submitting')"),
        postgresql_where=sa.text("state IN ('queued', 'submitting')"),
    )
    op.create_index(
        "ix_tasks_finished",
        "tasks",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_parent_id", "tasks", ["parent_id"], unique=False)
    op.create_index(
        "uq_tasks_idempotency",
        "tasks",
        ["client", "idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )

    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_events_task_id_tasks"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("task_id", "sequence", name=op.f("uq_events_task_id_sequence")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("delivered_at", INSTANT, nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(state = 'delivered') = (delivered_at IS NOT NULL)", name=op.f("ck_outbox_delivered_has_a_time")
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (due_at IS NOT NULL)", name=op.f("ck_outbox_pending_is_never_forgotten")
        ),
        sa.CheckConstraint("state IN ('delivered', 'discarded', 'exhausted', 'pending')", name=op.f("ck_outbox_state")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_outbox_task_id_tasks"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("task_id", "sequence", name=op.f("uq_outbox_task_id_sequence")),
    )
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )

    op.create_table(
        "submissions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("sent_at", INSTANT, nullable=False),
        sa.Column("settled_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "(outcome = 'sending') = (settled_at IS NULL)", name=op.f("ck_submissions_settled_has_a_time")
        ),
        sa.CheckConstraint(
            "outcome IN ('account', 'refused', 'sending', 'taken', 'unavailable', 'uncertain')",
            name=op.f("ck_submissions_outcome"),
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_submissions_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submissions")),
    )
    op.create_index("ix_submissions_task_id", "submissions", ["task_id"], unique=False)
    op.create_index(
        "uq_submissions_one_job",
        "submissions",
        ["task_id"],
        unique=True,
        sqlite_where=sa.text("outcome IN ('sending', 'taken', 'uncertain')"),
        postgresql_where=sa.text("outcome IN ('sending', 'taken', 'uncertain')"),
    )

    op.create_table(
        "task_labels",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_task_labels_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("client", "name", "value", "task_id", name=op.f("pk_task_labels")),
    )
    op.create_index("ix_task_labels_task", "task_labels", ["task_id"], unique=False)


def downgrade() -> None:
    """Go back: nothing is left."""
    op.drop_table("task_labels")
    op.drop_table("submissions")
    op.drop_table("outbox")
    op.drop_table("events")
    op.drop_table("tasks")
    op.drop_table("secrets")
    op.drop_table("inbox")
