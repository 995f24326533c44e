"""Broken conversations: a purchase was never sent and is repeated, or was perhaps sent and is never repeated."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from service.domain.callback_token import Tokens
from service.domain.errors import AccountProblem, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.task import State, Update
from service.flows.context import Context, upstreams_of
from service.flows.conversation import run_exchange
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from service.providers.registry import DIALECTS
from service.providers.wire import Call, Exchange, File
from service.store.database import Database
from service.store.writer import Writers
from tests.support.breakage import ANSWER, HEAD, PERHAPS_SENT, Server, answering, nowhere, request_of
from tests.support.scripted_upstream import Answer, ScriptedUpstream
from tests.support.values import a_task
from tests.support.world import settings_for


@contextlib.asynccontextmanager
async def runtime_for(url: str) -> AsyncIterator[Context]:
    """Return a context with real clients and one upstream at a URL. Its database is never opened."""
    settings = settings_for("sqlite:///never-opened.db", DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL=url)
    database = Database(settings.database_url)
    http = Http.real(Guard(Rules(private=True)))
    try:
        yield Context(
            settings=settings,
            database=database,
            writers=Writers(database),
            http=http,
            tokens=Tokens("secret"),
            webhook_secret="",
            upstreams=upstreams_of(settings),
        )
    finally:
        await http.close()


async def outcome(url: str, *, creating: bool) -> Update | UpstreamError:
    task = a_task(state=State.SUBMITTED, external_id="7", input={"prompt": "a dove", "duration": 5})
    dialect = DIALECTS["runway/aggregator"]
    exchange = dialect.submit(task, None) if creating else dialect.poll(task)
    async with runtime_for(url) as context:
        try:
            return await run_exchange(context, context.upstreams["elkapi"], dialect, exchange)
        except UpstreamError as error:
            return error


@pytest.mark.parametrize("how", [how for how in PERHAPS_SENT if "hang" not in how])
async def test_request_that_may_have_arrived_is_uncertain_only_if_it_creates(how: str) -> None:
    async with Server.running(PERHAPS_SENT[how][0]) as server:
        assert type(await outcome(server.url, creating=True)) is Uncertain
        assert type(await outcome(server.url, creating=False)) is Unavailable


@pytest.mark.parametrize("how", ["refused", "unresolvable", "TLS with a plain server", "TLS cut short"])
async def test_creating_request_that_was_not_sent_may_be_retried(how: str) -> None:
    async with nowhere(how) as url:
        error = await outcome(url, creating=True)
    assert type(error) is Unavailable
    assert "sandbox-key" not in str(error)


async def test_redirected_creating_request_names_the_other_host() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with Server.running(answering(moved)) as server:
        error = await outcome(server.url, creating=True)
    assert type(error) is AccountProblem
    assert "redirects to http://127.0.0.1:1" in str(error)


async def test_answered_creating_request_has_an_id() -> None:
    async with Server.running(answering(HEAD, ANSWER)) as server:
        update = await outcome(server.url, creating=True)
    assert isinstance(update, Update)
    assert update.external_id == "7"


@pytest.mark.parametrize(("creating", "connections"), [(True, 3), (False, 1)])
async def test_each_creating_request_uses_its_own_connection(creating: bool, connections: int) -> None:  # noqa: FBT001 - a column of the table
    async def keep_answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            writer.write(HEAD + ANSWER)

    task = a_task(state=State.SUBMITTED, external_id="7", input={"prompt": "a dove", "duration": 5})
    dialect = DIALECTS["runway/aggregator"]
    async with Server.running(keep_answering) as server:
        async with runtime_for(server.url) as context:
            for _ in range(3):
                exchange = dialect.submit(task, None) if creating else dialect.poll(task)
                with contextlib.suppress(UpstreamError):  # what the answer means to a poll is not the question here
                    await run_exchange(context, context.upstreams["elkapi"], dialect, exchange)
        assert server.connections == connections


@pytest.mark.parametrize(
    ("creating", "expected"), [(True, Uncertain), (False, Unreadable)], ids=["purchase", "question"]
)
async def test_fault_in_reading_an_answer_is_an_error_of_the_upstream(
    creating: bool,  # noqa: FBT001 - a column of the table
    expected: type[UpstreamError],
) -> None:
    def exchange() -> Exchange:
        yield Call(method="GET", path="/before")
        yield Call(method="POST", path="/v1", json={}, creates=creating)
        raise KeyError("sandbox-key")

    script = {"any": {"GET /before": [Answer({})], "POST /v1": [Answer({})]}}
    async with ScriptedUpstream.running(script) as upstream, runtime_for(upstream.base_url("any")) as context:
        with pytest.raises(UpstreamError) as raised:
            await run_exchange(context, context.upstreams["elkapi"], DIALECTS["runway/aggregator"], exchange())
    assert type(raised.value) is expected
    assert raised.value.code == "unreadable"
    assert "sandbox-key" not in str(raised.value)


async def test_form_is_sent_with_its_files_and_its_boundary() -> None:
    picture = File("a.png", b"\x89PNG\r\n\x00\xff", "image/png")
    call = Call(
        method="POST", path="/v1/images/edits", form={"prompt": "a dove", "image[]": [picture, picture]}, creates=True
    )

    def exchange() -> Exchange:
        reply = yield call
        return Update(external_id=str(reply.status))

    async with ScriptedUpstream.running({"forms": {"POST /v1": [Answer({})]}}) as upstream:
        async with runtime_for(upstream.base_url("forms")) as context:
            dialect = DIALECTS["runway/aggregator"]
            update = await run_exchange(context, context.upstreams["elkapi"], dialect, exchange())
        [sent] = upstream.asked["forms"]
    assert update.external_id == "200"
    assert sent.headers["authorization"] == "Bearer sandbox-key"
    head, _, boundary = sent.headers["content-type"].partition("; boundary=")
    assert head == "multipart/form-data"
    assert sent.body.count(b"--" + boundary.encode()) == 4
    assert (
        sent.body.count(b'name="image[]"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + picture.content) == 2
    )


@pytest.mark.parametrize("dialect", ["runway/aggregator", "midjourney/proxy"])
async def test_answers_about_other_jobs_are_logged_once(dialect: str, caplog: pytest.LogCaptureFixture) -> None:
    documents = {
        "runway/aggregator": {
            "code": 200,
            "data": {"task_id": "job-9", "status": "3", "video_url": "https://x.example/9"},
        },
        "midjourney/proxy": {"id": "job-9", "status": "SUCCESS", "imageUrl": "https://x.example/9.png"},
    }
    script = {"upstream": {"GET /": [Answer(documents[dialect])], "POST /": [Answer(documents[dialect])]}}
    async with ScriptedUpstream.running(script) as upstream, runtime_for(upstream.base_url("upstream")) as context:
        for job in ("job-1", "job-2", "job-3"):
            exchange = DIALECTS[dialect].poll(a_task(state=State.SUBMITTED, external_id=job))
            with pytest.raises(UpstreamError, match="answered about job job-9"):
                await run_exchange(context, context.upstreams["elkapi"], DIALECTS[dialect], exchange)
    told = [line for line in caplog.messages if "another job" in line]
    ids = "asked about job job-1, and answered about job job-9"
    assert told == [f"answer about another job ignored upstream=elkapi dialect={dialect} error={ids}"]


@pytest.mark.parametrize(("most", "is_read"), [(9, True), (8, False)])
async def test_answer_beyond_the_limit_of_its_call_is_uncertain(most: int, is_read: bool) -> None:  # noqa: FBT001 - a column of the table
    def exchange() -> Exchange:
        reply = yield Call(method="POST", path="/v1/images", json={}, creates=True, max_answer=most)
        return Update(external_id=reply.text)

    script = {"large": {"POST /v1": [Answer(b"123456789")]}}
    async with ScriptedUpstream.running(script) as upstream, runtime_for(upstream.base_url("large")) as context:
        asked = run_exchange(context, context.upstreams["elkapi"], DIALECTS["runway/aggregator"], exchange())
        if is_read:
            assert (await asked).external_id == "123456789"
        else:
            with pytest.raises(Uncertain, match="more than 8 bytes"):
                await asked
