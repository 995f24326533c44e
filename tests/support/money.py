"""Compare the entries of the ledger, the reservations and the counters of budgets with one another."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.amounts import Amount
from service.domain.money.budgets import Hold, spent_of
from service.domain.money.quotes import Quote
from service.domain.money.settlement import settlement_of
from service.store.database import Database
from service.store.tables import budget_counters, events, money_entries, reservations, submissions, tasks
from tests.support.world import World

ENDED = ("succeeded", "failed", "cancelled", "expired")


async def faults_in_ledger(world: World) -> list[str]:
    """Return what does not agree: between entries, events, tasks, reservations and budgets."""
    async with world.context.database.reading() as connection:
        return [*await _faults_of_entries(connection), *await _faults_of_reservations(connection)]


async def faults_in_database(url: str) -> list[str]:
    """Return the same for a database of other processes."""
    database = Database(url)
    try:
        async with database.reading() as connection:
            return [*await _faults_of_entries(connection), *await _faults_of_reservations(connection)]
    finally:
        await database.close()


async def _faults_of_entries(connection: AsyncConnection) -> list[str]:
    faults: list[str] = []
    entries = list(await connection.execute(select(money_entries).order_by(money_entries.c.id)))
    chains: dict[Any, list[Any]] = defaultdict(list)
    for entry in entries:
        chains[entry.submission_id].append(entry)
    known = {row.id for row in await connection.execute(select(submissions.c.id))}
    for submission, chain in chains.items():
        current = [each for each in chain if each.superseded_at is None]
        if len(current) != 1 or current[0] is not chain[-1]:
            faults.append(f"{submission}: {len(current)} entries count")
        if [each.corrects for each in chain] != [None, *(each.key for each in chain[:-1])]:
            faults.append(f"{submission}: an entry corrects another one than the one before")
        if submission not in known:
            faults.append(f"{submission}: booked without a submission")
        if {each.unit for each in chain if each.unit} and len({each.unit for each in chain if each.unit}) == 1:
            total = sum((each.change for each in chain if each.change is not None), Decimal(0))
            if current and current[0].amount is not None and total != current[0].amount:
                faults.append(f"{submission}: the changes are {total}, and {current[0].amount} counts")
    faults += await _faults_of_events(connection, entries)
    return faults


async def _faults_of_events(connection: AsyncConnection, entries: list[Any]) -> list[str]:
    """Return what the events say otherwise than the entries: a billing system books by them alone."""
    booked: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    wanted = events.c.type.in_(("settled", "cost_corrected"))
    for event in await connection.execute(select(events.c.data).where(wanted).order_by(events.c.id)):
        if event.data["key"] in booked:
            faults.append(f"{event.data['key']}: announced twice")
        booked[event.data["key"]] = event.data
    replayed: dict[str, Decimal] = defaultdict(Decimal)
    for data in booked.values():
        replayed[data["submission"]] += Decimal(data["change"] or 0)
    faults += [
        f"{entry.key}: the events make {replayed.get(str(entry.submission_id))}, not {entry.amount}"
        for entry in entries
        if entry.superseded_at is None
        and entry.amount is not None
        and replayed.get(str(entry.submission_id)) != entry.amount
    ]
    shown = {
        each["key"]: each for row in await connection.execute(select(tasks.c.settlements)) for each in row.settlements
    }
    current = {each.key for each in entries if each.superseded_at is None}
    if set(shown) != current:
        faults.append(f"tasks show {set(shown) - current}, and not {current - set(shown)}")
    return faults


async def _faults_of_reservations(connection: AsyncConnection) -> list[str]:
    faults: list[str] = []
    states = {row.id: row.state for row in await connection.execute(select(tasks.c.id, tasks.c.state))}
    current = {
        row.submission_id: row
        for row in await connection.execute(select(money_entries).where(money_entries.c.superseded_at.is_(None)))
    }
    held: dict[Any, Decimal] = defaultdict(Decimal)
    spent: dict[Any, Decimal] = defaultdict(Decimal)
    for row in await connection.execute(select(reservations)):
        if row.settled_at is None and states[row.task_id] in ENDED:
            faults.append(f"{row.submission_id}: its task has ended, and its reservation stays")
        for hold in map(Hold.from_json, row.holds):
            if row.settled_at is None:
                held[hold.key] += hold.amount
            else:
                entry = current[row.submission_id]
                settlement = settlement_of(_as_json(entry))
                amount = _amount(settlement)
                spent[hold.key] += spent_of(hold, amount, Quote.from_json(row.quote))
    for counter in await connection.execute(select(budget_counters)):
        key = (counter.budget, counter.scope, counter.period)
        if (counter.held, counter.spent) != (held[key], spent[key]):
            faults.append(f"{key}: {counter.held} held, {counter.spent} spent; {held[key]} and {spent[key]} are right")
    return faults


def _as_json(entry: Any) -> dict[str, Any]:
    names = ("verdict", "basis", "unit", "delivered", "computed", "reason")
    amounts = {
        name: None if getattr(entry, name) is None else str(getattr(entry, name)) for name in ("amount", "gross")
    }
    return {**{name: getattr(entry, name) for name in names}, **amounts}


def _amount(settlement: Any) -> Any:
    if settlement.amount is None or settlement.unit is None:
        return None
    return Amount(settlement.amount, settlement.unit)
