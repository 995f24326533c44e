"""Which client is served next when several wait for the slots of one upstream. Pure.

A free slot goes to the client with the fewest slots. Among equals it goes to the client that was served least recently,
and among those to the longest waiting task. So clients take turns even when there are fewer slots than clients.
"""

import heapq
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

Waiting = TypeVar("Waiting")

NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""When a client was served last of which nothing is recorded."""


def allocate(
    served: Mapping[str, int],
    waiting: Mapping[str, Sequence[Waiting]],
    *,
    free: int,
    served_at: Mapping[str, datetime],
) -> list[tuple[str, Waiting]]:
    """Return the clients that get the free slots.

    :param served: how many slots each client has now
    :param waiting: the waiting tasks of each client, oldest first
    :param served_at: when each client was served last
    """
    # By slots, then those not served in this round, by the time they were served last, then those served, in that order.
    heap: list[tuple[int, int, Any, Any, str, int]] = [
        (served.get(client, 0), 0, served_at.get(client, NEVER), own[0], client, 0)
        for client, own in waiting.items()
        if own
    ]
    heapq.heapify(heap)
    chosen: list[tuple[str, Waiting]] = []
    while heap and len(chosen) < free:
        slots, _, _, _, client, at = heapq.heappop(heap)
        chosen.append((client, waiting[client][at]))
        if at + 1 < len(waiting[client]):
            heapq.heappush(heap, (slots + 1, len(chosen), 0, 0, client, at + 1))
    return chosen


def precedence(served: Mapping[str, int], served_at: Mapping[str, datetime], client: str) -> tuple[int, datetime]:
    """Return the order of a client among those with equally many slots, from now on: the lower goes first.

    A client with more slots now has not been served yet when the others come up to it.
    """
    return -served.get(client, 0), served_at.get(client, NEVER)


def tied_clients(
    served: Mapping[str, int], served_at: Mapping[str, datetime], waiting: Collection[str], *, client: str
) -> set[str]:
    """Return the waiting clients with the same precedence as a client: among them the oldest waiting task decides."""
    mine = precedence(served, served_at, client)
    return {other for other in waiting if other != client and precedence(served, served_at, other) == mine}


def position(
    served: Mapping[str, int],
    waiting: Mapping[str, int],
    *,
    client: str,
    before: int,
    served_at: Mapping[str, datetime],
    older: Collection[str] = (),
) -> int:
    """Return how many tasks come before a client's task, if the slots were filled one by one from now on.

    :param waiting: how many tasks of each client wait
    :param before: how many of the client's own tasks wait before this one
    :param older: the clients of :func:`tied_clients` whose oldest waiting task is older than the client's
    """
    mine = precedence(served, served_at, client)
    slots = served.get(client, 0) + before

    def tasks_before(other: str) -> int:
        goes_first = precedence(served, served_at, other) < mine or other in older
        return min(max(slots - served.get(other, 0) + goes_first, 0), waiting[other])

    return before + sum(tasks_before(other) for other in waiting if other != client)
