"""The numbers of rows, read from the database when the metrics are requested. Every process shows the same numbers."""

import asyncio
import datetime as dt
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from service.domain.flows import Flow, last_seen
from service.domain.money.budgets import period_of
from service.domain.task import ENDED, State, WaitingFor
from service.flows.context import Context
from service.flows.metrics.process import UNKNOWN, Description
from service.flows.money import budgets
from service.flows.upstreams.credit import is_low
from service.flows.webhooks.watch import silent_flows
from service.store.database import StoreUnavailable
from service.store.metrics import QUEUES, SEPARATOR, Number, read_numbers

FRESH: Final = 1.0
"""Seconds for which a second scrape gets the numbers of the first."""
READ_WITHIN: Final = 2.5
"""Seconds after which the metrics are shown without the database's numbers."""

ROWS: Final = tuple(
    Description(f"dovecote_{name}", "gauge", tuple(labels.split()), meaning)
    for name, labels, meaning in (
        ("database_up", "", "Whether the database answered: 1 or 0. Without its answer the other gauges are missing"),
        ("write_wait_seconds", "", "How long the oldest write of this process has waited for its commit"),
        ("queue_oldest_due_seconds", "queue", "How long the oldest due row of a queue has been due"),
        ("queue_due_rows", "queue", "Due rows of a queue, counted up to 100,000"),
        ("open_tasks", "state", "Tasks that have not ended"),
        ("waiting_tasks", "upstream", "Queued tasks that wait for a slot, or for an upstream to recover"),
        (
            "callback_share",
            "upstream dialect",
            "Share of the last ends that a callback reported, where one was expected",
        ),
        ("circuit_open", "upstream dialect", "Whether an upstream gets no submissions because it failed: 1 or 0"),
        ("upstream_credit", "upstream unit", "Credit left on the account, in the provider's unit"),
        ("upstream_credit_low", "upstream", "Whether the credit is below low_credit: 1 or 0"),
        ("budget_limit", "budget unit", "The limit of a budget, for each of its parts"),
        ("budget_spent", "budget unit", "Spent of a budget in the present period, all parts together"),
        ("budget_held", "budget unit", "Held of a budget for tasks in progress, all parts together"),
        ("reserved", "upstream unit", "Upper bounds of the submissions whose price is not settled yet"),
        (
            "claims",
            "upstream verdict state",
            "Jobs that were charged and not delivered, and whose price is not given back",
        ),
        ("claims_amount", "upstream unit verdict state", "Their price"),
        ("worker_silent_seconds", "", "Time since a worker was last alive"),
        ("flow_silent_seconds", "flow", "Time since a worker of a flow was last alive"),
        ("failing_endpoints", "", "Enabled endpoints whose last delivery failed"),
        ("disabled_endpoints", "reason", "Endpoints that are disabled"),
    )
)
"""Every gauge of this module."""
_BY_NAME: Final = {each.name: each for each in ROWS}
_REASONS: Final = ("client", "gone", "failing")


class RowMetrics:
    """Reads the numbers of the database, at most once a second."""

    def __init__(self, context: Context) -> None:
        """Keep the context; nothing is read yet."""
        self._context = context
        self._lock = asyncio.Lock()
        self._numbers: Sequence[Number] | None = None
        self.forget()

    def forget(self) -> None:
        """Read the database for the next scrape, however soon it comes."""
        self._read_at = -math.inf

    async def families(self) -> list[Metric]:
        """Return the gauges. Those of rows are missing when the database does not answer in time."""
        async with self._lock:
            if self._context.monotonic() - self._read_at >= FRESH:
                self._numbers = await self._read()
                self._read_at = self._context.monotonic()
            numbers = self._numbers
        families: list[Metric] = [
            _family("database_up", [((), float(numbers is not None))]),
            _family("write_wait_seconds", [((), self._context.writers.waited())]),
            _family("callback_share", _callback_shares(self._context)),
        ]
        return families if numbers is None else [*families, *_of_rows(self._context, numbers)]

    async def _read(self) -> list[Number] | None:
        try:
            async with asyncio.timeout(READ_WITHIN), self._context.database.reading() as connection:
                await budgets.refresh(self._context, connection)
                return await read_numbers(connection, now=self._context.now())
        except (StoreUnavailable, TimeoutError):
            return None


def _of_rows(context: Context, numbers: Iterable[Number]) -> Iterator[Metric]:
    groups: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for each in numbers:
        groups[each.group][each.first, each.second] = each.value
    now = context.now().timestamp()
    oldest, due, states = groups["oldest"], groups["due"], groups["open"]
    ages = {name: max(now - oldest.get((name, ""), now), 0.0) for name in QUEUES}
    yield _family("queue_oldest_due_seconds", (((name,), age) for name, age in ages.items()))
    yield _family("queue_due_rows", (((name,), due.get((name, ""), 0.0)) for name in QUEUES))
    open_states = (state for state in State if state not in ENDED)
    yield _family("open_tasks", (((state,), states.get((state, ""), 0.0)) for state in open_states))
    yield _family("waiting_tasks", _waiting(context, groups["waiting"]))
    yield _family("circuit_open", _circuits(context, groups["circuit"]))
    credit = {name: (unit, left) for (name, unit), left in groups["credit"].items() if name in context.upstreams}
    yield _family("upstream_credit", (((name, unit), left) for name, (unit, left) in credit.items()))
    low = (
        ((name,), float(is_low(context.upstreams[name], left)))
        for name, (_, left) in credit.items()
        if context.upstreams[name].settings.low_credit is not None
    )
    yield _family("upstream_credit_low", low)
    yield from _budgets(context, groups["spent"], groups["held"])
    yield _family("reserved", _by_upstream(context, groups["reserved"]))
    yield _family("claims", _claims(context, groups["claims"]))
    yield _family("claims_amount", _by_upstream(context, groups["owed"]))
    silent = silent_flows(context, _workers(groups["worker"]))
    yield _family("worker_silent_seconds", [((), max(min(silent.values()), 0.0))])
    yield _family("flow_silent_seconds", (((flow,), max(seconds, 0.0)) for flow, seconds in silent.items()))
    endpoints = groups["endpoints"]
    yield _family("failing_endpoints", [((), endpoints.get(("now", ""), 0.0))])
    yield _family("disabled_endpoints", (((reason,), endpoints.get((reason, ""), 0.0)) for reason in _REASONS))


def _workers(beats: dict[tuple[str, str], float]) -> dict[Flow, dt.datetime]:
    """Return when a worker of each flow was last alive."""
    return last_seen((flows or None, dt.datetime.fromtimestamp(at, dt.UTC)) for (flows, _), at in beats.items())


def _budgets(
    context: Context, spent: dict[tuple[str, str], float], held: dict[tuple[str, str], float]
) -> Iterator[Metric]:
    """Yield the limits of budgets, and what is spent and held in the present period."""
    now = context.now()
    periods = {each: period_of(each.period, now) for each in context.budgets}
    yield _family("budget_limit", (((each.name, each.unit), float(each.limit)) for each in periods))
    for name, sums in (("budget_spent", spent), ("budget_held", held)):
        values = (((each.name, each.unit), sums.get((each.name, period), 0.0)) for each, period in periods.items())
        yield _family(name, values)


def _by_upstream(context: Context, sums: dict[tuple[str, str], float]) -> dict[tuple[str, ...], float]:
    """Return the sums of each configured upstream, and those of all others, by the names that the statement has joined."""
    found: dict[tuple[str, ...], float] = {}
    for (name, joined), value in sums.items():
        labels = (name if name in context.upstreams else UNKNOWN, *joined.split(SEPARATOR))
        found[labels] = found.get(labels, 0.0) + value
    return found


def _claims(context: Context, counted: dict[tuple[str, str], float]) -> dict[tuple[str, ...], float]:
    """Return the number of claims of each configured upstream that is known to charge for them, and of all others."""
    zeros: dict[tuple[str, ...], float] = {(name, "charged", "open"): 0.0 for name in context.upstreams}
    return zeros | _by_upstream(context, counted)


def _waiting(context: Context, waiting: dict[tuple[str, str], float]) -> dict[tuple[str, ...], float]:
    """Return the waiting tasks of each configured upstream, and those that wait for any other."""
    sums: dict[tuple[str, ...], float] = {(name,): 0.0 for name in context.upstreams}
    for (key, _), count in waiting.items():
        upstream = WaitingFor.from_key(key).upstream
        label = (upstream if upstream in context.upstreams else UNKNOWN,)
        sums[label] = sums.get(label, 0.0) + count
    return sums


def _circuits(context: Context, opened: dict[tuple[str, str], float]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield each circuit: open until a submission has proved that the upstream is back."""
    for name, upstream in context.upstreams.items():
        for dialect in upstream.dialects:
            yield (name, dialect.facts.key), float((name, dialect.facts.key) in opened)


def _callback_shares(context: Context) -> Iterator[tuple[tuple[str, ...], float]]:
    for (upstream, dialect), share in context.statistics.callback_shares().items():
        if upstream in context.upstreams:
            yield (upstream, dialect), share


def _family(
    name: str, samples: Iterable[tuple[tuple[str, ...], float]] | dict[tuple[str, ...], float]
) -> GaugeMetricFamily:
    described = _BY_NAME[f"dovecote_{name}"]
    family = GaugeMetricFamily(described.name, described.meaning, labels=described.labels)
    for labels, value in samples.items() if isinstance(samples, dict) else samples:
        family.add_metric(list(labels), value)
    return family
