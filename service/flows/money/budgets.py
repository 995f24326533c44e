"""The budgets that count: those of the settings, and those that operators set. Every process follows a change."""

from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.events import rfc3339
from service.domain.money.amounts import plain
from service.domain.money.budgets import EACH, Budget, Counter, Key, period_of, renews_at
from service.flows.context import Context, log
from service.store.database import StoreUnavailable
from service.store.money import budgets, counters
from service.store.money.budgets import Stored

FRESH: Final = 2.0
"""Seconds for which a process takes the known budgets for current. A round of submissions reads them in any case."""


class NotStored(Exception):
    """A budget cannot be changed, with the reason."""


async def refresh(context: Context, connection: AsyncConnection, *, anew: bool = False) -> None:
    """Read the budgets that operators have set, unless that was done a moment ago.

    :param anew: read them in any case
    """
    now = context.monotonic()
    if anew or not 0 <= now - context.budgets_read_at < FRESH:
        _keep(context, await budgets.all_stored(connection))


async def refresh_apart(context: Context) -> None:
    """Read them in a transaction of its own, unless that was done a moment ago.

    One request of many at once does it; the others go on with what is known. The round of submissions decides.
    """
    before, now = context.budgets_read_at, context.monotonic()
    if 0 <= now - before < FRESH:
        return
    context.budgets_read_at = now
    try:
        async with context.database.reading() as connection:
            await refresh(context, connection, anew=True)
    except StoreUnavailable:
        context.budgets_read_at = before
        raise


def _keep(context: Context, stored: list[Stored]) -> None:
    """Keep the budgets. One of the settings counts more than a stored one of the same name."""
    own = context.own_budgets
    names = {budget.name for budget in own}
    context.budgets = (*own, *(each.budget for each in stored if each.budget.name not in names))
    context.budgets_read_at = context.monotonic()


async def put(context: Context, budget: Budget, *, by: str) -> None:
    """Set a budget, or change it. What is spent and held in the period stays.

    :param by: the client whose key does it
    :raises NotStored: when it is one of the settings, or there are too many
    """
    _require_own_name(context, budget.name)
    stored = Stored(budget=budget, by=by, changed_at=context.now())
    if not await context.writers.requests.run(budgets.put, stored):
        raise NotStored(f"there are {budgets.MAX_BUDGETS} budgets; remove one first")
    log.warning("budget set budget=%s limit=%s unit=%s by=%s", budget.name, budget.limit, budget.unit, by)
    await _changed(context)


async def remove(context: Context, name: str, *, by: str) -> bool:
    """Remove a budget; return whether there was one. What tasks in progress hold of it is released as they end.

    :param by: the client whose key does it
    :raises NotStored: when it is one of the settings
    """
    _require_own_name(context, name)
    removed = await context.writers.requests.run(budgets.remove, name)
    if removed:
        log.warning("budget removed budget=%s by=%s", name, by)
        await _changed(context)
    return removed


def _require_own_name(context: Context, name: str) -> None:
    if any(budget.name == name for budget in context.own_budgets):
        raise NotStored("this budget is in the settings (money.budgets): change it there, and restart")


async def _changed(context: Context) -> None:
    async with context.database.reading() as connection:
        await refresh(context, connection, anew=True)
    context.signals.wake("submit")


async def rows(context: Context, *, client: str | None) -> list[dict[str, Any]]:
    """Return the budgets and their parts in the present period, as the API shows them.

    :param client: only what this client's tasks count in; None: all
    """
    now = context.now()
    async with context.database.reading() as connection:
        await refresh(context, connection, anew=True)
        mine = [each for each in context.budgets if client is None or each.client in {EACH, client}]
        periods = {period_of(each.period, now) for each in mine}
        found = await counters.of_budgets(connection, [each.name for each in mine], periods) if mine else {}
    return [row for budget in mine for row in _rows(context, budget, found, client=client)]


def _rows(context: Context, budget: Budget, found: dict[Key, Counter], *, client: str | None) -> list[dict[str, Any]]:
    period = period_of(budget.period, context.now())
    parts = {
        scope: each
        for (name, scope, of_period), each in found.items()
        if (name, of_period) == (budget.name, period) and (client is None or budget.is_of(client, scope))
    }
    ends = rfc3339(renews_at(budget.period, context.now()))
    shown = {**budget.as_json(), "period": period, "renews_at": ends, "editable": budget not in context.own_budgets}
    return [
        {"budget": budget.name, "scope": scope, **shown, "every": budget.period, **_amounts(budget, counter)}
        for scope, counter in sorted(parts.items()) or [("", Counter())]
    ]


def _amounts(budget: Budget, counter: Counter) -> dict[str, str]:
    left = budget.limit - counter.used
    return {
        "spent": plain(max(counter.spent, left * 0)),
        "held": plain(counter.held),
        "left": plain(max(left, left * 0)),
        "overrun": plain(max(-left, left * 0)),
    }
