"""Attacks that succeeded once: each test says what went wrong, and holds now."""

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
from service.flows import callbacks as callbacks_flow
from service.flows import polling
from service.flows.apply import settle_surely
from service.flows.concurrency import TaskPool
from service.flows.statistics import update_statistics
from service.flows.submission import request as request_module
from service.flows.submission import run as submission_run
from service.http import client as http_client
from service.http.client import Http, send
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
    """An upstream whose creating route answers as the test says; polls know of nothing."""

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
    """Give a response the way a network does: its body is still to come."""
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


def answering(status: int, document: Any) -> Answer:
    """Answer always the same."""

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=json.dumps(document))

    return answer


TAKEN = answering(200, {"code": 200, "data": {"task_id": "job-7"}})


def meet(world: World, *answers: Answer) -> Provider:
    """Put a provider in the place of the sandbox."""
    provider = Provider(*answers)
    world.edge.hosts["sandbox.test"] = provider
    return provider


def callback_url(request: httpx.Request) -> str:
    """Give the address that a creating request asks to be called back at."""
    found = re.search(rb"http://dovecote\.test/callbacks/[\w-]+", request.content)
    assert found is not None
    return found[0].decode()


async def call_back(world: World, request: httpx.Request, **record: str) -> None:
    """Call back as CometAPI does, POST {callback_url} of /runway/pro/generate."""
    transport = world.edge.hosts["dovecote.test"]
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.post(callback_url(request), json={"task_id": "job-7", **record})
    assert answer.status_code == 200


SUCCEEDED = {"status": "3", "video_url": "https://cdn.example.com/a.mp4"}
RUNNING = {"status": "1"}


# Paid twice, or paid for what nobody wants any more ---------------------------------------------------------------


@pytest.mark.parametrize("record", [RUNNING, SUCCEEDED], ids=["running", "succeeded"])
async def test_job_with_a_callback_is_not_resubmitted(world: World, record: dict[str, str]) -> None:
    """503 although the job was made; its callback, with our token, comes before the next try; the next try buys another.

    ``flows/callbacks.py`` ``_news`` turns it into the remark ``extra_job`` whatever the task's state. While the task is
    ``queued`` nothing else serves it: adopt the job instead (settle the submission ``taken`` from ``unavailable`` too,
    set upstream and dialect to the submission's, and let ``advance`` take queued → submitted/running for a callback
    of one of the task's own submissions). Keep the remark for every other state.
    """
    provider = meet(world, answering(503, BUSY), TAKEN)
    task = await world.submit()
    pool = TaskPool(10)
    await submission_run.run_due(world.context, pool)
    await pool.finish()
    assert (await world.task(task)).state is State.QUEUED
    await call_back(world, provider.bought[0], **record)
    await callbacks_flow.run_due(world.context)
    await world.pass_time(10)
    assert len(provider.bought) == 1


async def test_cancelled_task_is_not_resubmitted(world: World) -> None:
    """The client cancels (202, noted) while the submit is in flight; the answer is 503; the next try buys the job.

    ``flows/submit.py`` ``plan`` never looks at ``cancel_requested_at``, and ``follow_up`` does nothing without an id.
    Mend: in ``plan``, before ``choose``, end a queued task that is to be cancelled: ``_end(task,
    Update(state=CANCELLED, failure=Failure("cancelled", "before it was handed over; nothing was paid")), Source.CLIENT)``.
    """
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
    """202 promises 'carried out once the provider's id is known'. Only ``hand_over`` keeps that promise.

    An unconfirmed task gets its id from a callback, and ``flows/callbacks.py`` never calls ``cancel.follow_up`` (nor does a
    poll retry a cancel that failed). Mend: after ``announce`` in ``callbacks.run_due``, and in ``poll._take_in``, start
    ``follow_up`` for tasks that are open, have ``cancel_requested_at`` and an ``external_id``.
    """
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
    """Envoy (Istio, many gateways' ingress) answers 503 when the backend broke off *after* it had the request.

    ``providers/gateway.py`` ``_rule(_OVERLOADED, statuses=(503,))`` resubmits it, against DESIGN ('5xx without a
    provider's reason' is uncertain). Mend: only a 503 with an error envelope is *unavailable*: put
    ``_rule(_PERHAPS, _BROKEN, statuses=(503,), words={_NO_OBJECT})`` before it; the same for 429 is not needed.
    """
    assert isinstance(newapi_errors.refusal_in(Reply(503, {}, body), creating=True), Uncertain)


async def test_failed_task_is_not_submitted(world: World) -> None:
    """64 submits are begun, the upstream's gate lets 20 through: the rest wait inside their lease, without end.

    With answers of 120 s the fourth score waits longer than the lease of 190 s: the task becomes ``unconfirmed`` ('Dovecote stopped
    while the request was on its way', untrue), expires at its deadline, the client is told, and then it is bought.
    Mend: take the gate before the submission is written (``async with upstream.gate`` around ``serve``'s settle and
    ``hand_over``; ``_ask`` does not take it again for submits), and give up the claim when it has run out by then.
    """
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


# What was paid for is lost ----------------------------------------------------------------------------------------


async def test_paid_job_id_survives_an_exhausted_pool(world: World) -> None:
    """``settle_surely`` gives up: the id of a job that was paid for is lost when all 20 connections are lent for 10 s.

    ``store/database.py`` ``out_of_reach`` knows the built-in TimeoutError only; ``sqlalchemy.exc.TimeoutError`` is a
    SQLAlchemyError. It is also a 500 for readers, and ``Writer._commit`` then tries each of 256 requests alone, ten
    seconds each. Mend: add ``sqlalchemy.exc.TimeoutError`` to the first isinstance. Also keep connections apart:
    a pool of its own for the writer on PostgreSQL, as on SQLite.
    """
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
    """After a failover a connection may reach a standby: 'cannot execute … in a read-only transaction' (25006).

    ``_no_service`` knows classes 08, 53 and 57 only; 25006, 40001, 40P01 and 55P03 pass too. ``settle_surely`` lets the
    error through and the id of the paid job is gone. Mend: add those codes; and let ``settle_surely`` retry
    whatever it meets, a few times with the news as they are, then with nothing but state, id and the settled submission.
    """
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
    """A callback that names the vendor's id comes before the answer that names the gateway's: polls ask for the wrong one.

    After 300 s of 'unknown' the task fails as ``not_found``, though it was paid for. ``_heard_of_ours`` knows of such callbacks, but only
    once the submission has an id. Mend: let ``advance`` replace ``external_id`` where ``source is Source.SUBMIT`` and the update
    has one, and ``submissions._SETTLE`` overwrite the id of one that a callback had settled as taken.
    """

    async def overtaken(request: httpx.Request) -> httpx.Response:
        async with httpx.AsyncClient(transport=world.edge.hosts["dovecote.test"]) as client:
            await client.post(callback_url(request), json={"task_id": "vendor-1", **RUNNING})
        await callbacks_flow.run_due(world.context)
        return await TAKEN(request)

    meet(world, overtaken)
    task = await world.submit()
    await world.work()
    assert (await world.task(task)).external_id == "job-7"


# Callbacks that were answered 2xx ---------------------------------------------------------------------------------


async def test_unwritable_callback_does_not_stop_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a dialect lets through that the database refuses: 50 callbacks fail together, every 60 s, for ever.

    Nothing is parked, since the schedule is settled in the same transaction. ``flows/callbacks.py`` ``run_due``. Mend: on
    an exception that is not StoreUnavailable take the rows in one by one, and settle the one that fails by itself with
    ``retry_inbox`` (parked in the end), its error as the detail.
    """
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
            await callbacks_flow.run_due(world.context)
        world.clock.forward(61)
    assert State.SUCCEEDED in {(await world.task(task)).state for task in tasks}


@pytest.mark.parametrize("decision", ["forged", "unreadable", "unmatched", "parked"])
async def test_repeated_callback_is_processed_if_the_first_failed(database_url: str, decision: str) -> None:
    """Signed too long ago, a rotated key, an older version: the provider sends the same body again and is answered 200.

    ``store/callbacks.py`` only raises ``copies``, although headers (and so the signature) may differ. Mend: in
    ``_receiving`` set also, where ``callbacks.c.decision IN ('forged', 'unreadable', 'unmatched', 'parked')``, headers and
    received_at from ``excluded``, ``due_at = excluded.due_at``, ``decision = decided_at = NULL``, ``attempts = 0`` (CASE).
    """
    callback = a_callback()
    async with opened(database_url) as database:
        async with database.writing() as connection:
            await callback_store.receive(connection, [callback])
            settled = {"decision": decision, "detail": None, "decided_at": NOW, "due_at": None}
            await queue.settle_callbacks(connection, [{"of_row": callback.id, "of_attempt": 0, **settled}])
        async with database.writing() as connection:
            await callback_store.receive(connection, [callback])
        async with database.reading() as connection:
            [kept] = await callback_store.of_submissions(connection, [callback.submission_id])
    assert kept.due_at is not None


# Tasks without an end ---------------------------------------------------------------------------------------------


async def test_task_with_unwritable_updates_ends_at_its_deadline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """``flows/poll.py`` ``_take_in``: when ``settle`` refuses the news, the expiry below it is never reached.

    The task is claimed again every 60 s, for ever. Mend: catch what is not StoreUnavailable, log it, settle
    ``set={"last_error": …}`` in its place, and go on to the expiry.
    """
    broken = Update(state=State.RUNNING, results=(Result("video", url="https://x/\ud800", role="preview"),))
    monkeypatch.setattr(type(DIALECTS["runway/aggregator"]), "read_status", lambda *_: broken)
    meet(world, TAKEN)
    task = await world.submit(deadline=30)
    await world.work()
    await world.pass_time(600, step=20)
    assert (await world.task(task)).state is State.EXPIRED


async def test_refusal_with_unstorable_text_is_a_refusal(world: World) -> None:
    """``providers/gateway.py`` ``_issues`` joins ``path`` unwashed: a lone surrogate, or on PostgreSQL a NUL, fails the write.

    The task then hangs in ``submitting``, becomes ``unconfirmed`` and expires. Mend: ``word(part)`` for every part of the
    path; and wash texts once more where they are written (``str(error)`` in ``submit._went_wrong``).
    """
    meet(world, answering(400, {"error": "invalid", "issues": [{"path": ["prompt\ud800"], "message": "is too long"}]}))
    task = await world.submit()
    await world.work()
    assert (await world.task(task)).state is State.FAILED


async def test_key_that_fits_no_header_sends_nothing(database_url: str) -> None:
    """A key with '…' or 'é' in it cannot be sent: UnicodeEncodeError before a connection is made, and every task is 'unconfirmed'.

    ``flows/submit.py`` ``hand_over`` calls every other exception Uncertain. Mend: in ``exchange._ask`` build the request
    first (``authorize``, ``orjson.dumps``, ``client.build_request``) and turn what is raised there into Unavailable or
    AccountProblem; the same for an exception out of ``next(exchange)``. And refuse such a key in the settings.
    """
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
    """One bad id, or a gateway without the route: HTTP 400 for the batch, for ever; asked for one by one all are well.

    ``flows/poll.py`` ``_ask`` gives the batch's error to every task. Mend: where the error of a batch is not Unavailable (or
    is an exception of ours), ask for each by itself, as is done for ids that are missing.
    """
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
    """Under aiohttp there is no write time-out, and the read time-out starts after the write: nobody keeps WRITE_TIMEOUT.

    A purchase with a picture in it (more than the socket's buffers) then hangs for ever and keeps its place of the gate
    and of TaskPool: twenty of them, and neither a submit nor a poll reaches this upstream again. Mend: in
    ``SingleTransport`` time-out around the writing → ``httpx.WriteTimeout``
    (perhaps sent); and always give ``send`` a ``total_timeout``.
    """
    monkeypatch.setattr(http_client, "WRITE_TIMEOUT", 0.1)
    monkeypatch.setattr(http_client, "CONNECT_TIMEOUT", 0.1)
    let_go = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await let_go.wait()

    http = Http.real(Guard(Rules(private=True)))
    async with Server.running(deaf) as server:
        picture = b"x" * 30_000_000
        sending = asyncio.create_task(
            send(http.purchases, "POST", server.url, headers={}, content=picture, read_timeout=0.1)
        )
        ended, _ = await asyncio.wait({sending}, timeout=LIMIT)
        let_go.set()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    await http.close()
    assert ended


async def test_hanging_upstream_does_not_stop_others(database_url: str) -> None:
    """64 submits to an upstream that answers nothing, and for up to 120 s each nothing goes to any other; polls likewise.

    ``flows/submit.py`` ``run_due`` bounds the sum, not the share. Mend: claim per upstream (route[0]/upstream as a column
    of the claim), or bound what is under way per upstream by its gate and put back at once what finds it full.
    """
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
    """33 characters pass the pattern and are no base64: ``signed_headers`` raises outside ``_post``'s ``try``.

    No message is ever delivered, none is exhausted, and all are claimed again every 60 s. Mend: ``base64.b64decode(…,
    validate=True)`` in ``Settings._standard_secret``; and ``signed_headers`` inside the ``try``.
    """
    with pytest.raises(SettingsError):
        settings_for("sqlite:///x.db", DOVECOTE_WEBHOOK_SECRET="whsec_" + "A" * 33)


async def test_client_is_not_told_to_repeat_an_accepted_submit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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
    """Cancelled between claim and begin: nothing is sent, and the history shows a submission that is 'sending' for ever.

    ``flows/apply.py`` ``_take_in`` takes ``begins`` (and ``settles``) in before it looks at ``expects``. To the question
    'did we pay?' the row answers 'perhaps'. Mend: when ``expects`` does not hold, begin nothing.
    """
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
    """Gateways repeat the key ('Incorrect API key provided: …') and the callback URL in errors: both reach clients.

    They stand in last_error, submissions.message, failure, events, the explanation, messages to clients and the log. The callbacks redacts its
    token for this very reason. Mend: in ``exchange._ask`` replace the key in the answer's body (and the callback token, which
    ``hand_over`` knows) by ``[redacted]`` before the Reply is made.
    """
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
    """20,000 wrong label names in a body of 400 kB: each error of the validator holds all of them; the process is killed for memory.

    Measured: 250 → 95 MB, 500 → 137 MB, 1,000 → 303 MB, 2,000 → 960 MB and 5 s of a blocked event loop; 20,000 → dead.
    Mend: ``itertools.islice(iter_errors, 50)`` in ``Schema.mistakes``, at most 50 unexpected names in ``_say`` (each runs
    difflib), at most 50 in ``_unstorable``; and check ``maxProperties`` before ``propertyNames``.
    """
    labels = {f"wrong name {number}": "x" for number in range(300)}
    request = {"family": "runway", "operation": "text_to_video", "labels": labels}
    assert len(request_module._SCHEMA.mistakes(request)) <= 100


async def test_number_of_label_filters_is_bounded(world: World) -> None:
    """SQLite joins 64 tables at most: 500. PostgreSQL plans thousands of joins (64 kB of query) for as long as it may.

    ``web/api/tasks.py`` ``_filter``. Mend: 422 above MAX_LABELS labels, which no task can have.
    """
    query = "&".join(f"label=name{number}=x" for number in range(70))
    assert (await world.client.get(f"/v1/tasks?{query}")).status_code == 422


@pytest.mark.parametrize("query", ["family=%00", "label=a%00=x", "label=a=%00"])
async def test_nul_in_a_query_is_rejected(postgresql_url: str, query: str) -> None:
    """``web/api/endpoint.py`` ``read_query``: 500 and a traceback in the log for each. Mend: refuse NUL in any parameter."""
    async with World.opened(postgresql_url) as world:
        assert (await world.client.get(f"/v1/tasks?{query}")).status_code in {200, 422}


async def test_unresolvable_names_do_not_stop_submits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's callback URLs whose name server is silent take every thread of the resolver: nothing else resolves.

    Six threads on two cores (uvloop: four), each for as long as the system's resolver waits, 10 s and more, although the attempt was
    given up; purchases then end in ConnectTimeout and polls fail. Mend: ``flows/guard.py`` ``CheckedResolver`` looks up in a
    ThreadPoolExecutor of its own.
    """
    resolve, let_go = socket.getaddrinfo, threading.Event()

    def silent(host: Any, *rest: Any, **more: Any) -> Any:
        if "silent" in str(host):
            let_go.wait(LIMIT)
        return resolve(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    http = Http.real(Guard(Rules(http=True)))
    async with Server.running(answering_at_once(HEAD, ANSWER)) as server:
        hosts = [f"http://silent{number}.invalid/" for number in range(40)]
        messages = [
            asyncio.create_task(send(http.messages, "POST", host, headers={}, read_timeout=LIMIT)) for host in hosts
        ]
        await asyncio.sleep(0.05)
        url = server.url.replace("127.0.0.1", "localhost")
        buying = asyncio.create_task(send(http.purchases, "POST", url, headers={}, content=b"{}", read_timeout=LIMIT))
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
    """Every 30 s up to 2,000 whole tasks, with inputs of up to 32 MiB each (data URIs), at once: gigabytes.

    ``store/tasks.py`` ``recent_endings``. Mend: select the few columns that an Ending has; the model by
    ``tasks.c.options["model"].as_string()`` and ``tasks.c.input["model"].as_string()``, or a column of its own. The claims and ``lock`` also
    read ``input`` of up to 100 tasks, and a page of the list shows 100 of them: bound those as well.
    """
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
    """Two callbacks of one claim both see 'sending' (as does one that is read before another process settles it).

    ``store/submissions.py`` ``_SETTLE`` writes every 'taken': the later one leaves None or the vendor's id, and callbacks that
    bear the right id are only 'hastened' from then on. Mend: ``external_id = coalesce(external_id, new)``; only the answer
    to the submit (a bind parameter of its own) may replace an id.
    """
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
    """503, then a callback with our token and a word that no table knows: 'taken' is written, the task stays queued.

    Every further try breaks on the index of one job (IntegrityError, every 60 s) until the task expires, never asked about.
    Mend in ``flows/callbacks.py`` ``_news``: whoever bears the token proves the job; adopt with ``update.state or SUBMITTED``.
    """
    provider = meet(world, answering(503, BUSY), TAKEN)
    task = await world.submit()
    pool = TaskPool(10)
    await submission_run.run_due(world.context, pool)
    await pool.finish()
    await call_back(world, provider.bought[0], status="perhaps")
    await callbacks_flow.run_due(world.context)
    await world.pass_time(10)
    assert len(provider.bought) == 1
    assert (await world.task(task)).state is State.SUBMITTED


async def test_unplannable_task_does_not_stop_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """``flows/submit.py`` ``run_due`` calls ``plan`` outside of what is isolated: those after it wait for the lease, every time.

    Mend: ``plan`` and the taking of a place in a ``try`` of their own for each task; log, and leave that one to its lease.
    """
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
    """100 looks at an upstream that answers nothing fill ``TaskPool``; 20 are asked at once, 70 s each: 350 s of silence.

    ``flows/poll.py`` ``run_due``; the lease of 60 s runs out meanwhile, and the same tasks are asked about again. Mend as for
    submits: take a place before the look is started, put back what finds none, and let the lease cover the time-outs.
    """
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
