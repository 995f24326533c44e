"""Operations whose answer is the result: an answer settles the task, silence is uncertain, and nothing is bought twice."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.domain.schedules import SUBMIT_LEASE_MARGIN
from service.domain.task import State, Task
from service.flows.concurrency import TaskPool
from service.flows.submission import run as submission_run
from service.http.client import CONNECT_TIMEOUT, WRITE_TIMEOUT
from service.providers.registry import DIALECTS, FAMILIES
from service.sandbox import Faults, InProcessTransport, Sandbox
from tests.support.routes import another_sandbox
from tests.support.world import JOB_SECONDS, World

COMET = {"COMETAPI_KEY": "comet-key", "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://comet.test"}
TAGS: dict[str, Any] = {"family": "suno", "operation": "style_tags", "callback_url": None}


@contextlib.asynccontextmanager
async def two(url: str, **more: str) -> AsyncIterator[tuple[World, Sandbox]]:
    """Open a world with two gateways."""
    async with World.opened(url, **COMET, **more) as world:
        comet = another_sandbox(world, "comet-key")
        world.edge.hosts["comet.test"] = InProcessTransport(comet.app)
        yield world, comet


async def tags(world: World, style: str = "folk", **more: Any) -> Task:
    return await world.submit(**{**TAGS, "input": {"style": style}, **more})


async def song(world: World) -> Task:
    made = await world.submit(family="suno", operation="music", input={"prompt": "a dove"}, callback_url=None)
    await world.until(JOB_SECONDS * 6)
    return made


async def history(world: World, task: Task) -> list[tuple[str, str]]:
    return [(each.upstream, each.outcome) for each in await world.submissions(task)]


async def test_synchronous_answer_is_the_result(database_url: str) -> None:
    async with two(database_url) as (world, _):
        task = await tags(world)
        await world.work()
        after = await world.task(task)
        assert (after.state, after.decided_by, after.external_id) == (State.SUCCEEDED, "provider", None)
        assert [result.text for result in after.results] == ["folk, spelt out at length"]
        assert [event.type for event in await world.events(task)] == ["accepted", "submitting", "succeeded"]
        assert await history(world, task) == [("elkapi", "taken")]
        assert world.sandbox.ledger.paid() == 1
        assert after.due_at is None


async def test_synchronous_follow_up_is_answered_with_the_result(database_url: str) -> None:
    async with two(database_url) as (world, _):
        made = await song(world)
        persona = {"name": "The homing pigeon"}
        task = await world.submit(**{**TAGS, "operation": "persona", "input": persona}, parent_id=str(made.id))
        await world.work()
        after = await world.task(task)
        assert (after.state, [result.kind for result in after.results]) == (State.SUCCEEDED, ["text"])


async def test_midjourney_synchronous_operation_succeeds(database_url: str) -> None:
    async with two(database_url) as (world, _):
        picture = {"images": ["data:image/png;base64,iVBORw0KGgo="]}
        task = await world.submit(family="midjourney", operation="upload", input=picture, callback_url=None)
        await world.work()
        after = await world.task(task)
        assert (after.state, [result.kind for result in after.results]) == (State.SUCCEEDED, ["image"])
        assert world.sandbox.ledger.paid() <= 1


@pytest.mark.parametrize("words", ["cut", "cutbody", "500", "htmlsubmit"])
@pytest.mark.parametrize(("policy", "state"), [("hold", State.EXPIRED), ("fail", State.FAILED)])
async def test_lost_synchronous_answer_is_not_resent(database_url: str, words: str, policy: str, state: State) -> None:
    async with two(database_url) as (world, comet):
        task = await tags(world, f"[{words}] folk", on_uncertain=policy)
        await world.work()
        if policy == "hold":
            said = (await world.client.get(f"/v1/tasks/{task.id}")).json()
            assert said["state"] == "unconfirmed"
            for honest in ("may be running and paid for", "not submitted again", "no way to look it up"):
                assert honest in said["explanation"]
        await world.until(FAMILIES["suno"].operations["style_tags"].deadline + 60)
        assert (await world.task(task)).state is state
        assert await history(world, task) == [("elkapi", "uncertain")]
        assert (world.sandbox.ledger.paid(), comet.ledger.paid()) == (1, 0)


async def test_resubmit_once_repeats_a_synchronous_operation(database_url: str) -> None:
    async with two(database_url) as (world, comet):
        world.sandbox.faults = Faults.named(["cut"])
        task = await tags(world, on_uncertain="resubmit_once")
        await world.until(30)
        assert (await world.task(task)).state is State.SUCCEEDED
        assert await history(world, task) == [("elkapi", "uncertain"), ("cometapi", "taken")]
        assert (world.sandbox.ledger.paid(), comet.ledger.paid()) == (1, 1)


async def test_unsent_synchronous_operation_fails_over(database_url: str) -> None:
    async with two(database_url) as (world, comet):
        world.edge.down.add("sandbox.test")
        task = await tags(world)
        await world.until(60)
        assert (await world.task(task)).state is State.SUCCEEDED
        assert await history(world, task) == [*[("elkapi", "unavailable")] * 3, ("cometapi", "taken")]
        assert (world.sandbox.ledger.paid(), comet.ledger.paid()) == (0, 1)


@pytest.mark.parametrize(("words", "tries"), [("429=2", 2), ("503=2", 2), ("nocredit", 1)])
async def test_account_refusal_of_a_synchronous_operation_fails_over(database_url: str, words: str, tries: int) -> None:
    async with two(database_url) as (world, comet):
        world.sandbox.faults = Faults.named([words])
        task = await tags(world)
        await world.until(60)
        assert (await world.task(task)).state is State.SUCCEEDED
        assert len(await history(world, task)) == tries + 1
        assert world.sandbox.ledger.paid() + comet.ledger.paid() == 1


async def test_input_refusal_of_a_synchronous_operation_is_final(database_url: str) -> None:
    async with two(database_url) as (world, comet):
        task = await tags(world, "[refuse] folk")
        await world.until(60)
        assert (await world.task(task)).state is State.FAILED
        assert (world.sandbox.ledger.paid(), comet.ledger.paid()) == (0, 0)


async def test_synchronous_lease_covers_ten_minutes(database_url: str) -> None:
    async with two(database_url) as (world, _):
        task = await tags(world)
        pool = TaskPool(1)
        world.edge.hosts["sandbox.test"] = _RecordsTimeouts(world)
        await submission_run.run_due(world.context, pool)
        await pool.finish()
        [(read_timeout, lease)] = world.edge.hosts["sandbox.test"].seen
        assert read_timeout == 600
        assert lease == dt.timedelta(seconds=CONNECT_TIMEOUT + WRITE_TIMEOUT + 600 + SUBMIT_LEASE_MARGIN)
        assert (await world.task(task)).state is State.UNCONFIRMED


class _RecordsTimeouts:
    """A host that records the read time-out of a request, and breaks the connection."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[tuple[float, dt.timedelta]] = []

    async def handle_async_request(self, request: Any) -> Any:
        [listed] = (await self.world.client.get("/v1/tasks")).json()["tasks"]
        due = dt.datetime.fromisoformat(listed["next_check_at"])
        self.seen.append((request.extensions["timeout"]["read"], due - self.world.clock()))
        raise httpx.ReadTimeout("too long", request=request)


async def test_free_operation_is_repeated_after_any_failure(database_url: str) -> None:
    """A file of a clip costs nothing, at any answer."""
    async with two(database_url) as (world, _):
        made = await song(world)
        sandbox, breaks = world.edge.hosts["sandbox.test"], _LosesAnswers(2)
        breaks.inner = sandbox
        world.edge.hosts["sandbox.test"] = breaks
        task = await world.submit(**{**TAGS, "operation": "wav", "input": {}}, parent_id=str(made.id))
        await world.until(60)
        assert (await world.task(task)).state is State.SUCCEEDED
        assert await history(world, task) == [*[("elkapi", "unavailable")] * 2, ("elkapi", "taken")]


class _LosesAnswers:
    """A host whose first answers are lost."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.inner: Any = None

    async def handle_async_request(self, request: Any) -> Any:
        if self.times:
            self.times -= 1
            raise httpx.ReadTimeout("too long", request=request)
        return await self.inner.handle_async_request(request)


@pytest.mark.parametrize("name", DIALECTS)
def test_answer_timeout_depends_on_the_operation(name: str) -> None:
    dialect = DIALECTS[name]
    for operation in dialect.facts.operations:
        at_once = operation in dialect.facts.synchronous and operation not in dialect.facts.free
        assert dialect.facts.read_timeout(operation) == (600 if at_once else dialect.facts.submit_timeout)
    assert dialect.facts.free <= dialect.facts.synchronous
