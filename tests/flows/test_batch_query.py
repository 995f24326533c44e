"""A failed batch query hides no task: one task is polled singly at first, and then all of them for a while."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from service.domain.task import State, Task
from service.flows.polling import SINGLY_FOR
from service.providers.capabilities import CanPollMany
from service.providers.registry import DIALECTS
from service.sandbox import Faults, InProcessTransport
from tests.support.world import JOB_SECONDS, World

LIST, FETCH = "batch query", "single poll"
DRAWING: dict[str, Any] = {"family": "midjourney", "operation": "imagine", "callback_url": None}
SONG: dict[str, Any] = {"family": "suno", "operation": "music", "callback_url": None}
JSON = {"content-type": "application/json"}

Answer = Callable[[httpx.Request], httpx.Response]


def status(code: int, body: bytes = b'{"error":{"message":"no"}}', headers: Mapping[str, str] = JSON) -> Answer:
    return lambda request: httpx.Response(code, headers=headers, stream=httpx.ByteStream(body), request=request)


def silent(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("no answer", request=request)


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


FAILURES: dict[str, Answer] = {
    "400": status(400),
    "401": status(401),
    "402": status(402),
    "403": status(403),
    "404": status(404),
    "405": status(405, b"", {}),
    "429": status(429),
    "500": status(500),
    "502 page": status(502, b"<html>Bad Gateway</html>", {"content-type": "text/html"}),
    "503": status(503),
    "504": status(504),
    "200 page": status(200, b"<html>login</html>", {"content-type": "text/html"}),
    "200 of another shape": status(200, b'{"code": 1, "description": "ok"}'),
    "200 with a text": status(200, b'"nothing"'),
    "no answer": silent,
    "no connection": unreachable,
}


class Gateway(httpx.AsyncBaseTransport):
    """The sandbox with replaced answers to some paths."""

    def __init__(self, world: World) -> None:
        self._inner = InProcessTransport(world.sandbox.app)
        self.replaced: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        kind = _kind(request)
        if kind is not None:
            self.asked[kind] += 1
            if kind in self.replaced:
                return self.replaced[kind](request)
        return await self._inner.handle_async_request(request)


def _kind(request: httpx.Request) -> str | None:
    """Return whether a request queries many jobs or one."""
    path = request.url.path
    if path in {"/mj/task/list-by-condition", "/suno/fetch"}:
        return LIST
    is_single = request.method == "GET" and (path.endswith("/fetch") or path.startswith("/suno/fetch/"))
    return FETCH if is_single else None


async def two_tasks(world: World, request: Mapping[str, Any] = DRAWING, **fields: Any) -> tuple[Gateway, list[Task]]:
    """Submit two tasks whose provider sends no callback."""
    world.context.monotonic = world.clock.seconds
    gateway = world.edge.hosts["sandbox.test"] = Gateway(world)
    tasks = [await world.submit(input={"prompt": f"[drop] dove {n}"}, **request, **fields) for n in range(2)]
    await world.work()
    return gateway, tasks


async def states(world: World, tasks: list[Task]) -> set[State]:
    return {(await world.task(task)).state for task in tasks}


@pytest.fixture
async def world(sqlite_url: str) -> Any:
    async with World.opened(sqlite_url) as opened:
        yield opened


@pytest.mark.parametrize(
    ("request_fields", "failure"),
    [
        *((DRAWING, failure) for failure in FAILURES),
        *((SONG, failure) for failure in ("400", "403", "503", "no answer", "200 page")),
    ],
    ids=lambda value: value if isinstance(value, str) else value["family"],
)
async def test_failed_batch_query_is_replaced_by_single_polls(
    world: World, request_fields: Mapping[str, Any], failure: str
) -> None:
    gateway, tasks = await two_tasks(world, request_fields)
    gateway.replaced[LIST] = FAILURES[failure]
    await world.until(JOB_SECONDS * 12)
    assert await states(world, tasks) == {State.SUCCEEDED}
    # A 404 means that no such job is known. Each is then polled singly.
    assert gateway.asked[LIST] == 1 or failure == "404"
    assert gateway.asked[FETCH] >= 2


async def test_batch_query_is_tried_again_later(world: World) -> None:
    gateway, tasks = await two_tasks(world)
    gateway.replaced[LIST] = status(503)
    world.sandbox.faults = Faults.named(["stuck"])
    slow = [await world.submit(input={"prompt": f"[drop][stuck] {n}"}, **DRAWING) for n in range(2)]
    await world.until(SINGLY_FOR)
    assert (await states(world, tasks), gateway.asked[LIST]) == ({State.SUCCEEDED}, 1)
    del gateway.replaced[LIST]
    single = gateway.asked[FETCH]
    await world.until(SINGLY_FOR)
    assert gateway.asked[LIST] > 1
    assert gateway.asked[FETCH] - single <= len(slow)


@pytest.mark.parametrize("failure", ["503", "no answer", "402"])
async def test_upstream_that_answers_nothing_is_not_asked_about_every_task(world: World, failure: str) -> None:
    gateway, tasks = await two_tasks(world)
    gateway.replaced = {LIST: FAILURES[failure], FETCH: FAILURES[failure]}
    await world.until(JOB_SECONDS * 4)
    assert State.SUCCEEDED not in await states(world, tasks)
    assert gateway.asked[FETCH] == gateway.asked[LIST] > 0
    gateway.replaced.clear()
    await world.until(JOB_SECONDS * 12)
    assert await states(world, tasks) == {State.SUCCEEDED}


def stale(request: httpx.Request) -> httpx.Response:
    """Answer that every job is still running."""
    ids = json.loads(request.content)["ids"]
    records = [{"id": job, "status": "IN_PROGRESS", "progress": "30%", "action": "IMAGINE"} for job in ids]
    return status(200, json.dumps(records).encode())(request)


@pytest.mark.parametrize("batch", ["stale", "503"])
async def test_task_is_asked_about_singly_before_it_expires(world: World, batch: str) -> None:
    """Single polls work at the last moment only."""
    gateway, tasks = await two_tasks(world, deadline=120)
    gateway.replaced = {LIST: stale if batch == "stale" else status(503), FETCH: status(503)}
    world.clock.forward(60)
    await world.work()
    del gateway.replaced[FETCH]
    world.clock.forward(61)
    await world.work()
    await world.until(60)
    assert await states(world, tasks) == {State.SUCCEEDED}


async def test_single_polls_keep_the_rate_of_the_upstream(sqlite_url: str) -> None:
    limit = {"DOVECOTE_UPSTREAMS__ELKAPI__POLLS_PER_SECOND": "1"}
    async with World.opened(sqlite_url, **limit) as world:
        gateway, _ = await two_tasks(world)
        world.clock.forward(30)
        gateway.replaced[LIST] = status(503)
        asked: list[int] = []
        for _ in range(4):
            before = sum(gateway.asked.values())
            await world.work()
            asked.append(sum(gateway.asked.values()) - before)
            world.clock.forward(0.5)
        assert asked[0] <= 3
        assert all(count <= 1 for count in asked[1:])


def test_every_dialect_with_a_batch_query_is_known() -> None:
    """A new dialect with a batch query must be added here, and played above if the sandbox supports its query."""
    assert {name for name, dialect in DIALECTS.items() if isinstance(dialect, CanPollMany)} == {
        "kling/official-v2",
        "midjourney/proxy",
        "seedance/modelark",
        "seedance/ark",
        "suno/newapi",
    }
