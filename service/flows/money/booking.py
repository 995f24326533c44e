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
from service.domain.money.amounts import Amount, plain, read_number
from service.domain.money.budgets import Key, spent_of
from service.domain.money.evidence import CostEvidence
from service.domain.money.quotes import Quote
from service.domain.money.settlement import (
    Entry,
    Facts,
    Settlement,
    change_of,
    follows,
    key_of,
    settle,
    settlement_of,
)
from service.domain.operator_events import PRICE_CHANGED, Occurrence
from service.domain.task import Source, Task
from service.domain.webhook_events import COST_CORRECTED, SETTLED
from service.flows.context import Context, log
from service.flows.money import budgets
from service.flows.money.subjects import Subject, left_over, subjects_of
from service.providers.registry import DIALECTS
from service.store.money import counters, entries, reservations
from service.store.money.reservations import Reservation


@dataclasses.dataclass(slots=True)
class Booking:
    """The entries of one transaction, and the tasks and events that go with them."""

    entries: list[tuple[Entry, Task]] = dataclasses.field(default_factory=list)
    events: list[tuple[Event, Task]] = dataclasses.field(default_factory=list)
    closed: dict[UUID, Reservation] = dataclasses.field(default_factory=dict)
    """Reservations that are settled now."""
    occurrences: list[Occurrence] = dataclasses.field(default_factory=list)
    """Events that an operator is told of."""
    changes: list[tuple[Reservation, Settlement, Settlement | None]] = dataclasses.field(default_factory=list)
    """Settlements that change what budgets have spent, with the settlement that they have counted before."""
    second_payments: list[Entry] = dataclasses.field(default_factory=list)
    """Entries of submissions that were probably paid beside another one of their task."""

    def count(self, context: Context) -> None:
        """Count the amounts of this booking. Called after the commit."""
        for entry, task in self.entries:
            _count(context, entry, task.family)
        for entry in self.second_payments:
            context.metrics.double_payments.labels(entry.upstream).inc()


async def book(
    context: Context, connection: AsyncConnection, before: Mapping[UUID, Task], decided: Sequence[Decided]
) -> tuple[list[Decided], Booking]:
    """Return the decisions with what their tasks cost, and the booking to write.

    :param before: the tasks before the first of these decisions
    """
    subjects = [subject for each in decided for subject in subjects_of(before[each.task.id], each)]
    ended = {each.task.id for each in decided if each.task.state.ended and not before[each.task.id].state.ended}
    learned = [each.cost_evidence for each in decided if each.cost_evidence is not None]
    due = {each.task.id for each in decided if each.cost_due is not None}
    if ended and not context.reserves:
        await budgets.refresh(context, connection)  # another process may have reserved for one that was just set
    if not (subjects or learned or due) and not (ended and context.reserves):
        return list(decided), Booking()
    ended |= {each.task.id for each in decided if each.task.id in due and each.task.state.ended}
    wanted = ended | {each.task_id for each in subjects} | {each.task.id for each in decided if each.cost_evidence}
    held = await reservations.of_tasks(connection, wanted) if context.reserves or due or learned else {}
    tasks = {each.task.id: each.task for each in decided}
    by_id = {each.submission_id: each for each in subjects}
    subjects = list(by_id.values()) + left_over(held, tasks, ended, by_id)
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


def _book(context: Context, task: Task, subject: Subject, reservation: Reservation | None, booking: Booking) -> Task:
    """Book one submission, and return its task with the entry. Nothing happens where nothing new is known."""
    if reservation is None and not subject.worth_booking:
        return task
    dialect = DIALECTS.get(subject.dialect)
    if dialect is not None and task.operation in dialect.facts.free:
        return task
    facts = _facts(subject, reservation)
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
        if reservation is not None and earlier is not None:
            _count_in_budgets(booking, reservation, earlier, earlier)
        return task
    quote = None if reservation is None else reservation.quote
    change, reverses = change_of(earlier, following)
    previous = None if known is None else str(known["key"])
    ending = None if known is None else known["evidence"].get("ending")
    shown = {"external_id": subject.external_id, "ending": ending, **found.evidence}
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
    if is_second_payment(entry, earlier, kept):
        booking.second_payments.append(entry)
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
        _count_in_budgets(booking, reservation, following, earlier)
    if quote is not None:
        _compare(context, entry, quote, booking)
    _log(task, entry)
    return task


def _count_in_budgets(
    booking: Booking, reservation: Reservation, found: Settlement, earlier: Settlement | None
) -> None:
    """Add what a settlement changes in budgets. The first one after the reservation settles it.

    A process that knows neither prices nor budgets may have booked an entry, and left the reservation open.
    """
    first = reservation.settled_at is None and reservation.submission_id not in booking.closed
    if first:
        booking.closed[reservation.submission_id] = reservation
    if first or found is not earlier:
        booking.changes.append((reservation, found, None if first else earlier))


def is_second_payment(entry: Entry, earlier: Settlement | None, others: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an entry says first that a submission was paid beside another one of its task.

    A task whose output was withheld is bought again on purpose.
    """
    if entry.settlement.verdict not in PAID or (earlier is not None and earlier.verdict in PAID):
        return False
    paid = [each["evidence"].get("ending") for each in others if each["verdict"] in PAID]
    return any(ending != "moderated" for ending in paid) and entry.evidence.get("ending") != "moderated"


PAID = frozenset({"charged", "probably_charged"})


def _count(context: Context, entry: Entry, family: str) -> None:
    """Count the amount of an entry, and what it takes back."""
    settled, metrics = entry.settlement, context.metrics
    if entry.reverses is not None:
        metrics.returned.labels(entry.upstream, family, entry.reverses.unit).inc(float(entry.reverses.value))
    if entry.change and settled.unit is not None:
        metric = metrics.spend if entry.change > 0 else metrics.returned
        metric.labels(entry.upstream, family, settled.unit).inc(abs(float(entry.change)))


def _compare(context: Context, entry: Entry, quote: Quote, booking: Booking) -> None:
    """Count charges outside the quoted range; report the third of a price: it has probably changed."""
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
        shown = {
            "upstream": entry.upstream,
            "price": quote.price_id,
            "quoted": None if quote.expected is None else plain(quote.expected),
            "charged": plain(settled.amount),
            "unit": settled.unit,
        }
        booking.occurrences.append(Occurrence(PRICE_CHANGED, " ".join(key), shown))


CHANGED_AFTER = 3
"""Charges in a row outside the quoted range after which a price has probably changed."""


def _facts(subject: Subject, reservation: Reservation | None) -> Facts:
    dialect = DIALECTS.get(subject.dialect)
    unit = subject.cost_unit or ("units" if dialect is None else dialect.facts.cost_unit)
    value = None if subject.cost is None else read_number(subject.cost)
    usage = {name: number for name, each in subject.usage.items() if (number := read_number(each)) is not None}
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
    if not booking.entries and not booking.closed:
        return
    now = context.now()
    await entries.insert(connection, booking.entries, at=now)
    await reservations.settle(connection, booking.closed.keys(), at=now)
    await _move_counters(connection, booking)


async def _move_counters(connection: AsyncConnection, booking: Booking) -> None:
    """Release the holds of settled submissions, and count what they cost in the period of their purchase."""
    moves: dict[Key, tuple[Decimal, Decimal]] = {}
    units: dict[Key, str] = {}
    for reservation, found, earlier in booking.changes:
        quote = reservation.quote
        for hold in reservation.holds:
            released = hold.amount if earlier is None else Decimal(0)
            before = Decimal(0) if earlier is None else spent_of(hold, _amount(earlier), quote)
            after = spent_of(hold, _amount(found), quote)
            held, spent = moves.get(hold.key, (Decimal(0), Decimal(0)))
            moves[hold.key], units[hold.key] = (held + released, spent + after - before), hold.unit
    known = await counters.lock(connection, units)
    for key, (released, spent) in moves.items():
        known[key].held = max(known[key].held - released, Decimal(0))
        known[key].spent += spent
    await counters.save(connection, known)


def _amount(settled: Settlement) -> Amount | None:
    return None if settled.amount is None or settled.unit is None else Amount(settled.amount, settled.unit)
