"""Callbacks of providers: each request with a valid token is stored and answered, with any body, and no other."""

import asyncio
import string
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select

from service.domain.callback_token import Tokens
from service.domain.task import Source, State, Task
from service.flows.callbacks import process
from service.flows.concurrency import TaskPool
from service.flows.submission import run as submission_run
from service.store import tables
from service.store.callbacks import Received
from service.web.api import ENDPOINTS
from tests.support.contract import CONTRACT
from tests.support.provider_callbacks import callback_body, submitted_task
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World

TOKENS = Tokens("a secret")
MEBIBYTE = 1024 * 1024


async def kept(world: World) -> int:
    async with world.context.database.reading() as connection:
        return await connection.scalar(select(func.count()).select_from(tables.callbacks)) or 0


async def decided(world: World, task: Task) -> Received:
    """Process the one callback that was stored."""
    await process.run_due(world.context)
    [received] = await world.callbacks(task)
    assert received.due_at is None
    return received


# ── whose it is ────────────────────────────────────────────────────────────────────────────────────────────────────


def statements(world: World) -> list[str]:
    seen: list[str] = []
    for engine in {world.context.database.writer, world.context.database.reader}:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *heard: seen.append(heard[2]))
    return seen


async def test_forged_token_is_404_without_a_query(world: World) -> None:
    _, path = await submitted_task(world)
    asked = statements(world)
    other = Tokens("another secret").make(uuid4())
    swapped = path[:-1] + ("A" if path[-1] != "A" else "B")
    forgeries = [swapped, path[:-1], f"{path}A", f"{path}=", path.swapcase(), f"/callbacks/{other}", "/callbacks/x"]
    for forgery in [*forgeries, "/callbacks/%00", "/callbacks/%F0%9F%95%8A", f"/callbacks/{'A' * 43}", f"{path}%0A"]:
        answer = await world.client.post(forgery, content=b"{}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert asked == []
    assert (await world.client.post(path, content=b"{}")).status_code == 200
    assert asked != []


@given(st.uuids(), st.integers(0, 42), st.sampled_from(string.ascii_letters + string.digits + "-_+/= \n"))
def test_changed_token_is_rejected(submission: object, place: int, other: str) -> None:
    token = TOKENS.make(submission)  # type: ignore[arg-type]
    assert TOKENS.read(token) == submission
    changed = token[:place] + other + token[place + 1 :]
    assert TOKENS.read(changed) == (submission if changed == token else None)


@given(st.text() | st.text(string.ascii_letters + string.digits + "-_", min_size=43, max_size=43))
def test_arbitrary_text_is_not_a_token(text: str) -> None:
    assert TOKENS.read(text) is None


async def test_callback_of_an_unknown_submission_is_unmatched(world: World) -> None:
    submission = uuid4()
    answer = await world.client.post(f"/callbacks/{world.context.tokens.make(submission)}", content=b"{}")
    assert answer.status_code == 200
    await process.run_due(world.context)
    async with world.context.database.reading() as connection:
        [row] = (await connection.execute(select(tables.callbacks))).all()
    assert (row.submission_id, row.decision, row.due_at) == (submission, "unmatched", None)


async def test_callback_route_needs_no_key(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_API_KEYS="alice=a-key-that-is-long-enough") as world:
        _, path = await submitted_task(world)
        assert (await world.client.get(path)).status_code == 405
        assert (await world.client.post(path, content=b"{}", headers={"Host": "any.example"})).status_code == 200


# ── when it comes, and how often ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"challenge": "b32b3a4c-5d1e"}, {"challenge": "b32b3a4c-5d1e"}),
        ({"challenge": 'é"<script>', "event": "check"}, {"challenge": 'é"<script>'}),
        ({"challenge": "x" * 1025}, None),
        ({"challenge": 7}, None),
        ({"challenge": ""}, None),
        ({"challenge": "x", "task_id": "1", "status": "success"}, None),
        (["challenge"], None),
    ],
    ids=["challenge", "any-text", "too-long", "no-text", "empty", "about-a-task", "list"],
)
async def test_challenge_is_answered_with_itself_and_not_stored(world: World, body: object, answer: object) -> None:
    _, path = await submitted_task(world)
    before = await kept(world)
    said = await world.client.post(path, json=body)
    assert (said.status_code, said.json()) == (200, answer or {"received": True})
    assert await kept(world) - before == (0 if answer else 1)
    forged = await world.client.post(path[:-1] + ("A" if path[-1] != "A" else "B"), json=body)
    assert forged.status_code == 404


async def test_callback_before_the_submit_answer_is_applied(world: World) -> None:
    taken, go_on = asyncio.Event(), asyncio.Event()
    sandbox = world.edge.hosts["sandbox.test"]

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await sandbox.handle_async_request(request)
            taken.set()
            await go_on.wait()
            return response

    world.edge.hosts["sandbox.test"] = Slow()
    task = await world.submit("[early][seconds=0] a dove")
    pool = TaskPool(1)
    await submission_run.run_due(world.context, pool)
    await taken.wait()
    assert (await world.task(task)).external_id is None
    while await process.run_due(world.context):
        pass
    ended = await world.task(task)
    assert (ended.state, ended.outcome_source) == (State.SUCCEEDED, Source.CALLBACK)
    assert ended.external_id == world.sandbox.ledger.jobs[0].id
    go_on.set()
    await pool.finish()
    assert await world.task(task) == ended
    assert [each.outcome for each in await world.submissions(task)] == ["taken"]
    await world.work()
    assert [received.state for received in world.receiver.received] == ["succeeded"]
    assert world.sandbox.ledger.paid() == 1


async def test_thousand_equal_callbacks_make_one_row(world: World) -> None:
    task, path = await submitted_task(world)
    body = callback_body(task)
    for _ in range(10):  # all at once, the last of them would wait for its commit longer than it may
        answers = await asyncio.gather(*(world.client.post(path, content=body) for _ in range(100)))
        assert {answer.status_code for answer in answers} == {200}
    received = await decided(world, task)
    assert (received.copies, received.decision) == (1000, "applied")
    assert [each.type for each in await world.events(task)] == ["accepted", "submitting", "submitted", "succeeded"]
    assert (await world.client.post(path, content=body)).status_code == 200
    again = await decided(world, task)
    assert (again.copies, again.decision, again.decided_at) == (1001, "applied", received.decided_at)
    assert len(await world.messages(task)) == 1


@pytest.mark.parametrize(
    ("statuses", "decisions"),
    [("13", ["applied", "applied"]), ("31", ["applied", "stale"]), ("32", ["applied", "late"])],
)
async def test_callback_row_keeps_its_decision(world: World, statuses: str, decisions: list[str]) -> None:
    task, path = await submitted_task(world)
    for status in statuses:
        world.clock.forward(1)
        await world.client.post(path, content=callback_body(task, status))
        await process.run_due(world.context)
    assert [received.decision for received in await world.callbacks(task)] == decisions
    assert (await world.task(task)).state is State.SUCCEEDED


async def test_hastening_callback_is_not_applied(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS="confirm") as world:
        task, path = await submitted_task(world)
        await world.client.post(path, content=callback_body(task))
        assert (await decided(world, task)).decision == "hastened"
        assert (await world.task(task)).state is State.SUBMITTED
        await world.work()
        assert (await world.task(task)).state is State.SUBMITTED  # the poll has newer information
        world.clock.forward(JOB_SECONDS)
        await world.client.post(path, content=callback_body(task) + b" ")
        await world.work()
        ended = await world.task(task)
        assert (ended.state, ended.outcome_source) == (State.SUCCEEDED, Source.POLL)


# ── what it is ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield bytes(1024)
    yield bytes(size % 1024)


async def test_callback_body_is_limited_to_one_mebibyte(world: World) -> None:
    _, path = await submitted_task(world)
    for size, status in ((MEBIBYTE, 200), (MEBIBYTE + 1, 413)):
        told = await world.client.post(path, content=bytes(size))
        untold = await world.client.post(path, content=pieces(size))
        assert (told.status_code, untold.status_code) == (status, status)
        if status == 413:
            assert {told.json()["code"], untold.json()["code"]} == {"too_large"}
            assert told.headers["connection"] == "close"
    assert await kept(world) == 1  # both whole ones are the same


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"task_id": "7", "status": ',
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"<html><body>502 Bad Gateway</body></html>",
        b"\x00\x01\x02",
        b'{"task_id":"\\u0000","status":"\\u0000"}',
        '{"task_id": "grüß dich"'.encode("latin-1"),
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"task_id": 1e999, "status": 1e999}',
        b'{"task_id":"\\ud800","status":"\\udfff","video_url":"\\ud800"}',
    ],
    ids=range(16),
)
async def test_unreadable_callback_is_stored_and_acknowledged(world: World, body: bytes) -> None:
    task, path = await submitted_task(world)
    answer = await world.client.post(path, content=body)
    assert (answer.status_code, answer.json()) == (200, {"received": True})
    received = await decided(world, task)
    assert received.body == body
    assert received.decision in {"unreadable", "ignored", "hastened"}
    after = await world.task(task)
    assert (after.state, after.external_id) == (State.SUBMITTED, task.external_id)


async def test_only_harmless_headers_are_stored(world: World) -> None:
    task, path = await submitted_task(world)
    headers = {
        "Content-Type": "text/plain; grüß".encode("latin-1"),
        "User-Agent": b"x" * 60_000,
        "Webhook-Id": b"msg_1",
        "Authorization": b"Bearer hunter2",
        "Cookie": b"session=hunter2",
        "X-Forwarded-For": b"10.0.0.1",
    }
    answer = await world.client.post(path, content=b"{", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 200
    received = await decided(world, task)
    assert set(received.headers) == {"content-type", "user-agent", "webhook-id"}
    assert received.headers["content-type"] == "text/plain; grüß"
    assert "hunter2" not in str(received)


async def test_token_in_the_body_is_not_stored(world: World) -> None:
    task, path = await submitted_task(world)
    token = path.rpartition("/")[2]
    body = orjson.dumps({**orjson.loads(callback_body(task)), "callback_url": f"http://dovecote.test{path}"})
    await world.client.post(path, content=body)
    received = await decided(world, task)
    assert token.encode() not in received.body
    assert received.decision == "applied"


# ── when we cannot keep it ─────────────────────────────────────────────────────────────────────────────────────────


async def test_callback_without_database_is_503_with_retry_after() -> None:
    async with World.opened("postgresql://nobody@127.0.0.1:1/nothing") as world:
        path = f"/callbacks/{world.context.tokens.make(uuid4())}"
        answer = await world.client.post(path, content=b"{}")
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "5")
        assert (await world.client.post("/callbacks/forged", content=b"{}")).status_code == 404
        assert (await world.client.post(path, content=bytes(MEBIBYTE + 1))).status_code == 413
        assert (await world.client.get("/healthz")).status_code == 200
        ready = await world.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")


BODIES = {("POST", "/v1/endpoints"): {"url": "http://client.test/"}, ("POST", "/v1/messages/replay"): {}}
"""The accepted requests that are no callback of a task."""


async def test_api_without_database_is_503_with_retry_after() -> None:
    async with World.opened("postgresql://nobody@127.0.0.1:1/nothing") as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        for endpoint in ENDPOINTS:
            if endpoint.tag == "Catalogue":  # what could be asked for is known all the same
                continue
            body = BODIES.get((endpoint.method, endpoint.path), TASK_REQUEST)
            answer = await world.client.request(endpoint.method, endpoint.path.replace("{id}", str(uuid4())), json=body)
            assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
                503,
                "unavailable",
                "5",
            )
            assert "nobody" not in answer.text
