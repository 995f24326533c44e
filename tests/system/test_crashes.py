"""Crashes: the process dies between any two steps of a journey. After a restart the task ends right and is paid once.

Every commit and every answer from the network is a step. The n-th one kills the process for n = 1, 2, 3 … until a run
ends without a crash. A dead process writes and sends nothing more.
"""

import asyncio
import itertools
from collections import Counter

import httpx
import orjson
import pytest

from service.domain.schedules import LEASE
from service.domain.task import State, Task
from service.flows import polling
from service.flows.concurrency import TaskPool
from service.flows.context import Context
from service.flows.submission import run as submission_run
from service.sandbox import Job, Receiver
from service.store import tasks as task_store
from service.store.tasks import Filter
from tests.support.crashes import DEADLINE, LONGEST_LEASE, Crash, CrashPoint, start_process
from tests.support.world import JOB_SECONDS, World

WORDS = ("", "[drop]", "[twice][disorder][early]", "[fail]", "[429]", "[cut]", "[drop][cut]", "[refuse]")
"""Faults of the provider, besides the crash."""
SHORT = {"sqlite": ("", "[drop]", "[cut]", "[refuse]"), "postgresql": ("[cut]",)}
"""Those of ``make test``."""


async def live(world: World, prompt: str) -> None:
    """Submit a task, and run the journeys until it ends."""
    await world.submit(prompt, deadline=DEADLINE)
    await world.until(DEADLINE + 1)


async def restart(world: World, healthy: Context) -> None:
    start_process(world, healthy, CrashPoint(10**9))
    if world.context.database.sqlite:
        await world.release_leases()
    await world.until(DEADLINE + LONGEST_LEASE)


async def task_of(world: World, prompt: str) -> Task:
    """Return the only task of a prompt. Its submitter may have died before it got an answer."""
    async with world.context.database.reading() as connection:
        found = await task_store.page(connection, Filter(client="default"), most=100)
    [task] = [task for task in found if task.input["prompt"] == prompt]
    return task


@pytest.mark.parametrize(
    ("database_url", "words"),
    [
        pytest.param(database, words, marks=[] if words in SHORT[database] else [pytest.mark.long])
        for database in SHORT
        for words in WORDS
    ],
    indirect=["database_url"],
)
async def test_crash_at_any_step_leads_to_one_payment(world: World, words: str) -> None:
    await crash_at_each_step(world, words, hands_over=False)


@pytest.mark.parametrize(
    ("database_url", "words"),
    [
        *(("sqlite", words) for words in ("", "[cut]")),
        *(pytest.param("sqlite", words, marks=pytest.mark.long) for words in WORDS if words not in {"", "[cut]"}),
        *(pytest.param("postgresql", words, marks=pytest.mark.long) for words in WORDS),
    ],
    indirect=["database_url"],
)
async def test_crash_of_a_process_that_claims_rows_as_it_writes_them_leads_to_one_payment(
    world: World, words: str
) -> None:
    await crash_at_each_step(world, words, hands_over=True)


async def crash_at_each_step(world: World, words: str, *, hands_over: bool) -> None:
    healthy = world.context
    world.edge.hosts["receiver.test"] = httpx.ASGITransport((receiver := Receiver()).app)
    for last_step in itertools.count(1):
        prompt, crash_point = f"{words} a dove, until step {last_step}", CrashPoint(last_step)
        start_process(world, healthy, crash_point)
        if hands_over:
            world.hand_over()
        try:
            await live(world, prompt)
        except Crash:
            assert crash_point.dead
        await restart(world, healthy)
        await judge(world, prompt, receiver)
        if not crash_point.dead:
            break
    assert last_step > 6, "too few steps: something did not happen at all"


async def judge(world: World, prompt: str, receiver: Receiver) -> None:
    task = await task_of(world, prompt)
    jobs = [job for job in world.sandbox.ledger.jobs if job.prompt == prompt]
    sent = [request for request in world.edge.requests if is_purchase(request, prompt)]
    refused = "[refuse]" in prompt
    assert task.state is expected(task, jobs, refused=refused), (prompt, task.last_error)
    turned_away = 1 if refused or "[429]" in prompt else 0
    assert len(jobs) == max(len(sent) - turned_away, 0)
    assert len(jobs) <= 1
    happened = [event.type for event in await world.events(task)]
    assert task.state is not State.EXPIRED or happened[-2:] == ["unconfirmed", "expired"]
    assert [callback.decision for callback in await world.callbacks(task) if callback.decision is None] == []
    ends = [
        event for event in await world.events(task) if event.data.get("state") in {"succeeded", "failed", "expired"}
    ]
    told = Counter(received.state for received in receiver.received if received.task_id == str(task.id))
    assert told == Counter(event.data["state"] for event in ends)
    assert max(told.values()) == 1
    assert {message.state for message in await world.messages(task)} == {"delivered"}
    assert task.due_at is None


def is_purchase(request: httpx.Request, prompt: str) -> bool:
    return request.url.path.startswith("/runway/pro/") and orjson.loads(request.content)["prompt"] == prompt


def expected(task: Task, jobs: list[Job], *, refused: bool) -> State:
    """Return the state in which a task must have ended, by the provider's record of it."""
    if refused and task.upstream is not None and task.state is State.FAILED:
        return State.FAILED
    if not jobs:  # never sent, and this cannot be found out: the task is unconfirmed and never sent again
        return State.EXPIRED
    [job] = jobs
    unknowable = job.faults.drop and task.external_id is None
    if unknowable:
        return State.EXPIRED
    return State.FAILED if job.faults.fail else State.SUCCEEDED


@pytest.mark.parametrize("words", ["", "[429]", "[503]", "[refuse]", "[cut]"])
async def test_worker_past_its_lease_submits_nothing(world: World, words: str) -> None:
    """The answer comes after other processes gave the submission up. Only an id still counts."""
    arrived, go_on = asyncio.Event(), asyncio.Event()
    sandbox = world.edge.hosts["sandbox.test"]

    class Held(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            arrived.set()
            await go_on.wait()
            return await sandbox.handle_async_request(request)

    world.edge.hosts["sandbox.test"] = Held()
    task = await world.submit(f"{words} a dove", deadline=DEADLINE)
    sleeper = TaskPool(1)
    await submission_run.run_due(world.context, sleeper)
    await arrived.wait()
    world.clock.forward(LONGEST_LEASE)
    await world.work()
    assert (await world.task(task)).state is State.UNCONFIRMED
    go_on.set()
    await sleeper.finish()
    after = await world.task(task)
    assert after.state is (State.SUBMITTED if words == "" else State.UNCONFIRMED)
    await world.until(DEADLINE)
    assert world.sandbox.ledger.requests["POST /runway/pro/generate"] == 1
    assert world.sandbox.ledger.paid() == (1 if words in {"", "[cut]"} else 0)
    ended = await world.task(task)
    assert ended.state is (State.SUCCEEDED if world.sandbox.ledger.paid() else State.EXPIRED)


async def test_worker_past_its_lease_changes_no_poll(world: World) -> None:
    """Two processes poll one task. The later claim's schedule stays, whichever answers last."""
    arrived, go_on = asyncio.Event(), asyncio.Event()
    sandbox = world.edge.hosts["sandbox.test"]
    task = await world.submit("[drop][seconds=1000] a dove")
    await world.work()

    class Held(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await sandbox.handle_async_request(request)
            if not arrived.is_set():
                arrived.set()
                await go_on.wait()
            return response

    world.edge.hosts["sandbox.test"] = Held()
    world.clock.forward(JOB_SECONDS * 1.5)
    sleeper = TaskPool(1)
    await polling.run_due(world.context, sleeper)
    await arrived.wait()
    world.clock.forward(LEASE)
    await world.work()
    looked = await world.task(task)
    world.clock.forward(1)
    go_on.set()
    await sleeper.finish()
    after = await world.task(task)
    assert (looked.attempts, after.attempts, after.due_at) == (3, 3, looked.due_at)
