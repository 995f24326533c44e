"""The journey of an erasure: what stays, what is told, and what the provider is asked."""

from typing import Any

import httpx
import pytest
from sqlalchemy import select

from service.domain.task import State, Task
from service.flows.retention import erase
from service.store import tables
from tests.support.retention import DAY, LONG, WORDS, accounts, count, dump, ended, endpoint, erased, labelled
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World


async def test_erased_task_keeps_state_times_ids_and_money(world: World, api: httpx.AsyncClient) -> None:
    task = await ended(world, WORDS)
    before = await accounts(world)
    await erased(api, task)
    found = await world.task(task)
    for name in (
        "state",
        "upstream",
        "external_id",
        "created_at",
        "finished_at",
        "cost",
        "decided_by",
        "family",
        "client",
    ):
        assert getattr(found, name) == getattr(task, name), name
    assert (dict(found.input), dict(found.options), dict(found.labels), found.results) == ({}, {}, {}, ())
    assert found.erased_at == world.clock()
    assert await accounts(world) == before
    shown = (await api.get(f"/v1/tasks/{task.id}")).json()
    assert "erased" in shown["explanation"]
    assert shown["erased_at"] is not None


async def test_erasure_is_in_the_history_the_feed_and_a_webhook(world: World, api: httpx.AsyncClient) -> None:
    await endpoint(api)
    task = await ended(world, WORDS, callback_url=None)
    await erased(api, task)
    history = (await api.get(f"/v1/tasks/{task.id}/events")).json()["events"]
    assert [each["type"] for each in history][-1] == "erased"
    assert history[-1]["data"].keys() == {"erased_at"}
    assert all(each["data"] == {} for each in history[:-1] if each["type"] != "settled")
    feed = (await api.get("/v1/events")).json()["events"]
    assert [each["type"] for each in feed][-1] == "task.erased"
    assert [each["sequence"] for each in feed] == sorted(each["sequence"] for each in feed)
    assert all(each["data"]["results"] == [] and each["data"]["input"] == {} for each in feed)
    assert [message.type for message in await world.messages(task)][-1] == "task.erased"


async def test_erasing_twice_is_erasing_once(world: World, api: httpx.AsyncClient) -> None:
    task = await ended(world, WORDS)
    first, second = await erased(api, task), await erased(api, task)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["id"] == second.json()["id"]
    await world.until(LONG)
    third = (await erased(api, task)).json()
    assert (third["state"], third["tasks"], third["complete"]) == ("complete", 1, 1)
    assert [event.type for event in await world.events(task)].count("erased") == 1
    assert (await api.get(f"/v1/erasures/{third['id']}")).json() == third


async def test_open_task_is_erased_when_it_has_ended(world: World, api: httpx.AsyncClient) -> None:
    task = await world.submit(WORDS)
    await world.work()
    answer = await erased(api, task)
    assert (answer.status_code, answer.json()["open"]) == (202, 1)
    assert (await api.get(answer.url.join(answer.headers["Location"]))).json()["state"] == "pending"
    assert (await world.task(task)).input
    await world.until(JOB_SECONDS * 4)
    await world.until(LONG)
    found = await world.task(task)
    assert (found.state, dict(found.input), found.results) == (State.SUCCEEDED, {}, ())
    assert (await api.get(answer.url.join(answer.headers["Location"]))).json()["state"] == "complete"
    assert "Zebrafink" not in await dump(world)


async def test_open_task_is_cancelled_where_that_is_asked_for(world: World, api: httpx.AsyncClient) -> None:
    queued = await world.submit(WORDS)
    answer = await erased(api, queued, "?cancel=true")
    assert (answer.status_code, answer.json()["erased"]) == (200, 1)
    assert (await world.task(queued)).state is State.CANCELLED
    running = await world.submit(WORDS)
    await world.work()
    assert (await erased(api, running)).status_code == 202
    assert (await erased(api, running, "?cancel=true")).status_code == 200  # asked for later
    assert (await world.task(running)).state is State.CANCELLED
    assert "Zebrafink" not in await dump(world)


async def test_pending_message_is_discarded_and_none_is_replayed(world: World, api: httpx.AsyncClient) -> None:
    world.edge.down.add("receiver.test")
    task = await ended(world, WORDS)
    [pending] = await world.messages(task)
    assert pending.state == "pending"
    await erased(api, task)
    [message] = [each for each in await world.messages(task) if each.type != "task.erased"]
    assert (message.state, message.body, message.url) == ("discarded", "{}", "")
    assert (await api.post(f"/v1/messages/{message.id}/replay")).status_code == 409
    assert (await api.get(f"/v1/messages/{message.id}")).json()["body"] == {}
    assert (await api.post("/v1/messages/replay", json={})).json()["replayed"] == 0


async def test_repeated_request_with_the_key_of_an_erased_task_buys_nothing(
    world: World, api: httpx.AsyncClient
) -> None:
    headers = {"Idempotency-Key": "mine"}
    made = (await api.post("/v1/tasks", json=TASK_REQUEST, headers=headers)).json()["id"]
    await world.until(JOB_SECONDS * 4)
    await api.delete(f"/v1/tasks/{made}")
    again = await api.post("/v1/tasks", json=TASK_REQUEST, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, made)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await count(world, tables.submissions) == 1


async def test_erased_task_cannot_be_continued(world: World, api: httpx.AsyncClient) -> None:
    request = {"family": "midjourney", "operation": "imagine", "input": {"prompt": WORDS}}
    parent = (await api.post("/v1/tasks", json=request)).json()["id"]
    await world.until(JOB_SECONDS * 4)
    await api.delete(f"/v1/tasks/{parent}")
    follow = {"family": "midjourney", "operation": "action", "input": {"action": "x"}, "parent_id": parent}
    answer = await api.post("/v1/tasks", json=follow)
    assert answer.status_code == 422
    assert "erased" in answer.json()["detail"]


# ── by labels ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_many_tasks_are_noted_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "PAGE", 2)
    for number in range(5):
        await labelled(world, "default", user="42", number=str(number))
    await world.until(JOB_SECONDS * 4)
    await erase.request_labelled(world.context, {"user": "42"}, "default", with_cancel=False)
    assert await count(world, tables.erasures) == 5
    await world.until(LONG)
    assert await count(world, tables.tasks, tables.tasks.c.erased_at.is_not(None)) == 5


@pytest.mark.parametrize(
    "body",
    [{}, {"labels": {}}, {"labels": {"user": 7}}, {"labels": {"user": "1"}, "more": 1}, {"labels": {"a b": "1"}}, []],
)
async def test_request_without_usable_labels_is_rejected(api: httpx.AsyncClient, body: Any) -> None:
    assert (await api.post("/v1/erasures", json=body)).status_code == 422


async def test_client_erases_only_its_own_tasks(database_url: str) -> None:
    keys = {name: f"{name}-key-that-is-long-enough" for name in ("alice", "bob")}
    async with World.opened(database_url, DOVECOTE_API_KEYS=",".join(f"{a}={b}" for a, b in keys.items())) as world:
        task = await labelled(world, "alice", user="42")
        await world.until(JOB_SECONDS * 4)
        bob = {"Authorization": f"Bearer {keys['bob']}"}
        assert (await world.client.delete(f"/v1/tasks/{task.id}", headers=bob)).status_code == 404
        named = await world.client.post("/v1/erasures", json={"labels": {"user": "42"}, "client": "alice"}, headers=bob)
        assert named.status_code == 403
        own = await world.client.post("/v1/erasures", json={"labels": {"user": "42"}}, headers=bob)
        assert (own.status_code, own.json()["tasks"]) == (200, 0)
        alice = {"Authorization": f"Bearer {keys['alice']}"}
        made = await world.client.delete(f"/v1/tasks/{task.id}", headers=alice)
        assert made.status_code == 200
        assert (await world.client.get(f"/v1/erasures/{made.json()['id']}", headers=bob)).status_code == 404


# ── at the provider ────────────────────────────────────────────────────────────────────────────────────────────


async def official(world: World) -> Task:
    task = await ended(world, WORDS, upstream="runwayml")
    await world.until(JOB_SECONDS * 20)
    return await world.task(task)


def deletions(world: World) -> list[str]:
    return [each.url.path for each in world.edge.requests if each.method == "DELETE"]


RUNWAY = {"RUNWAYML_API_SECRET": "sandbox-key", "DOVECOTE_UPSTREAMS__RUNWAYML__BASE_URL": "http://sandbox.test"}


async def test_provider_is_asked_to_delete_the_job(database_url: str) -> None:
    async with World.opened(database_url, **RUNWAY) as world:
        task = await official(world)
        assert task.state is State.SUCCEEDED, task
        assert task.external_id is not None
        answer = await world.client.delete(f"/v1/tasks/{task.id}")
        assert answer.json()["deleted_at_provider"] == 1
        assert deletions(world) == [f"/v1/tasks/{task.external_id}"]
        await world.until(LONG)
        assert len(deletions(world)) == 1


async def test_provider_that_is_away_is_asked_again_and_the_database_is_erased_at_once(database_url: str) -> None:
    async with World.opened(database_url, **RUNWAY) as world:
        task = await official(world)
        world.edge.down.add("sandbox.test")
        answer = await world.client.delete(f"/v1/tasks/{task.id}")
        assert (answer.json()["erased"], answer.json()["deleted_at_provider"]) == (1, 0)
        await world.until(LONG)
        world.edge.down.clear()
        await world.until(4 * 3600)
        found = (await world.client.get(f"/v1/erasures/{task.id}")).json()
        assert (found["deleted_at_provider"], found["state"]) == (1, "complete")


async def test_provider_that_never_answers_is_given_up_and_that_is_told(database_url: str) -> None:
    async with World.opened(database_url, **RUNWAY) as world:
        task = await official(world)
        world.edge.down.add("sandbox.test")
        await world.client.delete(f"/v1/tasks/{task.id}")
        await world.until(3 * DAY)
        found = (await world.client.get(f"/v1/erasures/{task.id}")).json()
        assert (found["failed_at_provider"], found["state"]) == (1, "complete")


async def test_gateway_without_a_deletion_is_not_asked(world: World, api: httpx.AsyncClient) -> None:
    task = await ended(world, WORDS)
    answer = (await erased(api, task)).json()
    assert (answer["deleted_at_provider"], answer["failed_at_provider"]) == (0, 0)
    assert deletions(world) == []
    async with world.context.database.reading() as connection:
        assert await connection.scalar(select(tables.erasures.c.provider)) == "not_possible"


async def test_killed_worker_loses_no_erasure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = await ended(world, WORDS)

    async def killed(*_: Any) -> Any:
        raise RuntimeError("killed")

    with monkeypatch.context() as broken:
        broken.setattr(erase, "_advance_erasure", killed)
        await erase.request_one(world.context, task, with_cancel=False)
    assert (await world.task(task)).erased_at is None
    await world.until(LONG)
    assert (await world.task(task)).erased_at is not None
