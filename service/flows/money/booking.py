"""Book what submissions cost, in the transaction of the change that ended them. Called by ``flows/apply.py`` only."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.decision import Decided
from service.domain.events import Event
from service.domain.money.amounts import Amount, read_number
from service.domain.money.budgets import Key, spent_of
from service.domain.money.evidence import CostEvidence
from service.domain.money.quotes import Quote
from service.domain.money.settlement import (
    Ending,
    Entry,
    Facts,
    Settlement,
    change_of,
    follows,
    key_of,
    settle,
    settlement_of,
)
from service.domain.task import ENDED, WITHOUT_PURCHASE, Outcome, Source, State, Submission, Task
from service.domain.webhook_events import COST_CORRECTED, SETTLED
from service.flows.context import Context, log
from service.providers.registry import DIALECTS
from service.store.money import counters, entries, reservations
from service.store.money.reservations import Reservation


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A submission of which something new is known."""

    submission_id: UUID
    task_id: UUID
    upstream: str
    dialect: str
    purchased_at: datetime
    ending: Ending
    cost: float | None = None
    cost_unit: str | None = None
    refunded: bool | None = None
    usage: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    external_id: str | None = None
    source: str = ""

    @property
    def worth_booking(self) -> bool:
        """Whether it is booked although no price of it is known: somebody may have to ask for the money."""
        return self.cost is not None or self.refunded is not None or self.ending not in {"succeeded", "no_job"}


@dataclasses.dataclass(slots=True)
class Booking:
    """The entries of one transaction, and the tasks and events that go with them."""

    entries: list[tuple[Entry, Task]] = dataclasses.field(default_factory=list)
    events: list[tuple[Event, Task]] = dataclasses.field(default_factory=list)
    closed: dict[UUID, Reservation] = dataclasses.field(default_factory=dict)
    """Reservations that are settled now."""
    changes: list[tuple[Reservation, Entry, Settlement | None]] = dataclasses.field(default_factory=list)
    """Entries that change what budgets have spent, with the settlement before."""


async def book(
    context: Context, connection: AsyncConnection, before: Mapping[UUID, Task], decided: Sequence[Decided]
) -> tuple[list[Decided], Booking]:
    """Return the decisions with what their tasks cost, and the booking to write.

    :param before: the tasks before the first of these decisions
    """
    subjects = [subject for each in decided for subject in _subjects(before[each.task.id], each)]
    ended = {each.task.id for each in decided if each.task.state.ended and not before[each.task.id].state.ended}
    learned = [each.cost_evidence for each in decided if each.cost_evidence is not None]
    due = {each.task.id for each in decided if each.cost_due is not None}
    if not (subjects or learned or due) and not (ended and context.reserves):
        return list(decided), Booking()
    ended |= {each.task.id for each in decided if each.task.id in due and each.task.state.ended}
    wanted = ended | {each.task_id for each in subjects} | {each.task.id for each in decided if each.cost_evidence}
    held = await reservations.of_tasks(connection, wanted) if context.reserves or due or learned else {}
    tasks = {each.task.id: each.task for each in decided}
    by_id = {each.submission_id: each for each in subjects}
    subjects = list(by_id.values()) + _left_over(held, tasks, ended, by_id)
    booking = Booking()
    for subject in subjects:
        tasks[subject.task_id] = _book(
            context, tasks[subject.task_id], subject, held.get(subject.submission_id), booking
        )
    for each in decided:
        if each.cost_evidence is not None:
            tasks[each.task.id] = _book_evidence(context, tasks[each.task.id], each.cost_evidence, held, booking)
    changed = {entry.submission_id for entry, _ in booking.entries}
    last = {each.task.id: number for number, each in enumerate(decided)}
    after = [
        dataclasses.replace(each, task=tasks[each.task.id]) if last[each.task.id] == number and changed else each
        for number, each in enumerate(decided)
    ]
    return after, booking


def _subjects(before: Task, each: Decided) -> list[Subject]:
    """Return the submissions of a task about whose price a decision says something new."""
    task, settles = each.task, each.settles
    if task.adopted:
        return []
    found: list[Subject] = []
    due = each.cost_due
    if due is not None and due.outcome in WITHOUT_PURCHASE:
        found.append(_of_submission(due, "no_job"))
    elif due is not None and due.id != task.submission_id and due.job_state in ENDED:
        found.append(_of_submission(due, _ending(State(due.job_state), None)))
    if settles is not None and settles.outcome in WITHOUT_PURCHASE:
        found.append(_of_submission(settles, "no_job"))
    elif settles is not None and settles.id != task.submission_id and settles.job_state in ENDED:
        found.append(_of_submission(settles, _ending(State(settles.job_state), None)))
    serving = task.submission_id
    if serving is None or not task.state.ended or any(one.submission_id == serving for one in found):
        return found
    facts = ("state", "decided_by", "cost", "refunded", "submission_id", "usage")
    if due is not None or any(getattr(before, name) != getattr(task, name) for name in facts):
        subject = _of_task(task, each)
        found += [] if subject is None else [subject]
    return found


def _of_submission(settled: Submission, ending: Ending) -> Subject:
    return Subject(
        submission_id=settled.id,
        task_id=settled.task_id,
        upstream=settled.upstream,
        dialect=settled.dialect,
        purchased_at=settled.sent_at,
        ending=ending,
        cost=settled.cost,
        refunded=settled.refunded,
        external_id=settled.external_id,
        source="submit" if ending == "no_job" else "poll",
    )


def _of_task(task: Task, each: Decided) -> Subject | None:
    """Return the submission that serves an ended task; None where no upstream has created a job."""
    if task.submission_id is None or task.upstream is None or task.dialect is None:
        return None
    jobless = task.external_id is None and task.unconfirmed_since is None
    taken = each.settles is not None and each.settles.outcome is Outcome.TAKEN
    if jobless and not taken and task.state is not State.SUCCEEDED and not task.results:
        return None
    ending = _ending(task.state, None if task.failure is None else task.failure.code)
    return Subject(
        submission_id=task.submission_id,
        task_id=task.id,
        upstream=task.upstream,
        dialect=task.dialect,
        purchased_at=task.submitted_at or task.created_at,
        ending="unknown" if task.decided_by == "dovecote" else ending,
        cost=task.cost,
        cost_unit=task.cost_unit,
        refunded=task.refunded,
        usage=task.usage,
        external_id=task.external_id,
        source=str(task.outcome_source or Source.POLL),
    )


def _ending(state: State, code: str | None) -> Ending:
    match state:
        case State.SUCCEEDED:
            return "succeeded"
        case State.CANCELLED:
            return "cancelled"
        case State.FAILED:
            return "moderated" if code == "content_policy" else "failed"
        case _:
            return "unknown"


def _left_over(
    held: Mapping[UUID, Reservation], tasks: Mapping[UUID, Task], ended: set[UUID], known: Mapping[UUID, Subject]
) -> list[Subject]:
    """Return the submissions of ended tasks that nothing is known of: they may have been charged."""
    return [
        Subject(
            submission_id=each.submission_id,
            task_id=each.task_id,
            upstream=each.upstream,
            dialect=each.dialect,
            purchased_at=each.reserved_at,
            ending="unknown" if _may_have_job(tasks[each.task_id], each) else "no_job",
            source="sweep",
        )
        for each in held.values()
        if each.settled_at is None and each.task_id in ended and each.submission_id not in known
    ]


def _may_have_job(task: Task, reservation: Reservation) -> bool:
    """Return whether a submission of an ended task may have created a job."""
    serves = task.submission_id == reservation.submission_id
    return not serves or task.external_id is not None or task.unconfirmed_since is not None


def _book(context: Context, task: Task, subject: Subject, reservation: Reservation | None, booking: Booking) -> Task:
    """Book one submission, and return its task with the entry. Nothing happens where nothing new is known."""
    if reservation is None and not subject.worth_booking:
        return task
    dialect = DIALECTS.get(subject.dialect)
    if dialect is not None and task.operation in dialect.facts.free:
        return task
    facts = _facts(task, subject, reservation)
    found = Found(
        settlement=settle(facts),
        known=_known(task, subject.submission_id),
        reservation=reservation,
        evidence=_evidence(subject),
    )
    return _record(context, task, subject, found, booking)


def _known(task: Task, submission_id: UUID) -> Mapping[str, Any] | None:
    """Return the entry of a submission that counts so far."""
    return next((each for each in task.settlements if each["submission"] == str(submission_id)), None)


def _book_evidence(
    context: Context, task: Task, found: CostEvidence, held: Mapping[UUID, Reservation], booking: Booking
) -> Task:
    """Book what another source says of a price. The task's settlement keeps whether there is a result."""
    known = _known(task, found.submission_id)
    reservation = held.get(found.submission_id)
    settlement = found.settlement
    if known is not None:
        settlement = dataclasses.replace(settlement, delivered=known["delivered"])
    subject = Subject(
        submission_id=found.submission_id,
        task_id=task.id,
        upstream=found.upstream,
        dialect=found.dialect,
        purchased_at=_purchased_at(task, known, reservation),
        ending="unknown",
        external_id=task.external_id if task.submission_id == found.submission_id else None,
        source=found.source,
    )
    learned = Found(settlement=settlement, known=known, reservation=reservation, evidence=found.details)
    return _record(context, task, subject, learned, booking)


def _purchased_at(task: Task, known: Mapping[str, Any] | None, reservation: Reservation | None) -> datetime:
    if known is not None:
        return datetime.fromisoformat(known["purchased_at"])
    return reservation.reserved_at if reservation is not None else task.submitted_at or task.created_at


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A settlement that follows from the facts, and the entry that counts so far."""

    settlement: Settlement
    known: Mapping[str, Any] | None
    reservation: Reservation | None
    evidence: Mapping[str, Any]


def _record(context: Context, task: Task, subject: Subject, found: Found, booking: Booking) -> Task:
    """Add the entry of a settlement to a booking, and return the task with it."""
    now, known, reservation = context.now(), found.known, found.reservation
    earlier = None if known is None else settlement_of(known)
    following = found.settlement if earlier is None else follows(earlier, found.settlement)
    if following is None:
        return task
    quote = None if reservation is None else reservation.quote
    change, reverses = change_of(earlier, following)
    previous = None if known is None else str(known["key"])
    shown = {"external_id": subject.external_id, **found.evidence}
    entry = Entry(
        key=key_of(subject.submission_id, following, previous, source=subject.source),
        submission_id=subject.submission_id,
        upstream=subject.upstream,
        dialect=subject.dialect,
        settlement=following,
        change=change,
        reverses=reverses,
        previous=previous,
        quoted=None if quote is None else quote.expected,
        quoted_max=None if quote is None else quote.high,
        usd=None if quote is None or quote.unit != following.unit else quote.usd,
        purchased_at=subject.purchased_at,
        booked_at=now,
        source=subject.source,
        evidence={name: value for name, value in shown.items() if value is not None},
    )
    document = entry.as_json()
    kept = tuple(each for each in task.settlements if each["submission"] != str(subject.submission_id))
    announced = following.amount is not None
    task = task.changed(
        settlements=(*kept, document),
        sequence=task.sequence + announced,
        updated_at=now if announced else task.updated_at,
    )
    booking.entries.append((entry, task))
    if announced:
        booking.events.append((_event(task, entry, document, now), task))
    if reservation is not None:
        booking.changes.append((reservation, entry, earlier))
        if reservation.settled_at is None:
            booking.closed[reservation.submission_id] = reservation
    if quote is not None:
        _compare(context, entry, quote)
    _log(task, entry)
    return task


def _compare(context: Context, entry: Entry, quote: Quote) -> None:
    """Count charges outside the quoted range; log the third of a price: it has probably changed."""
    settled = entry.settlement
    if settled.verdict != "charged" or settled.computed or not settled.delivered or quote.price_id is None:
        return
    if quote.low is None or quote.high is None or settled.amount is None or settled.unit != quote.unit:
        return
    key = (entry.upstream, quote.price_id)
    if quote.low <= settled.amount <= quote.high:
        context.price_changes.pop(key, None)
        return
    context.price_changes[key] = context.price_changes.get(key, 0) + 1
    if context.price_changes[key] == CHANGED_AFTER:
        log.warning(
            "operator.price_changed upstream=%s price=%s quoted=%s charged=%s unit=%s",
            *key,
            quote.expected,
            settled.amount,
            settled.unit,
        )


CHANGED_AFTER = 3
"""Charges in a row outside the quoted range after which a price has probably changed."""


def _facts(task: Task, subject: Subject, reservation: Reservation | None) -> Facts:
    dialect = DIALECTS.get(subject.dialect)
    unit = subject.cost_unit or ("units" if dialect is None else dialect.facts.cost_unit)
    value = None if subject.cost is None else read_number(subject.cost)
    usage = {name: number for name, each in subject.usage.items() if (number := read_number(each)) is not None}
    del task
    return Facts(
        ending=subject.ending,
        stated=None if value is None else Amount(value, unit),
        refunded=subject.refunded,
        refunds=dialect is not None and dialect.facts.refunds,
        quote=None if reservation is None else reservation.quote,
        usage=usage,
    )


def _evidence(subject: Subject) -> dict[str, Any]:
    return {
        "ending": subject.ending,
        "cost": subject.cost,
        "refunded": subject.refunded,
        "usage": dict(subject.usage) or None,
    }


def _event(task: Task, entry: Entry, document: Mapping[str, Any], now: datetime) -> Event:
    correction = entry.kind == "correction"
    return Event(
        task_id=task.id,
        client=task.client,
        sequence=task.sequence,
        type="cost_corrected" if correction else "settled",
        message=COST_CORRECTED if correction else SETTLED,
        source=Source.POLL if entry.source not in set(Source) else Source(entry.source),
        at=now,
        data=document,
    )


def _log(task: Task, entry: Entry) -> None:
    settled = entry.settlement
    log.debug(
        "submission settled task=%s key=%s verdict=%s amount=%s unit=%s basis=%s",
        task.id,
        entry.key,
        settled.verdict,
        settled.amount,
        settled.unit,
        settled.basis,
    )


async def write(context: Context, connection: AsyncConnection, booking: Booking) -> None:
    """Write a booking: the entries, the reservations that it settles, and what budgets have spent."""
    if not booking.entries:
        return
    now = context.now()
    await entries.insert(connection, booking.entries, at=now)
    await reservations.settle(connection, booking.closed.keys(), at=now)
    await _move_counters(connection, booking)


async def _move_counters(connection: AsyncConnection, booking: Booking) -> None:
    """Release the holds of settled submissions, and count what they cost in the period of their purchase."""
    moves: dict[Key, tuple[Decimal, Decimal]] = {}
    units: dict[Key, str] = {}
    for reservation, entry, earlier in booking.changes:
        usd = reservation.quote.usd
        for hold in reservation.holds:
            released = hold.amount if reservation.submission_id in booking.closed else Decimal(0)
            before = Decimal(0) if earlier is None else spent_of(hold, _amount(earlier), usd)
            after = spent_of(hold, _amount(entry.settlement), usd)
            held, spent = moves.get(hold.key, (Decimal(0), Decimal(0)))
            moves[hold.key], units[hold.key] = (held + released, spent + after - before), hold.unit
    known = await counters.lock(connection, units)
    for key, (released, spent) in moves.items():
        known[key].held = max(known[key].held - released, Decimal(0))
        known[key].spent += spent
    await counters.save(connection, known)


def _amount(settled: Settlement) -> Amount | None:
    return None if settled.amount is None or settled.unit is None else Amount(settled.amount, settled.unit)
