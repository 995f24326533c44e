"""The events of a whole account: signed, matched to tasks by the job's id, and never more than a reason to poll."""

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from service.domain.task import Source, State, Task
from tests.support.world import World

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
OPENAI = {
    "OPENAI_API_KEY": "sk-official-key",
    "DOVECOTE_UPSTREAMS__OPENAI__BASE_URL": "http://openai.test",
    "DOVECOTE_UPSTREAMS__OPENAI__CALLBACK_KEY": SECRET,
    "DOVECOTE_UPSTREAMS__OPENAI__TYPICAL_SECONDS": "3000",
}
PATH = "/callbacks/accounts/openai"


def response(status: str) -> dict[str, Any]:
    text = {"type": "message", "content": [{"type": "output_text", "text": "Red, green, blue."}]}
    return {"id": "resp_1", "object": "response", "status": status, "output": [text] if status == "completed" else []}


@contextlib.asynccontextmanager
async def submitted(url: str) -> AsyncIterator[tuple[World, Task]]:
    """Open a world with OpenAI and a response in the background, which ends at once and is not polled for long."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(said[request.method]).encode()))

    said = {"POST": response("queued"), "GET": response("completed")}
    async with World.opened(url, **OPENAI) as world:
        world.edge.hosts["openai.test"] = httpx.MockTransport(answer)
        given = {"prompt": "Name three colours."}
        task = await world.submit(
            family="openai", operation="response", input=given, route=["openai"], callback_url=None
        )
        await world.work()
        assert (await world.task(task)).state is State.SUBMITTED
        yield world, task


def signed(
    world: World, about: str = "resp_1", *, kind: str = "response.completed", secret: str = SECRET
) -> dict[str, Any]:
    body = json.dumps({"id": "evt_1", "object": "event", "type": kind, "data": {"id": about}}).encode()
    at = str(int(world.clock.seconds()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, b"wh_1." + at.encode() + b"." + body, hashlib.sha256)).decode()
    headers = {"webhook-id": "wh_1", "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}
    return {"content": body, "headers": headers}


def statements(world: World) -> list[str]:
    seen: list[str] = []
    for engine in {world.context.database.writer, world.context.database.reader}:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *heard: seen.append(heard[2]))
    return seen


async def test_event_makes_the_poll_of_its_job_due_at_once(database_url: str) -> None:
    async with submitted(database_url) as (world, task):
        answer = await world.client.post(PATH, **signed(world))
        assert answer.status_code == 200
        assert (await world.task(task)).due_at == world.clock()
        await world.work()
        after = await world.task(task)
        assert (after.state, after.outcome_source) == (State.SUCCEEDED, Source.POLL)
        assert [result.text for result in after.results] == ["Red, green, blue."]
        assert (await world.client.post(PATH, **signed(world))).status_code == 200, "a copy changes nothing"
        assert await world.task(task) == after


@pytest.mark.parametrize(
    ("about", "kind"),
    [("resp_2", "response.completed"), ("batch_1", "batch.completed"), ("resp_1", "agent.session.failed")],
    ids=["job of nobody", "another object", "unknown type"],
)
async def test_event_about_no_task_is_acknowledged_and_changes_nothing(
    database_url: str, about: str, kind: str
) -> None:
    async with submitted(database_url) as (world, task):
        before = await world.task(task)
        assert (await world.client.post(PATH, **signed(world, about, kind=kind))).status_code == 200
        assert await world.task(task) == before


async def test_event_that_is_not_signed_is_refused_without_a_query(database_url: str) -> None:
    async with submitted(database_url) as (world, _):
        forged = signed(world, secret="whsec_" + base64.b64encode(b"another secret!!").decode())
        changed = {**signed(world), "content": signed(world, "resp_2")["content"]}
        unsigned = {"content": signed(world)["content"]}
        stale = signed(world)
        asked = statements(world)
        for request in (forged, changed, unsigned):
            answer = await world.client.post(PATH, **request)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        world.clock.forward(301)
        assert (await world.client.post(PATH, **stale)).status_code == 401
        assert asked == []


async def test_upstream_without_account_events_is_404_without_a_query(database_url: str) -> None:
    async with submitted(database_url) as (world, _):
        asked = statements(world)
        for name in ("elkapi", "nobody", "%00", "openai%2F.."):
            answer = await world.client.post(f"/callbacks/accounts/{name}", **signed(world))
            assert answer.status_code == 404
        assert asked == []
