"""Whose turn it is, where several clients stand in line for the places of one upstream. Pure."""

import heapq
from collections.abc import Mapping, Sequence
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


def ahead(served: Mapping[str, int], waiting: Mapping[str, int], *, client: str, before: int) -> int:
    """Count who comes before a client's task in line, were the places filled one by one from now on.

    :param waiting: how many tasks of each client wait
    :param before: how many of the client's own tasks wait before this one
    """
    mine = served.get(client, 0) + before
    others = (
        min(max(mine - served.get(other, 0) + (other < client), 0), count)
        for other, count in waiting.items()
        if other != client
    )
    return before + sum(others)
