"""initial

Old code must run on the new schema: add, use, then remove. A column is dropped one release after the last code that
read it; a NOT NULL column arrives with a server default; an index on a big table is built CONCURRENTLY, in a migration
of its own. On SQLite a batch that drops or checks something replaces its table, and with it go the rows of other tables
that refer to it: for a table with such rows it is no way.
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
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the schema."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("last_used_at", INSTANT, nullable=True),
        sa.CheckConstraint("client <> ''", name=op.f("ck_api_keys_client_not_empty")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_table(
        "callbacks",
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
            name=op.f("ck_callbacks_decision"),
        ),
        sa.CheckConstraint(
            "(decision IS NULL) = (due_at IS NOT NULL)", name=op.f("ck_callbacks_undecided_requires_due_at")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_callbacks")),
        sa.UniqueConstraint("submission_id", "dedupe_key", name=op.f("uq_callbacks_submission_id_dedupe_key")),
    )
    with op.batch_alter_table("callbacks", schema=None) as batch_op:
        batch_op.create_index(
            "ix_callbacks_due",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )

    op.create_table(
        "circuits",
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=False),
        sa.Column("opened_at", INSTANT, nullable=True),
        sa.Column("open_until", INSTANT, nullable=True),
        sa.Column("probe_until", INSTANT, nullable=True),
        sa.CheckConstraint(
            "(opened_at IS NULL) = (open_until IS NULL)", name=op.f("ck_circuits_open_requires_open_until")
        ),
        sa.PrimaryKeyConstraint("upstream", "dialect", name=op.f("pk_circuits")),
    )
    op.create_table(
        "processes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.CheckConstraint("role IN ('web', 'worker')", name=op.f("ck_processes_role")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_processes")),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "served_clients",
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("served_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("upstream", "client", name=op.f("pk_served_clients")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("large_input", sa.Boolean(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("inherited", sa.JSON(), nullable=False),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("callback_events", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("route", sa.JSON(), nullable=False),
        sa.Column("skipped_upstreams", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("on_uncertain", sa.Text(), server_default="hold", nullable=False),
        sa.Column("adopted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("warnings", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=True),
        sa.Column("dialect", sa.Text(), nullable=True),
        sa.Column("submission_id", sa.Uuid(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("job_host", sa.Text(), nullable=True),
        sa.Column("progress", sa.Integer(), nullable=True),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("failure", sa.JSON(), nullable=True),
        sa.Column("next_actions", sa.JSON(), nullable=False),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("refunded", sa.Boolean(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("outcome_source", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", INSTANT, nullable=True),
        sa.Column("answered_at", INSTANT, nullable=True),
        sa.Column("callback_expected", sa.Boolean(), nullable=False),
        sa.Column("missing_since", INSTANT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("waits_for", sa.Text(), nullable=True),
        sa.Column("unconfirmed_since", INSTANT, nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("submitted_at", INSTANT, nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("deadline_at", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'expired', 'failed', 'succeeded')) = (decided_by IS NOT NULL)",
            name=op.f("ck_tasks_ended_requires_decided_by"),
        ),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'expired', 'failed', 'succeeded')) = (finished_at IS NOT NULL)",
            name=op.f("ck_tasks_ended_requires_finished_at"),
        ),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'expired', 'failed', 'succeeded')) OR due_at IS NOT NULL",
            name=op.f("ck_tasks_open_requires_due_at"),
        ),
        sa.CheckConstraint("decided_by IN ('dovecote', 'provider')", name=op.f("ck_tasks_decided_by")),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> 'provider' OR due_at IS NULL",
            name=op.f("ck_tasks_provider_outcome_forbids_due_at"),
        ),
        sa.CheckConstraint(
            "outcome_source IN ('callback', 'client', 'poll', 'submit', 'sweep')", name=op.f("ck_tasks_outcome_source")
        ),
        sa.CheckConstraint("state <> 'failed' OR failure IS NOT NULL", name=op.f("ck_tasks_failed_requires_failure")),
        sa.CheckConstraint(
            "state IN ('awaiting_input', 'cancelled', 'expired', 'failed', 'queued', 'running', 'submitted', 'submitting', 'succeeded', 'unconfirmed')",
            name=op.f("ck_tasks_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('awaiting_input', 'running', 'submitted') OR upstream IS NOT NULL",
            name=op.f("ck_tasks_submitted_requires_upstream"),
        ),
        sa.CheckConstraint(
            "NOT adopted OR state NOT IN ('queued', 'submitting', 'unconfirmed')",
            name=op.f("ck_tasks_adopted_is_never_submitted"),
        ),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("ck_tasks_progress")),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["tasks.id"], name=op.f("fk_tasks_parent_id_tasks"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index("ix_tasks_client", ["client", "id"], unique=False)
        batch_op.create_index(
            "uq_tasks_adopted",
            ["upstream", "external_id"],
            unique=True,
            sqlite_where=sa.text("adopted"),
            postgresql_where=sa.text("adopted"),
        )
        batch_op.create_index("ix_tasks_client_family", ["client", "family", "id"], unique=False)
        batch_op.create_index("ix_tasks_client_family_state", ["client", "family", "state", "id"], unique=False)
        batch_op.create_index("ix_tasks_client_state", ["client", "state", "id"], unique=False)
        batch_op.create_index(
            "ix_tasks_due_poll",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("state NOT IN ('queued', 'submitting') AND due_at IS NOT NULL"),
            postgresql_where=sa.text("state NOT IN ('queued', 'submitting') AND due_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_tasks_due_submit",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('queued', 'submitting')"),
            postgresql_where=sa.text("state IN ('queued', 'submitting')"),
        )
        batch_op.create_index(
            "ix_tasks_finished",
            ["finished_at"],
            unique=False,
            sqlite_where=sa.text("finished_at IS NOT NULL"),
            postgresql_where=sa.text("finished_at IS NOT NULL"),
        )
        batch_op.create_index(batch_op.f("ix_tasks_parent_id"), ["parent_id"], unique=False)
        batch_op.create_index(
            "ix_tasks_served",
            ["upstream", "client"],
            unique=False,
            sqlite_where=sa.text("state IN ('running', 'submitted', 'submitting')"),
            postgresql_where=sa.text("state IN ('running', 'submitted', 'submitting')"),
        )
        batch_op.create_index(
            "ix_tasks_waiting",
            ["waits_for", "client", "id"],
            unique=False,
            sqlite_where=sa.text("waits_for IS NOT NULL"),
            postgresql_where=sa.text("waits_for IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_tasks_idempotency",
            ["client", "idempotency_key"],
            unique=True,
            sqlite_where=sa.text("idempotency_key IS NOT NULL"),
            postgresql_where=sa.text("idempotency_key IS NOT NULL"),
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
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        sa.Column("previous_until", INSTANT, nullable=True),
        sa.Column("disabled_at", INSTANT, nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("failing_since", INSTANT, nullable=True),
        sa.Column("failed_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "disabled_reason IN ('client', 'failing', 'gone')", name=op.f("ck_webhook_endpoints_disabled_reason")
        ),
        sa.CheckConstraint("format IN ('cloudevents', 'standard')", name=op.f("ck_webhook_endpoints_format")),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)",
            name=op.f("ck_webhook_endpoints_disabled_requires_reason"),
        ),
        sa.CheckConstraint(
            "(failing_since IS NULL) = (failed_at IS NULL)",
            name=op.f("ck_webhook_endpoints_failing_requires_failed_at"),
        ),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_until IS NULL)",
            name=op.f("ck_webhook_endpoints_previous_secret_requires_expiry"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    with op.batch_alter_table("webhook_endpoints", schema=None) as batch_op:
        batch_op.create_index("ix_webhook_endpoints_client", ["client", "id"], unique=False)

    op.create_table(
        "events",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), server_default="", nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_events_task_id_tasks"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("task_id", "sequence", name=op.f("uq_events_task_id_sequence")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(
            "ix_events_feed",
            ["client", "id"],
            unique=False,
            sqlite_where=sa.text("message IS NOT NULL"),
            postgresql_where=sa.text("message IS NOT NULL"),
        )

    op.create_table(
        "large_inputs",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_large_inputs_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_large_inputs")),
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
        sa.Column("retry_at", INSTANT, nullable=True),
        sa.Column("superseded_at", INSTANT, nullable=True),
        sa.Column("job_state", sa.Text(), nullable=True),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("refunded", sa.Boolean(), nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "(outcome = 'sending') = (settled_at IS NULL)", name=op.f("ck_submissions_settled_requires_settled_at")
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
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_submissions_due",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_submissions_job",
            ["upstream", "external_id"],
            unique=False,
            sqlite_where=sa.text("external_id IS NOT NULL"),
            postgresql_where=sa.text("external_id IS NOT NULL"),
        )
        batch_op.create_index(batch_op.f("ix_submissions_task_id"), ["task_id"], unique=False)
        batch_op.create_index(
            "uq_submissions_one_job",
            ["task_id"],
            unique=True,
            sqlite_where=sa.text("outcome IN ('sending', 'taken', 'uncertain') AND superseded_at IS NULL"),
            postgresql_where=sa.text("outcome IN ('sending', 'taken', 'uncertain') AND superseded_at IS NULL"),
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
        sa.PrimaryKeyConstraint("name", "value", "client", "task_id", name=op.f("pk_task_labels")),
    )
    with op.batch_alter_table("task_labels", schema=None) as batch_op:
        batch_op.create_index("ix_task_labels_task", ["task_id"], unique=False)

    op.create_table(
        "webhook_messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), server_default="", nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("endpoint_id", sa.Uuid(), nullable=True),
        sa.Column("destination", sa.Text(), server_default="", nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("delivered_at", INSTANT, nullable=True),
        sa.Column("replayed_at", INSTANT, nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("schedule_from", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "(state = 'delivered') = (delivered_at IS NOT NULL)",
            name=op.f("ck_webhook_messages_delivered_requires_delivered_at"),
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (due_at IS NOT NULL)", name=op.f("ck_webhook_messages_pending_requires_due_at")
        ),
        sa.CheckConstraint(
            "state IN ('delivered', 'discarded', 'exhausted', 'pending')", name=op.f("ck_webhook_messages_state")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_webhook_messages_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_messages")),
        sa.UniqueConstraint(
            "task_id", "sequence", "destination", name=op.f("uq_webhook_messages_task_id_sequence_destination")
        ),
    )
    with op.batch_alter_table("webhook_messages", schema=None) as batch_op:
        batch_op.create_index("ix_webhook_messages_client", ["client", "id"], unique=False)
        batch_op.create_index(
            "ix_webhook_messages_client_state",
            ["client", "state", "id"],
            unique=False,
            sqlite_where=sa.text("state <> 'delivered'"),
            postgresql_where=sa.text("state <> 'delivered'"),
        )
        batch_op.create_index(
            "ix_webhook_messages_destination",
            ["client", "destination", "due_at"],
            unique=False,
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_webhook_messages_due",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_webhook_messages_endpoint",
            ["endpoint_id", "id"],
            unique=False,
            sqlite_where=sa.text("endpoint_id IS NOT NULL"),
            postgresql_where=sa.text("endpoint_id IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_webhook_messages_progress",
            ["task_id", "destination"],
            unique=True,
            sqlite_where=sa.text("type = 'task.progress' AND state = 'pending'"),
            postgresql_where=sa.text("type = 'task.progress' AND state = 'pending'"),
        )

    op.create_table(
        "webhook_secrets",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("previous_until", INSTANT, nullable=True),
        sa.Column("rotated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("client", name=op.f("pk_webhook_secrets")),
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["webhook_messages.id"],
            name=op.f("fk_webhook_attempts_message_id_webhook_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempts")),
        sa.UniqueConstraint("message_id", "attempt", name=op.f("uq_webhook_attempts_message_id_attempt")),
    )


def downgrade() -> None:
    """Drop the schema."""
    op.drop_table("webhook_attempts")
    op.drop_table("webhook_secrets")
    with op.batch_alter_table("webhook_messages", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_webhook_messages_progress",
            sqlite_where=sa.text("type = 'task.progress' AND state = 'pending'"),
            postgresql_where=sa.text("type = 'task.progress' AND state = 'pending'"),
        )
        batch_op.drop_index(
            "ix_webhook_messages_endpoint",
            sqlite_where=sa.text("endpoint_id IS NOT NULL"),
            postgresql_where=sa.text("endpoint_id IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_webhook_messages_due",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_webhook_messages_destination",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_webhook_messages_client_state",
            sqlite_where=sa.text("state <> 'delivered'"),
            postgresql_where=sa.text("state <> 'delivered'"),
        )
        batch_op.drop_index("ix_webhook_messages_client")

    op.drop_table("webhook_messages")
    with op.batch_alter_table("task_labels", schema=None) as batch_op:
        batch_op.drop_index("ix_task_labels_task")

    op.drop_table("task_labels")
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_submissions_one_job",
            sqlite_where=sa.text("outcome IN ('sending', 'taken', 'uncertain') AND superseded_at IS NULL"),
            postgresql_where=sa.text("outcome IN ('sending', 'taken', 'uncertain') AND superseded_at IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_submissions_task_id"))
        batch_op.drop_index(
            "ix_submissions_job",
            sqlite_where=sa.text("external_id IS NOT NULL"),
            postgresql_where=sa.text("external_id IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_submissions_due",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )

    op.drop_table("submissions")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_events_feed",
            sqlite_where=sa.text("message IS NOT NULL"),
            postgresql_where=sa.text("message IS NOT NULL"),
        )

    op.drop_table("large_inputs")
    op.drop_table("events")
    with op.batch_alter_table("webhook_endpoints", schema=None) as batch_op:
        batch_op.drop_index("ix_webhook_endpoints_client")

    op.drop_table("webhook_endpoints")
    op.drop_table("upstreams")
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_tasks_idempotency",
            sqlite_where=sa.text("idempotency_key IS NOT NULL"),
            postgresql_where=sa.text("idempotency_key IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_tasks_waiting",
            sqlite_where=sa.text("waits_for IS NOT NULL"),
            postgresql_where=sa.text("waits_for IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_tasks_served",
            sqlite_where=sa.text("state IN ('running', 'submitted', 'submitting')"),
            postgresql_where=sa.text("state IN ('running', 'submitted', 'submitting')"),
        )
        batch_op.drop_index(batch_op.f("ix_tasks_parent_id"))
        batch_op.drop_index(
            "ix_tasks_finished",
            sqlite_where=sa.text("finished_at IS NOT NULL"),
            postgresql_where=sa.text("finished_at IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_tasks_due_submit",
            sqlite_where=sa.text("state IN ('queued', 'submitting')"),
            postgresql_where=sa.text("state IN ('queued', 'submitting')"),
        )
        batch_op.drop_index(
            "ix_tasks_due_poll",
            sqlite_where=sa.text("state NOT IN ('queued', 'submitting') AND due_at IS NOT NULL"),
            postgresql_where=sa.text("state NOT IN ('queued', 'submitting') AND due_at IS NOT NULL"),
        )
        batch_op.drop_index("ix_tasks_client_state")
        batch_op.drop_index("ix_tasks_client_family_state")
        batch_op.drop_index("ix_tasks_client_family")
        batch_op.drop_index("ix_tasks_client")

    op.drop_table("tasks")
    op.drop_table("served_clients")
    op.drop_table("secrets")
    op.drop_table("processes")
    op.drop_table("circuits")
    with op.batch_alter_table("callbacks", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_callbacks_due",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )

    op.drop_table("callbacks")
    op.drop_table("api_keys")
