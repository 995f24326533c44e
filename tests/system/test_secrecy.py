"""Marked prompts, keys and tokens go through success and every failure. No mark appears in the log or in answers."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import StatementError

from service.app import application, metrics_application
from service.domain.api_key import write_key
from service.flows import render
from service.flows.webhooks import payload
from service.logs import SafeFormatter, log_to_standard_error
from service.providers.registry import DIALECTS
from service.sandbox.faults import FAULTS
from service.store import api_keys, tables
from service.store import tasks as task_store
from service.web.api import ENDPOINTS
from service.web.api import tasks as tasks_module
from tests.support.clients import BOB, a_key
from tests.support.operators import listen, reported
from tests.support.serving import served
from tests.support.values import a_task
from tests.support.waiting import LIMIT
from tests.support.world import INSTALLATION_SECRET, JOB_SECONDS, WEBHOOK_SECRET, Hasty, World

PROVIDER_KEY, CALLBACK_SECRET = "sandbox-key", "callback-secret-of-the-tests"
"""The secrets that every world has."""
API_KEY = "canary-api-key-77e0-long-enough"
DATABASE_KEY = write_key(b"cana", b"canary-database-key-".ljust(32, b"y"))
INPUT = {"prompt": "canary-prompt-e2f5", "negative_prompt": "canary-negative-09b3"}
OPTION, LABEL, HOOK = "canary-option-5d7c", "canary-label-f3a8", "canary-hook-61d2"
OF_THE_TASK = (*INPUT.values(), OPTION, LABEL)
OF_THE_INSTALLATION = (PROVIDER_KEY, API_KEY, DATABASE_KEY, WEBHOOK_SECRET, INSTALLATION_SECRET, CALLBACK_SECRET)

SLOW_IN_FACT = {"slow", "hang", "feed_shape"}
"""Faults that take real time, and one that needs a value: their failures are those of others."""
LIBRARIES = ("sqlalchemy", "aiosqlite", "httpx", "httpcore", "aiohttp", "asyncio", "apscheduler", "alembic", "asyncpg")


class Heard(logging.Handler):
    """Records every log record as the server writes it, and its parts as any other handler may read them."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(SafeFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {self.format(record)} {record.args!r}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def log() -> Iterator[Heard]:
    """Record everything that is logged at the level `debug`."""
    heard, root = Heard(), logging.getLogger()
    names = ["", "dovecote", "uvicorn", *LIBRARIES]
    levels = {name: logging.getLogger(name).level for name in names}
    log_to_standard_error("debug")
    root.addHandler(heard)
    yield heard
    root.removeHandler(heard)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
async def marked(database_url: str, log: Heard) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={API_KEY},bob={BOB}", "DOVECOTE_LOG_LEVEL": "debug"}
    async with World.opened(database_url, **settings) as world:
        assert world.context.upstreams["elkapi"].settings.key.get_secret_value() == PROVIDER_KEY
        async with world.context.database.writing() as connection:
            await api_keys.add(connection, a_key(DATABASE_KEY, client="alice"))
        yield world


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def submit(world: World, words: str = "", *, key: str = API_KEY, **more: Any) -> httpx.Response:
    document = {
        "family": "runway",
        "operation": "text_to_video",
        "input": {"prompt": f"{words} {INPUT['prompt']}"},
        "options": {"style": OPTION},
        "labels": {"project": LABEL},
        "callback_url": f"http://receiver.test/{HOOK}",
        **more,
    }
    return await world.client.post("/v1/tasks", json=document, headers=bearer(key))


async def imagine(world: World, words: str = "") -> httpx.Response:
    """Submit a task with a negative prompt."""
    given = {**INPUT, "prompt": f"{words} {INPUT['prompt']}"}
    return await submit(world, family="midjourney", operation="imagine", input=given)


async def tokens(world: World) -> list[str]:
    async with world.context.database.reading() as connection:
        ids = (await connection.execute(select(tables.submissions.c.id))).scalars().all()
    return [world.context.tokens.make(each) for each in ids]


async def assert_nothing_told(world: World, log: Heard, *, by: int = 1) -> None:
    """Check that the log has the expected events and none of the marked words."""
    assert len(log.lines) >= by, log.text
    for canary in (*OF_THE_TASK, *OF_THE_INSTALLATION, HOOK, DATABASE_KEY.rpartition("_")[2], *await tokens(world)):
        assert canary not in log.text, canary


async def everything_for(world: World, key: str, ids: list[str]) -> str:
    """Request every route with every id, and return all response texts."""
    said = []
    hasty = Hasty(world.client._transport.app)  # type: ignore[attr-defined]
    async with httpx.AsyncClient(transport=hasty, base_url="http://localhost") as client:
        for endpoint in ENDPOINTS:
            for each in ids if "{id}" in endpoint.path else ids[:1]:
                path = endpoint.path.replace("{id}", each)
                answer = await client.request(endpoint.method, path, headers=bearer(key), json={})
                said.append(f"{answer.headers} {answer.text}")
    doors = ("/healthz", "/readyz", "/docs", "/openapi.json", "/metrics", "/")
    said += [(await world.client.get(path)).text for path in doors]
    return "\n".join(said)


@pytest.mark.long
async def test_log_contains_no_secret_after_success_or_fault(marked: World, log: Heard) -> None:
    for fault in sorted(FAULTS.keys() - SLOW_IN_FACT):
        assert (await submit(marked, f"[{fault}]")).status_code == 202
        assert (await imagine(marked, f"[{fault}]")).status_code == 202
    assert (await submit(marked, key=DATABASE_KEY)).status_code == 202
    marked.edge.down.add("receiver.test")
    await marked.until(JOB_SECONDS * 3)
    marked.edge.down.clear()
    await marked.until(600)
    tasks = (await marked.client.get("/v1/tasks?limit=100", headers=bearer(API_KEY))).json()["tasks"]
    assert len({task["state"] for task in tasks}) >= 3
    for task in tasks:
        for path in ("cancel", "refresh", "input"):
            await marked.client.post(f"/v1/tasks/{task['id']}/{path}", json={}, headers=bearer(API_KEY))
    await assert_nothing_told(marked, log, by=5)
    # The client sees its own data and no secret of the installation. Other clients see nothing.
    ids = [task["id"] for task in tasks]
    own = await everything_for(marked, API_KEY, ids)
    assert all(canary in own for canary in OF_THE_TASK)
    of_nobody = (PROVIDER_KEY, DATABASE_KEY, WEBHOOK_SECRET, CALLBACK_SECRET, API_KEY, *await tokens(marked))
    assert [canary for canary in of_nobody if canary in own] == []
    foreign = await everything_for(marked, BOB, ids)
    assert [canary for canary in (*OF_THE_TASK, HOOK, *of_nobody) if canary in foreign] == []


ECHOES: dict[str, Callable[[str], httpx.Response]] = {
    "an account problem": lambda said: httpx.Response(401, json={"code": 401, "message": said}),
    "no credit": lambda said: httpx.Response(403, json={"error": {"code": "insufficient_quota", "message": said}}),
    "a refusal": lambda said: httpx.Response(400, json={"code": 400, "msg": said}),
    "saturated": lambda said: httpx.Response(429, text=said),
    "an error": lambda said: httpx.Response(500, text=said),
    "a page": lambda said: httpx.Response(200, html=f"<html>{said}</html>"),
    "words of its own": lambda said: httpx.Response(200, json={"code": 200, "data": {"task_id": "7"}, "extra": said}),
    "another shape": lambda said: httpx.Response(200, json={"data": [said], "task_id": {"x": said}, "status": [said]}),
    "a number that is none": lambda said: httpx.Response(
        200, json={"code": 200, "data": {"task_id": "7", "progress": said}}
    ),
}


@pytest.mark.parametrize("echo", ECHOES)
async def test_log_contains_no_secret_after_an_echo(marked: World, log: Heard, echo: str) -> None:
    class Echo(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            said = f"{request.url} {dict(request.headers)} {(await request.aread()).decode()}"
            answer = ECHOES[echo](said)
            answer.request = request
            return answer

    marked.edge.hosts["sandbox.test"] = Echo()
    made = [(await each(marked)).json()["id"] for each in (submit, imagine)]
    await marked.until(JOB_SECONDS * 4)
    for task_id in made:
        await marked.client.post(f"/v1/tasks/{task_id}/refresh", headers=bearer(API_KEY))
    await assert_nothing_told(marked, log, by=0)
    own = await everything_for(marked, API_KEY, made)
    assert [canary for canary in (PROVIDER_KEY, CALLBACK_SECRET, *await tokens(marked)) if canary in own] == []


def _broken_by(*said: str) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError(f"could not convert {' '.join(said)!r}")

    return broken


async def test_internal_error_is_logged_without_values(
    marked: World, log: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await submit(marked, "[drop]")).json()
    await marked.work()
    [submission] = await marked.submissions(await marked.task(UUID(made["id"])))
    token = marked.context.tokens.make(submission.id)
    dialect, everything = type(DIALECTS["runway/aggregator"]), (*OF_THE_TASK, *OF_THE_INSTALLATION, token)
    with monkeypatch.context() as broken:
        for method in ("hear", "polled", "submit", "poll"):
            if hasattr(dialect, method):
                broken.setattr(dialect, method, _broken_by(*everything))
        await marked.client.post(f"/callbacks/{token}", json={"task_id": INPUT["prompt"], "status": token})
        await submit(marked)
        await marked.until(JOB_SECONDS * 3)
    with monkeypatch.context() as broken:
        broken.setattr(tasks_module, "show_task", _broken_by(*everything))
        answer = await marked.client.get("/v1/tasks", headers=bearer(API_KEY))
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        broken.setattr(payload, "show_task_briefly", _broken_by(*everything))
        broken.setattr(render, "explain", _broken_by(*everything))
        await marked.until(JOB_SECONDS * 3)
    with monkeypatch.context() as broken:
        broken.setattr(task_store, "row_of", _broken_by(*everything))
        assert (await submit(marked)).status_code == 500
        broken.setattr(marked.context.database, "reading", _broken_by(*everything))
        foreign = await everything_for(marked, BOB, [made["id"]])
    assert [canary for canary in everything if canary in foreign] == []
    assert "ValueError" in log.text
    assert "show_task" in log.text
    await assert_nothing_told(marked, log, by=5)


async def test_web_server_logs_no_secret(marked: World, log: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server logs an exception again, and the event loop and the sockets have loggers of their own."""
    asyncio.get_running_loop().set_debug(True)
    made = (await submit(marked, "[drop]")).json()
    await marked.work()
    [token] = await tokens(marked)
    monkeypatch.setattr(tasks_module, "show_task", _broken_by(*OF_THE_TASK, API_KEY, token))
    async with (
        served(application(marked.context)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        assert (await client.get(f"/v1/tasks/{made['id']}", headers=bearer(API_KEY))).status_code == 500
        assert (await client.post(f"/callbacks/{token}", content=INPUT["prompt"])).status_code == 200
        assert (await client.get(f"/v1/tasks?label=project={LABEL}&{API_KEY}={token}")).status_code == 401
        for raw in (
            f"GET /{token} NONSENSE\r\nAuthorization: {API_KEY}\r\n\r\n",
            f"GET / HTTP/1.1\r\n{API_KEY}\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw.encode())
            assert b" 400 " in await asyncio.wait_for(reader.readline(), LIMIT)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    asyncio.get_running_loop().set_debug(False)
    assert "request failed status=500" in log.text
    assert "Invalid HTTP request" in log.text
    await assert_nothing_told(marked, log)


async def test_database_error_is_logged_without_the_row(marked: World, log: Heard) -> None:
    """A plain formatter is checked as well, because an operator may send exceptions to another service."""
    broken = a_task(input=dict(INPUT), options={"style": OPTION}, labels={"project": LABEL}, progress=101)
    for refused in await refusals(marked, broken):
        told = logging.Formatter().formatException((type(refused), refused, refused.__traceback__))
        assert "Traceback" in told
        assert [canary for canary in (*OF_THE_TASK, HOOK) if canary in told] == [], told
        logging.getLogger("dovecote").error("refused", exc_info=refused)
    await assert_nothing_told(marked, log, by=3)


async def refusals(world: World, broken: Any) -> list[BaseException]:
    """Cause three refusals of the database: of a row by a constraint, of a value by its type, and of a statement."""

    async def by_rule() -> None:
        await world.context.writers.requests.batch(task_store.accept, broken)

    async def by_type() -> None:
        async with world.context.database.writing() as connection:
            value: Any = {INPUT["prompt"]} if world.context.database.sqlite else INPUT["prompt"]
            await connection.execute(update(tables.tasks).values(progress=value))

    async def by_a_mistake_of_ours() -> None:
        async with world.context.database.writing() as connection:
            await connection.execute(tables.tasks.insert(), {"id": uuid4(), "input": {"prompt": {INPUT["prompt"]}}})

    found: list[BaseException] = []
    attempts: tuple[Callable[[], Awaitable[None]], ...] = (by_rule, by_type, by_a_mistake_of_ours)
    for attempt in attempts:
        with pytest.raises(StatementError) as raised:
            await attempt()
        found.append(raised.value)
    return found


async def test_metrics_and_messages_to_operators_have_no_secret(marked: World, log: Heard) -> None:
    await listen(marked, client="alice")
    for fault in sorted(FAULTS.keys() - SLOW_IN_FACT):
        assert (await submit(marked, f"[{fault}]")).status_code == 202
    marked.edge.down.add("receiver.test")
    await marked.until(JOB_SECONDS * 3)
    marked.edge.down.add("sandbox.test")
    for _ in range(6):
        await submit(marked)
        await marked.pass_time(6, step=3)
    told = [orjson.dumps(each).decode() for each in await reported(marked)]
    assert any("operator.circuit_open" in each for each in told)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(metrics_application(marked.context)), base_url="http://localhost"
    ) as client:
        told.append((await client.get("/metrics")).text)
    for canary in (*OF_THE_TASK, *OF_THE_INSTALLATION, HOOK, *await tokens(marked)):
        assert canary not in "\n".join(told), canary
    await assert_nothing_told(marked, log)


def test_libraries_log_warnings_only(log: Heard) -> None:
    """Their other records contain statements with rows, and addresses with tokens."""
    for name in (*LIBRARIES, "uvicorn", "uvicorn.error"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO), name
    assert logging.getLogger("dovecote").isEnabledFor(logging.DEBUG)


def test_traceback_contains_types_and_places_only() -> None:
    def first() -> None:
        raise KeyError(INPUT["prompt"])

    def second() -> None:
        try:
            first()
        except KeyError as error:
            raise SimpleError(INPUT["prompt"]) from error

    try:
        try:
            second()
        except SimpleError as error:
            raise ExceptionGroup(INPUT["prompt"], [error, ValueError(INPUT["prompt"])]) from None
    except ExceptionGroup as group:
        told = SafeFormatter().formatException((type(group), group, group.__traceback__))
    lines = told.splitlines()
    assert INPUT["prompt"] not in told
    assert "in first" in told
    assert [lines.index(each) for each in ("KeyError", "and then:", f"{__name__}.SimpleError")] == sorted(
        lines.index(each) for each in ("KeyError", "and then:", f"{__name__}.SimpleError")
    )
    assert lines.count("one of several:") == 2
    assert lines[-1] == "ValueError"
    assert SafeFormatter().formatException((None, None, None)) == ""


class SimpleError(Exception):
    pass
