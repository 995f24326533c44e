"""Regression tests of races between lost answers, second purchases, waits and cancels. Each race once led to a wrong end."""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from service.domain.changes import StatusReported
from service.domain.task import Source, State, Task, Update, WaitingFor
from service.flows import polling
from service.flows.apply import settle
from service.flows.callbacks import process
from service.flows.concurrency import TaskPool
from service.flows.context import Context, upstreams_of
from service.flows.signals.local import Signals
from service.flows.submission import duplicates, reconcile
from service.flows.submission import run as submission_run
from service.sandbox import Faults, InProcessTransport
from service.store import queue
from service.store.database import Database, StoreUnavailable
from service.store.writer import Writers
from tests.support.routes import WITHOUT_WEBHOOK, Route, three_upstreams
from tests.support.world import World

ALONE = {"DOVECOTE_ROUTES__RUNWAY": "elkapi"}
TWO = {"DOVECOTE_ROUTES__RUNWAY": "elkapi,cometapi"}


class Held(httpx.AsyncBaseTransport):
    """An upstream that holds the answers to purchases until the test releases them."""

    def __init__(self, then: Callable[[httpx.Request], Any]) -> None:
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()
        self._then = then

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.arrived.set()
        await self.go_on.wait()
        response: httpx.Response = self._then(request)
        return response


def answering(
    status: int, body: bytes = b'{"error":{"message":"no"}}', **headers: str
) -> Callable[[httpx.Request], Any]:
    return lambda request: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body), request=request)


def silent(request: httpx.Request) -> Any:
    raise httpx.ReadTimeout("no answer", request=request)


def kinds(events: list[Any]) -> list[str]:
    return [event.type for event in events]


async def bought_again(three: Route, then: Callable[[httpx.Request], Any]) -> tuple[Task, Held, TaskPool]:
    """Buy a task a second time at cometapi. The first job calls back while that purchase is in flight."""
    world = three.world
    held = world.edge.hosts["comet.test"] = Held(then)
    three.elk.faults = Faults.named(["cut", "late=125"])
    task = await world.submit(**WITHOUT_WEBHOOK, on_uncertain="resubmit_once")
    await world.work()
    world.clock.forward(121)
    looks, purchases = TaskPool(1), TaskPool(1)
    await polling.run_due(world.context, looks)
    await looks.finish()
    await submission_run.run_due(world.context, purchases)
    await held.arrived.wait()
    world.clock.forward(20)
    await world.sandbox.deliver_due()
    while await process.run_due(world.context):
        pass
    return task, held, purchases


@pytest.mark.parametrize(
    "then", [answering(400), answering(402), answering(503), silent], ids=["refused", "no credit", "503", "silent"]
)
async def test_duplicate_job_serves_the_task_when_the_resubmit_fails(
    database_url: str, then: Callable[[httpx.Request], Any]
) -> None:
    """Its callbacks came while the second purchase was in flight. No further callback comes."""
    async with three_upstreams(database_url, **TWO) as three:
        task, held, purchases = await bought_again(three, then)
        assert (await three.world.task(task)).state is State.SUBMITTING
        held.go_on.set()
        await purchases.finish()
        await three.world.until(300)
        ended = await three.world.task(task)
        assert (ended.state, ended.upstream, ended.results != ()) == (State.SUCCEEDED, "elkapi", True)
        assert three.jobs == [1, 0, 0]
        first, second = await three.world.submissions(task)
        assert (first.superseded_at, first.job_state, first.due_at) == (None, None, None)
        assert second.outcome != "taken"


async def test_failed_first_job_does_not_end_a_resubmitted_task(database_url: str) -> None:
    async with three_upstreams(database_url, **TWO) as three:
        three.elk.faults = Faults.named(["cut", "fail", "disorder", "late=150"])
        task = await three.world.submit(**WITHOUT_WEBHOOK, on_uncertain="resubmit_once")
        await three.world.work()
        three.elk.faults = three.comet.faults = Faults.named(["503=999"])
        await three.world.until(170)
        assert (await three.world.task(task)).state is State.QUEUED
        three.elk.faults = three.comet.faults = Faults()
        await three.world.until(300)
        assert (await three.world.task(task)).state is State.SUCCEEDED
        [first, *_] = await three.world.submissions(task)
        assert (first.outcome, first.job_state) == ("taken", "failed")
        assert sum(three.jobs) == 2


async def test_cancelled_task_is_not_resubmitted_and_expires_if_unresolved(database_url: str) -> None:
    async with three_upstreams(database_url, **ALONE) as three:
        three.elk.faults = Faults.named(["cut", "drop"])
        task = await three.world.submit(**WITHOUT_WEBHOOK, on_uncertain="resubmit_once")
        await three.world.work()
        shown = await three.world.client.post(f"/v1/tasks/{task.id}/cancel")
        assert (shown.status_code, shown.json()["state"]) == (202, "unconfirmed")
        await three.world.until(200)
        ended = await three.world.task(task)
        assert (ended.state, ended.decided_by) == (State.CANCELLED, "dovecote")
        assert ended.failure is not None
        assert "may have the job" in str(ended.failure.message)
        assert three.jobs == [1, 0, 0]


@pytest.mark.parametrize("when", ["waiting", "decided"])
async def test_cancel_after_a_first_submission_does_not_claim_that_nothing_was_paid(
    database_url: str, when: str
) -> None:
    async with three_upstreams(database_url, **TWO) as three:
        three.elk.faults = Faults.named(["cut", "drop"])
        three.comet.faults = Faults.named(["503=99"])
        task = await three.world.submit(**WITHOUT_WEBHOOK, on_uncertain="resubmit_once")
        await three.world.work()
        three.elk.faults = Faults.named(["503=99"])
        three.world.clock.forward(121)
        if when == "waiting":
            await three.world.work()
        else:
            looks = TaskPool(1)
            await polling.run_due(three.world.context, looks)
            await looks.finish()
        assert (await three.world.task(task)).state is State.QUEUED
        shown = (await three.world.client.post(f"/v1/tasks/{task.id}/cancel")).json()
        assert shown["state"] == "cancelled"
        assert "nothing was paid" not in shown["failure"]["message"]


class Busy(httpx.AsyncBaseTransport):
    """An upstream that asks for a pause of five minutes, and counts the requests that come during the pause."""

    def __init__(self) -> None:
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        response: httpx.Response = answering(429, **{"Retry-After": "300"})(request)
        return response


async def test_retry_after_is_honoured_without_another_upstream(database_url: str) -> None:
    """The next upstream's circuit is open. The task must not return to the upstream that asked for a pause."""
    async with three_upstreams(database_url, **TWO) as three:
        world = three.world
        world.edge.down.add("comet.test")
        for _ in range(5):
            await world.submit(**WITHOUT_WEBHOOK, route=["cometapi"])
        await world.work()
        busy = world.edge.hosts["sandbox.test"] = Busy()
        task = await world.submit(**WITHOUT_WEBHOOK)
        await world.work()
        assert busy.asked == 1
        assert (await world.task(task)).waits_for == WaitingFor("cometapi", "runway/aggregator")
        await world.until(80)
        assert busy.asked == 1
        world.edge.down.clear()
        await world.until(39)
        assert await three.history(task) == [("elkapi", "unavailable"), ("cometapi", "taken")]


async def test_retry_after_of_every_upstream_is_honoured(database_url: str) -> None:
    async with three_upstreams(database_url, **TWO) as three:
        elk, comet = Busy(), Busy()
        three.world.edge.hosts |= {"sandbox.test": elk, "comet.test": comet}
        await three.world.submit(**WITHOUT_WEBHOOK)
        await three.world.until(119)
        assert (elk.asked, comet.asked) == (1, 1)
        await three.world.until(2)
        assert elk.asked + comet.asked == 3


async def test_removed_upstream_does_not_cut_a_wait_short(database_url: str) -> None:
    async with three_upstreams(database_url, **TWO) as three:
        task = await three.world.submit(**WITHOUT_WEBHOOK)
        assert task.route == ("elkapi", "cometapi")
        context = three.world.context
        context.upstreams = {"elkapi": context.upstreams["elkapi"]}
        three.world.edge.hosts["sandbox.test"] = elk = Busy()
        await three.world.until(119)
        assert elk.asked == 1


async def test_stale_change_writes_no_event(database_url: str) -> None:
    """An operator retries a task while a callback settles it. The history must not contain a retry."""
    async with three_upstreams(database_url, **ALONE) as three:
        world = three.world
        three.elk.faults = Faults.named(["cut"])
        task = await world.submit(**WITHOUT_WEBHOOK)
        await world.work()
        known = await world.task(task)
        world.clock.forward(3)
        await world.sandbox.deliver_due()
        await process.run_due(world.context)
        with pytest.raises(reconcile.NotUnconfirmed):
            await reconcile.retry(world.context, known)
        assert "retried" not in kinds(await world.events(task))
        assert three.jobs == [1, 0, 0]


async def test_proof_read_before_supersession_revives_its_submission(database_url: str) -> None:
    async with three_upstreams(database_url, **ALONE) as three:
        world = three.world
        three.elk.faults = Faults.named(["cut", "drop"])
        task = await world.submit(**WITHOUT_WEBHOOK)
        await world.work()
        [read] = await world.submissions(task)
        await reconcile.retry(world.context, await world.task(task))
        job = three.elk.ledger.jobs[0]
        update = Update(state=State.RUNNING, external_id=job.id)
        await settle(
            world.context, StatusReported(task_id=task.id, source=Source.CALLBACK, update=update, submission=read)
        )
        [first] = await world.submissions(task)
        assert (first.outcome, first.superseded_at) == ("taken", None)
        await world.until(100)
        assert three.jobs == [1, 0, 0]
        assert (await world.task(task)).state is State.SUCCEEDED


# Lines -------------------------------------------------------------------------------------------------------------

ONE_PLACE = {**ALONE, "DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "1"}


async def test_deadline_or_cancel_ends_a_waiting_task_only(database_url: str) -> None:
    async with three_upstreams(database_url, **ONE_PLACE) as three:
        world = three.world
        first = await world.submit("[drop][seconds=60] first", callback_url=None)
        await world.work()
        short = await world.submit("short", deadline=15)
        gone = await world.submit("gone", callback_url=None)
        last = await world.submit("last", callback_url=None)
        await world.work()
        assert (await world.client.post(f"/v1/tasks/{gone.id}/cancel")).json()["state"] == "cancelled"
        await world.until(20)
        states = [(await world.task(task)).state for task in (first, short, gone, last)]
        assert states[1:] == [State.EXPIRED, State.CANCELLED, State.QUEUED]
        assert [message.type for message in await world.messages(short)] == ["task.expired"]
        assert [(await world.task(task)).waits_for for task in (short, gone)] == [None, None]
        await world.until(300)
        assert (await world.task(last)).state is State.SUCCEEDED
        assert three.jobs == [2, 0, 0]


async def test_task_waiting_for_a_removed_upstream_uses_the_next(database_url: str) -> None:
    async with three_upstreams(database_url, **{**TWO, "DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "1"}) as three:
        world = three.world
        await world.submit("[drop][seconds=500] first", callback_url=None)
        await world.work()
        waits = [await world.submit(f"waits {number}", callback_url=None) for number in range(2)]
        await world.work()
        assert {(await world.task(task)).waits_for for task in waits} == {WaitingFor("elkapi")}
        context = world.context
        without = {name: each for name, each in context.upstreams.items() if name != "elkapi"}
        world.context = dataclasses.replace(context, upstreams=without)
        async with context.database.writing() as connection:  # as a starting process does
            known = [each.key for each in world.context.waits]
            await queue.release_unknown_waits(connection, known, now=world.clock())
        await world.until(300)
        assert {(await world.task(task)).state for task in waits} == {State.SUCCEEDED}
        assert three.jobs == [1, 2, 0]


async def test_probe_of_a_dead_process_is_replaced(database_url: str) -> None:
    async with three_upstreams(database_url, **ALONE) as three:
        world = three.world
        world.edge.down.add("sandbox.test")
        tasks = [await world.submit(f"[drop] {number}", callback_url=None) for number in range(6)]
        await world.work()
        world.clock.forward(31)
        world.edge.down.clear()
        held = world.edge.hosts["sandbox.test"] = Held(silent)
        dying = TaskPool(1)
        await submission_run.run_due(world.context, dying)
        await held.arrived.wait()
        await dying.finish(within=0)  # its process is gone
        world.edge.hosts["sandbox.test"] = InProcessTransport(three.elk.app)
        await world.work()
        assert three.jobs == [0, 0, 0], "the probe is waited for"
        for _ in range(6):  # a worker reads the queue every second, even while nothing is due
            await world.until(50)
        states = Counter([(await world.task(task)).state for task in tasks])
        assert states == {State.SUCCEEDED: 5, State.UNCONFIRMED: 1}
        assert three.jobs == [5, 0, 0]


# Several processes ---------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def processes(world: World, count: int) -> AsyncIterator[list[Context]]:
    """Open several processes over one database. Each has its own connections, writer and slots."""
    async with contextlib.AsyncExitStack() as opened:
        made = []
        for _ in range(count):
            database = Database(world.context.settings.database_url)
            opened.push_async_callback(database.close)
            writers = await opened.enter_async_context(Writers(database).running())
            upstreams = upstreams_of(world.context.settings)
            own = dataclasses.replace(
                world.context, database=database, writers=writers, upstreams=upstreams, signals=Signals()
            )
            made.append(own)
        yield made


async def round_of(context: Context) -> None:
    """Run all due work of one process, as its worker would."""

    async def one(journey: Any) -> int:
        pool = TaskPool(2)  # so few that each process gets some
        try:
            done: int = await journey.run_due(context, pool)
        except StoreUnavailable as error:
            clashes.append(str(error.__cause__))
            return 1
        await pool.finish()
        return done

    while sum(await asyncio.gather(*(one(journey) for journey in (submission_run, polling, duplicates)))):
        pass


clashes: list[str] = []


@pytest.mark.long
async def test_processes_share_the_slots_of_an_upstream(postgresql_url: str) -> None:
    """Three processes run over one PostgreSQL. Open jobs never exceed the slots, and each job is bought once."""
    places = 2
    more = {**ALONE, "DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": str(places)}
    async with three_upstreams(postgresql_url, **more) as three, processes(three.world, 3) as several:
        world, wanted = three.world, []
        clashes.clear()
        for burst in range(6):  # each finds all slots free, and every process has claimed tasks
            tasks = [
                await world.submit_as(f"client {n % 3}", f"[drop] {burst} {n}", callback_url=None) for n in range(6)
            ]
            wanted += [task.input["prompt"] for task in tasks]
            for _ in range(20):
                await asyncio.gather(*map(round_of, several))
                at_work = sum(job.state in {"queued", "running"} for job in three.elk.ledger.jobs)
                assert at_work <= places
                if all([(await world.task(task)).state is State.SUCCEEDED for task in tasks]):
                    break
                world.clock.forward(5)
        assert Counter(job.prompt for job in three.elk.ledger.jobs) == Counter(wanted)
        assert clashes == []


@pytest.mark.long
async def test_processes_send_one_probe_together(postgresql_url: str) -> None:
    async with three_upstreams(postgresql_url, **ALONE) as three, processes(three.world, 3) as several:
        world = three.world
        world.edge.down.add("sandbox.test")
        clashes.clear()
        tasks = [await world.submit(f"[drop] {number}", callback_url=None) for number in range(9)]
        await asyncio.gather(*map(round_of, several))
        for number in range(1, 4):
            sent = len(world.edge.requests)
            world.clock.forward(31)
            tasks += [await world.submit(f"[drop] {number} {other}", callback_url=None) for other in range(6)]
            await asyncio.gather(*map(round_of, several))
            assert len(world.edge.requests) == sent + 1, f"probe {number}"
        world.edge.down.clear()
        for _ in range(60):
            world.clock.forward(5)
            await asyncio.gather(*map(round_of, several))
        assert {(await world.task(task)).state for task in tasks} == {State.SUCCEEDED}
        assert three.jobs == [27, 0, 0]
        assert clashes == []
