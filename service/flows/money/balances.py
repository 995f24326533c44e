"""Judge refunds by balances: between two quiet moments of an account, its balance tells which failed jobs were given back."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import CostLearned
from service.domain.errors import UpstreamError
from service.domain.money.amounts import Amount, plain, read_number
from service.domain.money.attribution import Bought, Judgement, OpenCase, Snapshot, Verdicts, Window, judge_both
from service.domain.money.evidence import CostEvidence
from service.domain.money.quotes import converted
from service.domain.money.settlement import Settlement
from service.flows.apply import Applied, announce, apply
from service.flows.context import Context, Upstream, log
from service.flows.upstreams import credit
from service.store import leases
from service.store.money import balances

EVERY: Final = 60.0
"""Seconds between two rounds."""
QUIET: Final = dt.timedelta(seconds=120)
"""An account is quiet when nothing about it has changed for this long: gateways refund in the background."""
OPEN_FOR: Final = dt.timedelta(days=1)
"""The time in which a refund is expected: older cases stay as they were judged."""
LEASE: Final = 110.0
_WEAK: Final = frozenset({"rule", "price", "quote", "none", "balance"})
"""Grounds of a verdict that a balance may replace."""


async def run_due(context: Context) -> int:
    """Take the balances of quiet accounts, and judge what the windows that end with them say; return how many were judged.

    One process does this at a time. It asks only where a job without a result is not judged yet, or where there is no
    balance to begin a window with.
    """
    wanted = [each for each in context.upstreams.values() if credit.question(each) is not None and context.reserves]
    if not wanted or not await _acquire(context):
        return 0
    judged = 0
    for upstream in wanted:
        try:
            judged += await _judge(context, upstream)
        except UpstreamError as error:
            log.info("balance not read upstream=%s error=%s", upstream.name, error)
    return judged


async def _acquire(context: Context) -> bool:
    return await context.writers.journeys.run(
        leases.acquire, "balances", context.process, now=context.now(), seconds=LEASE
    )


async def _judge(context: Context, upstream: Upstream) -> int:
    now = context.now()
    async with context.database.reading() as connection:
        stored = await balances.last_two(connection, upstream.name)
        known = stored[0] if stored else None
        quiet = await balances.is_quiet(connection, upstream.name, since=now - QUIET)
        entries = await balances.entries_since(connection, upstream.name, since=now - OPEN_FOR) if quiet else []
        since = now if known is None else known.snapshot.at
        unbooked = await balances.unbooked(connection, upstream.name, since=since) if quiet else 0
    moved = [each for each in entries if known is not None and each.purchased_at > since]
    if not quiet or (known is not None and not moved and not any(map(_is_open, entries))):
        return 0
    found = await _read(context, upstream)
    if found is None:
        return 0
    snapshot, unit = found
    if known is None or known.unit != unit:
        await context.writers.journeys.run(balances.add, upstream.name, snapshot, unit)
        return 0
    window = _window(known.snapshot, snapshot, unit, entries, disturbed=unbooked > 0)
    before = None
    if len(stored) > 1 and stored[1].unit == unit:
        earlier = [each for each in entries if each.purchased_at <= known.snapshot.at]
        before = _window(stored[1].snapshot, known.snapshot, unit, earlier, disturbed=False)
    verdicts = judge_both(before, window)
    if verdicts.missing is not None:
        log.warning(
            "account lost more than its purchases upstream=%s missing=%s unit=%s", upstream.name, verdicts.missing, unit
        )
    changes = list(_changes(entries, verdicts, window, unit))
    reading = balances.Kept(snapshot, unit)
    applied = await context.writers.journeys.run(_write, context, upstream.name, reading, changes)
    announce(context, applied)
    return len(changes)


async def _read(context: Context, upstream: Upstream) -> tuple[Snapshot, str] | None:
    """Return the balance once two rounds in a row have read the same; None before, and where the account has no limit."""
    before = context.balance_readings.pop(upstream.name, None)
    found = await credit.ask(context, upstream)
    amount = None if found is None or found.left is None else read_number(found.left)
    if found is None or amount is None:
        return None
    if before == amount:
        return Snapshot(context.now(), amount), found.unit
    context.balance_readings[upstream.name] = amount
    return None


def _is_open(entry: Any) -> bool:
    """Return whether a job without a result may still be judged by a balance."""
    return (
        not entry.delivered and entry.verdict not in {"free", "refunded"} and entry.basis in _WEAK and bool(entry.gross)
    )


def _window(start: Snapshot, end: Snapshot, unit: str, entries: Sequence[Any], *, disturbed: bool) -> Window:
    bought = [
        Bought(each.submission_id, _price(each, unit))
        for each in entries
        if each.purchased_at > start.at and each.verdict != "free"
    ]
    returned = [
        _price(each, unit) or Decimal(0)
        for each in entries
        if each.verdict == "refunded" and _was_known(each, start, end)
    ]
    cases = [
        OpenCase(each.submission_id, price)
        for each in entries
        if _is_open(each) and (price := _price(each, unit)) is not None
    ]
    return Window(
        start=start,
        end=end,
        bought=bought,
        given_back=sum(returned, Decimal(0)),
        open=cases,
        disturbed=disturbed or len(cases) < sum(map(_is_open, entries)),
    )


def _was_known(entry: Any, start: Snapshot, end: Snapshot) -> bool:
    """Return whether a refund came in a window by other evidence, or by the balance that ended it."""
    return bool(entry.booked_at >= end.at if entry.basis == "balance" else entry.booked_at > start.at)


def _price(entry: Any, unit: str) -> Decimal | None:
    """Return the price of an entry in the unit of the balance, where it is known exactly."""
    exact = not entry.computed or (entry.quoted is not None and entry.quoted == entry.quoted_max)
    if entry.gross is None or entry.unit is None or not exact:
        return None
    return converted(Amount(entry.gross, entry.unit), unit, None if entry.usd is None else Decimal(entry.usd))


def _changes(entries: Sequence[Any], verdicts: Verdicts, window: Window, unit: str) -> list[CostLearned]:
    details = {
        "balance_before": plain(window.start.amount),
        "balance_after": plain(window.end.amount),
        "unit": unit,
        "from": window.start.at.isoformat(timespec="seconds"),
        "until": window.end.at.isoformat(timespec="seconds"),
        "purchases": len(window.bought),
    }
    by_id = {each.submission_id: each for each in entries}
    found = [_evidence(by_id[each], word, details) for each, word in verdicts.judged.items()]
    if verdicts.alike_kept:
        group = [by_id[each] for each in sorted(verdicts.alike) if by_id[each].verdict == "probably_charged"]
        details |= {"jobs_of_this_price": sorted(each.external_id or "" for each in group), "kept": verdicts.alike_kept}
        found += [_counted(each, verdicts.alike_kept, len(verdicts.alike), details) for each in group]
    return [CostLearned(task_id=by_id[each.submission_id].task_id, found=each) for each in found]


def _counted(entry: Any, kept: int, number: int, details: dict[str, Any]) -> CostEvidence:
    """Return the evidence for jobs of one price of which only the number is known that were given back."""
    settlement = Settlement(
        verdict="probably_charged",
        basis="balance",
        amount=entry.gross,
        gross=entry.gross,
        unit=entry.unit,
        delivered=entry.delivered,
        computed=entry.computed,
        reason=f"the balance shows that {kept} of {number} jobs of this price were not given back",
    )
    return _statement(entry, settlement, details)


def _evidence(entry: Any, word: Judgement, details: dict[str, Any]) -> CostEvidence:
    returned = word == "returned"
    settlement = Settlement(
        verdict="refunded" if returned else "charged",
        basis="balance",
        amount=Decimal(0) if returned else entry.gross,
        gross=entry.gross,
        unit=entry.unit,
        delivered=entry.delivered,
        computed=entry.computed,
        reason="the balance shows that it was given back"
        if returned
        else "the balance shows that it was not given back",
    )
    return _statement(entry, settlement, details)


def _statement(entry: Any, settlement: Settlement, details: dict[str, Any]) -> CostEvidence:
    return CostEvidence(
        submission_id=entry.submission_id,
        upstream=entry.upstream,
        dialect=entry.dialect,
        settlement=settlement,
        source="balance",
        details=details,
    )


async def _write(
    connection: AsyncConnection,
    context: Context,
    upstream: str,
    reading: balances.Kept,
    changes: Sequence[CostLearned],
) -> list[Applied]:
    """Write the balance that begins the next window, and what the last window says."""
    await balances.add(connection, upstream, reading.snapshot, reading.unit)
    return await apply(context, connection, changes) if changes else []
