"""The inbox: callbacks that were not understood come first, and can be processed again."""

from collections.abc import AsyncIterator, Sequence

import pytest

from service.domain.task import State, Task, Update
from service.providers.runway.gateway import Aggregator
from service.providers.wire import Callback
from service.store import inbox
from service.store.inbox import Filter
from tests.support.clients import ALICE, BOB, submit_as_alice
from tests.support.pages import OPERATOR, inline_code, visitor
from tests.support.world import World


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with World.opened(database_url, **settings) as world:
        yield world


async def call_back(world: World, task: Task, body: bytes) -> None:
    """Send a callback as the provider would."""
    [submission] = await world.submissions(task)
    answer = await world.client.post(f"/callbacks/{world.context.tokens.make(submission.id)}", content=body)
    assert answer.status_code == 200
    await world.work()


async def decisions(world: World) -> Sequence[str | None]:
    async with world.context.database.reading() as connection:
        return [each.received.decision for each in await inbox.page(connection, Filter(), most=100)]


async def test_callback_that_an_older_version_could_not_read_is_applied_after_a_rerun(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await world.submit("[drop] a dove")
    await world.work()
    with monkeypatch.context() as older:

        def cannot(_: object, __: Callback) -> list[Update]:
            raise ValueError("a word of a newer protocol")

        older.setattr(Aggregator, "read_callback", cannot)
        await call_back(world, task, b'{"id":"%b","status":"SUCCEEDED","output":["https://cdn.example/a.mp4"]}' % b"x")
        for _ in range(20):
            world.clock.forward(3600 / 60)
            await world.work()
    assert "parked" in await decisions(world) or (await world.task(task)).state.ended
    async with visitor(world) as someone:
        page = await someone.get("/ui/callbacks")
        assert "Not understood" in page.text
        assert inline_code(page) == []
        done = await someone.post("/ui/callbacks/rerun", all="not_understood")
    assert done.status == 200
    await world.work()
    assert "parked" not in await decisions(world)


async def test_unreadable_callback_is_shown_first_with_its_body(world: World) -> None:
    task = await world.submit("[stuck] a dove")
    await world.work()
    await call_back(world, task, b"<html><script>alert(1)</script>502</html>")
    async with visitor(world) as someone:
        page = await someone.get("/ui/callbacks")
        filtered = await someone.get("/ui/callbacks?decision=applied")
        own = await someone.get(f"/ui/tasks/{task.id}")
    assert page.text.index("Not understood") < page.text.index("502") < page.text.rindex("Received")
    assert "<script>alert" not in page.response.text
    assert inline_code(page) == inline_code(own) == []
    assert "Not understood" not in filtered.text
    assert "502" in own.text


async def test_rerun_of_an_applied_callback_changes_nothing(world: World) -> None:
    task = await world.submit("a dove")
    await world.pass_time(15)
    before = await world.task(task)
    async with world.context.database.reading() as connection:
        entries = await inbox.page(connection, Filter(decisions=("applied",)), most=9)
    for entry in entries:
        answer = await world.client.post(f"/v1/callbacks/{entry.id}/rerun")
        assert answer.status_code == 202
        assert answer.json()["decision"] is None
    await world.work()
    assert await world.task(task) == before
    assert before.state is State.SUCCEEDED
    assert None not in await decisions(world)


async def test_callbacks_of_another_client_are_neither_shown_nor_run(keyed: World) -> None:
    await submit_as_alice(keyed, "a dove")
    await keyed.pass_time(15)
    async with keyed.context.database.reading() as connection:
        [entry, *_] = await inbox.page(connection, Filter(), most=9)
    task_id = entry.submission.task_id if entry.submission else None
    as_bob = {"Authorization": f"Bearer {BOB}"}
    client = keyed.client
    assert (await client.get("/v1/callbacks", headers=as_bob)).status_code == 422
    assert (await client.get(f"/v1/callbacks?task={task_id}", headers=as_bob)).json()["callbacks"] == []
    assert (await client.get(f"/v1/callbacks/{entry.id}", headers=as_bob)).status_code == 404
    assert (await client.post(f"/v1/callbacks/{entry.id}/rerun", headers=as_bob)).status_code == 404
    async with visitor(keyed, BOB) as bob:
        assert (await bob.get("/ui/callbacks")).status == 403
        assert (await bob.post("/ui/callbacks/rerun", callback=str(entry.id))).status == 422
    as_alice = {"Authorization": f"Bearer {ALICE}"}
    assert len((await client.get(f"/v1/callbacks?task={task_id}", headers=as_alice)).json()["callbacks"]) > 0
    assert None not in await decisions(keyed)


async def test_rerun_by_decision_is_for_operators(keyed: World) -> None:
    document = {"decision": ["unreadable"]}
    for key, status in ((ALICE, 403), (OPERATOR, 202)):
        answer = await keyed.client.post(
            "/v1/callbacks/rerun", json=document, headers={"Authorization": f"Bearer {key}"}
        )
        assert answer.status_code == status
    wrong = await keyed.client.post(
        "/v1/callbacks/rerun", json={"decision": ["nothing"]}, headers={"Authorization": f"Bearer {OPERATOR}"}
    )
    assert wrong.status_code == 422
