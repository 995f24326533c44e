"""The upstreams: circuits, slots, credit, and how their tasks of each model ended."""

import dataclasses
import datetime as dt
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import Response

from service.domain.circuit_breaker import Circuit
from service.domain.statistics import ENOUGH_SAMPLES, UNRELIABLE_SHARE, accuracy
from service.domain.task import State
from service.flows.context import Context, Upstream
from service.flows.upstreams import hold
from service.flows.upstreams import status as upstream_status
from service.flows.upstreams.status import Status
from service.providers.registry import FAMILIES
from service.store import endings, overview
from service.store.endings import Finished
from service.store.held import Held
from service.web.dashboard import words
from service.web.dashboard.decisions import Chip
from service.web.dashboard.paid import Tone
from service.web.dashboard.visit import Visit
from service.web.problems import Problem

MAX_READ: Final = 3_000
"""Finished tasks that the numbers are made from: the last ones of the period."""
PERIODS: Final[Mapping[str, tuple[str, dt.timedelta]]] = {
    "1h": ("1 hour", dt.timedelta(hours=1)),
    "24h": ("24 hours", dt.timedelta(days=1)),
    "7d": ("7 days", dt.timedelta(days=7)),
}
BUCKETS: Final = 12
"""Points of a chart."""
MAX_CODES: Final = 4
WIDTH: Final = 120.0
HEIGHT: Final = 26.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """How the tasks of a model ended at an upstream."""

    family: str
    model: str
    ended: int
    share: int
    share_tone: Tone
    usual: str
    most: str
    callbacks: int | None
    """Percent that a callback reported; None where none could come."""
    points: str
    chart: str
    """The chart in words."""
    codes: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An upstream as the page shows it."""

    name: str
    host: str
    chip: Chip
    note: str
    credit: tuple[str, str, Tone | None]
    open_tasks: int
    limit: int | None
    waiting: int
    unconfirmed: str
    callback_share: str
    forecast: tuple[str, str]
    """How often the forecast was right, and its meaning."""
    models: tuple[ModelRow, ...]
    held: str
    """``paused`` or ``draining``; blank where it is given tasks."""


async def upstreams_page(visit: Visit) -> Response:
    """Return the page."""
    context, now = visit.context, visit.now
    period = visit.query("period", "24h")
    period = period if period in PERIODS else "24h"
    since = now - PERIODS[period][1]
    states = await upstream_status.snapshot(context)
    async with context.database.reading() as connection:
        finished = await endings.recent_finished(connection, since=since, most=MAX_READ, client=visit.sees_only)
        unconfirmed = await overview.count_unconfirmed(connection, visit.sees_only)
    by_upstream: dict[str, list[Finished]] = defaultdict(list)
    for each in finished:
        by_upstream[each.upstream].append(each)
    boxes = [
        box_of(
            context,
            upstream,
            states[name],
            by_upstream[name],
            unconfirmed=unconfirmed.get(name, 0),
            since=since,
            now=now,
        )
        for name, upstream in context.upstreams.items()
    ]
    ill_first = sorted(boxes, key=lambda box: _ORDER.index(box.chip.tone))
    return visit.page(
        "upstreams.html",
        title="Upstreams",
        boxes=ill_first,
        period=period,
        periods={name: title for name, (title, _) in PERIODS.items()},
        read=len(finished),
        is_cut=len(finished) == MAX_READ,
    )


_ORDER: Final = ("bad", "doubt", "over", "yours", "calm", "work", "good")


async def act_on_upstream(visit: Visit) -> Response:
    """Pause, drain or resume an upstream."""
    name, act = visit.http.path_params["name"], visit.http.path_params["act"]
    if name not in visit.context.upstreams or act not in {"pause", "drain", "resume"}:
        raise Problem(404, "not_found", "no upstream with this name is configured")
    by = visit.caller.client
    if act == "resume":
        await hold.resume(visit.context, name, by=by)
    else:
        await hold.hold(visit.context, name, "paused" if act == "pause" else "draining", by=by)
    return visit.redirect("/upstreams")


def box_of(
    context: Context,
    upstream: Upstream,
    state: Status,
    finished: Sequence[Finished],
    *,
    unconfirmed: int,
    since: dt.datetime,
    now: dt.datetime,
) -> Box:
    """Return the box of an upstream."""
    chip, note = health_of(context, upstream, state, now=now)
    expected = [each for each in finished if each.callback_expected]
    share = (
        f"{round(100 * sum(each.by_callback for each in expected) / len(expected))}{words.NARROW}%"
        if expected
        else "none"
    )
    return Box(
        name=upstream.name,
        host=urlsplit(upstream.settings.base_url).netloc,
        chip=chip,
        note=note,
        credit=credit_of(upstream, state, now=now),
        open_tasks=state.open_tasks,
        limit=upstream.settings.open_tasks,
        waiting=state.waiting,
        unconfirmed=words.count(unconfirmed, limit=overview.MAX_COUNTED),
        callback_share=share,
        forecast=forecast_of(finished),
        models=model_rows(finished, since=since, now=now),
        held="" if state.held is None else state.held.mode,
    )


def forecast_of(finished: Sequence[Finished]) -> tuple[str, str]:
    """Return how often the time to go was right for tasks that succeeded, and how often it would be at best.

    :param finished: newest first
    """
    known = [each for each in reversed(finished) if each.state is State.SUCCEEDED]
    found = accuracy(
        ((each.family, each.operation, each.model), each.seconds) for each in known if each.seconds is not None
    )
    if not found.tasks:
        return "not known", f"after {ENOUGH_SAMPLES} ends of a kind"
    usual, most = (round(100 * number / found.tasks) for number in (found.within_usual, found.within_most))
    right = f"{usual}{words.NARROW}% and {most}{words.NARROW}%"
    return right, f"of {words.count(found.tasks)} within the usual time (50) and nine in ten (90)"


def health_of(context: Context, upstream: Upstream, state: Status, *, now: dt.datetime) -> tuple[Chip, str]:
    """Return how an upstream is, and why."""
    if state.held is not None:
        return _held(state.held, state, now=now)
    open_circuits = [each for each in state.circuits if each.opened_at is not None]
    if open_circuits:
        return _circuit_open(open_circuits, state, now=now)
    unreliable = context.statistics.unreliable_callbacks()
    silent = sorted(dialect for name, dialect in unreliable if name == upstream.name)
    if silent:
        limit = round(100 * UNRELIABLE_SHARE)
        note = f"Less than {limit}{words.NARROW}% of the last tasks of {', '.join(silent)} were reported by a callback: Dovecote polls."
        return Chip("doubt", "alert", "callbacks stopped"), note
    if _is_low(upstream, state):
        return Chip("doubt", "alert", "low credit"), "Its credit is below the warning limit."
    return Chip("good", "check", "well"), ""


def _held(held: Held, state: Status, *, now: dt.datetime) -> tuple[Chip, str]:
    paused = held.mode == "paused"
    done = "Paused: tasks wait for it" if paused else "Drained: the next upstream of each route serves its tasks"
    note = f"{done}, by {held.by}, since {words.clock(held.since, now=now)}. {state.open_tasks} open tasks go on."
    return Chip("calm", "pause" if paused else "drain", "paused" if paused else "draining"), note


def _circuit_open(circuits: Sequence[Circuit], state: Status, *, now: dt.datetime) -> tuple[Chip, str]:
    until = max((each.open_until for each in circuits if each.open_until is not None), default=None)
    left = "" if until is None else f", {words.remaining(_moment(until), now=now)}"
    waiting = (
        f"{state.waiting} task{'s' * (state.waiting != 1)} wait{'s' * (state.waiting == 1)}; nothing is paid for them. "
    )
    return Chip("bad", "pause", f"circuit open{left}"), f"Too many requests failed. {waiting}Then one task tries."


def _moment(at: Any) -> dt.datetime:
    return at if isinstance(at, dt.datetime) else dt.datetime.fromtimestamp(at, dt.UTC)


def _is_low(upstream: Upstream, state: Status) -> bool:
    limit = getattr(upstream.settings, "low_credit", None)
    return limit is not None and state.kept.credit is not None and state.kept.credit < limit


def credit_of(upstream: Upstream, state: Status, *, now: dt.datetime) -> tuple[str, str, Tone | None]:
    """Return the credit, how old it is, and its tone."""
    kept = state.kept
    if kept.credit is None:
        return "not known", kept.credit_error or "this upstream states none", None
    age = "" if kept.credit_at is None else f"{words.duration((now - kept.credit_at).total_seconds())} ago"
    amount = f"{words.number(kept.credit)}{words.NARROW}{kept.credit_unit or ''}"
    return amount, age, "bad" if _is_low(upstream, state) else None


def model_rows(finished: Iterable[Finished], *, since: dt.datetime, now: dt.datetime) -> tuple[ModelRow, ...]:
    """Return a row for each family and model, the most used first."""
    groups: dict[tuple[str, str], list[Finished]] = defaultdict(list)
    for each in finished:
        groups[each.family, each.model or ""].append(each)
    rows = [_model_row(*key, group, since=since, now=now) for key, group in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row.ended, row.family, row.model)))


def _model_row(family: str, model: str, group: Sequence[Finished], *, since: dt.datetime, now: dt.datetime) -> ModelRow:
    good = [each for each in group if each.state is State.SUCCEEDED]
    share = round(100 * len(good) / len(group))
    seconds = sorted(each.seconds for each in good if each.seconds is not None)
    expected = [each for each in group if each.callback_expected]
    codes = Counter(each.code or str(each.state) for each in group if each.state is not State.SUCCEEDED)
    counts = buckets(group, since=since, now=now)
    known = FAMILIES.get(family)
    return ModelRow(
        family=family if known is None else known.title,
        model=model,
        ended=len(group),
        share=share,
        share_tone="good" if share >= 95 else "doubt",  # noqa: PLR2004 - percent
        usual=words.duration(statistics.median(seconds)) if seconds else "",
        most=words.duration(seconds[min(int(len(seconds) * 0.9), len(seconds) - 1)]) if seconds else "",
        callbacks=round(100 * sum(each.by_callback for each in expected) / len(expected)) if expected else None,
        points=points_of(counts),
        chart=f"Ended in each of {BUCKETS} parts of the time: from {min(counts)} to {max(counts)}, {counts[-1]} in the last",
        codes=tuple(codes.most_common(MAX_CODES)),
    )


def buckets(group: Iterable[Finished], *, since: dt.datetime, now: dt.datetime) -> list[int]:
    """Return how many tasks ended in each part of a period."""
    counts, whole = [0] * BUCKETS, (now - since).total_seconds()
    for each in group:
        place = int(BUCKETS * (each.finished_at - since).total_seconds() / whole)
        counts[min(max(place, 0), BUCKETS - 1)] += 1
    return counts


def points_of(counts: Sequence[int]) -> str:
    """Return the points of a line in an SVG, from zero to the highest count."""
    highest = max(*counts, 1)
    step = WIDTH / (len(counts) - 1)
    return " ".join(
        f"{index * step:.1f},{HEIGHT - 2 - (HEIGHT - 4) * count / highest:.1f}" for index, count in enumerate(counts)
    )
