"""What may pass to each upstream at this moment: circuits, places and submits per second, agreed over the database."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.circuit_breaker import Circuit
from service.domain.fair_share import turns
from service.domain.rate_limit import Rate
from service.domain.task import Task
from service.flows.context import Context, Line, Upstream
from service.providers.dialect import Dialect
from service.store import queue
from service.store import upstreams as upstream_store

PROBE_UNSEEN = dt.timedelta(seconds=1)
"""How long a round takes for granted that another process tries an upstream."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Why a task cannot be handed to an upstream now, and what it stands in line for until it can."""

    line: str
    """As in ``Task.waits_for``."""
    reason: str
    elsewhere: bool
    """Whether the next upstream of its route may take it meanwhile."""
    recovery: bool = False
    """Whether it waits for an upstream that fails, which may take for ever, and not for a place."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Gates:
    """What may still pass in one round. Each task that enters takes what it needs."""

    now: dt.datetime
    circuits: dict[upstream_store.Key, Circuit]
    served: dict[str, dict[str, int]]
    free: dict[str, int]
    """Slots by upstream."""
    rates: dict[str, Rate]
    crowded: set[str] = dataclasses.field(default_factory=set)
    """Lines in which others still stand: whoever comes now goes behind them."""
    probes: set[upstream_store.Key] = dataclasses.field(default_factory=set)
    """Circuits that a task of this round tries."""

    def enter(self, upstream: Upstream, dialect: Dialect, *, client: str, comes_from: str | None) -> Wait | None:
        """Let a client's task pass, or say what it has to wait for.

        :param comes_from: the line in which it stood before its turn came
        """
        circuit = self._circuit(upstream, dialect)
        standing = circuit.standing(self.now)
        if standing in {"open", "probing"} or self.is_probe(upstream, dialect):
            return _left_alone(circuit, self.now)
        wait = self._place(upstream, comes_from)
        if wait is None:
            self.free[upstream.name] -= 1
            places = self.served.setdefault(upstream.name, {})
            places[client] = places.get(client, 0) + 1
            if upstream.name in self.rates:
                self.rates[upstream.name] = self.rates[upstream.name].taken(self.now)
            if standing == "half_open":
                self.probes.add((upstream.name, dialect.facts.key))
        return wait

    def _place(self, upstream: Upstream, comes_from: str | None) -> Wait | None:
        name, rate = upstream.name, self.rates.get(upstream.name)
        if rate is not None and rate.free(self.now) < 1:
            reason = f"{name} is given {rate.per_second:g} submits per second"
        elif self.free[name] < 1:
            reason = _full(upstream, sum(self.served.get(name, {}).values()))
        elif name in self.crowded and comes_from != name:
            reason = f"others have waited longer for {name}"
        else:
            return None
        return Wait(name, reason, elsewhere=upstream.settings.when_full == "next")

    def lose_probe(self, upstream: Upstream, dialect: Dialect) -> None:
        """Take back that a task has passed: another process tries this upstream already."""
        circuit = self._circuit(upstream, dialect)
        self.free[upstream.name] += 1
        self.circuits[upstream.name, dialect.facts.key] = dataclasses.replace(
            circuit, probe_until=self.now + PROBE_UNSEEN
        )

    def is_probe(self, upstream: Upstream, dialect: Dialect) -> bool:
        """Whether the task that has passed here is the one that tries whether the upstream is back."""
        return (upstream.name, dialect.facts.key) in self.probes

    def passing(self, line: Line, *, most: int) -> int:
        """Say how many of those who stand in a line may go on."""
        if line.dialect is None:
            rate = self.rates.get(line.upstream)
            free = min(self.free[line.upstream], most if rate is None else rate.free(self.now))
            return max(min(free, most), 0)
        circuit = self.circuits.get((line.upstream, line.dialect))
        standing = "closed" if circuit is None else circuit.standing(self.now)
        return {"closed": most, "half_open": 1}.get(standing, 0)

    def _circuit(self, upstream: Upstream, dialect: Dialect) -> Circuit:
        known = self.circuits.get((upstream.name, dialect.facts.key))
        return known or Circuit(upstream=upstream.name, dialect=dialect.facts.key)


def _left_alone(circuit: Circuit, now: dt.datetime) -> Wait:
    if circuit.standing(now) == "open" and circuit.open_until is not None:
        what = f"is left alone until {circuit.open_until:%H:%M:%S} UTC, since it kept failing"
    else:
        what = "kept failing, and another task tries whether it is back"
    return Wait(circuit.line, f"{circuit.upstream} ({circuit.dialect}) {what}", elsewhere=True, recovery=True)


def _full(upstream: Upstream, served: int) -> str:
    most = upstream.settings.open_tasks
    if most is not None and served >= most:
        return f"{upstream.name} works on {served} tasks, and may be given {most} at once"
    return f"as many submits to {upstream.name} are under way as may be at once"


async def look(context: Context, connection: AsyncConnection, lines: set[str]) -> Gates:
    """Read what may pass now, and keep other processes from letting anything pass where places are counted."""
    limited = [each for each in context.upstreams.values() if each.limited]
    lined_up = {line.upstream for line in context.lines if line.key in lines}
    kept = await upstream_store.lock(connection, {each.name for each in limited} | lined_up)
    served = await upstream_store.served(connection, set(kept))
    free = {name: upstream.slots.free for name, upstream in context.upstreams.items()}
    rates: dict[str, Rate] = {}
    for upstream in limited:
        if upstream.settings.open_tasks is not None:
            left = upstream.settings.open_tasks - sum(served[upstream.name].values())
            free[upstream.name] = min(free[upstream.name], left)
        if upstream.settings.submits_per_second is not None:
            rates[upstream.name] = Rate(upstream.settings.submits_per_second, kept[upstream.name].submit_slot_at)
    circuits = await upstream_store.all_circuits(connection)
    return Gates(now=context.now(), circuits=circuits, served=served, free=free, rates=rates)


async def take_turns(
    context: Context, connection: AsyncConnection, gates: Gates, lines: set[str], *, until: dt.datetime, most: int
) -> list[tuple[Task, str]]:
    """Take those out of the lines whose turn it is, with the line in which each stood."""
    taken: list[tuple[Task, str]] = []
    for line in context.lines:
        if line.key not in lines:
            continue
        free = gates.passing(line, most=most - len(taken))
        if not free:
            gates.crowded.add(line.key)
            continue
        waiting = await upstream_store.in_line(connection, line.key, most=free)
        chosen = turns(gates.served.get(line.upstream, {}), waiting, free=free)
        claimed = await queue.claim_waiting(connection, [task_id for _, task_id in chosen], until=until)
        taken += [(task, line.key) for task in claimed]
        if len(chosen) == free:
            gates.crowded.add(line.key)
    return taken


async def write_down(connection: AsyncConnection, gates: Gates) -> None:
    """Write what was taken of the submits per second."""
    for name, rate in gates.rates.items():
        if rate.slot_at is not None:
            await upstream_store.move_submit_slot(connection, name, rate.slot_at)


async def claim_probes(
    connection: AsyncConnection, gates: Gates, wanted: Sequence[upstream_store.Key], *, until: dt.datetime
) -> set[upstream_store.Key]:
    """Take the right to try upstreams that were left alone; answer which of them were not to be had."""
    lost: set[upstream_store.Key] = set()
    for key in wanted:
        if not await upstream_store.claim_probe(connection, gates.circuits[key], now=gates.now, until=until):
            lost.add(key)
    return lost
