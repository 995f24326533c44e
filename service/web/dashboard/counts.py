"""The numbers in the navigation: how many tasks, callbacks, upstreams and webhooks need somebody."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Final

from service.domain.attention import needs_somebody
from service.domain.task import State
from service.flows.statistics import typical_seconds
from service.store import circuits, inbox, overview
from service.store.tasks import Filter
from service.store.webhooks import endpoints
from service.web.dashboard.decisions import NOT_UNDERSTOOD
from service.web.dashboard.visit import Visit

LIFETIME: Final = dt.timedelta(seconds=5)
MAX_COUNTED: Final = 99


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """Numbers by page, and when they were counted."""

    numbers: Mapping[str, int]
    states: Mapping[State, int]
    """All tasks by state, each up to the limit of counting and one more."""
    twice: int
    """Tasks for which more than one job was bought."""
    at: dt.datetime


async def refresh(visit: Visit) -> Counted:
    """Count anew what needs somebody, unless that was done a moment ago, and return the numbers."""
    kept: dict[tuple[str | None, str], Counted] = visit.http.app.state.counted
    known = kept.get(visit.counted_as)
    if known is None or not dt.timedelta() <= visit.now - known.at < LIFETIME:
        known = kept[visit.counted_as] = await _count(visit)
    return known


async def _count(visit: Visit) -> Counted:
    context, now = visit.context, visit.now
    async with context.database.reading() as connection:
        found = await overview.may_need_somebody(connection, visit.sees_only, now=now)
        own = await endpoints.of_client(connection, visit.caller.client)
        known = await circuits.all_known(connection)
        callbacks = await inbox.count_decided(connection, NOT_UNDERSTOOD, most=MAX_COUNTED) if visit.is_operator else 0
        states = await overview.count_by_state(connection, Filter(client=visit.sees_only))
        twice = await overview.count_duplicate_jobs(connection, visit.sees_only, most=MAX_COUNTED)
    ill = {upstream for (upstream, _), circuit in known.items() if circuit.opened_at is not None}
    silent = {upstream for upstream, _ in context.statistics.unreliable_callbacks()}
    numbers = {
        "tasks": sum(needs_somebody(task, typical_seconds(context, task), now=now) for task in found),
        "callbacks": callbacks,
        "upstreams": len((ill | silent) & context.upstreams.keys()),
        "webhooks": sum(each.failing_since is not None or each.disabled_reason in {"gone", "failing"} for each in own),
    }
    return Counted(numbers, states, twice, now)
