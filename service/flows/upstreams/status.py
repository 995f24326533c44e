"""The status of upstreams: circuits, occupied slots and waiting tasks, over all processes together."""

import dataclasses
from collections import defaultdict

from service.domain.circuit_breaker import WINDOW, Circuit
from service.domain.fair_share import position, tied_clients
from service.domain.task import Task
from service.flows.context import Context
from service.store import circuits as circuit_store
from service.store import held as held_store
from service.store import upstreams as upstream_store
from service.store import waiting as waiting_store
from service.store.held import Held


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The status of one upstream."""

    circuits: tuple[Circuit, ...]
    open_tasks: int
    waiting: int
    kept: upstream_store.Upstream
    held: Held | None = None
    """How an operator holds it; None: it is given tasks."""


async def snapshot(context: Context) -> dict[str, Status]:
    """Return the status of every configured upstream.

    :raises StoreUnavailable: when the database is out of reach
    """
    async with context.database.reading() as connection:
        circuits = await circuit_store.all_known(connection)
        served = await waiting_store.served_by_client(connection, set(context.upstreams))
        kept = await upstream_store.all_known(connection)
        held = await held_store.all_held(connection)
        busy = await waiting_store.awaited(connection, [line.key for line in context.waits])
        lengths = {key: sum((await waiting_store.count_by_client(connection, key)).values()) for key in sorted(busy)}
    waiting: dict[str, int] = defaultdict(int)
    for line in context.waits:
        waiting[line.upstream] += lengths.get(line.key, 0)
    return {
        name: Status(
            circuits=tuple(circuit for (upstream, _), circuit in sorted(circuits.items()) if upstream == name),
            open_tasks=sum(served[name].values()),
            waiting=waiting[name],
            kept=kept.get(name, upstream_store.Upstream(name=name)),
            held=held.get(name),
        )
        for name in context.upstreams
    }


def recent_failures(context: Context, circuit: Circuit) -> int:
    """Return how many failures are recent enough to count."""
    return sum(at > context.now().timestamp() - WINDOW for at in circuit.failures)


async def queue_position(context: Context, task: Task) -> int | None:
    """Return the position of a waiting task, 1 for the next one; None where the task does not wait.

    :raises StoreUnavailable: when the database is out of reach
    """
    if task.waits_for is None:
        return None
    upstream, key = task.waits_for.upstream, task.waits_for.key
    async with context.database.reading() as connection:
        served = await waiting_store.served_by_client(connection, {upstream})
        lengths = await waiting_store.count_by_client(connection, key)
        before = await waiting_store.count_before(connection, key, task.client, task.id)
        served_at = await waiting_store.served_at(connection, upstream, lengths)
        tied = tied_clients(served[upstream], served_at, lengths, client=task.client)
        oldest = {
            client: await waiting_store.nth_of_client(connection, key, client, 0) for client in (*tied, task.client)
        }
    mine = oldest[task.client] or task.id
    older = {other for other in tied if (first := oldest[other]) is not None and first < mine}
    before_it = position(served[upstream], lengths, client=task.client, before=before, served_at=served_at, older=older)
    return 1 + before_it
