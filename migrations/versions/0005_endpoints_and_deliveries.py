"""endpoints and deliveries

Old code must run on the new schema: add, use, then remove. A column is dropped one release after the last code that
read it; a NOT NULL column arrives with a server default; an index on a big table is built CONCURRENTLY, in a migration
of its own.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
"""``timestamptz`` on PostgreSQL, microseconds since 1970 on SQLite."""
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DUE = sa.text("due_at IS NOT NULL")
OF_ENDPOINT = sa.text("endpoint_id IS NOT NULL")
UNDELIVERED = sa.text("state <> 'delivered'")
PROGRESS = sa.text("type = 'task.progress' AND state = 'pending'")


def upgrade() -> None:
    """Go forward."""
    op.add_column("tasks", sa.Column("callback_events", sa.JSON(), server_default="[]", nullable=False))
    with op.batch_alter_table("outbox") as outbox:
        outbox.add_column(sa.Column("client", sa.Text(), server_default="", nullable=False))
        outbox.add_column(sa.Column("endpoint_id", sa.Uuid(), nullable=True))
        outbox.add_column(sa.Column("destination", sa.Text(), server_default="", nullable=False))
        outbox.add_column(sa.Column("replayed_at", INSTANT, nullable=True))
        outbox.add_column(sa.Column("schedule_from", sa.Integer(), server_default="0", nullable=False))
        outbox.alter_column("task_id", existing_type=sa.Uuid(), nullable=True)
        outbox.drop_constraint("uq_outbox_task_id_sequence", type_="unique")
        outbox.create_unique_constraint(
            "uq_outbox_task_id_sequence_destination", ["task_id", "sequence", "destination"]
        )
    for name, columns, where, unique in (
        ("uq_outbox_progress", ["task_id", "destination"], PROGRESS, True),
        ("ix_outbox_destination", ["destination", "due_at"], DUE, False),
        ("ix_outbox_client", ["client", "id"], None, False),
        ("ix_outbox_client_state", ["client", "state", "id"], UNDELIVERED, False),
        ("ix_outbox_endpoint", ["endpoint_id", "id"], OF_ENDPOINT, False),
    ):
        op.create_index(name, "outbox", columns, unique=unique, sqlite_where=where, postgresql_where=where)
    op.execute("UPDATE outbox SET client = (SELECT tasks.client FROM tasks WHERE tasks.id = outbox.task_id)")
    op.execute("UPDATE outbox SET destination = substr(url, 1, 200)")
    op.create_table(
        "deliveries",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["outbox.id"], name=op.f("fk_deliveries_message_id_outbox"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("message_id", "attempt", name=op.f("uq_deliveries_message_id_attempt")),
    )
    op.create_table(
        "endpoints",
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
        sa.CheckConstraint("format IN ('cloudevents', 'standard')", name=op.f("ck_endpoints_format")),
        sa.CheckConstraint(
            "disabled_reason IN ('client', 'failing', 'gone')", name=op.f("ck_endpoints_disabled_reason")
        ),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)", name=op.f("ck_endpoints_disabled_says_why")
        ),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_until IS NULL)", name=op.f("ck_endpoints_old_secrets_end")
        ),
        sa.CheckConstraint(
            "(failing_since IS NULL) = (failed_at IS NULL)", name=op.f("ck_endpoints_failing_has_failed")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
    )
    op.create_index("ix_endpoints_client", "endpoints", ["client", "id"])


def downgrade() -> None:
    """Go back. What went to endpoints is forgotten: the old schema has one message for a change."""
    op.drop_table("endpoints")
    op.drop_table("deliveries")
    op.execute("DELETE FROM outbox WHERE endpoint_id IS NOT NULL OR task_id IS NULL")
    for name in (
        "ix_outbox_endpoint",
        "ix_outbox_client_state",
        "ix_outbox_client",
        "ix_outbox_destination",
        "uq_outbox_progress",
    ):
        op.drop_index(name, table_name="outbox")
    with op.batch_alter_table("outbox") as outbox:
        outbox.drop_constraint("uq_outbox_task_id_sequence_destination", type_="unique")
        outbox.create_unique_constraint("uq_outbox_task_id_sequence", ["task_id", "sequence"])
        outbox.alter_column("task_id", existing_type=sa.Uuid(), nullable=False)
        for column in ("schedule_from", "replayed_at", "destination", "endpoint_id", "client"):
            outbox.drop_column(column)
    # Not in a batch: to make the table anew on SQLite would delete all that refers to it.
    op.drop_column("tasks", "callback_events")
