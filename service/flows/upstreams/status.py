"""How upstreams stand, for people: circuits, places and lines, as all processes together see them."""

import dataclasses
from collections import defaultdict

from service.domain.circuit_breaker import WINDOW, Circuit
from service.domain.fair_share import ahead, rivals
from service.domain.task import Task
from service.flows.context import Runtime
from service.store import upstreams as gates


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one upstream stands."""

    circuits: tuple[Circuit, ...]
    open_tasks: int
    waiting: int
    kept: gates.Upstream


async def of_upstreams(runtime: Runtime) -> dict[str, Standing]:
    """Read how every configured upstream stands.

    :raises StoreUnavailable: when the database is out of reach
    """
    async with runtime.database.reading() as connection:
        circuits = await gates.all_circuits(connection)
        served = await gates.served(connection, set(runtime.upstreams))
        kept = await gates.all_known(connection)
        busy = await gates.lines(connection, [line.key for line in runtime.lines])
        lengths = {key: sum((await gates.line_lengths(connection, key)).values()) for key in sorted(busy)}
    waiting: dict[str, int] = defaultdict(int)
    for line in runtime.lines:
        waiting[line.upstream] += lengths.get(line.key, 0)
    return {
        name: Standing(
            circuits=tuple(circuit for (upstream, _), circuit in sorted(circuits.items()) if upstream == name),
            open_tasks=sum(served[name].values()),
            waiting=waiting[name],
            kept=kept.get(name, gates.Upstream(name=name)),
        )
        for name in runtime.upstreams
    }


def recent_failures(runtime: Runtime, circuit: Circuit) -> int:
    """Count the failures that still count."""
    return sum(at > runtime.now().timestamp() - WINDOW for at in circuit.failures)


async def place_in_line(runtime: Runtime, task: Task) -> int | None:
    """Say how many places from the front a task stands in line; None where it stands in none. 1 is next.

    :raises StoreUnavailable: when the database is out of reach
    """
    if task.waits_for is None:
        return None
    upstream = task.waits_for.partition(" ")[0]
    async with runtime.database.reading() as connection:
        served = await gates.served(connection, {upstream})
        lengths = await gates.line_lengths(connection, task.waits_for)
        before = await gates.own_before(connection, task.waits_for, task.client, task.id)
        tied = rivals(served[upstream], lengths, client=task.client, before=before)
        at = {other: await gates.nth_in_line(connection, task.waits_for, other, each) for other, each in tied.items()}
    older = {other for other, rival in at.items() if rival is not None and rival < task.id}
    return 1 + ahead(served[upstream], lengths, client=task.client, before=before, older=older)
