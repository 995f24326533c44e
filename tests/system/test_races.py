"""Races: every interleaving of submit, callbacks, polls, messages, refreshes and cancels in concurrent pairs ends right."""

import asyncio
import contextlib
import dataclasses
import itertools
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import application
from service.domain.changes import StatusReported
from service.domain.errors import UpstreamError
from service.domain.statistics import Statistics
from service.domain.task import ENDED, Source, State, Task, Update
from service.flows import polling
from service.flows.apply import settle
from service.flows.callbacks import process
from service.flows.concurrency import TaskPool
from service.flows.signals.local import Signals
from service.flows.submission import run as submission_run
from service.flows.submission.cancel import cancel
from service.flows.webhooks import dispatch
from service.sandbox import Receiver
from service.store.writer import Writers
from tests.support.values import opened
from tests.support.world import JOB_SECONDS, World

RANK = {"queued": 0, "submitting": 1, "unconfirmed": 2, "submitted": 3, "running": 4, **dict.fromkeys(ENDED, 5)}
WORDS = [
    "",
    "[fail]",
    "[drop]",
    "[twice][disorder]",
    "[early]",
    "[early][seconds=0]",
    "[cut]",
    "[429]",
    "[500]",
    "[garbage]",
    "[flaky]",
    "[late=5]",
]

WELL = ["", "[fail]", "[twice]", "[seconds=5]", "[late=5]", "[disorder]"] * 3
"""Such as lose no answer."""

Act = Callable[[World, Task], Awaitable[object]]


def running(journey: object) -> Act:
    async def run(world: World, _: Task) -> None:
        pool = TaskPool(10)
        await journey.run_due(world.context, pool)  # type: ignore[attr-defined]
        await pool.finish()

    return run


async def refresh(world: World, task: Task) -> None:
    await world.client.post(f"/v1/tasks/{task.id}/refresh")


async def give_up(world: World, task: Task) -> None:
    now = await world.task(task)
    if not now.state.ended:
        with contextlib.suppress(UpstreamError):
            await cancel(world.context, now)


async def repeat_callbacks(world: World, _: Task) -> None:
    """Send every received callback once more."""
    came = [(request.url.path, request.content) for request in world.edge.requests if "/callbacks/" in request.url.path]
    await asyncio.gather(*(world.client.post(path, content=body) for path, body in came))


def sleep(seconds: float) -> Act:
    async def run(world: World, _: Task) -> None:
        world.clock.forward(seconds)

    return run


ACTS: dict[str, Act] = {
    "submit": running(submission_run),
    "poll": running(polling),
    "webhooks": running(dispatch),
    "stored callbacks": lambda world, _: process.run_due(world.context),
    "callbacks": lambda world, _: world.sandbox.deliver_due(),
    "callbacks again": repeat_callbacks,
    "refresh": refresh,
    "a second": sleep(1),
    "a while": sleep(JOB_SECONDS / 2),
    "a lease": sleep(70),
}
steps = st.lists(st.lists(st.sampled_from(sorted(ACTS)), min_size=1, max_size=3), max_size=14)


@pytest.fixture
def fresh(sqlite_template: Path, tmp_path: Path) -> Callable[[], str]:
    """Create a new database for every example."""
    numbers = itertools.count()

    def make() -> str:
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copy(sqlite_template, path)
        return f"sqlite:///{path}"

    return make


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.sampled_from(WORDS), steps, st.none() | st.integers(0, 13))
async def test_every_interleaving_ends_correctly(
    fresh: Callable[[], str], words: str, plan: list[list[str]], cancelled_after: int | None
) -> None:
    async with World.opened(fresh()) as world:
        task = await world.submit(f"{words} a dove")
        for number, acts in enumerate(plan):
            together = [ACTS[act](world, task) for act in acts]
            if number == cancelled_after:
                together.append(give_up(world, task))
            await asyncio.gather(*together)
        await world.until(4000)
        await judge(world, task, cancelled=cancelled_after is not None and cancelled_after < len(plan))


async def judge(world: World, task: Task, *, cancelled: bool) -> None:
    ended = await world.task(task)
    jobs = world.sandbox.ledger.jobs
    assert len(jobs) <= 1
    assert len(jobs) == 1 or (cancelled and ended.state is State.CANCELLED)
    if jobs and ended.decided_by == "provider":
        assert ended.state == jobs[0].state
    if not cancelled:
        unknowable = jobs[0].faults.cut or jobs[0].faults.server_error
        assert ended.decided_by == "provider" or unknowable
    events = await world.events(task)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    states = [event.data["state"] for event in events if "state" in event.data]
    for before, after in itertools.pairwise(states):
        assert RANK[after] >= RANK[before] or (before, after) == ("submitting", "queued")
    assert sum(event.data.get("decided_by") == "provider" for event in events) <= 1
    assert [received.decision for received in await world.callbacks(task) if received.decision is None] == []
    ends = [state for state in states if state in ENDED]
    assert [message.type for message in await world.messages(task)] == [
        f"task.{state}" if number == 0 else "task.late_result" for number, state in enumerate(ends)
    ]


@contextlib.asynccontextmanager
async def another_process(world: World, url: str) -> AsyncIterator[World]:
    """Open a second process over the same database, sandbox and clock, with its own connections and writer."""
    async with opened(url) as database, Writers(database).running() as writers:
        own = {"database": database, "writers": writers, "signals": Signals(), "statistics": Statistics()}
        yield dataclasses.replace(world, context=dataclasses.replace(world.context, **own))


async def test_two_processes_apply_updates_of_the_same_tasks(postgresql_url: str) -> None:
    """The second writer sees the first one's changes. No update is lost or overwritten."""
    async with World.opened(postgresql_url) as world, another_process(world, postgresql_url) as other:
        tasks = [await world.submit(f"[drop][stuck] a dove, {number}") for number in range(80)]
        await world.work()

        def reported(by: World, task: Task, update: Update) -> Awaitable[object]:
            return settle(by.context, StatusReported(task_id=task.id, source=Source.CALLBACK, update=update))

        for step in range(1, 6):
            more = [reported(world, task, Update(state=State.RUNNING, progress=step)) for task in tasks]
            cost = [reported(other, task, Update(cost=float(step))) for task in reversed(tasks)]
            await asyncio.gather(*more, *cost)
        ends = [reported(world, task, Update(state=State.SUCCEEDED)) for task in tasks]
        other_ends = [reported(other, task, Update(state=State.FAILED)) for task in reversed(tasks)]
        await asyncio.gather(*ends, *other_ends)
        for task in tasks:
            ended, events = await world.task(task), await world.events(task)
            assert (ended.state in {State.SUCCEEDED, State.FAILED}, ended.cost) == (True, 5.0)
            assert (ended.progress, ended.sequence) == (100 if ended.state is State.SUCCEEDED else 5, len(events))
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert sum(event.data.get("state") in ENDED for event in events) == 1


async def test_two_processes_share_the_work_without_duplicates(postgresql_url: str) -> None:
    async with World.opened(postgresql_url) as world, another_process(world, postgresql_url) as other:
        doors = itertools.cycle([httpx.ASGITransport(application(each.context)) for each in (world, other)])
        world.edge.hosts["receiver.test"] = httpx.ASGITransport((receiver := Receiver()).app)
        # Few enough answers get lost that the upstream is not left alone for a while.
        tasks = [
            await world.submit(f"{words} a dove, {number}") for number, words in enumerate([*WORDS, *WORDS, *WELL])
        ]
        for _ in range(round(JOB_SECONDS * 3)):
            world.clock.forward(1)
            world.edge.hosts["dovecote.test"] = next(doors)
            await asyncio.gather(world.sandbox.deliver_due(), world.work(), other.work(), other.work(), world.work())
        await world.until(4000)
        prompts: Counter[str] = Counter(job.prompt for job in world.sandbox.ledger.jobs)
        assert set(prompts.values()) == {1}
        assert len(prompts) == len(tasks)
        for task in tasks:
            ended, events = await world.task(task), await world.events(task)
            assert ended.state.ended
            assert sum(event.data.get("decided_by") == "provider" for event in events) <= 1
            assert len(await world.messages(task)) == sum(event.data.get("state") in ENDED for event in events)
        ids = Counter(received.id for received in receiver.received)
        assert max(ids.values()) == 1
        assert len({received.task_id for received in receiver.received}) == len(tasks)
