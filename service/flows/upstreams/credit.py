"""Request the remaining credit of the accounts, and warn when it is low."""

import asyncio
import dataclasses
import datetime as dt

from service.domain.errors import UpstreamError
from service.domain.money.amounts import plain, read_number
from service.domain.operator_events import CREDIT_SHORT, LOW_CREDIT, Occurrence
from service.flows.context import Context, Upstream, log
from service.flows.conversation import run_exchange
from service.flows.money.usage import used_in_a_day
from service.flows.webhooks.operator import ended, report
from service.providers.capabilities import CanTellBalance
from service.providers.dialect import Dialect
from service.providers.newapi import account
from service.providers.wire import Balance, BalanceExchange
from service.store import upstreams as upstream_store
from service.store.database import StoreUnavailable

EVERY = 600.0
"""Seconds between questions, over all processes together."""
DUE = EVERY - 30.0
"""Seconds after which an answer is old: the clocks of several processes tick at different times."""
AT_START = 60.0
"""Seconds after which a process that starts asks again: perhaps it was started because the settings have changed."""


def question(upstream: Upstream) -> tuple[Dialect, BalanceExchange] | None:
    """Return the request for the credit of an upstream; None where it reports none, or where the query is not allowed."""
    settings = upstream.settings
    if not upstream.dialects:
        return None
    if settings.query_key is not None:
        return upstream.dialects[0], account.quota(settings.key_name)
    if settings.billing:
        return upstream.dialects[0], account.billing()
    telling = (each for each in upstream.dialects if isinstance(each, CanTellBalance))
    return next(((dialect, dialect.balance()) for dialect in telling), None)


async def ask(context: Context, upstream: Upstream) -> Balance | None:
    """Request the credit of one upstream; return None where it reports none.

    :raises UpstreamError: when it does not answer
    """
    asked = question(upstream)
    return None if asked is None else await run_exchange(context, upstream, *asked)


async def ask_due(context: Context, *, after: float = DUE) -> int:
    """Request the credit of upstreams that is out of date; return their number.

    :param after: seconds
    :raises StoreUnavailable: when the database is out of reach
    """
    names = [name for name, upstream in context.upstreams.items() if question(upstream) is not None]
    if not names:
        return 0
    now = context.now()
    before = now - dt.timedelta(seconds=after)
    claimed = await context.writers.journeys.run(upstream_store.claim_credit, names, now=now, before=before)
    found = await asyncio.gather(*(_refresh(context, known) for known in claimed))
    await context.writers.journeys.run(upstream_store.save_credit, found)
    return len(claimed)


async def _refresh(context: Context, known: upstream_store.Upstream) -> upstream_store.Upstream:
    """Request the credit and log warnings for the operator. Without an answer the known credit stays."""
    upstream = context.upstreams[known.name]
    error: str | None = None
    balance: Balance | None = None
    try:
        balance = await ask(context, upstream)
    except UpstreamError as refusal:
        error = str(refusal)[:300]
    now = context.now()
    if balance is None:
        if error != known.credit_error:
            log.warning("credit not reported upstream=%s error=%s", known.name, error)
        return dataclasses.replace(known, credit_error=error, credit_at=now)
    low = upstream.settings.low_credit
    if is_low(upstream, balance.left):
        data = {"upstream": known.name, "credit": balance.left, "unit": balance.unit, "limit": low}
        await report(context, Occurrence(LOW_CREDIT, known.name, data))
    elif low is not None:
        await ended(context, LOW_CREDIT, known.name)
    if is_low(upstream, balance.left) and not is_low(upstream, known.credit):
        log.warning("credit is low upstream=%s left=%g unit=%s", known.name, balance.left, balance.unit)
    await _check_day(context, known.name, balance)
    return dataclasses.replace(known, credit=balance.left, credit_unit=balance.unit, credit_error=None, credit_at=now)


async def _check_day(context: Context, upstream: str, balance: Balance) -> None:
    """Report an account whose credit is less than what the last 24 hours have used."""
    left = None if balance.left is None else read_number(balance.left)
    if left is None:
        return
    try:
        used = await used_in_a_day(context, upstream, balance.unit)
    except StoreUnavailable:  # a report is a hint
        return
    if used > left:
        shown = {"upstream": upstream, "credit": plain(left), "unit": balance.unit, "used_in_a_day": plain(used)}
        await report(context, Occurrence(CREDIT_SHORT, upstream, shown))


def is_low(upstream: Upstream, left: float | None) -> bool:
    """Return whether the credit is below the limit. Unlimited credit is never low."""
    low = upstream.settings.low_credit
    return low is not None and left is not None and left < low
