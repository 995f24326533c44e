"""The tables, and the rules that no code can get around: checks, unique and partial indexes."""

import datetime as dt
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final, get_args

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    Uuid,
    event,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.types import TypeDecorator, TypeEngine

from service.domain import task as sets
from service.domain.money.amounts import PLACES
from service.domain.money.claims import STATES as CLAIM_STATES
from service.domain.money.settlement import Basis, Verdict
from service.domain.task import AT_PROVIDER, ENDED, MAY_BE_SUBMITTED, OCCUPYING, TO_SUBMIT, Outcome, Source, State
from service.domain.webhook_events import CALLBACK_FORMATS
from service.store.triggers import FUNCTIONS, TRIGGERS

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_LARGEST = 2**63 - 1


class UtcTime(TypeDecorator[dt.datetime]):
    """An aware UTC time: ``timestamptz`` on PostgreSQL, microseconds since 1970 on SQLite, which has no such type."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger())

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        """Write a time."""
        if value is None or dialect.name == "postgresql":
            return value
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        """Read a time."""
        if value is None or dialect.name == "postgresql":
            read: dt.datetime | None = value
            return read
        return _EPOCH + dt.timedelta(microseconds=value)


class Nanos(TypeDecorator[Decimal]):
    """A decimal amount as a whole number of billionths: sums of it are exact on both databases.

    A sum that no column can hold is written as the largest number: it is beyond every limit, and keeps no task from its end.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """Write an amount."""
        del dialect
        return None if value is None else max(min(int(value.scaleb(PLACES).to_integral_value()), _LARGEST), -_LARGEST)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Read an amount."""
        del dialect
        return None if value is None else Decimal(value).scaleb(-PLACES)


Json = JSON(none_as_null=True)
# SQLite numbers rows only when the key is exactly INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, words: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(repr(str(word)) for word in sorted(words))})"


def _none_of(column: str, words: Iterable[str]) -> str:
    return _one_of(column, words).replace(" IN ", " NOT IN ", 1)


def insert_for(statement: Callable[[Callable[[Table], Any]], Any]) -> dict[str, Any]:
    """Build a statement that begins with INSERT for each database, by the name of its dialect.

    :param statement: receives SQLAlchemy's ``insert`` of one database, which knows ON CONFLICT
    """
    return {"sqlite": statement(insert_sqlite), "postgresql": statement(insert_postgresql)}


_ENDED = _one_of("state", ENDED)

# Predicates of the partial indexes. A query that is to use such an index repeats its predicate literally: a bound
# parameter would keep PostgreSQL's planner from it. So claims and counts use these same objects.
DUE = text("due_at IS NOT NULL")
EXPIRING = text("state = 'pending' AND expires_at IS NOT NULL")
"""A result is to be fetched whose original will be deleted."""
LASTING = text("state = 'pending' AND expires_at IS NULL")
DELETING = text("state = 'deleting'")
DUE_SUBMIT = text(_one_of("state", TO_SUBMIT))
NOT_TO_SUBMIT = text(_none_of("state", TO_SUBMIT))
DUE_POLL = text(f"{_none_of('state', TO_SUBMIT)} AND due_at IS NOT NULL")
WAITING = text("waits_for IS NOT NULL")
OCCUPIES_SLOT = text(_one_of("state", OCCUPYING))
MAY_HAVE_JOB = text(f"{_one_of('outcome', sets.MAY_HAVE_JOB)} AND superseded_at IS NULL")
PENDING_PROGRESS = text("type = 'task.progress' AND state = 'pending'")
ADOPTED = text("adopted")
CHECKED = text("check_at IS NOT NULL")
CURRENT = text("superseded_at IS NULL")
NOT_GIVEN_BACK = text("superseded_at IS NULL AND NOT delivered AND verdict <> 'free'")
OWED = text("superseded_at IS NULL AND NOT delivered AND verdict NOT IN ('free', 'refunded')")
FINISHED = text("finished_at IS NOT NULL")
INPUT_KEPT = text("finished_at IS NOT NULL AND input_removed_at IS NULL")
RESULTS_KEPT = text("finished_at IS NOT NULL AND results_removed_at IS NULL")
DECIDED = text("decision IS NOT NULL")
OF_ENDPOINT = text("endpoint_id IS NOT NULL")
ANNOUNCED = text("message IS NOT NULL")
DUPLICATE_JOB = text("outcome = 'taken' AND superseded_at IS NOT NULL")


DECISIONS: Final = (
    "applied", "duplicate", "ignored", "stale", "late", "unreadable", "forged", "unmatched", "hastened", "parked",
)  # fmt: skip
"""The decisions that a callback may get."""
MESSAGE_STATES: Final = ("pending", "delivered", "exhausted", "discarded")


def _partial(name: str, *columns: str, where: TextClause, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


tasks = Table(
    "tasks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("input", Json, nullable=False),
    Column("options", Json, nullable=False),
    Column("large_input", Boolean, nullable=False),
    Column("labels", Json, nullable=False),
    Column("parent_id", Uuid, ForeignKey("tasks.id", ondelete="SET NULL"), index=True),
    Column("inherited", Json, nullable=False),
    Column("callback_url", Text),
    Column("callback_events", Json, nullable=False, server_default="[]"),
    Column("callback_when", Text, nullable=False, server_default="ended"),
    Column("callback_format", Text, nullable=False, server_default="dovecote"),
    Column("idempotency_key", Text),
    Column("request_hash", Text, nullable=False),
    Column("route", Json, nullable=False),
    Column("skipped_upstreams", Json, nullable=False, server_default="{}"),
    Column("on_uncertain", Text, nullable=False, server_default="hold"),
    Column("adopted", Boolean, nullable=False, server_default=false()),
    Column("warnings", Json, nullable=False, server_default="[]"),
    Column("terms", Json, nullable=False, server_default="{}"),
    Column("quotes", Json, nullable=False, server_default="[]"),
    Column("state", Text, nullable=False),
    Column("upstream", Text),
    Column("dialect", Text),
    Column("submission_id", Uuid),
    Column("external_id", Text),
    Column("job_host", Text),
    Column("progress", Integer),
    Column("results", Json, nullable=False),
    Column("failure", Json),
    Column("next_actions", Json, nullable=False),
    Column("cost", Double),
    Column("cost_unit", Text),
    Column("usage", Json, nullable=False, server_default="{}"),
    Column("refunded", Boolean),
    Column("settlements", Json, nullable=False, server_default="[]"),
    Column("decided_by", Text),
    Column("outcome_source", Text),
    Column("cancel_requested_at", UtcTime),
    Column("answered_at", UtcTime),
    Column("callback_expected", Boolean, nullable=False),
    Column("missing_since", UtcTime),
    Column("last_error", Text),
    Column("waits_for", Text),
    Column("unconfirmed_since", UtcTime),
    Column("sequence", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("submitted_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("deadline_at", UtcTime, nullable=False),
    Column("input_removed_at", UtcTime),
    Column("results_removed_at", UtcTime),
    Column("erased_at", UtcTime),
    Column("due_at", UtcTime),
    Column("attempts", Integer, nullable=False),
    Column("traceparent", Text),
    CheckConstraint(_one_of("state", State), name="state"),
    CheckConstraint(_one_of("outcome_source", Source), name="outcome_source"),
    CheckConstraint(_one_of("decided_by", ["provider", "dovecote"]), name="decided_by"),
    CheckConstraint("progress BETWEEN 0 AND 100", name="progress"),
    CheckConstraint(f"({_ENDED}) = (finished_at IS NOT NULL)", name="ended_requires_finished_at"),
    CheckConstraint(f"({_ENDED}) = (decided_by IS NOT NULL)", name="ended_requires_decided_by"),
    CheckConstraint(f"({_ENDED}) OR due_at IS NOT NULL", name="open_requires_due_at"),
    CheckConstraint("decided_by IS NULL OR decided_by <> 'provider' OR due_at IS NULL", name="provider_outcome_forbids_due_at"),
    CheckConstraint("state <> 'failed' OR failure IS NOT NULL", name="failed_requires_failure"),
    CheckConstraint(f"{_none_of('state', AT_PROVIDER)} OR upstream IS NOT NULL", name="submitted_requires_upstream"),
    # Never pay for a job that was bought elsewhere: such a task is never to be submitted.
    CheckConstraint(f"NOT adopted OR {_none_of('state', MAY_BE_SUBMITTED)}", name="adopted_is_never_submitted"),
    _partial("uq_tasks_idempotency", "client", "idempotency_key", where=text("idempotency_key IS NOT NULL"), unique=True),
    _partial("uq_tasks_adopted", "upstream", "external_id", where=ADOPTED, unique=True),
    # Due rows, one index for each journey that claims them; finished rows are in neither.
    _partial("ix_tasks_due_submit", "due_at", where=DUE_SUBMIT),
    _partial("ix_tasks_due_poll", "due_at", where=DUE_POLL),
    # The waiting tasks and the served clients, for fair shares and queue positions.
    _partial("ix_tasks_waiting", "waits_for", "client", "id", where=WAITING),
    _partial("ix_tasks_served", "upstream", "client", where=OCCUPIES_SLOT),
    # Lists: newest first by id (a uuid of version 7 begins with its time), under each filter that the API offers.
    # Of these with further columns, a list under any other combination of filters reads a bounded number of entries.
    Index("ix_tasks_client", "client", "id", "state", "family", "upstream"),
    Index("ix_tasks_client_state", "client", "state", "id"),
    Index("ix_tasks_client_family", "client", "family", "id"),
    Index("ix_tasks_client_family_state", "client", "family", "state", "id"),
    # The same for an operator, who lists the tasks of all clients.
    _partial("ix_tasks_state", "state", "id", "family", "upstream", "client", where=NOT_TO_SUBMIT),
    Index("ix_tasks_family", "family", "id", "state", "upstream", "client"),
    Index("ix_tasks_upstream", "upstream", "id", "state", "family", "client"),
    # What the poll plan learns from: the last endings of a kind.
    _partial("ix_tasks_finished", "finished_at", where=FINISHED),
    # Ended tasks whose content retention has not removed yet.
    _partial("ix_tasks_input_kept", "finished_at", where=INPUT_KEPT),
    _partial("ix_tasks_results_kept", "finished_at", where=RESULTS_KEPT),
)  # fmt: skip

task_labels = Table(
    "task_labels",
    metadata,
    # The client is third, so that the key also serves an operator, who lists the tasks of all clients.
    Column("name", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("client", Text, primary_key=True),
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_task_labels_task", "task_id"),
)

# The whole input of a task whose own row has a shortened one: lists, claims and locks never read it.
large_inputs = Table(
    "large_inputs",
    metadata,
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("input", Json, nullable=False),
    Column("options", Json, nullable=False),
    Column("size", Integer, nullable=False),
)

# A task that more than one request of a client without idempotency keys asked for. Most tasks have no row here.
repeats = Table(
    "repeats",
    metadata,
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("seen_at", UtcTime, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("cut_off", Boolean, nullable=False),
)

submissions = Table(
    "submissions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("upstream", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("external_id", Text),
    Column("code", Text),
    Column("message", Text),
    Column("sent_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    Column("retry_at", UtcTime),
    Column("superseded_at", UtcTime),
    Column("job_state", Text),
    Column("cost", Double),
    Column("refunded", Boolean),
    Column("due_at", UtcTime),
    Column("attempts", Integer, nullable=False, server_default="0"),
    CheckConstraint(
        _one_of("outcome", Outcome), name="outcome"
    ),
    CheckConstraint("(outcome = 'sending') = (settled_at IS NULL)", name="settled_requires_settled_at"),
    # Never pay twice: a task has at most one submission that may have created a job, unless somebody who may has said
    # that another shall be made all the same.
    _partial("uq_submissions_one_job", "task_id", where=MAY_HAVE_JOB, unique=True),
    _partial("ix_submissions_due", "due_at", where=DUE),
    _partial("ix_submissions_duplicate", "task_id", where=DUPLICATE_JOB),
    # Reports of a period, and whether anything happened lately.
    Index("ix_submissions_sent", "sent_at"),
    _partial("ix_submissions_settled", "settled_at", where=text("settled_at IS NOT NULL")),
    # Whose job is it that an upstream's list shows.
    _partial("ix_submissions_job", "upstream", "external_id", where=text("external_id IS NOT NULL")),
)  # fmt: skip

# What a submission may cost, frozen when it begins, and what it holds of budgets until it is settled.
reservations = Table(
    "reservations",
    metadata,
    Column("submission_id", Uuid, primary_key=True),
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("upstream", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("quote", Json, nullable=False),
    Column("holds", Json, nullable=False),
    Column("reserved_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    # When it is checked whether the submission has ended meanwhile: an older process may have ended it.
    Column("check_at", UtcTime),
    CheckConstraint("(settled_at IS NULL) = (check_at IS NOT NULL)", name="open_requires_check_at"),
    _partial("ix_reservations_check", "check_at", where=CHECKED),
)

# The ledger's entries. They have no foreign key: they are kept when their task is deleted.
money_entries = Table(
    "money_entries",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("submission_id", Uuid, nullable=False),
    Column("task_id", Uuid, nullable=False),
    Column("client", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("model", Text),
    Column("upstream", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("external_id", Text),
    Column("labels", Json, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("basis", Text, nullable=False),
    Column("amount", Nanos),
    Column("gross", Nanos),
    Column("unit", Text),
    Column("change", Nanos),
    Column("quoted", Nanos),
    Column("quoted_max", Nanos),
    Column("usd", Text),
    Column("computed", Boolean, nullable=False),
    Column("delivered", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("corrects", Text),
    Column("purchased_at", UtcTime, nullable=False),
    Column("booked_at", UtcTime, nullable=False),
    Column("superseded_at", UtcTime),
    CheckConstraint(_one_of("verdict", get_args(Verdict)), name="verdict"),
    CheckConstraint(_one_of("basis", get_args(Basis)), name="basis"),
    # Exactly one entry of a submission counts.
    _partial("uq_money_entries_current", "submission_id", where=CURRENT, unique=True),
    _partial("ix_money_entries_purchased", "purchased_at", where=CURRENT),
    _partial("ix_money_entries_client", "client", "purchased_at", where=CURRENT),
    _partial("ix_money_entries_claims", "upstream", "purchased_at", where=NOT_GIVEN_BACK),
    _partial("ix_money_entries_owed", "upstream", where=OWED),
)

# What an operator has done about a job that was charged and not delivered.
claims = Table(
    "claims",
    metadata,
    Column("submission_id", Uuid, primary_key=True),
    Column("state", Text, nullable=False),
    Column("note", Text),
    Column("marked_at", UtcTime, nullable=False),
    CheckConstraint(_one_of("state", CLAIM_STATES), name="state"),
)

# Balances of accounts, taken while nothing was in progress there.
balances = Table(
    "balances",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("upstream", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("amount", Nanos, nullable=False),
    Column("unit", Text, nullable=False),
    Index("ix_balances_upstream", "upstream", "at"),
)

# Budgets that an operator has set by the API. Those of the settings are not here.
budgets = Table(
    "budgets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("fields", Json, nullable=False),
    Column("by", Text, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
)

budget_counters = Table(
    "budget_counters",
    metadata,
    Column("budget", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("unit", Text, nullable=False),
    Column("held", Nanos, nullable=False),
    Column("spent", Nanos, nullable=False),
    Column("soft_noted", Boolean, nullable=False),
    CheckConstraint("held >= 0", name="held_not_negative"),
)

# The polls of a task, for its history: equal ones between two events share a row.
polls = Table(
    "polls",
    metadata,
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    # Number of the task's last event before the poll.
    Column("sequence", Integer, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("progress", Integer),
    Column("count", Integer, nullable=False),
    Column("first_at", UtcTime, nullable=False),
    Column("last_at", UtcTime, nullable=False),
    Column("duration_ms", Integer, nullable=False),
)

# The beginning of the answer to a submission, for its history.
submission_answers = Table(
    "submission_answers",
    metadata,
    Column("submission_id", Uuid, ForeignKey("submissions.id", ondelete="CASCADE"), primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("client", Text, nullable=False, server_default=""),
    Column("sequence", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("message", Text),
    Column("source", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("data", Json, nullable=False),
    UniqueConstraint("task_id", "sequence"),
    # A client's feed: its events in order.
    _partial("ix_events_feed", "client", "id", where=ANNOUNCED),
    _partial("ix_events_feed_type", "client", "message", "id", where=ANNOUNCED),
)  # fmt: skip

feeds = Table(
    "feeds",
    metadata,
    Column("client", Text, primary_key=True),
    # The highest position of a removed event: an older cursor may have missed events.
    Column("pruned_to", BigInteger, nullable=False),
)

# What the ledger needs of the submissions of removed tasks, without any content.
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("task_id", Uuid, nullable=False),
    Column("client", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("external_id", Text),
    Column("outcome", Text, nullable=False),
    Column("adopted", Boolean, nullable=False),
    Column("serves", Boolean, nullable=False),
    Column("succeeded", Boolean, nullable=False),
    Column("came_to_nothing", Boolean, nullable=False),
    Column("refunded", Boolean),
    Column("cost", Double),
    Column("sent_at", UtcTime, nullable=False, index=True),
)

# Sums of the ledger and of money, kept for hours and days that have ended. A trigger notes each later change of the rows that
# they count (see triggers.py); a period with a change is summed from its rows until it is summed again.
sum_watches = Table(
    "sum_watches",
    metadata,
    Column("subject", Text, primary_key=True),
    # Changes of rows before this time are noted. Only periods before it are kept.
    Column("until", UtcTime, nullable=False),
)

sum_changes = Table(
    "sum_changes",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("hour", UtcTime, nullable=False),
    Index("ix_sum_changes_hour", "subject", "hour"),
)

sum_periods = Table(
    "sum_periods",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("since", UtcTime, primary_key=True),
    Column("until", UtcTime, primary_key=True),
    # Counts how often it was begun: who sums a period that was begun again meanwhile keeps nothing.
    Column("version", Integer, nullable=False),
    Column("kept", Boolean, nullable=False),
)

submission_sums = Table(
    "submission_sums",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("since", UtcTime, nullable=False),
    # 1, or 24: the length of the period.
    Column("hours", Integer, nullable=False),
    Column("client", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("adopted", Boolean, nullable=False),
    Column("serves", Boolean, nullable=False),
    Column("succeeded", Boolean, nullable=False),
    Column("came_to_nothing", Boolean, nullable=False),
    Column("refunded", Boolean),
    Column("count", BigInteger, nullable=False),
    Column("cost", Double),
    Index("ix_submission_sums_period", "hours", "since"),
)

money_sums = Table(
    "money_sums",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("since", UtcTime, nullable=False),
    # 1, or 24: the length of the period.
    Column("hours", Integer, nullable=False),
    Column("client", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("unit", Text),
    Column("verdict", Text, nullable=False),
    Column("usd", Text),
    Column("delivered", Boolean, nullable=False),
    Column("computed", Boolean, nullable=False),
    Column("count", BigInteger, nullable=False),
    # Sums as whole units and billionths: the sum of large numbers overflows on SQLite.
    Column("amount_whole", BigInteger, nullable=False),
    Column("amount_parts", BigInteger, nullable=False),
    Column("gross_whole", BigInteger, nullable=False),
    Column("gross_parts", BigInteger, nullable=False),
    Index("ix_money_sums_period", "hours", "since"),
)

# Sums of money by one label. A row without a value: the label has too many of them, and its sums are not kept; without a label: the
# same for all labels of the period.
label_sums = Table(
    "label_sums",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("since", UtcTime, nullable=False),
    # 1, or 24: the length of the period.
    Column("hours", Integer, nullable=False),
    Column("label", Text, nullable=False),
    Column("value", Text),
    Column("client", Text, nullable=False),
    Column("unit", Text),
    Column("verdict", Text, nullable=False),
    Column("usd", Text),
    Column("delivered", Boolean, nullable=False),
    Column("computed", Boolean, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("amount_whole", BigInteger, nullable=False),
    Column("amount_parts", BigInteger, nullable=False),
    Column("gross_whole", BigInteger, nullable=False),
    Column("gross_parts", BigInteger, nullable=False),
    Index("ix_label_sums_period", "hours", "since"),
    Index("ix_label_sums_label", "label", "since"),
)

# Erasures that clients asked for. A row has work left while it is due: outside of the database, or once more inside.
erasures = Table(
    "erasures",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("request_id", Uuid, nullable=False),
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("client", Text, nullable=False),
    Column("cancel", Boolean, nullable=False),
    Column("requested_at", UtcTime, nullable=False),
    Column("erased_at", UtcTime),
    Column("provider", Text),
    Column("error", Text),
    Column("due_at", UtcTime),
    Column("attempts", Integer, nullable=False),
    CheckConstraint(_one_of("provider", ["deleted", "not_possible", "failed"]), name="provider"),
    CheckConstraint("erased_at IS NOT NULL OR due_at IS NOT NULL", name="unfinished_requires_due_at"),
    UniqueConstraint("request_id", "task_id"),
    _partial("ix_erasures_due", "due_at", where=DUE),
)

callbacks = Table(
    "callbacks",
    metadata,
    Column("id", Uuid, primary_key=True),
    # No foreign key: an acknowledged callback is kept even without its submission.
    Column("submission_id", Uuid, nullable=False),
    Column("headers", Json, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("dedupe_key", LargeBinary, nullable=False),
    Column("copies", Integer, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("decision", Text),
    Column("detail", Text),
    Column("decided_at", UtcTime),
    # Of its submission, written with the decision: the inbox is filtered by it. Empty: no known submission.
    Column("upstream", Text),
    Column("due_at", UtcTime),
    Column("attempts", Integer, nullable=False),
    CheckConstraint(
        _one_of("decision", DECISIONS),
        name="decision",
    ),
    CheckConstraint("(decision IS NULL) = (due_at IS NOT NULL)", name="undecided_requires_due_at"),
    UniqueConstraint("submission_id", "dedupe_key"),
    _partial("ix_callbacks_due", "due_at", where=DUE),
    # The inbox: newest first, by decision.
    _partial("ix_callbacks_decision", "decision", "id", where=DECIDED),
    _partial("ix_callbacks_upstream", "upstream", "decision", "id", where=DECIDED),
)

# No foreign key: the row of a copy outlives its task until the file is deleted.
assets = Table(
    "assets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("task_id", Uuid, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("object", Text),
    Column("size", BigInteger),
    Column("sha256", Text),
    Column("media_type", Text),
    Column("marked", Boolean, nullable=False, server_default=false()),
    Column("expires_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    Column("gone_since", UtcTime),
    Column("last_error", Text),
    Column("due_at", UtcTime),
    Column("attempts", Integer, nullable=False, server_default="0"),
    CheckConstraint(_one_of("state", ["pending", "kept", "lost", "deleting"]), name="state"),
    CheckConstraint("(state IN ('pending', 'deleting')) = (due_at IS NOT NULL)", name="open_requires_due_at"),
    CheckConstraint("state <> 'kept' OR (object IS NOT NULL AND sha256 IS NOT NULL AND size IS NOT NULL)", name="kept_requires_object"),
    _partial("ix_assets_due", "due_at", where=DUE),
    # Each has a queue: a claim reads no row of another one, however many wait.
    _partial("ix_assets_expiring", "expires_at", "due_at", where=EXPIRING),
    _partial("ix_assets_lasting", "due_at", where=LASTING),
    _partial("ix_assets_deleting", "due_at", where=DELETING),
)  # fmt: skip

webhook_messages = Table(
    "webhook_messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client", Text, nullable=False, server_default=""),
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE")),
    # No foreign key: that an endpoint was deleted meanwhile must never keep a task from changing.
    Column("endpoint_id", Uuid),
    Column("destination", Text, nullable=False, server_default=""),
    Column("sequence", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("delivered_at", UtcTime),
    Column("replayed_at", UtcTime),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("due_at", UtcTime),
    Column("attempts", Integer, nullable=False),
    Column("schedule_from", Integer, nullable=False, server_default="0"),
    Column("traceparent", Text),
    CheckConstraint(_one_of("state", MESSAGE_STATES), name="state"),
    CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="pending_requires_due_at"),
    CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="delivered_requires_delivered_at"),
    UniqueConstraint("task_id", "sequence", "destination"),
    # Only the latest progress matters: at most one undelivered message exists.
    _partial("uq_webhook_messages_progress", "task_id", "destination", where=PENDING_PROGRESS, unique=True),
    _partial("ix_webhook_messages_due", "due_at", where=DUE),
    # By destination, then by time, to skip a destination with a thousand due messages without reading them.
    _partial("ix_webhook_messages_destination", "client", "destination", "due_at", where=DUE),
    # Lists: newest first, under each filter that the API offers.
    Index("ix_webhook_messages_client", "client", "id"),
    Index("ix_webhook_messages_client_state", "client", "state", "id"),
    Index("ix_webhook_messages_client_type", "client", "type", "state", "id"),
    _partial("ix_webhook_messages_endpoint", "endpoint_id", "state", "id", where=OF_ENDPOINT),
    _partial("ix_webhook_messages_endpoint_type", "endpoint_id", "type", "state", "id", where=OF_ENDPOINT),
)  # fmt: skip

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("message_id", Uuid, ForeignKey("webhook_messages.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("status", Integer),
    Column("duration_ms", Integer, nullable=False),
    Column("answer", Text),
    Column("error", Text),
    UniqueConstraint("message_id", "attempt"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("events", Json, nullable=False),
    Column("format", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    Column("previous_until", UtcTime),
    Column("disabled_at", UtcTime),
    Column("disabled_reason", Text),
    Column("failing_since", UtcTime),
    Column("failed_at", UtcTime),
    Column("scope", Text, nullable=False, server_default="client"),
    Column("callback_format", Text, nullable=False, server_default="dovecote"),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    CheckConstraint(_one_of("format", ["standard", "cloudevents"]), name="format"),
    CheckConstraint(_one_of("callback_format", CALLBACK_FORMATS), name="callback_format"),
    CheckConstraint(_one_of("disabled_reason", ["client", "gone", "failing"]), name="disabled_reason"),
    CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_requires_reason"),
    CheckConstraint("(previous_secret IS NULL) = (previous_until IS NULL)", name="previous_secret_requires_expiry"),
    CheckConstraint("(failing_since IS NULL) = (failed_at IS NULL)", name="failing_requires_failed_at"),
    CheckConstraint(_one_of("scope", ["client", "admin"]), name="scope"),
    Index("ix_webhook_endpoints_client", "client", "id"),
)

# What operators have been told of, so that several processes report it once.
operator_occurrences = Table(
    "operator_occurrences",
    metadata,
    Column("type", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("reported_at", UtcTime, nullable=False),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("client", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("previous_until", UtcTime),
    Column("rotated_at", UtcTime, nullable=False),
)

upstreams = Table(
    "upstreams",
    metadata,
    Column("name", Text, primary_key=True),
    # When the next submit and the next poll fit into what may be asked of it in a second.
    Column("submit_slot_at", UtcTime),
    Column("poll_slot_at", UtcTime),
    Column("credit", Double),
    Column("credit_unit", Text),
    Column("credit_error", Text),
    Column("credit_at", UtcTime),
)

# The upstreams that an operator holds: they are given no task.
held_upstreams = Table(
    "held_upstreams",
    metadata,
    Column("name", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("since", UtcTime, nullable=False),
    CheckConstraint(_one_of("mode", ["paused", "draining"]), name="mode"),
)

served_clients = Table(
    "served_clients",
    metadata,
    Column("upstream", Text, primary_key=True),
    Column("client", Text, primary_key=True),
    Column("served_at", UtcTime, nullable=False),
)

circuits = Table(
    "circuits",
    metadata,
    Column("upstream", Text, primary_key=True),
    Column("dialect", Text, primary_key=True),
    Column("failures", Json, nullable=False),
    Column("opened_at", UtcTime),
    Column("open_until", UtcTime),
    Column("probe_until", UtcTime),
    CheckConstraint("(opened_at IS NULL) = (open_until IS NULL)", name="open_requires_open_until"),
)

processes = Table(
    "processes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    # The flows of a worker, separated by commas; null: all of them.
    Column("flows", Text),
    CheckConstraint(_one_of("role", ["web", "worker"]), name="role"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", UtcTime, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    # While the file arrives: the bytes that it may have. They count in the client's quota.
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text),
    # The name of the object. That of a kept result belongs to the result, and outlives the upload.
    Column("object", Text, nullable=False),
    Column("shared", Boolean, nullable=False, server_default=false()),
    # The task for which Dovecote itself made it of data: in an input; null for an upload of a client.
    Column("task_id", Uuid, index=True),
    Column("created_at", UtcTime, nullable=False),
    # When the whole file was stored; null while it arrives.
    Column("stored_at", UtcTime),
    Column("expires_at", UtcTime, nullable=False, index=True),
    # When its deletion began.
    Column("deleted_at", UtcTime),
    Index("ix_uploads_client_id", "client", "id"),
    CheckConstraint("(stored_at IS NULL) = (sha256 IS NULL)", name="stored_requires_sha256"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),
    # SHA-256 of the whole key, which is kept nowhere.
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("scopes", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
    CheckConstraint("client <> ''", name="client_not_empty"),
)


def _on(moment: str, statement: str, dialect: str) -> None:
    ddl: Any = DDL
    event.listen(metadata, moment, ddl(statement.replace("%", "%%")).execute_if(dialect=dialect))


for _dialect, _statements in TRIGGERS.items():
    for _statement in _statements:
        _on("after_create", _statement, _dialect)
for _function in FUNCTIONS:
    _on("after_drop", f"DROP FUNCTION IF EXISTS {_function}", "postgresql")
