"""indexes for every filter of the inbox, the messages and the feed"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_MESSAGES = "webhook_messages"
_OF_ENDPOINT = sa.text("endpoint_id IS NOT NULL")
_ANNOUNCED = sa.text("message IS NOT NULL")
_DECIDED = sa.text("decision IS NOT NULL")
_SETTLED = sa.text("settled_at IS NOT NULL")
_NOT_DELIVERED = sa.text("state <> 'delivered'")


def _index(name: str, table: str, columns: list[str], where: sa.TextClause | None = None) -> None:
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    """Add the column and the indexes. An older worker writes no upstream: a newer one completes it."""
    op.add_column("callbacks", sa.Column("upstream", sa.Text()))
    _index("ix_callbacks_upstream", "callbacks", ["upstream", "decision", "id"], _DECIDED)
    _index("ix_events_feed_type", "events", ["client", "message", "id"], _ANNOUNCED)
    _index("ix_submissions_sent", "submissions", ["sent_at"])
    _index("ix_submissions_settled", "submissions", ["settled_at"], _SETTLED)
    op.drop_index("ix_webhook_messages_client_state", _MESSAGES)
    _index("ix_webhook_messages_client_state", _MESSAGES, ["client", "state", "id"])
    _index("ix_webhook_messages_client_type", _MESSAGES, ["client", "type", "state", "id"])
    op.drop_index("ix_webhook_messages_endpoint", _MESSAGES)
    _index("ix_webhook_messages_endpoint", _MESSAGES, ["endpoint_id", "state", "id"], _OF_ENDPOINT)
    _index("ix_webhook_messages_endpoint_type", _MESSAGES, ["endpoint_id", "type", "state", "id"], _OF_ENDPOINT)


def downgrade() -> None:
    """Remove them, and restore the former indexes."""
    for name in ("endpoint_type", "endpoint", "client_type", "client_state"):
        op.drop_index(f"ix_webhook_messages_{name}", _MESSAGES)
    _index("ix_webhook_messages_endpoint", _MESSAGES, ["endpoint_id", "id"], _OF_ENDPOINT)
    _index("ix_webhook_messages_client_state", _MESSAGES, ["client", "state", "id"], _NOT_DELIVERED)
    op.drop_index("ix_submissions_settled", "submissions")
    op.drop_index("ix_submissions_sent", "submissions")
    op.drop_index("ix_events_feed_type", "events")
    op.drop_index("ix_callbacks_upstream", "callbacks")
    with op.batch_alter_table("callbacks") as table:
        table.drop_column("upstream")
