"""Regression tests of adversarial inputs and faults. Each docstring states the fault."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import json
import re
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from service.domain.changes import CancelRequested
from service.domain.errors import Uncertain
from service.domain.task import Outcome, Result, State, Task, Update
from service.flows import polling
from service.flows.apply import settle_surely
from service.flows.callbacks import process
from service.flows.concurrency import TaskPool
from service.flows.statistics import update_statistics
from service.flows.submission import request as request_module
from service.flows.submission import run as submission_run
from service.http import client as http_client
from service.http.client import Http, build, send
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from service.providers.newapi import errors as newapi_errors
from service.providers.registry import DIALECTS
from service.providers.wire import Reply
from service.settings.load import SettingsError
from service.store import callbacks as callback_store
from service.store import queue
from service.store import submissions as submission_store
from service.store.database import StoreUnavailable
from tests.conftest import run_sql
from tests.support.breakage import ANSWER, HEAD, Server
from tests.support.breakage import answering as answering_at_once
from tests.support.values import NOW, a_callback, a_submission, a_task, keep, opened
from tests.support.waiting import LIMIT
from tests.support.world import World, settings_for

Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]
BUSY = {"error": {"message": "busy"}}


class Provider(httpx.AsyncBaseTransport):
    """An upstream whose creating route sends the test's answer. Its polls find no job."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.bought: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/feed"):
            return unread(httpx.Response(502))
        self.bought.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return unread(await answer(request))


def unread(response: httpx.Response) -> httpx.Response:
    """Return a response whose body has not been read yet, as on a network."""
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


def answering(status: int, document: Any) -> Answer:
    """Return a handler that always sends the same response."""

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=json.dumps(document))

    return answer


TAKEN = answering(200, {"code": 200, "data": {"task_id": "job-7"}})


def meet(world: World, *answers: Answer) -> Provider:
    """Replace the sandbox by another provider."""
    provider = Provider(*answers)
    world.edge.hosts["sandbox.test"] = provider
    return provider


def callback_url(request: httpx.Request) -> str:
    """Return the callback URL of a creating request."""
    found = re.search(rb"http://dovecote\.test/callbacks/[\w-]+", request.content)
    assert found is not None
    return found[0].decode()


async def call_back(world: World, request: httpx.Request, **record: str) -> None:
    """Call back as CometAPI does: POST {callback_url} of /runway/pro/generate."""
    transport = world.edge.hosts["dovecote.test"]
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.post(callback_url(request), json={"task_id": "job-7", **record})
    assert answer.status_code == 200


SUCCEEDED = {"status": "3", "video_url": "https://cdn.example.com/a.mp4"}
RUNNING = {"status": "1"}


# Paid twice, or paid for a cancelled task -------------------------------------------------------------------------


@pytest.mark.parametrize("record", [RUNNING, SUCCEEDED], ids=["running", "succeeded"])
async def test_job_with_a_callback_is_not_resubmitted(world: World, record: dict[str, str]) -> None:
    """The upstream answers 503 although it made the job. Its callback arrives before the next try."""
    provider = meet(world, answering(503, BUSY), TAKEN)
    task = await world.submit()
    pool = TaskPool(10)
    await submission_run.run_due(world.context, pool)
    await pool.finish()
    assert (await world.task(task)).state is State.QUEUED
    await call_back(world, provider.bought[0], **record)
    await process.run_due(world.context)
    await world.pass_time(10)
    assert len(provider.bought) == 1


async def test_cancelled_task_is_not_resubmitted(world: World) -> None:
    """The client cancels while the submit is in flight. The answer is 503."""
    task: Task

    async def cancelled_meanwhile(_: httpx.Request) -> httpx.Response:
        assert (await world.client.post(f"/v1/tasks/{task.id}/cancel")).status_code == 202
        return httpx.Response(503, json=BUSY)

    provider = meet(world, cancelled_meanwhile, TAKEN)
    task = await world.submit()
    await world.work()
    await world.pass_time(10)
    assert len(provider.bought) == 1
    assert (await world.task(task)).state is State.CANCELLED


async def test_cancel_is_executed_when_a_callback_names_the_job(world: World) -> None:
    """The answer 202 announced a cancel for the time when the job's id is known. A callback names the id."""
    provider = meet(world, answering(500, {}))
    task = await world.submit()
    await world.work()
    assert (await world.client.post(f"/v1/tasks/{task.id}/cancel")).status_code == 202
    await call_back(world, provider.bought[0], **RUNNING)
    await world.work()
    assert (await world.task(task)).state is State.CANCELLED


@pytest.mark.parametrize(
    "body",
    [
        b"upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        b"<html><body><h1>503 Service Unavailable</h1></body></html>",
    ],
    ids=["envoy", "html"],
)
def test_503_of_a_proxy_is_uncertain(body: bytes) -> None:
    """Envoy answers 503 when the backend broke off *after* it had received the request."""
    assert isinstance(newapi_errors.refusal_in(Reply(503, {}, body), creating=True), Uncertain)


async def test_failed_task_is_not_submitted(world: World) -> None:
    """64 submits start while the upstream has 20 slots. The others must not wait inside their leases."""
    provider = meet(world, TAKEN)
    slots = world.context.upstreams["elkapi"].slots
    taken = [slots.try_acquire() for _ in range(slots.free)]
    task = await world.submit(deadline=60)
    await world.pass_time(240, step=5)
    told = (await world.task(task)).state
    for _ in taken:
        slots.release()
    await world.pass_time(10)
    assert (told, len(provider.bought)) == (State.EXPIRED, 0)


# A paid job is lost -----------------------------------------------------------------------------------------------


async def test_paid_job_id_survives_an_exhausted_pool(world: World) -> None:
    """All connections are in use for 10 s. The id of a paid job must still be written."""
    task = await world.submit()
    database = world.context.database
    database.writer.pool._timeout = 0.05  # type: ignore[attr-defined]
    async with contextlib.AsyncExitStack() as lent:
        for _ in range(1 if database.sqlite else 20):
            await lent.enter_async_context(database.writer.connect())
        settling = asyncio.create_task(settle_surely(world.context, CancelRequested(task_id=task.id, at=world.clock())))
        await asyncio.sleep(0.2)
    await asyncio.wait_for(settling, LIMIT)


async def test_paid_job_id_survives_a_database_failover(postgresql_url: str, postgresql: Callable[[str], str]) -> None:
    """After a failover a connection may reach a standby, which refuses writes (SQLSTATE 25006)."""
    read_only = "ALTER DATABASE dovecote SET default_transaction_read_only = "
    async with World.opened(postgresql_url) as world:

        async def failing_over(request: httpx.Request) -> httpx.Response:
            await run_sql(postgresql_url, read_only + "on")
            await world.context.database.writer.dispose()
            return await TAKEN(request)

        meet(world, failing_over)
        task = await world.submit()
        pool = TaskPool(10)
        try:
            await submission_run.run_due(world.context, pool)
            await asyncio.sleep(0.2)
        finally:
            await run_sql(postgresql("postgres"), read_only + "off")
        await world.context.database.writer.dispose()
        await pool.finish(within=LIMIT)
        assert (await world.task(task)).external_id == "job-7"


async def test_submit_answer_names_the_job(world: World) -> None:
    """A callback with the vendor's id arrives before the answer with the gateway's id. Polls need the latter."""

    async def overtaken(request: httpx.Request) -> httpx.Response:
        async with httpx.AsyncClient(transport=world.edge.hosts["dovecote.test"]) as client:
            await client.post(callback_url(request), json={"task_id": "vendor-1", **RUNNING})
        await process.run_due(world.context)
        return await TAKEN(request)

    meet(world, overtaken)
    task = await world.submit()
    await world.work()
    assert (await world.task(task)).external_id == "job-7"


# Callbacks that were answered 2xx ---------------------------------------------------------------------------------


async def test_unwritable_callback_does_not_stop_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database refuses one callback of a batch. Only that one may be parked."""
    dialect = DIALECTS["runway/aggregator"]
    hear = dialect.read_callback
    broken = Update(state=State.RUNNING, results=(Result("video", url="https://x/\ud800", role="preview"),))
    monkeypatch.setattr(
        type(dialect), "read_callback", lambda _, callback: [broken] if b"poison" in callback.body else hear(callback)
    )
    provider = meet(world, answering(500, {}))
    tasks = [await world.submit(), await world.submit()]
    await world.work()
    await call_back(world, provider.bought[0], **RUNNING, prompt="poison")
    await call_back(world, provider.bought[1], **SUCCEEDED)
    for _ in range(3):
        with contextlib.suppress(Exception):
            await process.run_due(world.context)
        world.clock.forward(61)
    assert State.SUCCEEDED in {(await world.task(task)).state for task in tasks}


@pytest.mark.parametrize("decision", ["forged", "unreadable", "unmatched", "parked"])
async def test_repeated_callback_is_processed_if_the_first_failed(database_url: str, decision: str) -> None:
    """The first copy was signed too long ago, or with a rotated key. The provider sends the same body again."""
    callback = a_callback()
    async with opened(database_url) as database:
        async with database.writing() as connection:
            await callback_store.receive(connection, [callback])
            settled = {"decision": decision, "detail": None, "decided_at": NOW, "due_at": None, "upstream": None}
            await queue.settle_callbacks(connection, [{"of_row": callback.id, "of_attempt": 0, **settled}])
        async with database.writing() as connection:
            await callback_store.receive(connection, [callback])
        async with database.reading() as connection:
            [kept] = await callback_store.of_submissions(connection, [callback.submission_id])
    assert kept.due_at is not None


# Tasks without an end ---------------------------------------------------------------------------------------------


async def test_task_with_unwritable_updates_ends_at_its_deadline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database refuses the update of a poll. The task must still expire."""
    broken = Update(state=State.RUNNING, results=(Result("video", url="https://x/\ud800", role="preview"),))
    monkeypatch.setattr(type(DIALECTS["runway/aggregator"]), "read_status", lambda *_: broken)
    meet(world, TAKEN)
    task = await world.submit(deadline=30)
    await world.work()
    await world.pass_time(600, step=20)
    assert (await world.task(task)).state is State.EXPIRED


async def test_refusal_with_unstorable_text_is_a_refusal(world: World) -> None:
    """The provider's text contains a lone surrogate or a NUL, which a database cannot store."""
    meet(world, answering(400, {"error": "invalid", "issues": [{"path": ["prompt\ud800"], "message": "is too long"}]}))
    task = await world.submit()
    await world.work()
    assert (await world.task(task)).state is State.FAILED


async def test_key_that_fits_no_header_sends_nothing(database_url: str) -> None:
    """A key with a non-ASCII character cannot be sent, so nothing was bought."""
    with pytest.raises(SettingsError):
        settings_for(database_url, ELKAPI_KEY="sk-sandb\u2026x")
    async with World.opened(database_url) as world:
        upstream = world.context.upstreams["elkapi"].settings
        object.__setattr__(upstream, "key", SecretStr("sk-sandb\u2026x"))
        task = await world.submit()
        await world.work()
        assert world.edge.requests == []
        assert (await world.task(task)).state is State.QUEUED


async def test_tasks_succeed_when_the_batch_query_is_refused(world: World) -> None:
    """One bad id, or a gateway without the route, refuses the batch query. Single polls work."""
    sandbox = world.edge.hosts["sandbox.test"]

    class Refusing(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("list-by-condition"):
                return unread(httpx.Response(400, json={"code": 4, "description": "bad id"}))
            return await sandbox.handle_async_request(request)

    world.edge.hosts["sandbox.test"] = Refusing()
    request: dict[str, Any] = {
        "family": "midjourney",
        "operation": "imagine",
        "input": {"prompt": "[drop] a dove"},
        "deadline": 600,
    }
    tasks = [await world.submit(**request) for _ in range(3)]
    await world.work()
    await world.pass_time(300, step=5)
    assert {(await world.task(task)).state for task in tasks} == {State.SUCCEEDED}


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_upstream_that_stops_reading_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library aiohttp has no write timeout. An upstream that stops reading must not hold a slot without end."""
    monkeypatch.setattr(http_client, "WRITE_TIMEOUT", 0.1)
    monkeypatch.setattr(http_client, "CONNECT_TIMEOUT", 0.1)
    let_go = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await let_go.wait()

    http = Http.real(Guard(Rules(private=True)))
    async with Server.running(deaf) as server:
        picture = b"x" * 30_000_000
        large = build(http.purchases, "POST", server.url, headers={}, content=picture, read_timeout=0.1)
        sending = asyncio.create_task(send(http.purchases, large))
        ended, _ = await asyncio.wait({sending}, timeout=LIMIT)
        let_go.set()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    await http.close()
    assert ended


async def test_hanging_upstream_does_not_stop_others(database_url: str) -> None:
    """64 submits wait for a silent upstream for up to 120 s. Other upstreams must still be used."""
    settings = {"COMETAPI_KEY": "other-key", "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://other.test"}
    async with World.opened(database_url, faults=None, **settings) as world:
        hanging = asyncio.Event()

        async def hang(request: httpx.Request) -> httpx.Response:
            await hanging.wait()
            return await TAKEN(request)

        meet(world, hang)
        world.edge.hosts["other.test"] = well = Provider(TAKEN)
        for _ in range(100):
            await world.submit(upstream="elkapi")
        world.clock.forward(1)
        await world.submit(upstream="cometapi")
        begun = TaskPool(submission_run.MAX_CONCURRENT)
        for _ in range(3):
            await submission_run.run_due(world.context, begun)
            await asyncio.sleep(0.1)
        reached = len(well.bought)
        hanging.set()
        await begun.finish(within=LIMIT)
        assert reached == 1


# Telling the client -----------------------------------------------------------------------------------------------


def test_unusable_webhook_secret_is_refused_at_start() -> None:
    """33 characters match the pattern and are not base64."""
    with pytest.raises(SettingsError):
        settings_for("sqlite:///x.db", DOVECOTE_WEBHOOK_SECRET="whsec_" + "A" * 33)


async def test_error_of_an_accepted_submit_does_not_ask_to_repeat_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit succeeded and its answer was lost: the problem must not claim that nothing was changed."""
    database = world.context.database
    writing = database.writing

    @contextlib.asynccontextmanager
    async def losing_the_answer(**options: Any) -> AsyncIterator[Any]:
        async with writing(**options) as connection:
            yield connection
        raise StoreUnavailable("the connection was reset")

    monkeypatch.setattr(database, "writing", losing_the_answer)
    request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}
    answer = await world.client.post("/v1/tasks", json=request)
    accepted = (await world.client.get("/v1/tasks")).json()["tasks"]
    assert answer.status_code == 503
    assert len(accepted) == 1
    assert "nothing was changed" not in answer.json()["detail"]


async def test_task_cancelled_in_time_has_no_submission(world: World) -> None:
    """The task is cancelled between claim and begin. No submission row may remain `sending`."""
    task = await world.submit()
    now = world.clock()
    [claimed] = await world.context.writers.journeys.run(queue.claim_tasks, "submit", now=now, until=now, most=1)
    assert (await world.client.post(f"/v1/tasks/{task.id}/cancel")).status_code == 200
    planned = submission_run.Round([claimed], 0)
    await submission_run._begin(world.context, planned)
    assert planned.handovers == []
    assert await world.submissions(task) == []


# Secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_echoed_key_or_token_is_not_stored(world: World, caplog: pytest.LogCaptureFixture, status: int) -> None:
    """Gateways repeat the key and the callback URL in their errors."""
    secrets: list[str] = []

    async def echoing(request: httpx.Request) -> httpx.Response:
        key = request.headers["authorization"].removeprefix("Bearer ")
        secrets.extend([key, callback_url(request).rpartition("/")[2]])
        return httpx.Response(status, json={"error": {"message": f"no: key {secrets[0]}, callback {secrets[1]}"}})

    meet(world, echoing)
    task = await world.submit()
    await world.work()
    shown = (await world.client.get(f"/v1/tasks/{task.id}")).text
    history = (await world.client.get(f"/v1/tasks/{task.id}/events")).text
    kept = "".join(str(each) for each in await world.submissions(task))
    assert [secret for secret in secrets if secret in shown + history + kept + caplog.text] == []


# Falling over -----------------------------------------------------------------------------------------------------


def test_number_of_reported_mistakes_is_bounded() -> None:
    """A body has 20,000 invalid label names. Memory and the error response must stay small."""
    labels = {f"wrong name {number}": "x" for number in range(300)}
    request = {"family": "runway", "operation": "text_to_video", "labels": labels}
    assert len(request_module._SCHEMA.mistakes(request)) <= 100


async def test_number_of_label_filters_is_bounded(world: World) -> None:
    """SQLite joins at most 64 tables, and PostgreSQL would plan thousands of joins."""
    query = "&".join(f"label=name{number}=x" for number in range(70))
    assert (await world.client.get(f"/v1/tasks?{query}")).status_code == 422


@pytest.mark.parametrize("query", ["family=%00", "label=a%00=x", "label=a=%00"])
async def test_nul_in_a_query_is_rejected(postgresql_url: str, query: str) -> None:
    """No database stores a NUL."""
    async with World.opened(postgresql_url) as world:
        assert (await world.client.get(f"/v1/tasks?{query}")).status_code in {200, 422}


async def test_unresolvable_names_do_not_stop_submits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's callback URLs use a silent name server. Other look-ups need threads of their own."""
    resolve, let_go = socket.getaddrinfo, threading.Event()

    def silent(host: Any, *rest: Any, **more: Any) -> Any:
        if "silent" in str(host):
            let_go.wait(LIMIT)
        return resolve(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    http = Http.real(Guard(Rules(http=True)))
    async with Server.running(answering_at_once(HEAD, ANSWER)) as server:
        hosts = [f"http://silent{number}.invalid/" for number in range(40)]
        requests = [build(http.messages, "POST", host, headers={}, read_timeout=LIMIT) for host in hosts]
        messages = [asyncio.create_task(send(http.messages, request)) for request in requests]
        await asyncio.sleep(0.05)
        url = server.url.replace("127.0.0.1", "localhost")
        purchase = build(http.purchases, "POST", url, headers={}, content=b"{}", read_timeout=LIMIT)
        buying = asyncio.create_task(send(http.purchases, purchase))
        bought, _ = await asyncio.wait({buying}, timeout=LIMIT / 2)
        let_go.set()
        await asyncio.gather(buying, *messages, return_exceptions=True)
    await http.close()
    assert bought


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
async def test_statistics_do_not_read_inputs(world: World) -> None:
    """An input may hold 32 MiB. The statistics read 2,000 tasks every 30 s."""
    done: dict[str, Any] = {"state": State.SUCCEEDED, "finished_at": world.clock(), "submitted_at": world.clock()}
    pictures = [a_task(**done, input={"prompt": "x", "image": "data:" + "A" * 200_000}) for _ in range(40)]
    await keep(world.context.database, *pictures)
    del pictures
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    await update_statistics(world.context)
    assert tracemalloc.get_traced_memory()[1] - before < 3_000_000


# What the mending has left, or brought ------------------------------------------------------------------------------

HOUR, SECOND = dt.timedelta(hours=1), dt.timedelta(seconds=1)


@pytest.mark.parametrize("other", [None, "vendor-1"])
async def test_submission_keeps_its_external_id(database_url: str, other: str | None) -> None:
    """Two callbacks of one claim both see `sending`. The later one must not clear the id."""
    task = a_task()
    begun = a_submission(task)
    async with opened(database_url) as database:
        await keep(database, task)
        async with database.writing() as connection:
            await submission_store.begin(connection, [begun])
            taken = dataclasses.replace(begun, outcome=Outcome.TAKEN, external_id="job-7", settled_at=NOW)
            await submission_store.settle(connection, [taken, dataclasses.replace(taken, external_id=other)])
            [kept] = (await submission_store.of_tasks(connection, [task.id]))[task.id]
    assert kept.external_id == "job-7"


async def test_job_with_an_unknown_status_is_adopted(world: World) -> None:
    """After a 503, a callback with the token has a status that no table knows."""
    provider = meet(world, answering(503, BUSY), TAKEN)
    task = await world.submit()
    pool = TaskPool(10)
    await submission_run.run_due(world.context, pool)
    await pool.finish()
    await call_back(world, provider.bought[0], status="perhaps")
    await process.run_due(world.context)
    await world.pass_time(10)
    assert len(provider.bought) == 1
    assert (await world.task(task)).state is State.SUBMITTED


async def test_unplannable_task_does_not_stop_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning one task fails. The others of the round are submitted."""
    meet(world, TAKEN)
    tasks = sorted([await world.submit(), await world.submit()], key=lambda task: task.id)
    plan = submission_run.plan

    def planned(task: Task, *how: Any, **more: Any) -> Any:
        if task.id == tasks[0].id:
            raise KeyError(task.family)
        return plan(task, *how, **more)

    monkeypatch.setattr(submission_run, "plan", planned)
    for _ in range(3):
        pool = TaskPool(10)
        with contextlib.suppress(KeyError):
            await submission_run.run_due(world.context, pool)
        await pool.finish()
        world.clock.forward(61)
    assert (await world.task(tasks[1])).state is State.SUBMITTED


async def test_hanging_upstream_does_not_stop_polls_of_others(database_url: str) -> None:
    """100 polls wait for a silent upstream. Polls of other upstreams must still run."""
    settings = {"COMETAPI_KEY": "other-key", "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://other.test"}
    async with World.opened(database_url, faults=None, **settings) as world:
        hanging = asyncio.Event()
        asked: list[httpx.Request] = []

        class Hanging(httpx.AsyncBaseTransport):
            async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
                await hanging.wait()
                return unread(httpx.Response(502))

        class Well(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                asked.append(request)
                return unread(httpx.Response(502))

        world.edge.hosts |= {"sandbox.test": Hanging(), "other.test": Well()}
        now = world.clock()
        state: dict[str, Any] = {"state": State.RUNNING, "external_id": "7", "deadline_at": now + HOUR}
        ill = [a_task(**state, due_at=now, upstream="elkapi") for _ in range(polling.MAX_CONCURRENT)]
        await keep(world.context.database, *ill, a_task(**state, due_at=now + SECOND, upstream="cometapi"))
        world.clock.forward(2)
        looks = TaskPool(polling.MAX_CONCURRENT)
        for _ in range(3):
            await polling.run_due(world.context, looks)
            await asyncio.sleep(0.1)
        reached = len(asked)
        hanging.set()
        await looks.finish(within=LIMIT)
        assert reached == 1


@pytest.mark.parametrize(("items", "status"), [(4_000_000, 413), (200_000, 422)], ids=["too large", "too many values"])
async def test_large_request_does_not_block_the_event_loop(world: World, items: int, status: int) -> None:
    """A body without media is limited to 1 MiB before it is parsed, and the number of its values is limited."""
    document = {"family": "runway", "operation": "text_to_video", "input": {}, "options": {"a": [0] * items}}
    body = json.dumps(document, separators=(",", ":")).encode()
    answer = await world.client.post("/v1/tasks", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    if status == 422:
        assert "holds more than 100000 values" in answer.text
