"""Acts on all tasks that fit a filter: a count first, then rounds of a few tasks each."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.responses import Response

from service.domain.task import OPEN, State, Task
from service.domain.validation import Mistake
from service.flows.callbacks.rerun import rerun
from service.flows.webhooks import replay
from service.store import inbox, overview
from service.store.search import Found
from service.web.api.route import invalid
from service.web.api.task_actions import cancel_found, refresh_found, retry_found
from service.web.dashboard import words
from service.web.dashboard.task_query import VIEWS, Query, as_id, count_fitting, query_of, read_tasks
from service.web.dashboard.visit import Visit
from service.web.problems import Problem

ROUND: Final = 50
"""Tasks of a round."""
MAX_AT_ONCE: Final = 8
"""Tasks on which an act works at once."""
MAX_LEFT: Final = 100
"""Tasks that were left as they are, which the page names."""
_RATE_LIMITED: Final = 429


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an act for one task."""

    task: Task
    reason: str | None = None
    """Why the task was left as it is."""
    wait: int = 0
    """Seconds after which the same act may be done: an upstream is asked as often as it may be."""


Runner = Callable[[Visit, Sequence[Task]], Awaitable[list[Outcome]]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An act on many tasks."""

    name: str
    words: str
    """The words on its button."""
    icon: str
    states: frozenset[State]
    """The states in which it does something. Tasks in others are left out."""
    about: str
    run: Runner
    buys: bool = False
    """Whether it may pay for a job twice."""
    ends: bool = False
    """Whether it ends tasks."""


def _each(one: Callable[[Visit, Task], Awaitable[str | None]]) -> Runner:
    """Return a runner that acts on some tasks at once, each by itself.

    :param one: acts on a task, and returns why it could not
    """

    async def run(visit: Visit, tasks: Sequence[Task]) -> list[Outcome]:
        room = asyncio.Semaphore(MAX_AT_ONCE)

        async def act(task: Task) -> Outcome:
            async with room:
                try:
                    reason = await one(visit, task)
                except Problem as problem:
                    limited = problem.status == _RATE_LIMITED
                    wait = max(_number(problem.headers.get("Retry-After", "")), 1) if limited else 0
                    return Outcome(task, problem.detail, wait)
            return Outcome(task, reason)

        return list(await asyncio.gather(*map(act, tasks)))

    return run


async def _refresh(visit: Visit, task: Task) -> str | None:
    asked = await refresh_found(visit.context, task, client=visit.caller.client)
    return None if asked else "there is no job id to ask about"


async def _cancel(visit: Visit, task: Task) -> None:
    await cancel_found(visit.context, task)


async def _retry(visit: Visit, task: Task) -> None:
    await retry_found(visit.context, task)


async def _rerun(visit: Visit, tasks: Sequence[Task]) -> list[Outcome]:
    async with visit.context.database.reading() as connection:
        ids = await inbox.ids_of_tasks(connection, [task.id for task in tasks])
    await rerun(visit.context, ids)
    return list(map(Outcome, tasks))


async def _replay(visit: Visit, tasks: Sequence[Task]) -> list[Outcome]:
    await replay.replay_of_tasks(visit.context, tasks)
    return list(map(Outcome, tasks))


ACTS: Final[Mapping[str, Act]] = {
    act.name: act
    for act in (
        Act(
            name="refresh",
            words="Poll now",
            icon="refresh",
            states=OPEN - {State.QUEUED, State.SUBMITTING},
            about="Each task's upstream is asked for its state. Nothing is paid for that.",
            run=_each(_refresh),
        ),
        Act(
            name="retry",
            words="Submit again",
            icon="refresh",
            states=frozenset({State.UNCONFIRMED}),
            about=(
                "Only tasks of which nobody knows whether their job exists are submitted again. If a job does exist, a "
                "second one is paid for."
            ),
            run=_each(_retry),
            buys=True,
        ),
        Act(
            name="rerun",
            words="Run callbacks again",
            icon="inbox",
            states=frozenset(State),
            about="The stored callbacks of each task are processed again, as this version reads them. One that was applied before changes nothing.",
            run=_rerun,
        ),
        Act(
            name="replay",
            words="Replay messages",
            icon="hook",
            states=frozenset(State),
            about=(
                "The messages of each task that no receiver has taken are sent again. Each keeps its webhook-id, so a "
                "receiver that remembers it does the work once."
            ),
            run=_replay,
        ),
        Act(
            name="cancel",
            words="Cancel",
            icon="stop",
            states=OPEN,
            about="A job that its upstream cannot cancel may go on there and be charged. A result that still arrives is kept.",
            run=_each(_cancel),
            ends=True,
        ),
    )
}


async def ask(visit: Visit) -> Response:
    """Return the page that says how many tasks an act would reach. Nothing is done yet."""
    act = _act(visit.query("act"))
    asked = query_of(visit.http.query_params.multi_items())
    query = _narrowed(asked, act)
    async with visit.context.database.reading() as connection:
        newest = await overview.newest_id(connection)
    count, complete = (0, True) if query is None else await count_fitting(visit, query)
    return visit.page(
        "bulk_all.html",
        title=f"{act.words}: all that fit",
        act=act,
        count=count,
        count_words=words.at_least(count, complete=complete),
        filters=tuple(each for each, _ in asked.filters()),
        view=VIEWS[asked.view] if asked.view else "",
        following=asked.address(),
        before=None if newest is None else UUID(int=newest.int + 1),
        each_round=ROUND,
    )


async def run(visit: Visit) -> Response:
    """Act on the next tasks of a filter, and return a page that goes on with those after them.

    :raises Problem: 422 where a purchase is not confirmed
    """
    act = _act(visit.field("act"))
    if act.buys and visit.field("confirm_double_payment") != "true":
        detail = "tick that you accept a possible second charge for each task: its job may exist already"
        raise invalid([Mistake("confirm_double_payment", detail)])
    asked = query_of(parse_qsl(visit.field("following").lstrip("?"))[:40])
    query, before = _narrowed(asked, act), as_id(visit.field("before"))
    if before is None:
        raise invalid([Mistake("before", "must be the id that the page with the count has sent")])
    found = Found([]) if query is None else await read_tasks(visit, query, before=before, most=ROUND)
    outcomes = await act.run(visit, found.tasks)
    state = _after(visit, found, outcomes)
    left = [task_id for text in visit.form.get("left", [])[:MAX_LEFT] if (task_id := as_id(text)) is not None]
    left = [*left, *(each.task.id for each in outcomes if each.reason is not None and not each.wait)][:MAX_LEFT]
    async with visit.context.database.reading() as connection:
        named = await overview.by_ids(connection, left, visit.sees_only) if state.over else []
    return visit.page(
        "bulk_round.html",
        title=f"{act.words}: {'done' if state.over else 'at work'}",
        act=act,
        state=state,
        left=left,
        named=named,
        reasons=sorted({each.reason for each in outcomes if each.reason is not None}),
        following=asked.address(),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RoundState:
    """The progress of the rounds."""

    done: int
    total: int
    before: UUID | None
    """The cursor of the next round."""
    wait: int
    """Seconds before the next round: an upstream is polled as often as it may be."""

    @property
    def over(self) -> bool:
        """Whether no round follows."""
        return self.before is None


def _after(visit: Visit, found: Found, outcomes: Sequence[Outcome]) -> RoundState:
    """Return what the rounds have done after this one, and where the next one begins."""
    total = _number(visit.field("total"))
    done = _number(visit.field("done")) + sum(each.reason is None for each in outcomes)
    limited = [each for each in outcomes if each.wait]
    if limited:  # the tasks from the first one that was not asked come again
        first = max(each.task.id for each in limited)
        done -= sum(each.reason is None and each.task.id < first for each in outcomes)
        return RoundState(
            done=done, total=total, before=UUID(int=first.int + 1), wait=max(each.wait for each in limited)
        )
    following = found.tasks[-1].id if len(found.tasks) == ROUND else found.searched_to
    return RoundState(done=done, total=total, before=following, wait=0)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 7 else 0  # noqa: PLR2004 - digits


def _act(name: str) -> Act:
    act = ACTS.get(name)
    if act is None:
        raise invalid([Mistake("act", f"must be one of {', '.join(ACTS)}")])
    return act


def _narrowed(query: Query, act: Act) -> Query | None:
    """Return a query for those of its tasks that an act can change; None where there can be none."""
    wanted = frozenset(query.states) or (frozenset(OPEN) if query.view == "open" else frozenset(State))
    states = tuple(state for state in State if state in wanted & act.states)
    return dataclasses.replace(query, states=states, before=None) if states else None
