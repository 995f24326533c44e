"""The feed: all events of clients in one order, each once. No event ever appears before a reader's cursor."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema_rs
import orjson
import pytest
from sqlalchemy import text

from service.domain.events import Event
from service.domain.feed_cursor import KEY_SIZE, Epoch, History
from service.domain.task import Result, Source, State, Task
from service.domain.webhook_events import ENDS, TYPES
from service.flows import feed as feed_flow
from service.flows.render import MAX_BRIEF, show_task, show_task_briefly
from service.flows.signals import catchup
from service.flows.signals.local import feed_of
from service.store import events as event_store
from service.store import feed as feed_store
from service.store.database import Database
from tests.support.contract import DOCUMENT
from tests.support.values import NOW, a_task, keep, opened
from tests.support.waiting import LIMIT, until_idle
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World

HISTORY = History((Epoch(b"k" * KEY_SIZE),))
LARGE = {"prompt": "a dove", "image": "data:image/png;base64," + "A" * (2 * feed_store.MAX_FIELD)}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


def event_of(task: Task, sequence: int, message: str | None = "task.running") -> Event:
    return Event(
        task_id=task.id,
        client=task.client,
        sequence=sequence,
        type="running",
        message=message,
        source=Source.POLL,
        at=NOW,
        data={},
    )


async def all_of(api: httpx.AsyncClient, *, after: str = "0", **query: Any) -> list[dict[str, Any]]:
    """Read the feed page by page."""
    found: list[dict[str, Any]] = []
    while True:
        page = (await api.get("/v1/events", params={"after": after, **query})).json()
        found += page["events"]
        if not page["events"]:
            return found
        after = page["next"]


# ── the order ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_feed_never_shows_events_behind_a_cursor(postgresql_url: str) -> None:
    """Two processes write at the same time. The one that took its numbers first commits last."""
    async with opened(postgresql_url) as database:
        slow, quick = a_task(), a_task()
        await keep(database, slow, quick)

        async def seen(after: int) -> feed_flow.Page:
            async with database.reading() as connection:
                until = await feed_store.horizon(connection)
                found = await feed_store.of_client(connection, "default", after=after, most=10)
            return feed_flow.Page(items=[each for each in found if each.id <= until], next=until, history=HISTORY)

        async with database.writing() as first:
            await event_store.record(first, [event_of(slow, 2)])
            async with database.writing() as second:
                await event_store.record(second, [event_of(quick, 2)])
            early = await seen(0)
            assert early.items == []  # the second is committed, and must wait for the first
            async with database.reading() as connection:
                [committed] = await feed_store.of_client(connection, "default", after=0, most=10)
            assert committed.task.id == quick.id
            assert early.next < committed.id
        late = await seen(early.next)
        assert [each.task.id for each in late.items] == [slow.id, quick.id]
        assert late.next == committed.id


async def test_rolled_back_event_does_not_block_the_feed(database: Database) -> None:
    task = a_task()
    await keep(database, task)
    async with database.writing() as connection:
        await event_store.record(connection, [event_of(task, 2)])
        await connection.rollback()
    async with database.writing() as connection:
        await event_store.record(connection, [event_of(task, 2)])
    async with database.reading() as connection:
        until = await feed_store.horizon(connection)
        [found] = await feed_store.of_client(connection, "default", after=0, most=10)
    assert found.id == until


async def test_empty_feed_has_a_horizon(database: Database) -> None:
    async with database.reading() as connection:
        assert await feed_store.horizon(connection) >= 0
        assert await feed_store.changes(connection, after=0, most=10) == []


async def test_concurrent_readers_see_each_event_once_in_order(database: Database) -> None:
    """Writers of several processes commit in any order. A reader pages at the same time and misses no event."""
    tasks = [a_task() for _ in range(6)]
    await keep(database, *tasks)
    writing = True

    async def write(task: Task) -> None:
        for sequence in range(2, 22):
            async with database.writing() as connection:
                await event_store.record(connection, [event_of(task, sequence)])
                await asyncio.sleep(0.001 * (sequence % 3))

    async def read() -> list[tuple[int, str, int]]:
        found, after = [], 0
        while True:
            last = not writing
            async with database.reading() as connection:
                until = await feed_store.horizon(connection)
                rows = await feed_store.of_client(connection, "default", after=after, most=1000)
            found += [(each.id, str(each.task.id), each.sequence) for each in rows if each.id <= until]
            after = max(after, until)
            if last:
                return found
            await asyncio.sleep(0.002)

    readers = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.gather(*map(write, tasks))
    writing = False
    for seen in await asyncio.gather(*readers):
        assert [number for number, _, _ in seen] == sorted({number for number, _, _ in seen})
        for task in tasks:
            assert [sequence for _, of_task, sequence in seen if of_task == str(task.id)] == list(range(2, 22))


# ── what is in it ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_feed_matches_webhooks_and_tasks(world: World, api: httpx.AsyncClient) -> None:
    first = await world.submit("a dove")
    second = await world.submit("[fail] a dove")
    await world.until(JOB_SECONDS * 2)
    events = await all_of(api, limit=2)
    assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
    for task in (first, second):
        own = [event for event in events if event["task_id"] == str(task.id)]
        [end] = [event for event in own if event["type"] in ENDS]
        messages = [each.message for each in await world.events(task) if each.message is not None]
        assert [event["type"] for event in own] == messages
        assert [event["sequence"] for event in own] == sorted(event["sequence"] for event in own)
        shown = (await api.get(f"/v1/tasks/{task.id}")).json()
        assert {**own[-1]["data"], "client": "default"} == shown
        [webhook] = await world.messages(task)
        body = orjson.loads(webhook.body)
        assert {name: end[name] for name in ("type", "timestamp", "sequence", "data")} == {
            name: body[name] for name in ("type", "timestamp", "sequence", "data")
        }
    assert {event["type"] for event in events} <= set(TYPES)


async def test_filtered_feed_moves_its_cursor(world: World, api: httpx.AsyncClient) -> None:
    await world.submit()
    await world.until(JOB_SECONDS * 2)
    events = await all_of(api)
    wanted = [event for event in events if event["type"] in {"task.submitted", "task.succeeded"}]
    assert len(events) > len(wanted) == 2
    assert await all_of(api, type=["task.submitted", "task.succeeded"], limit=1) == wanted
    nothing = (await api.get("/v1/events", params={"type": "task.failed"})).json()
    assert nothing == {"events": [], "next": events[-1]["id"]}


async def test_large_fields_are_left_out_of_the_feed(world: World, api: httpx.AsyncClient) -> None:
    small = (await api.post("/v1/tasks", json=TASK_REQUEST)).json()
    large = (await api.post("/v1/tasks", json={**TASK_REQUEST, "operation": "image_to_video", "input": LARGE})).json()
    optional = (await api.post("/v1/tasks", json={**TASK_REQUEST, "options": {"image": LARGE["image"]}})).json()
    await world.work()
    shown = {event["task_id"]: event["data"] for event in await all_of(api)}
    assert "truncated" not in shown[small["id"]]
    assert shown[small["id"]]["input"] == TASK_REQUEST["input"]
    assert (shown[large["id"]]["truncated"], LARGE["image"] in str(shown[large["id"]])) == (True, False)
    assert (shown[optional["id"]]["truncated"], LARGE["image"] in str(shown[optional["id"]])) == (True, False)
    assert shown[optional["id"]]["input"] == TASK_REQUEST["input"]
    assert all(len(orjson.dumps(data)) < MAX_BRIEF for data in shown.values())
    assert (await api.get(f"/v1/tasks/{large['id']}")).json()["input"]["image"] == LARGE["image"]


async def test_large_fields_are_not_read_for_the_feed(database: Database) -> None:
    """A page of tasks with inputs of 32 MiB each would exceed the memory of the process."""
    task = a_task(input=LARGE, options={"seed": 1})
    await keep(database, task)
    async with database.writing() as connection:
        await event_store.record(connection, [event_of(task, 2)])
    async with database.reading() as connection:
        [[of_client], [of_task]] = [
            await feed_store.of_client(connection, "default", after=0, most=1),
            await feed_store.of_task(connection, task.id, after=0, most=1),
        ]
    assert of_client == of_task
    assert (of_client.truncated, of_client.task) == (True, dataclasses.replace(task, input={}))


def test_large_task_is_truncated_and_small_one_is_not() -> None:
    small = a_task()
    assert show_task_briefly(small, now=NOW) == show_task(small, now=NOW)
    results = tuple(Result("image", url="data:image/png;base64," + "A" * 5_000) for _ in range(5))
    large = a_task(state=State.SUCCEEDED, input=LARGE, options={"seed": 1}, results=results)
    shown = show_task_briefly(large, now=NOW)
    assert (shown["truncated"], shown["input"], shown["results"]) == (True, {}, [])
    assert len(orjson.dumps(shown)) < MAX_BRIEF
    fitting = show_task_briefly(dataclasses.replace(large, results=results[:1]), now=NOW)
    assert (fitting["input"], fitting["options"], len(fitting["results"])) == ({}, {"seed": 1}, 1)
    assert show_task_briefly(small, now=NOW, truncated=True) == {
        **show_task(small, now=NOW),
        "truncated": True,
        "url": f"/v1/tasks/{small.id}",
    }
    schema = {**DOCUMENT["components"]["schemas"]["Task"], "components": DOCUMENT["components"]}
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(shown)


async def test_feed_is_isolated_by_client(database_url: str) -> None:
    keys = {name: f"{name}-key-that-is-long-enough" for name in ("alice", "bob")}
    async with World.opened(database_url, DOVECOTE_API_KEYS=",".join(f"{a}={b}" for a, b in keys.items())) as world:
        ids = {}
        for name, key in keys.items():
            world.client.headers["Authorization"] = f"Bearer {key}"
            ids[name] = (await world.client.post("/v1/tasks", json=TASK_REQUEST)).json()["id"]
        await world.work()
        for name, key in keys.items():
            world.client.headers["Authorization"] = f"Bearer {key}"
            assert {event["task_id"] for event in await all_of(world.client)} == {ids[name]}


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "9223372036854775808", "99999999999999999999", "", "١"])
async def test_invalid_cursor_is_rejected(api: httpx.AsyncClient, after: str) -> None:
    answer = await api.get("/v1/events", params={"after": after})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "after")


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/stream"])
async def test_cursor_of_an_earlier_version_is_an_error_that_names_the_newest(
    world: World, api: httpx.AsyncClient, path: str
) -> None:
    await world.submit()
    await world.work()
    newest = (await api.get("/v1/events")).json()["next"]
    for number in (1, 2, 4711, 2**63 - 1):
        answer = await api.get(path, params={"after": str(number)})
        assert (answer.status_code, answer.json()["code"]) == (409, "cursor_unknown")
        assert answer.json()["newest"] == newest
    assert (await api.get("/v1/events", params={"after": newest})).json() == {"events": [], "next": newest}


async def _restore(world: World, newest: int) -> None:
    """Delete the events after a number, as a restore from a backup does, and begin a new history."""
    async with world.context.database.writing() as connection:
        await connection.execute(text("DELETE FROM events WHERE id > :newest"), {"newest": newest})
        if not world.context.database.sqlite:
            await connection.execute(text("SELECT setval('events_id_seq', :newest)"), {"newest": newest})
        await feed_flow.begin_epoch(connection, now=world.context.now())


async def test_cursor_issued_after_the_backup_is_refused_however_many_events_follow(
    world: World, api: httpx.AsyncClient
) -> None:
    await world.submit()
    await world.work()
    kept = (await api.get("/v1/events")).json()["next"]
    async with world.context.database.reading() as connection:
        backup = await feed_store.newest(connection)
    await world.submit()
    await world.until(JOB_SECONDS * 2)
    lost = [event["id"] for event in await all_of(api, after=kept)]
    await _restore(world, backup)
    for _ in range(4):  # the numbers of the lost events are assigned anew
        await world.submit()
    await world.until(JOB_SECONDS * 2)
    following = await all_of(api, after=kept)
    assert following
    assert not {event["id"] for event in following} & set(lost)
    for cursor in lost:
        for path, headers in (("/v1/events", {}), ("/v1/events/stream", {"Last-Event-ID": cursor})):
            answer = await api.get(path, params={"after": cursor}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (409, "cursor_unknown")
            assert answer.json()["newest"] == following[-1]["id"]


async def test_cursor_ahead_of_the_newest_event_is_refused_also_where_no_restore_was_noticed(
    world: World, api: httpx.AsyncClient
) -> None:
    await world.submit()
    await world.work()
    page = (await api.get("/v1/events")).json()
    async with world.context.database.writing() as connection:
        await connection.execute(text("DELETE FROM events"))
        if not world.context.database.sqlite:
            await connection.execute(text("SELECT setval('events_id_seq', 1, false)"))
    answer = await api.get("/v1/events", params={"after": page["next"]})
    assert (answer.status_code, answer.json()["newest"]) == (409, "0")


async def test_cursors_reveal_nothing_about_other_clients(database_url: str) -> None:
    keys = {name: f"{name}-key-that-is-long-enough" for name in ("alice", "bob")}
    async with World.opened(database_url, DOVECOTE_API_KEYS=",".join(f"{a}={b}" for a, b in keys.items())) as world:
        alice, bob = ({"Authorization": f"Bearer {key}"} for key in keys.values())

        async def next_of(who: dict[str, str], **query: Any) -> tuple[int, str]:
            answer = await world.client.get("/v1/events", headers=who, params=query)
            return answer.status_code, answer.json().get("next", answer.json().get("newest"))

        await world.client.post("/v1/tasks", json=TASK_REQUEST, headers=alice)
        await world.until(JOB_SECONDS * 2)
        before = [await next_of(alice), await next_of(alice, type="task.failed")]
        assert before[0] == before[1]
        assert await next_of(bob) == (200, "0")
        for _ in range(5):
            await world.client.post("/v1/tasks", json=TASK_REQUEST, headers=bob)
        await world.until(JOB_SECONDS * 2)
        assert [await next_of(alice), await next_of(alice, type="task.failed")] == before
        assert await next_of(alice, after=before[0][1], type="task.failed") == before[0]
        assert (await next_of(bob, after=before[0][1]))[0] == 409  # a client's cursor is of no use to another


# ── waiting ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def waiting_at(world: World, topic: Any, count: int = 1) -> None:
    async with asyncio.timeout(LIMIT):
        while len(world.context.signals._watchers.get(topic, ())) < count:  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(0.005)


async def test_long_poll_is_answered_by_the_first_event(world: World, api: httpx.AsyncClient) -> None:
    asked = asyncio.create_task(api.get("/v1/events", params={"wait": 30, "type": "task.succeeded"}))
    await waiting_at(world, feed_of("default"))
    await world.submit()
    await world.until(JOB_SECONDS * 2)
    async with asyncio.timeout(LIMIT / 3):  # the long poll itself would end later, with an empty answer
        page = (await asked).json()
    assert [event["type"] for event in page["events"]] == ["task.succeeded"]


async def test_long_poll_without_events_ends_in_time(api: httpx.AsyncClient) -> None:
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(LIMIT):
        assert (await api.get("/v1/events", params={"wait": 1})).json()["events"] == []
    assert asyncio.get_running_loop().time() - started > 0.9


async def test_missed_notification_is_caught_up(world: World, api: httpx.AsyncClient) -> None:
    task = await world.submit()
    await world.work()
    seen = await catchup.catch_up(world.context, None)
    signals = world.context.signals
    asks = [
        asyncio.create_task(api.get(f"/v1/tasks/{task.id}", params={"wait": 30})),
        asyncio.create_task(api.get("/v1/events", params={"wait": 30, "type": "task.succeeded"})),
    ]
    for topic in (task.id, feed_of("default")):
        await waiting_at(world, topic)
    signals.changed = lambda *_: None  # type: ignore[method-assign] - as if another process had written it, unheard
    await world.until(JOB_SECONDS * 2)
    await asyncio.sleep(0.05)
    assert not any(ask.done() for ask in asks)
    assert await catchup.catch_up(world.context, seen) > seen
    async with asyncio.timeout(LIMIT):
        single, page = [(await ask).json() for ask in asks]
    assert single["state"] == "succeeded"
    assert page["events"][0]["data"]["state"] == "succeeded"


async def test_many_changes_wake_every_watcher(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = await catchup.catch_up(world.context, None)
    await world.submit()
    await world.until(JOB_SECONDS * 2)
    monkeypatch.setattr(catchup, "MAX_CHANGES", 1)
    with world.context.signals.watching("anything") as told_of:
        await catchup.catch_up(world.context, seen)
        assert told_of.is_set()


async def test_idle_waiters_do_not_query_the_database(world: World, api: httpx.AsyncClient) -> None:
    from sqlalchemy import event

    task = await world.submit()
    asks = [asyncio.create_task(api.get(f"/v1/tasks/{task.id}", params={"wait": 50})) for _ in range(100)]
    await waiting_at(world, task.id, count=100)
    await until_idle(world.context.database)
    statements: list[str] = []
    event.listen(
        world.context.database.reader.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2])
    )
    await asyncio.sleep(0.2)
    assert statements == []
    for ask in asks:
        ask.cancel()
    await asyncio.gather(*asks, return_exceptions=True)


async def test_waiters_are_released_at_shutdown(world: World, api: httpx.AsyncClient) -> None:
    task = await world.submit()
    asks = [
        asyncio.create_task(api.get(f"/v1/tasks/{task.id}", params={"wait": 60})),
        asyncio.create_task(api.get("/v1/events", params={"wait": 60})),
    ]
    for topic in (task.id, feed_of("default")):
        await waiting_at(world, topic)
    world.context.signals.close()
    async with asyncio.timeout(LIMIT):
        assert [answer.status_code for answer in await asyncio.gather(*asks)] == [200, 200]
