"""kept sums of the ledger and of money, and the triggers that note what changes them"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_SQLITE = (
    "CREATE TRIGGER tr_submissions_insert_sums AFTER INSERT ON submissions WHEN NEW.sent_at < (SELECT until FROM sum_watches WHERE subject = 'submissions') BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('submissions', NEW.sent_at - NEW.sent_at % 3600000000); END",
    "CREATE TRIGGER tr_submissions_update_sums AFTER UPDATE OF outcome, job_state, cost, refunded ON submissions WHEN NEW.sent_at < (SELECT until FROM sum_watches WHERE subject = 'submissions') AND (OLD.outcome IS NOT NEW.outcome OR OLD.job_state IS NOT NEW.job_state OR OLD.cost IS NOT NEW.cost OR OLD.refunded IS NOT NEW.refunded) BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('submissions', NEW.sent_at - NEW.sent_at % 3600000000); END",
    "CREATE TRIGGER tr_ledger_entries_delete_sums AFTER DELETE ON ledger_entries WHEN OLD.sent_at < (SELECT until FROM sum_watches WHERE subject = 'submissions') BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('submissions', OLD.sent_at - OLD.sent_at % 3600000000); END",
    "CREATE TRIGGER tr_money_entries_insert_sums AFTER INSERT ON money_entries WHEN NEW.purchased_at < (SELECT until FROM sum_watches WHERE subject = 'money') BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('money', NEW.purchased_at - NEW.purchased_at % 3600000000); END",
    "CREATE TRIGGER tr_money_entries_update_sums AFTER UPDATE OF superseded_at ON money_entries WHEN NEW.purchased_at < (SELECT until FROM sum_watches WHERE subject = 'money') AND (OLD.superseded_at IS NOT NEW.superseded_at) BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('money', NEW.purchased_at - NEW.purchased_at % 3600000000); END",
    "CREATE TRIGGER tr_money_entries_delete_sums AFTER DELETE ON money_entries WHEN OLD.purchased_at < (SELECT until FROM sum_watches WHERE subject = 'money') BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('money', OLD.purchased_at - OLD.purchased_at % 3600000000); END",
    "CREATE TRIGGER tr_tasks_update_sums AFTER UPDATE OF state, decided_by, submission_id, refunded, cost ON tasks WHEN ((OLD.finished_at IS NOT NULL OR NEW.finished_at IS NOT NULL) AND (OLD.state IS NOT NEW.state OR OLD.decided_by IS NOT NEW.decided_by)) OR OLD.submission_id IS NOT NEW.submission_id OR OLD.refunded IS NOT NEW.refunded OR OLD.cost IS NOT NEW.cost BEGIN INSERT INTO sum_changes (subject, hour) SELECT 'submissions', sent_at - sent_at % 3600000000 FROM submissions WHERE task_id = NEW.id AND sent_at < (SELECT until FROM sum_watches WHERE subject = 'submissions'); END",
)
_POSTGRESQL = (
    "\nCREATE OR REPLACE FUNCTION note_sum_change(changed text, moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$\nBEGIN\n    PERFORM pg_advisory_xact_lock_shared(13651973);\n    INSERT INTO sum_changes (subject, hour)\n    SELECT changed, date_trunc('hour', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'\n      FROM sum_watches WHERE subject = changed AND moment < until;\nEND $$",
    "CREATE OR REPLACE FUNCTION tr_submissions_insert_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('submissions', NEW.sent_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_submissions_insert_sums AFTER INSERT ON submissions FOR EACH ROW EXECUTE FUNCTION tr_submissions_insert_sums()",
    "CREATE OR REPLACE FUNCTION tr_submissions_update_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('submissions', NEW.sent_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_submissions_update_sums AFTER UPDATE OF outcome, job_state, cost, refunded ON submissions FOR EACH ROW WHEN (OLD.outcome IS DISTINCT FROM NEW.outcome OR OLD.job_state IS DISTINCT FROM NEW.job_state OR OLD.cost IS DISTINCT FROM NEW.cost OR OLD.refunded IS DISTINCT FROM NEW.refunded) EXECUTE FUNCTION tr_submissions_update_sums()",
    "CREATE OR REPLACE FUNCTION tr_ledger_entries_delete_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('submissions', OLD.sent_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_ledger_entries_delete_sums AFTER DELETE ON ledger_entries FOR EACH ROW EXECUTE FUNCTION tr_ledger_entries_delete_sums()",
    "CREATE OR REPLACE FUNCTION tr_money_entries_insert_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('money', NEW.purchased_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_money_entries_insert_sums AFTER INSERT ON money_entries FOR EACH ROW EXECUTE FUNCTION tr_money_entries_insert_sums()",
    "CREATE OR REPLACE FUNCTION tr_money_entries_update_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('money', NEW.purchased_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_money_entries_update_sums AFTER UPDATE OF superseded_at ON money_entries FOR EACH ROW WHEN (OLD.superseded_at IS DISTINCT FROM NEW.superseded_at) EXECUTE FUNCTION tr_money_entries_update_sums()",
    "CREATE OR REPLACE FUNCTION tr_money_entries_delete_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('money', OLD.purchased_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_money_entries_delete_sums AFTER DELETE ON money_entries FOR EACH ROW EXECUTE FUNCTION tr_money_entries_delete_sums()",
    "CREATE OR REPLACE FUNCTION tr_tasks_update_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('submissions', sent_at) FROM submissions WHERE task_id = NEW.id; RETURN NULL; END $$",
    "CREATE TRIGGER tr_tasks_update_sums AFTER UPDATE OF state, decided_by, submission_id, refunded, cost ON tasks FOR EACH ROW WHEN (((OLD.finished_at IS NOT NULL OR NEW.finished_at IS NOT NULL) AND (OLD.state IS DISTINCT FROM NEW.state OR OLD.decided_by IS DISTINCT FROM NEW.decided_by)) OR OLD.submission_id IS DISTINCT FROM NEW.submission_id OR OLD.refunded IS DISTINCT FROM NEW.refunded OR OLD.cost IS DISTINCT FROM NEW.cost) EXECUTE FUNCTION tr_tasks_update_sums()",
)
_FUNCTIONS = (
    "note_sum_change(text, timestamptz)",
    "tr_submissions_insert_sums()",
    "tr_submissions_update_sums()",
    "tr_ledger_entries_delete_sums()",
    "tr_money_entries_insert_sums()",
    "tr_money_entries_update_sums()",
    "tr_money_entries_delete_sums()",
    "tr_tasks_update_sums()",
)
_TRIGGERS = (
    ("submissions", "insert"),
    ("submissions", "update"),
    ("ledger_entries", "delete"),
    ("money_entries", "insert"),
    ("money_entries", "update"),
    ("money_entries", "delete"),
    ("tasks", "update"),
)
_KEY = ["hours", "since"]


def _times() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("hours", sa.Integer(), nullable=False),
    ]


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _booleans(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Boolean(), nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def upgrade() -> None:
    """Create the tables and the triggers. Old code fires them, too. A worker of this version fills the sums."""
    op.create_table(
        "sum_watches",
        *_texts("subject"),
        sa.Column("until", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_sum_watches")),
    )
    op.create_table(
        "sum_changes",
        sa.Column("id", SERIAL, nullable=False),
        *_texts("subject"),
        sa.Column("hour", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sum_changes")),
    )
    op.create_index("ix_sum_changes_hour", "sum_changes", ["subject", "hour"])
    op.create_table(
        "sum_periods",
        *_texts("subject"),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("until", INSTANT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        *_booleans("kept"),
        sa.PrimaryKeyConstraint("subject", "since", "until", name=op.f("pk_sum_periods")),
    )
    op.create_table(
        "submission_sums",
        *_times(),
        *_texts("client", "family", "upstream", "dialect", "operation", "outcome"),
        *_booleans("adopted", "serves", "succeeded", "came_to_nothing"),
        sa.Column("refunded", sa.Boolean()),
        *_numbers("count"),
        sa.Column("cost", sa.Double()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submission_sums")),
    )
    op.create_index("ix_submission_sums_period", "submission_sums", _KEY)
    op.create_table(
        "money_sums",
        *_times(),
        *_texts("client", "family", "operation", "model", "upstream"),
        sa.Column("unit", sa.Text()),
        *_texts("verdict"),
        sa.Column("usd", sa.Text()),
        *_booleans("delivered", "computed"),
        *_numbers("count", "amount_whole", "amount_parts", "gross_whole", "gross_parts"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_money_sums")),
    )
    op.create_index("ix_money_sums_period", "money_sums", _KEY)
    for statement in _POSTGRESQL if _is_postgresql() else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    """Remove the triggers and the tables."""
    for table, kind in _TRIGGERS:
        op.execute(f"DROP TRIGGER tr_{table}_{kind}_sums" + (f" ON {table}" if _is_postgresql() else ""))
    if _is_postgresql():
        for function in _FUNCTIONS:
            op.execute(f"DROP FUNCTION {function}")
    for table in ("money_sums", "submission_sums", "sum_periods", "sum_changes", "sum_watches"):
        op.drop_table(table)


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"
