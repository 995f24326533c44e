"""Crashes with several upstreams, limits, queues, circuits and policies. Whenever the process dies, the tasks end right,
no unwanted job is paid, and no task waits for ever.

The steps and crashes are those of test_crashes.py: every commit (claim, plan, probe, settlement, report, policy, duplicate job)
and every answer of an upstream.
"""

import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest

from service.domain.task import State, Task
from service.sandbox import Faults, Job, Receiver
from service.store import circuits as circuit_store
from service.store import tasks as task_store
from service.store.tasks import Filter
from tests.support.crashes import DEADLINE, LONGEST_LEASE, Crash, CrashPoint, start_process
from tests.support.routes import THREE_UPSTREAMS, Route
from tests.support.world import World

pytestmark = pytest.mark.long

AGGREGATOR = "runway/aggregator"
NO_FAULTS = Faults()


@dataclasses.dataclass(frozen=True, slots=True)
class Story:
    """The events while the process lives, and the allowed outcomes."""

    words: tuple[str, ...] = ("", "")
    """One task each, with these words in its prompt."""
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    request: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    first: Faults = NO_FAULTS
    """A further fault at the first upstream."""
    before: Callable[[Route], Awaitable[None]] | None = None
    most_jobs: int = 1
    """For how many jobs a task's client has given leave."""
    least_steps: int = 8


async def keeps_failing(route: Route) -> None:
    """Open the circuit of the only upstream."""
    at = route.world.clock()
    async with route.world.context.database.writing() as connection:
        await circuit_store.record_failures(connection, [("elkapi", AGGREGATOR, at)] * 5)


STORIES = {
    "a line for one place and one submit a second": Story(
        settings={
            "DOVECOTE_ROUTES__RUNWAY": "elkapi",
            "DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "1",
            "DOVECOTE_UPSTREAMS__ELKAPI__SUBMITS_PER_SECOND": "1",
        },
        least_steps=15,
    ),
    "the next upstream": Story(first=Faults.named(["503=99"]), words=("",), least_steps=12),
    "an open circuit and its probe": Story(
        settings={"DOVECOTE_ROUTES__RUNWAY": "elkapi"}, before=keeps_failing, least_steps=10
    ),
    "a policy that gives up": Story(words=("[cut][drop]",), request={"on_uncertain": "fail"}, least_steps=5),
    "a policy that buys again, and a job too many": Story(
        words=("[cut][late=200]",),
        settings={"DOVECOTE_ROUTES__RUNWAY": "elkapi,runwayml"},
        request={"on_uncertain": "resubmit_once"},
        most_jobs=2,
        least_steps=12,
    ),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
async def test_crash_during_failover_leads_to_the_right_end(database_url: str, story: Story) -> None:
    async with World.opened(database_url, **{**THREE_UPSTREAMS, **story.settings}) as world:
        healthy, route = world.context, Route(world)
        route.elk.faults = story.first
        world.edge.hosts["receiver.test"] = httpx.ASGITransport((receiver := Receiver()).app)
        for last_step in itertools.count(1):
            if story.before is not None:
                await story.before(route)
            crash_point = CrashPoint(last_step)
            start_process(world, healthy, crash_point)
            prompts = [f"{word} {last_step}.{number} dove" for number, word in enumerate(story.words)]
            with contextlib.suppress(Crash):
                for prompt in prompts:
                    await world.submit(prompt, deadline=DEADLINE, operation="text_to_video", **story.request)
                await world.until(DEADLINE + 1)
            start_process(world, healthy, CrashPoint(10**9))
            if world.context.database.sqlite:
                await world.release_leases()
            await world.until(DEADLINE + LONGEST_LEASE)
            for prompt in prompts:
                await judge(route, receiver, prompt, story)
            if not crash_point.dead:
                break
        assert last_step > story.least_steps, "too few steps: something did not happen at all"


async def judge(route: Route, receiver: Receiver, prompt: str, story: Story) -> None:
    world = route.world
    async with world.context.database.reading() as connection:
        found = await task_store.page(connection, Filter(client="default"), most=10)
    tasks = [task for task in found if task.input["prompt"].strip() == prompt.strip()]
    if not tasks:  # its submitter got a connection error
        return
    [task] = tasks
    sandboxes = {"elkapi": route.elk, "cometapi": route.comet, "runwayml": route.runway}
    jobs = [(name, job) for name, each in sandboxes.items() for job in each.ledger.jobs if job.prompt == prompt]
    submissions = await world.submissions(task)
    assert len(jobs) <= story.most_jobs
    assert task.waits_for is None
    assert "sending" not in {each.outcome for each in submissions}
    assert task.state in right(task, [job for _, job in jobs], story), (prompt, task.last_error)
    # Every known job is in the ledger once, under its upstream.
    known = Counter((each.upstream, each.external_id) for each in submissions if each.external_id is not None)
    assert set(known.values()) <= {1}
    assert set(known) <= {(name, job.id) for name, job in jobs}
    serving = [each for each in submissions if each.outcome == "taken" and each.superseded_at is None]
    assert len(serving) == (task.external_id is not None)
    states = (event.data.get("state") for event in await world.events(task))
    ends = Counter(state for state in states if state is not None and State(state).ended)
    told = Counter(received.state for received in receiver.received if received.task_id == str(task.id))
    assert told == ends
    assert max(told.values()) == 1


def right(task: Task, jobs: list[Job], story: Story) -> set[State]:
    """Return the states in which a task may have ended, by the providers' records of it."""
    if task.external_id is not None:
        return {State.SUCCEEDED}
    heard = [job for job in jobs if 200 in job.callback_statuses]
    assert not heard, "a callback was answered, and is lost"
    if task.on_uncertain == "fail":
        return {State.FAILED}
    return {State.EXPIRED}
