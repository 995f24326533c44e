"""A job that was bought elsewhere is followed to its end, by one task of one client, and is never bought again."""

import asyncio
import dataclasses
import datetime as dt
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service.domain.task import Source, State
from service.domain.validation import Invalid
from service.flows.money.ledger import summarize
from service.flows.statistics import update_statistics
from service.flows.submission.accept import KeyReused, accept
from service.flows.submission.adoption import JobTaken
from service.providers.registry import DIALECTS
from service.store import ledger, tables
from tests.support import operations
from tests.support.world import JOB_SECONDS, RECEIVER_URL, World

BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
ELSEWHERE = "http://elsewhere.test/done"


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """Return SQLite's URL, unless the test is marked to run on both databases."""
    url: str = request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_url")
    return url


async def buy(world: World, prompt: str = "a dove", dialect: str = "runway/aggregator") -> str:
    """Buy a job at the sandbox without Dovecote, and return its id."""
    spoken = DIALECTS[dialect]
    task = operations.task(dialect, "runway text_to_video")
    task = dataclasses.replace(task, input={**task.input, "prompt": prompt, "model": "gen4_turbo"})
    call = spoken.create(task, ELSEWHERE)
    async with httpx.AsyncClient(transport=world.edge, base_url="http://sandbox.test") as client:
        headers = {**call.headers, "Authorization": "Bearer sandbox-key"}
        response = await client.post(call.path, json=call.json, headers=headers)
    return str(world.sandbox.ledger.jobs[-1].id) if response.is_success else ""


def adoption(external_id: str, **more: Any) -> dict[str, Any]:
    document = {
        "family": "runway",
        "operation": "text_to_video",
        "upstream": "elkapi",
        "external_id": external_id,
        "callback_url": RECEIVER_URL,
        **more,
    }
    return {name: value for name, value in document.items() if value is not None}


async def adopt(world: World, external_id: str, *, client: str = "default", key: str | None = None, **more: Any) -> Any:
    return await accept(world.context, adoption(external_id, **more), client=client, idempotency_key=key)


@BOTH
async def test_adopted_job_is_followed_to_its_end_and_bought_once(world: World) -> None:
    job = await buy(world)
    task = (await adopt(world, job)).task
    assert (task.state, task.external_id, task.upstream) == (State.SUBMITTED, job, "elkapi")
    await world.pass_time(JOB_SECONDS * 3)
    ended = await world.task(task)
    assert (ended.state, ended.outcome_source) == (State.SUCCEEDED, Source.POLL)
    assert [event.type for event in await world.events(task)][:1] == ["adopted"]
    assert [each.outcome for each in await world.submissions(task)] == ["taken"]
    assert [(each.state, each.verified) for each in world.receiver.received] == [("succeeded", True)]
    assert world.sandbox.ledger.paid() == 1


async def test_job_that_has_ended_already_is_adopted_with_its_result(world: World) -> None:
    job = await buy(world)
    world.clock.forward(JOB_SECONDS * 2)
    task = (await adopt(world, job)).task
    await world.work()
    assert (await world.task(task)).state is State.SUCCEEDED


@pytest.mark.parametrize(("words", "code"), [("[fail]", "provider_error"), ("[moderate]", "content_policy")])
async def test_failed_job_fails_its_task_and_nothing_is_bought_in_its_place(
    world: World, words: str, code: str
) -> None:
    task = (await adopt(world, await buy(world, f"{words} a dove"))).task
    await world.pass_time(JOB_SECONDS * 3)
    ended = await world.task(task)
    assert (ended.state, ended.failure and ended.failure.code) == (State.FAILED, code)
    assert world.sandbox.ledger.paid() == 1


async def test_unknown_job_fails_as_not_found_and_nothing_is_bought(world: World) -> None:
    task = (await adopt(world, "no-such-job")).task
    await world.until(1800)
    ended = await world.task(task)
    assert (ended.state, ended.failure and ended.failure.code) == (State.FAILED, "not_found")
    assert world.sandbox.ledger.jobs == []


async def test_task_says_that_its_job_was_bought_elsewhere(world: World) -> None:
    job = await buy(world)
    task = (await adopt(world, job)).task
    shown = (await world.client.get(f"/v1/tasks/{task.id}")).json()
    assert shown["adopted"] is True
    assert shown["explanation"].startswith("elkapi has not been asked about it yet; ")
    assert shown["explanation"].endswith("; its job was bought elsewhere, and Dovecote never submits it.")
    await world.pass_time(JOB_SECONDS * 3)
    shown = (await world.client.get(f"/v1/tasks/{task.id}")).json()
    assert shown["explanation"].startswith("Succeeded at elkapi; ")
    assert shown["explanation"].endswith("; its job was bought elsewhere, and Dovecote never submits it.")


# ── callbacks ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Elsewhere:
    """Receives the provider's callbacks for the purchase, as the buyer's own server does."""

    def __init__(self, world: World) -> None:
        self.bodies: list[bytes] = []
        app = Starlette(routes=[Route("/done", self._receive, methods=["POST"])])
        world.edge.hosts["elsewhere.test"] = httpx.ASGITransport(app)

    async def _receive(self, request: Request) -> PlainTextResponse:
        self.bodies.append(await request.body())
        return PlainTextResponse("")


async def test_forwarded_callback_ends_an_adopted_task(world: World) -> None:
    elsewhere, job = Elsewhere(world), await buy(world)
    response = await world.client.post("/v1/tasks", json=adoption(job))
    assert response.status_code == 202
    where = response.json()["forward_callbacks_to"].removeprefix("http://dovecote.test")
    world.clock.forward(JOB_SECONDS * 2)
    await world.sandbox.deliver_due()
    for body in elsewhere.bodies:
        assert (await world.client.post(where, content=body)).is_success
    task_id = response.json()["id"]
    async with world.context.database.writing() as connection:  # no poll comes before the callback
        await connection.execute(update(tables.tasks).values(due_at=world.clock() + dt.timedelta(hours=1)))
    await world.work()
    shown = (await world.client.get(f"/v1/tasks/{task_id}")).json()
    assert (shown["state"], shown["outcome_source"]) == ("succeeded", "callback")
    assert "forward_callbacks_to" not in shown


async def test_forwarded_callback_about_another_job_changes_nothing(world: World) -> None:
    elsewhere, job = Elsewhere(world), await buy(world, "[seconds=1000] a dove")
    response = await world.client.post("/v1/tasks", json=adoption(job))
    where = response.json()["forward_callbacks_to"].removeprefix("http://dovecote.test")
    await buy(world, "another dove")
    world.clock.forward(JOB_SECONDS * 2)
    await world.sandbox.deliver_due()
    for body in elsewhere.bodies:
        assert (await world.client.post(where, content=body)).is_success
    await world.work()
    assert (await world.client.get(f"/v1/tasks/{response.json()['id']}")).json()["state"] in {"submitted", "running"}


async def test_url_for_forwarding_is_shown_for_adopted_tasks_only(world: World) -> None:
    own, adopted = await world.submit(), (await adopt(world, await buy(world))).task
    shown = [(await world.client.get(f"/v1/tasks/{task.id}")).json() for task in (own, adopted)]
    assert ["forward_callbacks_to" in each for each in shown] == [False, True]
    listed = (await world.client.get("/v1/tasks")).text
    assert "/callbacks/" not in listed


# ── one task for a job ─────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_same_job_of_the_same_client_is_the_same_task(world: World) -> None:
    job = await buy(world)
    first, second = await adopt(world, job), await adopt(world, job, labels={"again": "yes"})
    assert (first.new, second.new, second.task.id) == (True, False, first.task.id)
    response = await world.client.post("/v1/tasks", json=adoption(job), headers={"Idempotency-Key": "mine"})
    assert (response.status_code, response.json()["id"]) == (202, str(first.task.id))
    assert response.headers["Idempotency-Replayed"] == "true"


@BOTH
async def test_job_that_is_adopted_twice_at_once_has_one_task(world: World) -> None:
    job = await buy(world)
    found = await asyncio.gather(*(adopt(world, job) for _ in range(5)))
    assert len({each.task.id for each in found}) == 1
    assert [each.new for each in found].count(True) == 1


@BOTH
async def test_job_of_another_client_is_a_conflict(world: World) -> None:
    job = await buy(world)
    await adopt(world, job, client="ada")
    with pytest.raises(JobTaken):
        await adopt(world, job, client="bob")
    response = await world.client.post("/v1/tasks", json=adoption(job))
    assert (response.status_code, response.json()["code"]) == (409, "job_taken")


async def test_job_that_dovecote_bought_is_not_adopted_a_second_time(world: World) -> None:
    own = await world.submit_as("ada", "[seconds=1000] a dove")
    await world.work()
    job = (await world.task(own)).external_id
    assert job is not None
    again = await adopt(world, job, client="ada")
    assert (again.new, again.task.id, again.task.adopted) == (False, own.id, False)
    with pytest.raises(JobTaken):
        await adopt(world, job, client="bob")


async def test_idempotency_key_belongs_to_one_adoption(world: World) -> None:
    first, second = await buy(world), await buy(world)
    task = (await adopt(world, first, key="mine")).task
    assert (await adopt(world, first, key="mine")).task.id == task.id
    with pytest.raises(KeyReused):
        await adopt(world, second, key="mine")


# ── never bought ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_retry_of_an_adopted_task_is_refused_with_the_reason(world: World) -> None:
    task = (await adopt(world, "no-such-job")).task
    for _ in range(2):
        response = await world.client.post(f"/v1/tasks/{task.id}/retry", json={"confirm_double_payment": True})
        assert (response.status_code, response.json()["code"]) == (409, "adopted")
        assert "bought elsewhere" in response.json()["detail"]
        await world.until(1800)
    assert world.sandbox.ledger.jobs == []


@BOTH
@pytest.mark.parametrize("state", ["queued", "submitting", "unconfirmed"])
async def test_database_refuses_to_queue_an_adopted_task(world: World, state: str) -> None:
    task = (await adopt(world, await buy(world))).task
    statement = update(tables.tasks).where(tables.tasks.c.id == task.id).values(state=state)
    with pytest.raises(IntegrityError, match="adopted_is_never_submitted"):
        async with world.context.database.writing() as connection:
            await connection.execute(statement)


async def test_cancelled_adopted_task_is_not_bought_again(world: World) -> None:
    task = (await adopt(world, await buy(world))).task
    response = await world.client.post(f"/v1/tasks/{task.id}/cancel")
    assert response.is_success
    assert (await world.task(task)).state is State.CANCELLED
    await world.pass_time(JOB_SECONDS * 3)
    assert world.sandbox.ledger.paid() == 1


# ── what is known of it ────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_ledger_counts_an_adopted_job_apart_and_without_its_cost(world: World) -> None:
    await adopt(world, await buy(world))
    await world.submit()
    await world.work()
    await world.pass_time(JOB_SECONDS * 3)
    async with world.context.database.reading() as connection:
        _, total = summarize(await ledger.entries(connection, by=["upstream"]))
    assert (total.adopted, total.paid, total.submissions) == (1, 1, 2)
    own = [each.cost for each in await everything(world) if not each.adopted]
    assert sum(total.cost.values()) == pytest.approx(sum(cost or 0.0 for cost in own))


async def everything(world: World) -> list[Any]:
    async with world.context.database.reading() as connection:
        ids = list((await connection.scalars(tables.tasks.select().with_only_columns(tables.tasks.c.id))).all())
    return [await world.task(each) for each in ids]


async def test_adopted_jobs_teach_no_durations(world: World) -> None:
    await adopt(world, await buy(world))
    await world.pass_time(JOB_SECONDS * 3)
    assert await update_statistics(world.context) == 0


# ── mistakes ───────────────────────────────────────────────────────────────────────────────────────────────────────


MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no upstream": ({"upstream": None}, ["upstream"]),
    "upstream not configured": ({"upstream": "acme"}, ["upstream"]),
    "route instead": ({"upstream": None, "route": ["elkapi"]}, ["route", "upstream"]),
    "policy": ({"on_uncertain": "fail"}, ["on_uncertain"]),
    "parent": ({"parent_id": "0199aaaa-0000-7000-8000-000000000000"}, ["parent_id"]),
    "empty id": ({"external_id": ""}, ["external_id"]),
    "spaces around the id": ({"external_id": " job "}, ["external_id"]),
    "line break in the id": ({"external_id": "job\nnext"}, ["external_id"]),
    "number as id": ({"external_id": 7}, ["external_id"]),
    "id that leads to another route": ({"external_id": ".."}, ["external_id"]),
    "id too long": ({"external_id": "j" * 501}, ["external_id"]),
    "dialect that the upstream does not speak": ({"dialect": "runway/official"}, ["dialect"]),
    "dialect without the operation": ({"dialect": "suno/newapi"}, ["dialect"]),
    "operation that the upstream does not have": ({"operation": "video_to_hdr"}, ["upstream"]),
    "synchronous operation": ({"family": "midjourney", "operation": "upload"}, ["operation"]),
    "unknown input": ({"input": {"colour": "red"}}, ["input"]),
}


async def test_every_mistake_in_an_adoption_is_named_and_nothing_is_stored(world: World) -> None:
    found = {}
    for name, (changes, _) in MISTAKES.items():
        with pytest.raises(Invalid) as invalid:
            await accept(world.context, {**adoption("job-1"), **changes}, client="default")
        found[name] = sorted({mistake.path.partition(".")[0] for mistake in invalid.value.mistakes})
    assert found == {name: paths for name, (_, paths) in MISTAKES.items()}
    assert await everything(world) == []


async def test_job_that_is_asked_for_by_its_model_needs_the_model(sqlite_url: str) -> None:
    job = {"family": "fal", "operation": "run", "upstream": "fal", "external_id": "job-1"}
    async with World.opened(sqlite_url, FAL_KEY="a-key-of-fal") as world:
        with pytest.raises(Invalid, match="such as its model") as found:
            await accept(world.context, job, client="default")
        assert [mistake.path for mistake in found.value.mistakes] == ["input"]
        given = {**job, "input": {"model": "fal-ai/flux/dev"}}
        assert (await accept(world.context, given, client="default")).task.adopted


async def test_dialect_without_a_job_is_a_mistake(world: World) -> None:
    with pytest.raises(Invalid) as found:
        await world.submit(dialect="runway/aggregator")
    assert [mistake.path for mistake in found.value.mistakes] == ["dialect"]


async def test_job_is_followed_in_the_named_dialect(world: World) -> None:
    job = await buy(world, dialect="any/elk-task")
    task = (await adopt(world, job, dialect="any/elk-task")).task
    await world.pass_time(JOB_SECONDS * 3)
    ended = await world.task(task)
    assert (ended.dialect, ended.state) == ("any/elk-task", State.SUCCEEDED)
