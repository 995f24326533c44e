"""Admission to each upstream: circuits, slots and submissions per second, shared over the database."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.circuit_breaker import Circuit
from service.domain.fair_share import allocate
from service.domain.rate_limit import Rate
from service.domain.task import Task, WaitingFor
from service.flows.context import Context, Upstream
from service.providers.dialect import Dialect
from service.store import circuits as circuit_store
from service.store import held as held_store
from service.store import queue
from service.store import upstreams as upstream_store
from service.store import waiting as waiting_store
from service.store.held import Held

PROBE_UNSEEN = dt.timedelta(seconds=1)
"""How long a round assumes that another process probes an upstream."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why a task cannot be submitted to an upstream now, and what it waits for."""

    waits_for: WaitingFor
    reason: str
    elsewhere: bool
    """Whether the next upstream of its route may take it meanwhile."""

    @property
    def recovery(self) -> bool:
        """Whether it waits for a failing upstream, without a limit, and not for a slot."""
        return self.waits_for.dialect is not None


@dataclasses.dataclass(slots=True, kw_only=True)
class Admission:
    """The remaining capacity of one round. Each admitted task takes its share."""

    now: dt.datetime
    circuits: dict[circuit_store.Key, Circuit]
    served: dict[str, dict[str, int]]
    """Occupied slots by upstream and client."""
    free: dict[str, int]
    """Free slots by upstream."""
    rates: dict[str, Rate]
    """Rate limits by upstream."""
    shared: frozenset[str] = frozenset()
    """Upstreams that this transaction has locked, since clients compete for their slots."""
    held: Mapping[str, Held] = dataclasses.field(default_factory=dict)
    """Upstreams that an operator holds: they admit nothing."""
    locked: frozenset[str] = frozenset()
    """Upstreams whose row another transaction has locked: they admit nothing in this round."""
    backlogged: set[WaitingFor] = dataclasses.field(default_factory=set)
    """The slots that other tasks still wait for. A new task queues behind them."""
    admitted: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    """Upstreams and clients of the tasks that were admitted where slots are shared."""
    probes: set[circuit_store.Key] = dataclasses.field(default_factory=set)
    """Circuits that a task of this round probes."""

    def rejection(self, upstream: Upstream, dialect: Dialect, *, waited_for: WaitingFor | None) -> Rejection | None:
        """Return why an upstream admits no further task now; None when it admits one.

        :param waited_for: the reason why the task waited before
        """
        held = self.held.get(upstream.name)
        if held is not None:
            reason = f"an operator has {'paused' if held.mode == 'paused' else 'drained'} {upstream.name}"
            return Rejection(WaitingFor(upstream.name), reason, elsewhere=held.mode == "draining")
        circuit = self._circuit(upstream, dialect)
        if circuit.state(self.now) in {"open", "probing"} or self.is_probe(upstream, dialect):
            return _recovering(circuit)
        name, rate = upstream.name, self.rates.get(upstream.name)
        slot = WaitingFor(name)
        if rate is not None and rate.free(self.now) < 1:
            reason = f"{name} is given {rate.per_second:g} submits per second"
        elif name in self.locked:
            reason = f"another transaction of the database has locked {name}"
        elif self.free[name] < 1:
            reason = _full(upstream, sum(self.served.get(name, {}).values()))
        elif slot in self.backlogged and waited_for != slot:
            reason = f"earlier tasks wait for {name}"
        else:
            return None
        return Rejection(slot, reason, elsewhere=upstream.settings.when_full == "next")

    def admit(self, upstream: Upstream, dialect: Dialect, *, client: str) -> None:
        """Reserve what one task of a client needs."""
        self.free[upstream.name] -= 1
        slots = self.served.setdefault(upstream.name, {})
        slots[client] = slots.get(client, 0) + 1
        if upstream.name in self.shared:
            self.admitted.add((upstream.name, client))
        if upstream.name in self.rates:
            self.rates[upstream.name] = self.rates[upstream.name].taken(self.now)
        if self._circuit(upstream, dialect).state(self.now) == "half_open":
            self.probes.add((upstream.name, dialect.facts.key))

    def lose_probe(self, upstream: Upstream, dialect: Dialect, *, client: str) -> None:
        """Undo an admission: another process probes this upstream already."""
        circuit = self._circuit(upstream, dialect)
        self.probes.discard((upstream.name, dialect.facts.key))
        self.free[upstream.name] += 1
        self.served[upstream.name][client] -= 1
        self.admitted.discard((upstream.name, client))
        self.circuits[upstream.name, dialect.facts.key] = dataclasses.replace(
            circuit, probe_until=self.now + PROBE_UNSEEN
        )

    def is_probe(self, upstream: Upstream, dialect: Dialect) -> bool:
        """Return whether the task that was admitted here is the one that tests whether the upstream is back."""
        return (upstream.name, dialect.facts.key) in self.probes

    def room_for(self, waits_for: WaitingFor, *, most: int) -> int:
        """Return how many of the tasks that wait for the same may go on."""
        if waits_for.upstream in self.held:
            return 0
        if waits_for.dialect is None:
            rate = self.rates.get(waits_for.upstream)
            free = min(self.free[waits_for.upstream], most if rate is None else rate.free(self.now))
            return max(min(free, most), 0)
        circuit = self.circuits.get((waits_for.upstream, waits_for.dialect))
        state = "closed" if circuit is None else circuit.state(self.now)
        return {"closed": most, "half_open": 1}.get(state, 0)

    def _circuit(self, upstream: Upstream, dialect: Dialect) -> Circuit:
        known = self.circuits.get((upstream.name, dialect.facts.key))
        return known or Circuit(upstream=upstream.name, dialect=dialect.facts.key)


def _recovering(circuit: Circuit) -> Rejection:
    # The text is stored and read later: it names no time.
    reason = f"{circuit.upstream} ({circuit.dialect}) kept failing; one task at a time tests whether it is back"
    return Rejection(WaitingFor(circuit.upstream, circuit.dialect), reason, elsewhere=True)


def _full(upstream: Upstream, served: int) -> str:
    most = upstream.settings.open_tasks
    if most is not None and served >= most:
        return f"{upstream.name} may be given {most} tasks at once"
    return f"Dovecote sends a limited number of submits to {upstream.name} at once"


async def read_admission(
    context: Context,
    connection: AsyncConnection,
    waited_for: set[str],
    *,
    begun: Mapping[str, int] | None = None,
    skip_locked: bool = False,
) -> Admission:
    """Read what may pass now, and keep other processes from admitting anything where slots are counted together.

    :param waited_for: keys of what tasks wait for
    :param begun: by upstream: the submissions that were begun a moment ago, and have not acquired their slots yet
    :param skip_locked: admit nothing to an upstream whose row another transaction has locked, instead of waiting for it
    """
    limited = [each for each in context.upstreams.values() if each.limited]
    awaited = {each.upstream for each in context.waits if each.key in waited_for}
    names = {each.name for each in limited} | awaited
    kept = await upstream_store.lock(connection, names, skip_locked=skip_locked)
    locked = frozenset(names - kept.keys())
    served = await waiting_store.served_by_client(connection, set(kept))
    free = {name: upstream.slots.free - (begun or {}).get(name, 0) for name, upstream in context.upstreams.items()}
    rates: dict[str, Rate] = {}
    for upstream in (each for each in limited if each.name in kept):
        if upstream.settings.open_tasks is not None:
            left = upstream.settings.open_tasks - sum(served[upstream.name].values())
            free[upstream.name] = min(free[upstream.name], left)
        if upstream.settings.submits_per_second is not None:
            rates[upstream.name] = Rate(upstream.settings.submits_per_second, kept[upstream.name].submit_slot_at)
    circuits = await circuit_store.all_known(connection)
    held = await held_store.all_held(connection)
    free |= dict.fromkeys(locked, 0)
    return Admission(
        now=context.now(),
        circuits=circuits,
        served=served,
        free=free,
        rates=rates,
        shared=frozenset(kept),
        locked=locked,
        held=held,
    )


async def claim_next(
    context: Context,
    connection: AsyncConnection,
    admission: Admission,
    waited_for: set[str],
    *,
    until: dt.datetime,
    most: int,
) -> list[tuple[Task, WaitingFor]]:
    """Claim the waiting tasks whose turn it is, with what each waited for."""
    claimed: list[tuple[Task, WaitingFor]] = []
    for each in context.waits:
        if each.key not in waited_for:
            continue
        free = admission.room_for(each, most=most - len(claimed))
        if not free:
            admission.backlogged.add(each)
            continue
        waiting = await waiting_store.first_of_each_client(connection, each.key, most=free)
        served_at = await waiting_store.served_at(connection, each.upstream, waiting)
        chosen = allocate(admission.served.get(each.upstream, {}), waiting, free=free, served_at=served_at)
        tasks = await queue.claim_waiting(connection, [task_id for _, task_id in chosen], until=until)
        claimed += [(task, each) for task in tasks]
        if len(chosen) == free:
            admission.backlogged.add(each)
    return claimed


async def save(connection: AsyncConnection, admission: Admission) -> None:
    """Write the used submissions per second, and the served clients."""
    await waiting_store.record_served(connection, admission.admitted, at=admission.now)
    for name, rate in admission.rates.items():
        if rate.slot_at is not None:
            await upstream_store.move_submit_slot(connection, name, rate.slot_at)


async def claim_probes(
    connection: AsyncConnection, admission: Admission, wanted: Sequence[circuit_store.Key], *, until: dt.datetime
) -> set[circuit_store.Key]:
    """Claim the right to probe upstreams; return those that another process has claimed."""
    lost: set[circuit_store.Key] = set()
    for key in wanted:
        if not await circuit_store.claim_probe(connection, admission.circuits[key], now=admission.now, until=until):
            lost.add(key)
    return lost
