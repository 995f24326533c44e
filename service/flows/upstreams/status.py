"""How upstreams stand, for people: circuits, places and lines, as all processes together see them."""

import dataclasses
from collections import defaultdict

from service.domain.circuit_breaker import WINDOW, Circuit
from service.domain.fair_share import ahead, rivals
from service.domain.task import Task
from service.flows.context import Context
from service.store import circuits as circuit_store
from service.store import upstreams as upstream_store
from service.store import waiting as waiting_store


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one upstream stands."""

    circuits: tuple[Circuit, ...]
    open_tasks: int
    waiting: int
    kept: upstream_store.Upstream


async def of_upstreams(context: Context) -> dict[str, Standing]:
    """Read how every configured upstream stands.

    :raises StoreUnavailable: when the database is out of reach
    """
    async with context.database.reading() as connection:
        circuits = await circuit_store.all_known(connection)
        served = await waiting_store.served_by_client(connection, set(context.upstreams))
        kept = await upstream_store.all_known(connection)
        busy = await waiting_store.awaited(connection, [line.key for line in context.lines])
        lengths = {key: sum((await waiting_store.count_by_client(connection, key)).values()) for key in sorted(busy)}
    waiting: dict[str, int] = defaultdict(int)
    for line in context.lines:
        waiting[line.upstream] += lengths.get(line.key, 0)
    return {
        name: Standing(
            circuits=tuple(circuit for (upstream, _), circuit in sorted(circuits.items()) if upstream == name),
            open_tasks=sum(served[name].values()),
            waiting=waiting[name],
            kept=kept.get(name, upstream_store.Upstream(name=name)),
        )
        for name in context.upstreams
    }


def recent_failures(context: Context, circuit: Circuit) -> int:
    """Count the failures that still count."""
    return sum(at > context.now().timestamp() - WINDOW for at in circuit.failures)


async def queue_position(context: Context, task: Task) -> int | None:
    """Say how many places from the front a task stands in line; None where it stands in none. 1 is next.

    :raises StoreUnavailable: when the database is out of reach
    """
    if task.waits_for is None:
        return None
    upstream = task.waits_for.partition(" ")[0]
    async with context.database.reading() as connection:
        served = await waiting_store.served_by_client(connection, {upstream})
        lengths = await waiting_store.count_by_client(connection, task.waits_for)
        before = await waiting_store.count_before(connection, task.waits_for, task.client, task.id)
        tied = rivals(served[upstream], lengths, client=task.client, before=before)
        at = {
            other: await waiting_store.nth_of_client(connection, task.waits_for, other, each)
            for other, each in tied.items()
        }
    older = {other for other, rival in at.items() if rival is not None and rival < task.id}
    return 1 + ahead(served[upstream], lengths, client=task.client, before=before, older=older)
