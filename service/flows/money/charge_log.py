"""Read the log of charges of new-api gateways: the best evidence of refunds and of supplements, by the API key itself."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import CostLearned
from service.domain.errors import UpstreamError
from service.domain.money.amounts import read_number
from service.domain.money.evidence import CostEvidence
from service.domain.money.settlement import Settlement
from service.flows.apply import Applied, announce, apply
from service.flows.context import Context, Upstream, log
from service.flows.conversation import run_exchange
from service.providers.charges import QUOTA
from service.providers.newapi import charge_log
from service.providers.newapi.charge_log import Charged, LogRow
from service.store import leases
from service.store.money import balances

EVERY: Final = 80.0
"""Seconds between two rounds: gateways allow 20 queries of the log in 20 minutes."""
LEASE: Final = 70.0
SINCE: Final = dt.timedelta(days=1)
"""Jobs that were bought earlier are not searched for any more."""
_WEAK: Final = frozenset({"provider", "balance", "rule", "price", "quote", "none"})
"""Grounds of a verdict that a record replaces."""


async def run_due(context: Context) -> int:
    """Search the logs for jobs whose price is not recorded yet; return how many were found. One process does this at a time."""
    wanted = [each for each in context.upstreams.values() if each.settings.charge_log and each.dialects]
    if not wanted or not await _acquire(context):
        return 0
    found = 0
    for upstream in wanted:
        try:
            found += await _search(context, upstream)
        except UpstreamError as error:
            log.info("log of charges not read upstream=%s error=%s", upstream.name, error)
    return found


async def _acquire(context: Context) -> bool:
    return await context.writers.journeys.run(
        leases.acquire, "charge log", context.process, now=context.now(), seconds=LEASE
    )


async def _search(context: Context, upstream: Upstream) -> int:
    async with context.database.reading() as connection:
        entries = await balances.entries_since(connection, upstream.name, since=context.now() - SINCE)
    unproven = [each for each in entries if each.external_id and each.basis in _WEAK and each.verdict != "free"]
    if not any(not each.delivered for each in unproven):
        return 0  # a success is settled by its own answer; a supplement is seen with the next failure
    rows = await run_exchange(context, upstream, upstream.dialects[0], charge_log.charge_log())
    changes = [change for each in unproven if (change := _change(each, rows)) is not None]
    if changes:
        announce(context, await context.writers.journeys.run(_write, context, changes))
    return len(changes)


def _change(entry: Any, rows: Sequence[LogRow]) -> CostLearned | None:
    """Return what the log says of a job. A job without a row in it is not judged: some gateways leave rows out."""
    found = charge_log.charged(rows, entry.external_id)
    if found is None:
        return None
    evidence = CostEvidence(
        submission_id=entry.submission_id,
        upstream=entry.upstream,
        dialect=entry.dialect,
        settlement=_settlement(entry, found),
        source="log",
        details={"rows": list(found.evidence), "reason": found.reason},
    )
    return CostLearned(task_id=entry.task_id, found=evidence)


def _settlement(entry: Any, found: Charged) -> Settlement:
    """Return the settlement by a record. Its amount is in points; that of an entry in another unit keeps its own."""
    points = entry.unit in {None, QUOTA}
    gross = read_number(found.gross) if points else entry.gross
    amount = Decimal(0) if not found.amount else read_number(found.amount) if points else entry.gross
    return Settlement(
        verdict="refunded" if not found.amount else "charged",
        basis="record",
        amount=amount,
        gross=gross,
        unit=QUOTA if points else entry.unit,
        delivered=entry.delivered,
        computed=not points and entry.computed,
        reason="the gateway's log shows the refund" if found.refunded else "the gateway's log shows the charge",
    )


async def _write(connection: AsyncConnection, context: Context, changes: Sequence[CostLearned]) -> list[Applied]:
    return await apply(context, connection, changes)
