"""Streams: events as they happen, each once and in order, also when clients disconnect, read slowly or leave."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import event as sql_event
from starlette.types import ASGIApp

from service.domain.api_key import prefix_of
from service.domain.task import Task
from service.flows.signals.postgres import listening
from service.store import api_keys as api_keys_module
from service.store.database import StoreUnavailable
from service.web import sse as sse_module
from service.web.sse import MAX_PAGE, Streams
from tests.conftest import run_sql
from tests.support.clients import ALICE, BOB, add_key
from tests.support.reader import Reader
from tests.support.waiting import LIMIT, until, until_idle
from tests.support.world import JOB_SECONDS, World


def app_of(world: World) -> ASGIApp:
    app: ASGIApp = world.client._transport.app  # type: ignore[attr-defined]
    return app


def streams_of(world: World) -> Streams:
    streams: Streams = world.state.streams
    return streams


def feed(world: World, query: str = "", **headers: str) -> contextlib.AbstractAsyncContextManager[Reader]:
    return Reader.opened(app_of(world), "/v1/events/stream", query=query, **headers)


def task_stream(world: World, task: Task, **headers: str) -> contextlib.AbstractAsyncContextManager[Reader]:
    return Reader.opened(app_of(world), f"/v1/tasks/{task.id}/stream", **headers)


async def finished(world: World, count: int = 1) -> list[Task]:
    """Submit tasks, and run them to their end."""
    tasks = [await world.submit(f"dove {number}") for number in range(count)]
    await world.until(JOB_SECONDS * 2)
    return tasks


async def until_listening(url: str, count: int) -> None:
    """Wait until this number of connections to a PostgreSQL listens for notifications."""
    connection = await asyncpg.connect(url)
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    async with asyncio.timeout(LIMIT):
        while await connection.fetchval(listening) < count:  # noqa: ASYNC110 - it happens in PostgreSQL
            await asyncio.sleep(0.01)
    await connection.close()


async def events_of(world: World, query: str = "limit=100") -> list[dict[str, Any]]:
    return list((await world.client.get(f"/v1/events?{query}")).json()["events"])


def plain(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the events without their tasks, which are shown as they were at the read."""
    return [tuple(value for name, value in event.items() if name != "data") for event in events]


@pytest.fixture
def quick_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send heartbeats every 150 ms."""
    monkeypatch.setattr(sse_module.Streams.__init__, "__kwdefaults__", {"heartbeat": 0.15})


# ── a task ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_task_stream_has_all_events(world: World) -> None:
    task = await world.submit()
    async with task_stream(world, task) as reader:
        assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream")
        assert (reader.headers["cache-control"], reader.headers["x-accel-buffering"]) == ("no-store", "no")
        await world.work()
        first, *_ = await reader.have(1)
        assert first["type"] == "task.submitted"
        assert not reader.ended.is_set()
        await world.until(JOB_SECONDS * 2)
        await asyncio.wait_for(reader.ended.wait(), LIMIT)
    assert plain(reader.events) == plain(await events_of(world))
    assert reader.events[-1] == (await events_of(world))[-1]
    assert reader.blocks[0] == {"retry": "1000"}
    assert reader.blocks[-1] == {"event": "end", "data": '{"state":"succeeded"}'}
    for block, shown in zip(reader.blocks[1:-1], reader.events, strict=True):
        assert (block["id"], block["event"]) == (shown["id"], shown["type"])


async def test_resume_after_the_end_is_204(world: World) -> None:
    [task] = await finished(world)
    async with task_stream(world, task) as reader:
        events = await reader.have(3)
        await asyncio.wait_for(reader.ended.wait(), LIMIT)
    async with task_stream(world, task, last_event_id=events[-1]["id"]) as again:
        assert (again.status, again.text) == (204, "")
    async with task_stream(world, task, last_event_id=events[-2]["id"]) as again:
        await asyncio.wait_for(again.ended.wait(), LIMIT)
    assert again.events == events[-1:]


async def test_late_result_is_streamed_after_resume(world: World) -> None:
    task = await world.submit("[drop] a dove", callback_url=None, deadline=JOB_SECONDS)
    await world.work()
    world.edge.down.add("sandbox.test")
    await world.until(JOB_SECONDS)
    async with task_stream(world, task) as reader:
        await asyncio.wait_for(reader.ended.wait(), LIMIT)
    assert [each["type"] for each in reader.events] == ["task.submitted", "task.expired"]
    last = reader.events[-1]["id"]
    world.edge.down.clear()
    await world.until(600)
    async with task_stream(world, task, last_event_id=last) as reader:
        await asyncio.wait_for(reader.ended.wait(), LIMIT)
    assert [each["type"] for each in reader.events] == ["task.late_result", "task.cost_corrected"]
    assert reader.blocks[-1]["data"] == '{"state":"succeeded"}'


async def test_stream_of_a_missing_task_is_404(world: World, api: httpx.AsyncClient) -> None:
    for path in ("00000000-0000-7000-8000-000000000000", "nonsense"):
        assert (await api.get(f"/v1/tasks/{path}/stream")).status_code == 404


# ── the feed ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_feed_stream_starts_now_with_a_cursor(world: World) -> None:
    await finished(world)
    before = (await events_of(world))[-1]["id"]
    async with feed(world) as reader:
        await reader.until(lambda: reader.blocks)
        assert reader.blocks[0] == {"retry": "1000", "id": before}
    # A reader without any event yet resumes from there and misses no event.
    await finished(world)
    news = await events_of(world, f"after={before}")
    async with feed(world, last_event_id=before) as reader:
        assert await reader.have(len(news)) == news


async def test_feed_stream_can_start_at_zero_and_filter(world: World) -> None:
    await finished(world, 2)
    everything = await events_of(world)
    async with feed(world, "after=0") as reader:
        assert await reader.have(len(everything)) == everything
    async with feed(world, "after=0&type=task.succeeded") as reader:
        assert await reader.have(2) == [each for each in everything if each["type"] == "task.succeeded"]


async def test_last_event_id_overrides_after(world: World) -> None:
    await finished(world)
    everything = await events_of(world)
    async with feed(world, "after=0", last_event_id=everything[0]["id"]) as reader:
        assert await reader.have(len(everything) - 1) == everything[1:]


@pytest.mark.parametrize("given", ["-1", "x", "9" * 19 + "9"])
async def test_invalid_cursor_is_rejected(world: World, api: httpx.AsyncClient, given: str) -> None:
    answer = await api.get("/v1/events/stream", headers={"Last-Event-ID": given})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "Last-Event-ID")


async def test_resumed_stream_has_each_event_once(world: World) -> None:
    """Tasks are created and end while a client reconnects after every few events."""

    async def happen() -> None:
        for number in range(8):
            await world.submit(f"dove {number}")
            await world.until(JOB_SECONDS / 2)
        await world.until(JOB_SECONDS * 2)

    happening = asyncio.create_task(happen())
    seen: list[dict[str, Any]] = []
    connections = 0
    async with asyncio.timeout(LIMIT):
        while not happening.done() or len(seen) < len(await events_of(world)):
            connections += 1
            after = {"last_event_id": seen[-1]["id"]} if seen else {}
            async with feed(world, "after=0", **after) as reader:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.have(1 + connections % 3), 0.1)
            seen += reader.events[: 1 + connections % 3]
    everything = await events_of(world)
    assert [each["id"] for each in seen] == [each["id"] for each in everything]
    assert len(everything) >= 24
    assert connections > 8


async def test_streams_are_woken_across_processes(postgresql_url: str) -> None:
    """The periodic catch-up is off. Only LISTEN and NOTIFY can wake the streams."""
    async with World.opened(postgresql_url) as here, World.opened(postgresql_url) as there:  # noqa: SIM117 - it is too long
        async with listening(here.context), listening(there.context), feed(there, "after=0") as reader:
            await until_listening(postgresql_url, 2)
            task = await here.submit()
            async with task_stream(there, task) as single:
                here.clock.forward(1)
                await here.until(JOB_SECONDS * 2)
                events = await events_of(here)
                assert plain(await reader.have(len(events))) == plain(events)
                await asyncio.wait_for(single.ended.wait(), LIMIT)
            assert plain(single.events) == plain(events)


async def test_watchers_are_woken_after_listen_reconnects(postgresql_url: str) -> None:
    """Notifications that were sent during the outage are lost."""
    async with World.opened(postgresql_url) as world:
        with world.context.signals.watching("anything") as woken:
            async with listening(world.context):
                await asyncio.wait_for(woken.wait(), LIMIT)
                woken.clear()
                await run_sql(
                    postgresql_url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE query LIKE 'LISTEN%' AND datname = current_database()",
                )
                world.context.signals.wake("poll")  # it is noticed at the next event
                await asyncio.wait_for(woken.wait(), LIMIT)


async def test_stream_is_isolated_by_client(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"alice={ALICE},bob={BOB}") as world:
        async with feed(world, "after=0", authorization=f"Bearer {ALICE}") as reader:
            for key in (BOB, ALICE):
                answer = await world.client.post(
                    "/v1/tasks",
                    json={"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}},
                    headers={"Authorization": f"Bearer {key}"},
                )
                await world.work()
            events = await reader.have(1)
            assert {each["task_id"] for each in events} == {answer.json()["id"]}
        async with Reader.opened(
            app_of(world), f"/v1/tasks/{answer.json()['id']}/stream", authorization=f"Bearer {BOB}"
        ) as other:
            assert other.status == 404


# ── many, slow, idle ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_slow_reader_is_not_read_ahead_of(world: World) -> None:
    await finished(world, MAX_PAGE)
    everything = await events_of(world)
    assert len(everything) > 2 * MAX_PAGE
    statements: list[str] = []
    sql_event.listen(
        world.context.database.reader.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2])
    )
    async with feed(world, "after=0") as reader:
        await reader.until(lambda: reader.blocks)
        reader.reads.clear()
        await until(lambda: reader.waiting)
        await until_idle(world.context.database)
        asked = len(statements)
        for _ in range(20):
            world.context.signals.notify_all()
        await asyncio.sleep(0.1)
        assert reader.waiting <= 1  # one piece waits for the reader, and nothing is read behind it
        assert len(statements) == asked
        reader.reads.set()
        assert await reader.have(len(everything)) == everything


async def test_idle_stream_sends_heartbeats_without_queries(
    world: World, quick_heart: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.state.streams = Streams(world.context)
    async with feed(world) as reader, feed(world) as other:
        await until_idle(world.context.database)
        statements: list[str] = []
        sql_event.listen(
            world.context.database.reader.sync_engine,
            "before_cursor_execute",
            lambda *given: statements.append(given[2]),
        )
        for each in (reader, other):
            await each.until(lambda each=each: each.text.count("\n:\n") >= 2)
        assert statements == []
        assert streams_of(world).open == 2
        clock = streams_of(world)._clock
        assert clock is not None
        assert not clock.done()
    assert (streams_of(world).open, streams_of(world)._clock) == (0, None)
    assert not world.context.signals.watched


async def test_stream_survives_a_database_outage(world: World) -> None:
    world.state.streams = streams = Streams(world.context, heartbeat=3600)
    reading = world.context.database.reading
    async with feed(world) as reader:
        await reader.until(lambda: reader.blocks)
        await asyncio.sleep(0.05)

        refused = asyncio.Event()

        @contextlib.asynccontextmanager
        async def away() -> AsyncIterator[None]:
            refused.set()
            raise StoreUnavailable("away")
            yield

        world.context.database.reading = away  # type: ignore[method-assign,assignment]
        world.context.signals.changed(uuid4(), "default")
        async with asyncio.timeout(LIMIT):
            await refused.wait()
        world.context.database.reading = reading  # type: ignore[method-assign]
        signals, world.context.signals.changed = world.context.signals.changed, lambda *_: None  # type: ignore[method-assign]
        await world.submit()
        await world.work()
        await until_idle(world.context.database)
        assert reader.events == []
        for stream in (stream for group in streams._groups for stream in group):
            stream.beat()
        assert (await reader.have(1))[0]["type"] == "task.submitted"  # a heartbeat after a failure reads again
        world.context.signals.changed = signals  # type: ignore[method-assign]


async def test_number_of_streams_is_limited(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_MAX_STREAMS="2") as world:
        async with feed(world), feed(world):
            answer = await world.client.get("/v1/events/stream")
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert "max_streams" in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
            assert (await world.client.get("/v1/tasks")).status_code == 200
        async with feed(world) as reader:
            assert reader.status == 200


async def test_streams_end_at_shutdown(world: World) -> None:
    async with feed(world) as reader, feed(world) as other:
        world.context.signals.close()
        async with asyncio.timeout(LIMIT):
            await reader.ended.wait()
            await other.ended.wait()
        assert "event: end" not in reader.text  # so that the client comes back, to the next process
        assert (await world.client.get("/v1/events/stream")).status_code == 503


async def test_head_request_opens_no_stream(world: World) -> None:
    async with asyncio.timeout(LIMIT):
        answer = await world.client.head("/v1/events/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert streams_of(world).open == 0


# ── keys and shares ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("change", ["revoked", "expired"])
async def test_stream_ends_at_a_heartbeat_after_its_key_stopped_being_valid(
    database_url: str, quick_heart: None, change: str
) -> None:
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"bob={BOB}") as world:
        world.state.streams = Streams(world.context)
        expires = None if change == "revoked" else world.clock() + dt.timedelta(seconds=60)
        key = await add_key(world, expires_at=expires)
        async with feed(world, authorization=f"Bearer {key}") as reader:
            await reader.until(lambda: reader.blocks)
            assert not reader.ended.is_set()
            if change == "revoked":
                async with world.context.database.writing() as connection:
                    await api_keys_module.revoke(connection, prefix_of(key), now=world.clock())
            world.clock.forward(61)
            async with asyncio.timeout(60):
                await reader.ended.wait()


async def test_stream_of_an_invalid_key_delivers_no_event(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"bob={BOB}") as world:
        key = await add_key(world)
        async with feed(world, authorization=f"Bearer {key}") as reader:
            await reader.until(lambda: reader.blocks)
            async with world.context.database.writing() as connection:
                await api_keys_module.revoke(connection, prefix_of(key), now=world.clock())
            world.clock.forward(6)
            await world.submit_as("alice")
            await world.work()
            async with asyncio.timeout(60):
                await reader.ended.wait()
            assert reader.events == []


async def test_client_gets_half_of_the_streams_and_the_refusal_is_logged_once(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"DOVECOTE_MAX_STREAMS": "4", "DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB}"}
    alice, bob = ({"authorization": f"Bearer {key}"} for key in (ALICE, BOB))
    async with World.opened(database_url, **settings) as world:
        async with feed(world, **alice) as first, feed(world, **alice) as second:
            for _ in range(3):
                async with asyncio.timeout(LIMIT):  # a stream that is not refused does not end
                    refused = await world.client.get("/v1/events/stream", headers=alice)
                assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
                assert "limit of this client" in refused.json()["detail"]
            async with feed(world, **bob) as other:
                assert (first.status, second.status, other.status) == (200, 200, 200)
        assert len([each for each in caplog.records if "stream refused client=alice" in each.getMessage()]) == 1


@pytest.mark.parametrize(
    ("wanted", "descriptors", "limit"),
    [(5000, 1024, 512), (5000, 100_000, 5000), (100, 1024, 100), (5000, 300, 44), (5000, 100, 1), (0, 1024, 0)],
)
def test_stream_limit_leaves_descriptors_for_other_requests(
    monkeypatch: pytest.MonkeyPatch, wanted: int, descriptors: int, limit: int
) -> None:
    monkeypatch.setattr(sse_module.resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert sse_module.stream_limit(wanted) == limit
