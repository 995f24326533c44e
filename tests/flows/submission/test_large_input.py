"""A large input is stored apart from its task, and only the submit reads it."""

from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import event

from service.store import tasks as task_store
from service.store.database import StoreUnavailable
from tests.support.world import JOB_SECONDS, World

PICTURE = "data:image/png;base64," + "QUJD" * 30_000
REQUEST = {
    "family": "runway",
    "operation": "image_to_video",
    "input": {"prompt": "[drop] a dove", "image": PICTURE},
    "options": {"reference": PICTURE},
}


def statements_of(world: World) -> list[str]:
    """Collect the statements that read or write large inputs from now on. Their sizes may be read."""
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "large_inputs" in statement and not statement.startswith("SELECT large_inputs.size"):
            seen.append(statement.split(maxsplit=1)[0])

    for engine in {world.context.database.reader, world.context.database.writer}:
        event.listen(engine.sync_engine, "before_cursor_execute", note)
    return seen


def purchases(world: World) -> list[httpx.Request]:
    return [request for request in world.edge.requests if request.url.path.endswith("/generate")]


async def test_whole_input_is_sent_and_only_the_submit_reads_it(world: World, api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks", json=REQUEST)
    assert answer.status_code == 202
    task_id = answer.json()["id"]
    statements = statements_of(world)
    await world.until(JOB_SECONDS * 3)
    assert statements == ["SELECT"]
    [purchase] = purchases(world)
    assert purchase.content.count(PICTURE.encode()) == 2
    for path in ("/v1/tasks", f"/v1/tasks/{task_id}/events", "/v1/events?after=0", "/v1/messages"):
        assert PICTURE.encode()[:200] not in (await api.get(path)).content
    assert statements == ["SELECT"]
    assert (await api.get(f"/v1/tasks/{task_id}")).json()["state"] == "succeeded"


async def test_large_task_is_shortened_where_it_is_listed_and_whole_where_it_is_read(
    world: World, api: httpx.AsyncClient
) -> None:
    accepted = (await api.post("/v1/tasks", json=REQUEST)).json()
    [listed] = (await api.get("/v1/tasks")).json()["tasks"]
    for shown in (accepted, listed):
        assert shown["truncated"] is True
        assert shown["input"]["prompt"] == "[drop] a dove"
        assert len(orjson.dumps(shown)) < 5_000
    whole = (await api.get(f"/v1/tasks/{accepted['id']}")).json()
    assert (whole["input"], whole["options"]) == (REQUEST["input"], REQUEST["options"])
    assert "truncated" not in whole


async def test_small_task_is_stored_whole(world: World, api: httpx.AsyncClient) -> None:
    statements = statements_of(world)
    small = {**REQUEST, "input": {"prompt": "a dove", "image": "https://example.com/a.png"}, "options": {}}
    accepted = (await api.post("/v1/tasks", json=small)).json()
    assert accepted["input"] == small["input"]
    assert "truncated" not in accepted
    await world.until(JOB_SECONDS * 3)
    assert statements == []


async def test_input_that_cannot_be_read_is_not_sent_and_tried_again(
    world: World, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = (await api.post("/v1/tasks", json=REQUEST)).json()["id"]
    whole, failures = task_store.with_whole_input, [StoreUnavailable("away")] * 2

    async def failing(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return await whole(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(task_store, "with_whole_input", failing)
        await world.until(JOB_SECONDS * 4)
    assert len(purchases(world)) == 1
    assert (await api.get(f"/v1/tasks/{task_id}")).json()["state"] == "succeeded"


async def test_same_large_request_with_the_same_key_returns_the_same_task(world: World, api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order 7"}
    first = await api.post("/v1/tasks", json=REQUEST, headers=key)
    again = await api.post("/v1/tasks", json=REQUEST, headers=key)
    assert again.json()["id"] == first.json()["id"]
    other = {**REQUEST, "options": {"reference": PICTURE[:-4]}}
    assert (await api.post("/v1/tasks", json=other, headers=key)).json()["code"] == "idempotency_key_reused"
