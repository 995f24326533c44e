"""How often upstreams are polled: the rate limit that all processes share, and each client's share of it."""

import datetime as dt
from collections.abc import Mapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.rate_limit import Rate
from service.flows.context import Context, Upstream
from service.store import upstreams as upstream_store

CLIENT_SHARE: Final = 0.5
"""The part of an upstream's polls per second that one client may use for its own requests to poll now."""
CLIENT_RATE: Final = 5.0
"""Requests to poll now that a client may make in a second where the upstream has no limit."""


class PolledTooOften(Exception):
    """The upstream cannot be polled now: the rate limit, or the client's share of it, is used up."""

    def __init__(self, upstream: str, wait: float) -> None:
        """Keep the wait.

        :param wait: seconds until the next poll fits
        """
        super().__init__(f"{upstream} is polled as often as it may be; try again in {wait:.0f} s")
        self.wait = wait


async def take(context: Context, wanted: Mapping[str, int]) -> dict[str, tuple[int, float]]:
    """Take polls from the rate limits.

    :param wanted: how many requests there are, by upstream
    :returns: how many of them fit now, and the seconds between those that do not, by upstream with a limit
    """
    limits = {
        name: each.settings.polls_per_second
        for name, each in context.upstreams.items()
        if each.settings.polls_per_second is not None and wanted.get(name)
    }
    if not limits:
        return {}
    fits = await context.writers.journeys.run(_take_slots, context.now(), limits, wanted)
    return {name: (fits[name], 1 / rate) for name, rate in limits.items()}


async def _take_slots(
    connection: AsyncConnection, now: dt.datetime, limits: Mapping[str, float], wanted: Mapping[str, int]
) -> dict[str, int]:
    """Reserve polls of upstreams within their rates, and return how many each upstream gets now."""
    taken: dict[str, int] = {}
    for name, known in (await upstream_store.lock(connection, limits)).items():
        rate = Rate(limits[name], known.poll_slot_at)
        taken[name] = min(rate.free(now), wanted[name])
        slot_at = rate.taken(now, taken[name]).slot_at
        if slot_at is not None:
            await upstream_store.move_poll_slot(connection, name, slot_at)
    return taken


async def take_for_client(context: Context, upstream: Upstream, client: str) -> None:
    """Take one poll that a client requests, from its share and from the rate limit.

    :raises PolledTooOften: when none is left
    """
    limit, now = upstream.settings.polls_per_second, context.now()
    share = Rate(CLIENT_RATE if limit is None else limit * CLIENT_SHARE, upstream.client_polls.get(client))
    if share.free(now) < 1:
        raise PolledTooOften(upstream.name, share.wait(now))
    if limit is not None:
        fits, wait = (await take(context, {upstream.name: 1}))[upstream.name]
        if not fits:
            raise PolledTooOften(upstream.name, wait)
    slot_at = share.taken(now).slot_at
    if slot_at is not None:
        upstream.client_polls[client] = slot_at
