"""The amounts that tasks may spend now: their own limits and the budgets, reserved in the transaction that begins a submission."""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.amounts import Amount, plain
from service.domain.money.budgets import Budget, Counter, Hold, Key, OverBudget, keys_of, reserve
from service.domain.money.quotes import Quote, converted, unknown
from service.domain.money.terms import too_dear
from service.domain.operator_events import HARD_BUDGET, SOFT_BUDGET, Occurrence
from service.domain.task import Submission, Task
from service.flows.context import Context, Upstream
from service.flows.money import budgets
from service.flows.money.quotes import quote_at
from service.flows.webhooks.operator import announce
from service.providers.dialect import Dialect
from service.store import tasks as task_store
from service.store.money import counters, reservations
from service.store.money.reservations import Reservation

CHECK_EVERY = dt.timedelta(hours=1)
"""The time after which it is checked whether a reservation was settled: the process that should have done so may be older."""
RETRY_EVERY = dt.timedelta(seconds=60)
"""How often a task that waits for a budget is planned again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unaffordable:
    """The reason why a task must not be bought at an upstream."""

    reason: str
    retry_at: dt.datetime | None = None
    """When it may be bought; None: it does not wait."""


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """The possible price of a task at an upstream, and what it would reserve."""

    quote: Quote
    holds: tuple[Hold, ...] = ()


@dataclasses.dataclass(slots=True, kw_only=True)
class Allowance:
    """The budgets of one round. Each planned task takes its share."""

    context: Context
    now: dt.datetime
    counters: dict[Key, Counter] = dataclasses.field(default_factory=dict)
    earlier: Mapping[UUID, Sequence[Reservation]] = dataclasses.field(default_factory=dict)
    """The reservations of tasks that have been submitted before."""
    taken: dict[UUID, Offer] = dataclasses.field(default_factory=dict)
    """By task: what it takes."""
    refused: dict[Key, Occurrence] = dataclasses.field(default_factory=dict)
    """Budgets that had no room for a task."""

    def offer(self, task: Task, upstream: Upstream, dialect: Dialect) -> Offer | Unaffordable:
        """Return what a task would reserve at an upstream, or why it must not be bought there."""
        if task.operation in dialect.facts.free:
            return Offer(unknown(upstream.name))
        quote = quote_at(self.context, upstream, dialect, task) or unknown(upstream.name)
        reason = self._above_limit(task, quote)
        if reason is not None:
            return Unaffordable(reason=reason)
        keys = keys_of(self.context.budgets, task.client, task.labels, upstream.name, self.now)
        found = reserve(keys, self.counters, quote, at=self.now)
        if not isinstance(found, OverBudget):
            return Offer(quote, found)
        if found.needed is not None:
            self.refused[found.key] = _hard_limit(found.key, found)
        waits = (task.terms.when_over_budget or found.budget.when_over) == "wait" and found.needed is not None
        if not waits or (found.needed or Decimal(0)) > found.budget.limit:
            return Unaffordable(reason=str(found))
        retry_at = min(self.now + RETRY_EVERY, found.renews_at)
        return Unaffordable(reason=f"the budget {found.budget.name!r} has no room for it at present", retry_at=retry_at)

    def _above_limit(self, task: Task, quote: Quote) -> str | None:
        most = task.terms.max_cost
        if most is None:
            return None
        committed = self._committed(task, most.unit)
        if committed is None:
            return f"an earlier submission may have been charged, and its price in {most.unit} is not known"
        left = Amount(most.value - committed, most.unit)
        if left.value < 0:
            return f"earlier submissions may have cost more than max_cost, which is {most}"
        return too_dear(quote, left, self.context.settings.money.unpriced)

    def _committed(self, task: Task, unit: str) -> Decimal | None:
        """Return what the earlier submissions of a task have cost, or may have; None where that is not known."""
        settled = {each["submission"]: each for each in task.settlements}
        amounts: list[Decimal | None] = []
        for each in self.earlier.get(task.id, ()):
            entry = settled.get(str(each.submission_id))
            if entry is None:
                amounts.append(each.quote.bound_in(unit))
            elif entry["amount"] is not None and entry["unit"] is not None:
                amount = Amount(Decimal(entry["amount"]), entry["unit"])
                usd = each.quote.usd if amount.unit == each.quote.unit else None
                known = converted(amount, unit, usd) if amount.value else Decimal(0)
                amounts.append(each.quote.bound_in(unit) if known is None else known)
            else:
                amounts.append(each.quote.bound_in(unit))
        if None in amounts:
            return None if self.context.settings.money.unpriced == "refuse" else Decimal(0)
        return sum((each for each in amounts if each is not None), Decimal(0))

    def take(self, task: Task, offer: Offer) -> None:
        """Reserve what a planned task may cost."""
        self.release(task.id)
        self.taken[task.id] = offer
        for hold in offer.holds:
            self.counters.setdefault(hold.key, Counter()).held += hold.amount

    def release(self, task_id: UUID) -> None:
        """Undo the reservation of a task that is not submitted after all."""
        offer = self.taken.pop(task_id, None)
        for hold in () if offer is None else offer.holds:
            self.counters[hold.key].held -= hold.amount


async def read_allowance(
    context: Context, connection: AsyncConnection, tasks: Sequence[Task], histories: Mapping[UUID, Sequence[Submission]]
) -> Allowance | None:
    """Read what tasks may spend, and lock the budgets that they count in; None where nothing bounds or prices them."""
    if tasks:
        await budgets.refresh(context, connection, anew=True)
    if not tasks or not (context.reserves or any(task.terms.max_cost is not None for task in tasks)):
        return None
    now = context.now()
    submitted = [task.id for task in tasks if histories.get(task.id)]
    earlier: dict[UUID, list[Reservation]] = {}
    if submitted:
        for each in (await reservations.of_tasks(connection, submitted)).values():
            earlier.setdefault(each.task_id, []).append(each)
    keys = _keys(context, tasks, now)
    if keys:
        # Settlements lock the task first and then the counters: the same order here.
        await task_store.lock(connection, [task.id for task in tasks])
    units = {key: budget.unit for key, budget in keys.items()}
    return Allowance(context=context, now=now, counters=await counters.lock(connection, units), earlier=earlier)


def _keys(context: Context, tasks: Iterable[Task], now: dt.datetime) -> dict[Key, Budget]:
    keys: dict[Key, Budget] = {}
    if context.budgets:
        for task in tasks:
            for name in task.route:
                keys |= keys_of(context.budgets, task.client, task.labels, name, now)
    return keys


async def save(
    context: Context,
    connection: AsyncConnection,
    allowance: Allowance,
    begun: Sequence[tuple[Task, Submission]],
) -> None:
    """Write the reservations of the submissions that begin, and the counters of their budgets."""
    for task_id in allowance.taken.keys() - {task.id for task, _ in begun}:
        allowance.release(task_id)
    made = [
        Reservation(
            submission_id=submission.id,
            task_id=task.id,
            upstream=submission.upstream,
            dialect=submission.dialect,
            quote=allowance.taken[task.id].quote,
            holds=allowance.taken[task.id].holds,
            reserved_at=allowance.now,
            check_at=allowance.now + CHECK_EVERY,
        )
        for task, submission in begun
        if task.id in allowance.taken and _matters(allowance.taken[task.id])
    ]
    await reservations.insert(connection, made)
    used = {hold.key for each in made for hold in each.holds}
    passed = _soft_limits(context, {key: allowance.counters[key] for key in used})
    await announce(context, connection, [*passed, *allowance.refused.values()])
    await counters.save(connection, {key: allowance.counters[key] for key in used})


def _matters(offer: Offer) -> bool:
    """Return whether a reservation says anything: a price, or a hold."""
    return offer.quote.rate is not None or offer.quote.known or bool(offer.holds)


def _soft_limits(context: Context, used: Mapping[Key, Counter]) -> list[Occurrence]:
    """Return the budgets whose soft limit is passed, once in a period."""
    known = {budget.name: budget for budget in context.budgets}
    found: list[Occurrence] = []
    for (name, scope, period), counter in used.items():
        budget = known.get(name)
        if budget is not None and budget.soft is not None and counter.used >= budget.soft and not counter.soft_noted:
            counter.soft_noted = True
            shown = {
                "budget": name,
                "scope": scope,
                "period": period,
                "used": plain(counter.used),
                "limit": plain(budget.limit),
                "unit": budget.unit,
            }
            found.append(Occurrence(SOFT_BUDGET, f"{name} {scope} {period}", shown))
    return found


def _hard_limit(key: Key, over: OverBudget) -> Occurrence:
    """Return the event of a budget that has no room for a task."""
    name, scope, period = key
    shown = {
        "budget": name,
        "scope": scope,
        "period": period,
        "needed": None if over.needed is None else plain(over.needed),
        "left": plain(max(over.left, Decimal(0))),
        "limit": plain(over.budget.limit),
        "unit": over.budget.unit,
    }
    return Occurrence(HARD_BUDGET, f"{name} {scope} {period}", shown)


class NoRoom(Exception):
    """No upstream of a request's route fits into the client's budgets."""

    def __init__(self, over: OverBudget) -> None:
        """Keep the budget."""
        super().__init__(str(over))
        self.over = over


async def require_room(context: Context, task: Task) -> None:
    """Check that a budget has room for a new task at one upstream of its route. Nothing is reserved yet.

    :raises NoRoom: when none has, and the task does not wait
    """
    await budgets.refresh_apart(context)
    if not context.budgets:
        return
    now = context.now()
    keys = _keys(context, [task], now)
    if not keys:
        return
    async with context.database.reading() as connection:
        known = await counters.read(connection, keys)
    quotes = {each.upstream: each for each in task.quotes}
    refused: list[OverBudget] = []
    for name in task.route:
        there = keys_of(context.budgets, task.client, task.labels, name, now)
        found = reserve(there, known, quotes.get(name) or unknown(name), at=now)
        if not isinstance(found, OverBudget):
            return
        fits_later = found.needed is not None and found.needed <= found.budget.limit
        if (task.terms.when_over_budget or found.budget.when_over) == "wait" and fits_later:
            return
        refused.append(found)
    if refused:
        raise NoRoom(refused[0])
