"""Which client is served next, where several wait for the slots of one upstream. Pure."""

import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

Waiting = TypeVar("Waiting")


def allocate(
    served: Mapping[str, int], waiting: Mapping[str, Sequence[Waiting]], *, free: int
) -> list[tuple[str, Waiting]]:
    """Return who gets the free slots: each goes to the client with the fewest, and among equals to the longest waiting.

    :param served: how many slots each client has now
    :param waiting: what each client waits with, oldest first
    """
    queue = [(served.get(client, 0), own[0], client, 0) for client, own in waiting.items() if own]
    heapq.heapify(queue)
    chosen: list[tuple[str, Waiting]] = []
    while queue and len(chosen) < free:
        slots, first, client, at = heapq.heappop(queue)
        chosen.append((client, first))
        if at + 1 < len(waiting[client]):
            heapq.heappush(queue, (slots + 1, waiting[client][at + 1], client, at + 1))
    return chosen


def tied_clients(served: Mapping[str, int], waiting: Mapping[str, int], *, client: str, before: int) -> dict[str, int]:
    """Return the clients whose task would get its slot at the same count as a client's task: the older task goes first.

    :param waiting: how many tasks of each client wait
    :param before: how many of the client's own tasks wait before this one
    :returns: by client, how many of its tasks wait before the one that is meant
    """
    mine = served.get(client, 0) + before
    level = {other: mine - served.get(other, 0) for other in waiting if other != client}
    return {other: at for other, at in level.items() if 0 <= at < waiting[other]}


def position(
    served: Mapping[str, int],
    waiting: Mapping[str, int],
    *,
    client: str,
    before: int,
    older: Collection[str] = (),
) -> int:
    """Return how many tasks come before a client's task, if the slots were filled one by one from now on.

    :param waiting: how many tasks of each client wait
    :param before: how many of the client's own tasks wait before this one
    :param older: the clients whose task of :func:`tied_clients` is older than this one
    """
    mine = served.get(client, 0) + before
    others = (
        min(max(mine - served.get(other, 0) + (other in older), 0), count)
        for other, count in waiting.items()
        if other != client
    )
    return before + sum(others)
