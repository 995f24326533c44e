"""Quote tasks: what each upstream of a route is expected to charge, and which of them fit the client's terms."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from service.domain.money.amounts import CURRENCY, Amount, is_unit, read_number
from service.domain.money.quotes import PriceBook, Quote, unknown
from service.domain.money.rules import Purchase
from service.domain.money.terms import NO_TERMS, Terms, by_duration, by_price, too_dear
from service.domain.task import Task
from service.domain.validation import Mistake, quote
from service.flows.context import Context, Upstream
from service.flows.statistics import typical_seconds
from service.providers.dialect import Dialect


def quote_at(context: Context, upstream: Upstream, dialect: Dialect | None, task: Task) -> Quote | None:
    """Return what a task is expected to cost at an upstream; None where no price of it is known at all."""
    prices = context.prices.get(upstream.name)
    if dialect is None:
        return None
    named = upstream.in_its_names(task)
    learned = context.learned_prices.get((upstream.name, task.family, task.operation, task.model))
    if task.operation in dialect.facts.free:
        return None if prices is None else Quote(upstream=upstream.name, why=("it buys nothing",))
    if prices is None:
        return None if learned is None else learned.quote(unknown(upstream.name), _usd(learned.unit, upstream, None))
    purchase = Purchase(
        upstream=upstream.name,
        kind=upstream.kind,
        dialect=dialect.facts.key,
        family=task.family,
        operation=task.operation,
        model=named.model,
        fields={**named.input, **named.options},
    )
    found = prices.quote(purchase, on=context.now().date())
    return found if found.known or learned is None else learned.quote(found, _usd(learned.unit, upstream, prices))


def _usd(unit: str, upstream: Upstream, prices: PriceBook | None) -> Decimal | None:
    """Return the worth of a unit in US dollars; None where no rate is known."""
    if unit == CURRENCY:
        return Decimal(1)
    rates = {} if prices is None else prices.rates
    rate = rates.get((upstream.name, unit)) or rates.get((upstream.kind, unit))
    return None if rate is None else rate.usd


def quotes_of(context: Context, task: Task) -> dict[str, Quote]:
    """Return the quotes of a task's route, by upstream, where any price is known."""
    found: dict[str, Quote] = {}
    for upstream in (context.upstreams[name] for name in task.route if context.prices or context.learned_prices):
        dialect = context.dialect(task) if task.parent_id is not None else upstream.dialect_for_task(task)
        quoted = quote_at(context, upstream, dialect, task)
        if quoted is not None:
            found[upstream.name] = quoted
    return found


def read_terms(context: Context, client: str, request: Mapping[str, Any], mistakes: list[Mistake]) -> Terms:
    """Return the terms of a request, with what the settings say of withheld outputs."""
    fields = {name: request[name] for name in TERMS if name in request}
    policy = context.settings.money.moderation_of(client)
    if "moderated_retries" in fields and fields.get("on_moderated", policy) == "fail":
        mistakes.append(
            Mistake("moderated_retries", "has no effect without on_moderated: set that to retry or next_upstream")
        )
    if policy != "fail":
        fields.setdefault("on_moderated", policy)
    if fields.get("on_moderated", "fail") != "fail":
        fields.setdefault("moderated_retries", context.settings.money.moderated_retries)
    if not fields:
        return NO_TERMS
    cost = fields.pop("max_cost", None)
    return Terms(max_cost=None if cost is None else _amount(cost, mistakes), **fields)


TERMS = ("max_cost", "prefer", "when_over_budget", "on_moderated", "moderated_retries")
"""The fields of a request that are its terms."""


def _amount(stated: Any, mistakes: list[Mistake]) -> Amount | None:
    """Return an amount of a request. Its schema has reported what is no object."""
    if not isinstance(stated, Mapping):
        return None
    value, unit = read_number(stated.get("amount")), stated.get("unit", "USD")
    if value is None:
        mistakes.append(
            Mistake(
                "max_cost.amount",
                f'must be a decimal number in quotes, such as "0.50" (got {quote(stated.get("amount"))})',
            )
        )
    if not is_unit(unit):
        mistakes.append(Mistake("max_cost.unit", f"must be a unit such as USD or credits (got {quote(unit)})"))
    return None if value is None else Amount(value, unit)


def with_quotes(context: Context, task: Task, mistakes: list[Mistake]) -> Task:
    """Return a task with its quotes, its route in the preferred order, and without the upstreams that are too dear.

    Where none is left, the mistakes say so: nothing has been paid then.
    """
    prefer = task.terms.prefer or context.settings.money.prefer
    if not (context.prices or context.learned_prices) and task.terms.max_cost is None and prefer == "route":
        return task
    quotes = quotes_of(context, task)
    route, skipped = task.route, dict(task.skipped_upstreams)
    if task.terms.max_cost is not None:
        reasons = {name: _too_dear(context, task, quotes.get(name) or unknown(name)) for name in route}
        route = tuple(name for name in route if reasons[name] is None)
        skipped |= {name: reason for name, reason in reasons.items() if reason is not None}
        if not route:
            words = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            mistakes.append(Mistake("max_cost", f"no upstream can be used, and nothing was bought. {words}"))
            route = task.route
    if prefer == "cheapest":
        route = by_price(route, quotes)
    elif prefer == "fastest":
        route = by_duration(route, {name: _seconds(context, task, name) for name in route})
    shown = tuple(quotes.get(name) or unknown(name) for name in route) if quotes else ()
    return task.changed(route=route, skipped_upstreams=skipped, quotes=shown)


def _too_dear(context: Context, task: Task, quoted: Quote) -> str | None:
    most = task.terms.max_cost
    return None if most is None else too_dear(quoted, most, context.settings.money.unpriced)


def _seconds(context: Context, task: Task, name: str) -> float:
    """Return how long a task of this kind usually takes at an upstream: learned there, else as the upstream is known."""
    upstream = context.upstreams[name]
    dialect = upstream.dialect_for(task.family, task.operation)
    learned = context.statistics.median_at(task, name)
    there = task.changed(upstream=name, dialect=None if dialect is None else dialect.facts.key)
    return typical_seconds(context, there) if learned is None else learned
