"""Kept results: in the end each file is kept with the right hash, or lost with the reason; the outcome never changes."""

import datetime as dt
import zlib
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest
from sqlalchemy import func, select

from service.domain.kept import FETCH_BACKOFF, GONE_FOR
from service.domain.task import Result, State
from service.flows.assets import keep
from service.flows.concurrency import TaskPool
from service.object_errors import StorageError, StorageFull
from service.store import asset_claims, tables
from tests.support.kept_results import Files, assets_of, ended_with, finished, keeping, names, sha256, stored
from tests.support.world import World

HOUR = 3600.0


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with keeping(database_url) as opened:
        yield opened


async def test_file_of_a_finished_task_is_kept(world: World) -> None:
    task = await finished(world, "[filebytes=3000000]")
    result, asset = task.results[0], (await assets_of(world, task))[0]
    assert task.state is State.SUCCEEDED
    assert result.kept is not None
    assert (result.kept.state, result.kept.size, result.kept.media_type) == ("kept", 3_000_000, "video/mp4")
    assert result.kept.sha256 == asset.sha256 == sha256("mp4", 3_000_000)
    assert len(await stored(world, asset.object)) == 3_000_000
    kinds = [event.type for event in await world.events(task)]
    assert kinds[-1] == "results_kept"
    assert "succeeded" in kinds


async def test_verdict_is_sent_before_the_file_is_fetched(world: World) -> None:
    task = await finished(world, "[filegone=0]")
    assert task.state is State.SUCCEEDED
    assert [each.type for each in world.receiver.received] == ["task.succeeded"]


@pytest.mark.parametrize(
    "prompt",
    [
        "[filereset=3][filebytes=5000000]",
        "[file503=3]",
        "[filechunked][filebytes=900000]",
        "[filereset=1][filechunked][filebytes=900000]",
    ],
    ids=["reset", "unavailable", "chunked", "chunked-reset"],
)
async def test_file_with_trouble_is_kept_in_the_end(world: World, prompt: str) -> None:
    task = await finished(world, prompt)
    await world.until(HOUR)
    result = (await world.task(task)).results[0]
    assert result.kept is not None
    assert result.kept.state == "kept"
    assert result.kept.sha256 == sha256("mp4", result.kept.size or 0)
    objects = [each.object for each in await assets_of(world, task)]
    assert await names(world) == sorted(f"{name}{suffix}" for name in objects for suffix in ("", ".json"))


async def test_file_is_resumed_where_its_connection_broke(world: World) -> None:
    await finished(world, "[filereset=3][filebytes=5000000]")
    asked = [each.headers.get("range") for each in world.edge.requests if "/sandbox/files/" in each.url.path]
    assert len([each for each in asked if each is not None]) == 3
    assert len([each for each in asked if each is None]) == 3


async def test_file_that_is_gone_is_lost_and_the_task_stays_succeeded(world: World) -> None:
    task = await finished(world, "[filegone=0]")
    await world.until(3 * GONE_FOR)
    task = await world.task(task)
    result = task.results[0]
    assert result.kept is not None
    assert (result.kept.state, result.kept.lost_because) == ("lost", "HTTP 404")
    assert (task.state, task.failure) == (State.SUCCEEDED, None)
    assert await names(world) == []
    assert world.sandbox.ledger.paid() == 1


async def test_page_in_place_of_a_film_is_no_film(world: World) -> None:
    task = await finished(world, "[filepage]")
    await world.until(3 * GONE_FOR)
    result = (await world.task(task)).results[0]
    assert result.kept is not None
    assert (result.kept.state, result.kept.lost_because) == ("lost", "it is of the type text/html and no video")


async def test_length_that_is_a_lie_is_noticed(database_url: str) -> None:
    async with keeping(database_url, DOVECOTE_RESULTS__RETRY_FOR="1h") as world:
        task = await finished(world, "[fileshort][filebytes=500000]")
        await world.until(2 * HOUR)
        result = (await world.task(task)).results[0]
        assert result.kept is not None
        assert result.kept.state == "lost"
        assert await names(world) == []


async def test_answer_that_cannot_be_read_is_tried_again_with_pauses_and_not_for_ever(database_url: str) -> None:
    async def absurd(_: httpx.Request) -> httpx.Response:
        headers = {"content-length": "9" * 5000}  # more digits than Python reads as a number
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"\x00\x00\x00\x18ftypisom"))

    async with keeping(database_url, DOVECOTE_RESULTS__RETRY_FOR="1h") as world:
        world.edge.hosts["cdn.test"] = httpx.MockTransport(absurd)
        task = await ended_with(world, Result("video", "http://cdn.test/file"))
        [asset] = await assets_of(world, task)
        assert (asset.state, asset.attempts) == ("pending", 1)
        assert asset.due_at == world.clock.now + dt.timedelta(seconds=FETCH_BACKOFF[0])
        await world.until(HOUR + 1)
        assert [each.state for each in await assets_of(world, task)] == ["lost"]


@pytest.mark.parametrize(
    "prompt", ["[filebytes=3000000]", "[filebytes=3000000][filechunked]"], ids=["stated", "unstated"]
)
async def test_file_beyond_the_limit_is_lost_at_once(database_url: str, prompt: str) -> None:
    async with keeping(database_url, DOVECOTE_RESULTS__MAX_FILE="1000000") as world:
        task = await finished(world, prompt)
        result = task.results[0]
        assert result.kept is not None
        assert result.kept.state == "lost"
        assert "limit of 1000000" in (result.kept.lost_because or "")
        assert await names(world) == []


async def test_file_that_unpacks_beyond_the_limit_is_lost_and_takes_little_memory(database_url: str) -> None:
    packer = zlib.compressobj(wbits=31)
    packed = b"".join([*(packer.compress(bytes(2**20)) for _ in range(64)), packer.flush()])
    answered: list[int] = []

    def bomb(_: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            for start in range(0, len(packed), 1000):
                answered.append(start)
                yield packed[start : start + 1000]

        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=body())

    async with keeping(database_url, DOVECOTE_RESULTS__MAX_FILE="3000000") as world:
        world.edge.hosts["cdn.test"] = Files({"/file": bomb})
        task = await ended_with(world, Result("video", "http://cdn.test/file"))
        [result] = task.results
        assert result.kept is not None
        assert (result.kept.state, result.kept.lost_because) == ("lost", "it has more bytes than the limit of 3000000")
        assert await names(world) == []
    assert len(answered) < 20  # of 66: the rest was not fetched


async def test_storage_that_fails_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = world.context.objects
    assert objects is not None
    real, failures = (
        type(objects).put,
        [StorageError("the server answered 503"), StorageFull("no space left"), StorageError("x")],
    )

    async def put(*given: object, **named: object) -> object:
        if failures:
            raise failures.pop()
        return await real(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(type(objects), "put", put)
    task = await finished(world)
    errors = {(each.state, each.last_error) for each in await assets_of(world, task)}
    assert ("pending", "the storage failed: x") in errors
    await world.until(HOUR)
    assert {each.kept and each.kept.state for each in (await world.task(task)).results} == {"kept"}


async def test_storage_that_stops_after_a_later_attempt_costs_no_copy(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    objects = world.context.objects
    assert objects is not None
    real, failures = type(objects).put, [StorageError("x")]

    async def put(*given: object, **named: object) -> object:
        if failures:
            raise failures.pop()
        return await real(*given, **named)  # type: ignore[arg-type]

    async def stopped(*_: object) -> AsyncIterator[object]:
        raise StorageError("the storage is away")
        yield

    monkeypatch.setattr(type(objects), "put", put)
    monkeypatch.setattr(type(objects), "list", stopped)
    task = await finished(world)
    await world.until(HOUR)
    result = (await world.task(task)).results[0]
    assert result.kept is not None
    assert result.kept.state == "kept"
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []
    assert "files of earlier attempts not deleted" in caplog.text


async def test_settings_decide_what_is_kept(database_url: str) -> None:
    async with keeping(database_url, DOVECOTE_RESULTS__FAMILIES="suno") as world:
        task = await finished(world)
        assert {each.kept for each in task.results} == {None}
        assert await assets_of(world, task) == []


async def test_callback_url_may_wait_until_results_are_kept(world: World) -> None:
    task = await finished(world, "[file503=1]", callback_when="kept")
    assert task.state is State.SUCCEEDED
    assert world.receiver.received == []
    await world.until(60)
    [message] = [orjson.loads(each.body) for each in await world.messages(task)]
    assert message["type"] == "task.succeeded"
    result = message["data"]["results"][0]
    assert result["kept"] == "kept"
    assert result["content_url"] == f"http://dovecote.test/v1/tasks/{task.id}/results/0/content"


async def test_failed_task_without_files_is_reported_at_once(world: World) -> None:
    await finished(world, "[fail]", callback_when="kept")
    assert [each.type for each in world.receiver.received] == ["task.failed"]


async def test_claim_of_a_dead_process_is_taken_over(world: World) -> None:
    """The first process claims the file and dies; the second one keeps it, and removes what the first one stored."""
    task = await finished(world, "[file503=1]")
    storage = world.context.objects
    assert storage is not None
    asset = next(each for each in await assets_of(world, task) if each.state == "pending")

    async def half() -> AsyncIterator[bytes]:
        yield b"half of it"

    await storage.put(f"results/{task.id}/{asset.id}-1", half(), limit=100)
    await world.until(HOUR)
    objects = {each.id: each.object for each in await assets_of(world, task)}
    assert objects[asset.id] == f"results/{task.id}/{asset.id}-2"
    assert await names(world) == sorted(f"{name}{suffix}" for name in objects.values() for suffix in ("", ".json"))


async def test_known_expiry_is_first_in_line(world: World) -> None:
    world.edge.down.add("sandbox.test")
    soon, later = world.clock.now + dt.timedelta(hours=1), world.clock.now + dt.timedelta(days=1)
    from service.store.assets import Asset, add

    ids = [world.context.new_id() for _ in range(3)]
    made = [
        Asset(id=id_, task_id=id_, expires_at=at, created_at=world.clock.now, due_at=world.clock.now)
        for id_, at in zip(ids, [None, later, soon], strict=True)
    ]
    async with world.context.database.writing() as connection:
        await add(connection, made)
        claimed = []
        for _ in ids:
            [row] = await asset_claims.claim_assets(connection, now=world.clock.now, until=later, most=1)
            claimed.append(row.id)
    assert claimed == [ids[2], ids[1], ids[0]]


async def test_new_result_does_not_wait_behind_deletions(world: World) -> None:
    """Retention makes many copies due to be deleted at once. Those of results that expired come first by every time."""
    world.edge.down.add("sandbox.test")
    now, past = world.clock.now, world.clock.now - dt.timedelta(days=90)
    deleted, new = [world.context.new_id() for _ in range(40)], [world.context.new_id() for _ in range(20)]
    rows = [
        {"id": each, "task_id": each, "state": "deleting", "expires_at": past, "created_at": past, "due_at": past}
        for each in deleted
    ]
    rows += [
        {"id": each, "task_id": each, "state": "pending", "expires_at": None, "created_at": now, "due_at": now}
        for each in new
    ]
    concurrency = world.context.settings.results.concurrency
    pool = TaskPool(concurrency + keep.DELETIONS)
    async with world.context.database.writing() as connection:
        await connection.execute(tables.assets.insert(), rows)
    assert await keep.run_due(world.context, pool) == concurrency + keep.DELETIONS
    async with world.context.database.reading() as connection:
        claimed = set(await connection.scalars(select(tables.assets.c.id).where(tables.assets.c.due_at > now)))
    assert len(claimed & set(new)) == concurrency
    await pool.finish()
    async with world.context.database.reading() as connection:
        left = select(func.count()).select_from(tables.assets).where(tables.assets.c.id.in_(deleted))
        assert await connection.scalar(left) == len(deleted) - keep.DELETIONS


async def test_key_goes_to_the_upstream_only(world: World) -> None:
    await finished(world)
    requests = [each for each in world.edge.requests if "/sandbox/files/" in each.url.path]
    assert [request.headers["authorization"] for request in requests] == ["Bearer sandbox-key"] * 3


async def test_foreign_host_gets_no_key(world: World) -> None:
    seen: list[httpx.Request] = []

    class Elsewhere(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(200, stream=httpx.ByteStream(b"\x00\x00\x00\x18ftypisom"))

    real = world.edge.hosts["sandbox.test"]

    class Redirecting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if "/sandbox/files/" not in request.url.path:
                return await real.handle_async_request(request)
            return httpx.Response(302, headers={"Location": "http://cdn.test/film.mp4"}, stream=httpx.ByteStream(b""))

    world.edge.hosts |= {"sandbox.test": Redirecting(), "cdn.test": Elsewhere()}
    task = await finished(world)
    result = task.results[0]
    assert result.kept is not None
    assert result.kept.state == "kept"
    assert [request.headers.get("authorization") for request in seen] == [None] * 3


async def test_late_result_is_kept_too(world: World) -> None:
    """Dovecote gives a task up; the provider's later result is kept."""
    task = await world.submit("[drop][seconds=600]", deadline=60)
    await world.until(120)
    assert (await world.task(task)).state is State.EXPIRED
    await world.until(4000)
    task = await world.task(task)
    assert task.state is State.SUCCEEDED
    assert {each.kept.state for each in task.results if each.kept} == {"kept"}


async def test_file_that_expires_in_the_middle_is_lost_and_nothing_of_it_is_kept(world: World) -> None:
    def expiring(request: httpx.Request) -> httpx.Response:
        if "Range" in request.headers or len(files.requests) > 1:
            return httpx.Response(403, stream=httpx.ByteStream(b"<Error>Request has expired</Error>"))

        async def half() -> AsyncIterator[bytes]:
            yield b"\0\0\0\x18ftypmp42" + bytes(500_000)
            raise httpx.ReadError("reset")

        return httpx.Response(200, headers={"Content-Length": "1000000", "ETag": '"1"'}, content=half())

    files = world.edge.hosts["cdn.test"] = Files({"/file": expiring})
    task = await ended_with(world, Result("video", "http://cdn.test/file"))
    assert files.requests[1].headers["Range"] == "bytes=500012-"
    await world.until(3 * GONE_FOR)
    [result] = (await world.task(task)).results
    assert result.kept is not None
    assert (result.kept.state, result.kept.lost_because) == ("lost", "HTTP 403")
    assert await names(world) == []


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "not stated"])
async def test_two_gigabytes_where_fifty_megabytes_are_allowed_are_not_fetched(
    sqlite_url: str, *, stated: bool
) -> None:
    sent: list[int] = []

    def huge(_: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            for number in range(2048):
                sent.append(number)
                yield bytes(2**20)

        return httpx.Response(200, headers={"Content-Length": str(2**31)} if stated else {}, content=body())

    async with keeping(sqlite_url, DOVECOTE_RESULTS__MAX_FILE=str(50 * 10**6)) as world:
        world.edge.hosts["cdn.test"] = Files({"/file": huge})
        [result] = (await ended_with(world, Result("video", "http://cdn.test/file"))).results
        assert result.kept is not None
        assert result.kept.state == "lost"
        assert "the limit of 50000000" in (result.kept.lost_because or "")
        assert await names(world) == []
    assert len(sent) < 60 if not stated else not sent
