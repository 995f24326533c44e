"""Whose turn it is, where several clients stand in line for the places of one upstream. Pure."""

import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

Waiting = TypeVar("Waiting")


def turns(
    served: Mapping[str, int], waiting: Mapping[str, Sequence[Waiting]], *, free: int
) -> list[tuple[str, Waiting]]:
    """Fill free places: each goes to the client that has the fewest, and of those with equally few to the longest waiting.

    :param served: how many places each client has now
    :param waiting: what each client waits with, oldest first
    """
    line = [(served.get(client, 0), own[0], client, 0) for client, own in waiting.items() if own]
    heapq.heapify(line)
    chosen: list[tuple[str, Waiting]] = []
    while line and len(chosen) < free:
        places, first, client, at = heapq.heappop(line)
        chosen.append((client, first))
        if at + 1 < len(waiting[client]):
            heapq.heappush(line, (places + 1, waiting[client][at + 1], client, at + 1))
    return chosen


def rivals(served: Mapping[str, int], waiting: Mapping[str, int], *, client: str, before: int) -> dict[str, int]:
    """Name the tasks of other clients that would get their place at the same count as a client's: the older one goes first.

    :param waiting: how many tasks of each client wait
    :param before: how many of the client's own tasks wait before this one
    :returns: by client, how many of its tasks wait before the one that is meant
    """
    mine = served.get(client, 0) + before
    level = {other: mine - served.get(other, 0) for other in waiting if other != client}
    return {other: at for other, at in level.items() if 0 <= at < waiting[other]}


def ahead(
    served: Mapping[str, int],
    waiting: Mapping[str, int],
    *,
    client: str,
    before: int,
    older: Collection[str] = (),
) -> int:
    """Count who comes before a client's task in line, were the places filled one by one from now on.

    :param waiting: how many tasks of each client wait
    :param before: how many of the client's own tasks wait before this one
    :param older: the clients whose task of :func:`rivals` is older than this one
    """
    mine = served.get(client, 0) + before
    others = (
        min(max(mine - served.get(other, 0) + (other in older), 0), count)
        for other, count in waiting.items()
        if other != client
    )
    return before + sum(others)
