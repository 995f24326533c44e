"""Uploads: a file arrives in parts, is known by its bytes, belongs to one client, has a quota, and expires."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from service.flows.assets import uploads
from service.objects import Objects
from tests.support.loop_clock import LoopClock
from tests.support.media import PNG
from tests.support.world import World

KEYS = {"DOVECOTE_API_KEYS": "shop=a-key-of-the-shop-0001,blog=a-key-of-the-blog-0001", "DOVECOTE_OPERATORS": ""}
SHOP, BLOG = ({"Authorization": f"Bearer a-key-of-the-{name}-0001"} for name in ("shop", "blog"))


async def objects_in(objects: Objects) -> list[str]:
    return [each.name async for each in objects.list()]


async def upload(world: World, content: bytes = PNG, **more: str) -> httpx.Response:
    return await world.client.post("/v1/uploads", content=content, params=more)


async def test_file_is_stored_and_known_by_its_bytes(database_url: str) -> None:
    async with World.opened(database_url) as world:
        answer = await world.client.post("/v1/uploads?name=cat.txt", content=PNG, headers={"Content-Type": "text/html"})
        made = answer.json()
        assert answer.status_code == 201
        assert answer.headers["location"] == f"uploads/{made['id']}"
        assert (made["content_type"], made["size"], made["name"]) == ("image/png", len(PNG), "cat.txt")
        assert made["sha256"] == hashlib.sha256(PNG).hexdigest()
        assert (await world.client.get(f"/v1/uploads/{made['id']}")).json() == made
        assert (await world.client.get("/v1/uploads")).json() == {"uploads": [made], "next": None}


async def test_file_arrives_in_parts_without_a_stated_length(sqlite_url: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"\xff\xd8\xff" + bytes(20_000)

    async with World.opened(sqlite_url) as world:
        made = (await world.client.post("/v1/uploads", content=parts())).json()
        assert (made["content_type"], made["size"]) == ("image/jpeg", 100 * 20_003)


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "streamed"])
async def test_file_above_the_limit_leaves_nothing_behind(database_url: str, *, stated: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield bytes(1000)

    async with World.opened(database_url, DOVECOTE_UPLOADS__MAX_SIZE="5000") as world:
        answer = await world.client.post("/v1/uploads", content=bytes(8000) if stated else parts())
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert (await world.client.get("/v1/uploads")).json()["uploads"] == []
        assert world.context.objects is not None
        assert await objects_in(world.context.objects) == []


async def test_quota_counts_what_arrives_at_the_same_time(database_url: str) -> None:
    quota = {"DOVECOTE_UPLOADS__QUOTA": "10000", "DOVECOTE_UPLOADS__MAX_SIZE": "10000"}
    async with World.opened(database_url, **quota) as world:
        answers = await asyncio.gather(*(upload(world, bytes(4000)) for _ in range(4)))
        assert sorted(each.status_code for each in answers) == [201, 201, 409, 409]
        refused = next(each for each in answers if each.status_code == 409)
        assert refused.json()["code"] == "quota_reached"
        stored = (await world.client.get("/v1/uploads")).json()["uploads"]
        assert (await world.client.delete(f"/v1/uploads/{stored[0]['id']}")).status_code == 200
        assert (await upload(world, bytes(4000))).status_code == 201


async def test_upload_belongs_to_its_client(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **KEYS) as world:
        made = (await world.client.post("/v1/uploads", content=PNG, headers=SHOP)).json()
        path = f"/v1/uploads/{made['id']}"
        assert (await world.client.get(path, headers=BLOG)).status_code == 404
        assert (await world.client.delete(path, headers=BLOG)).status_code == 404
        assert (await world.client.get("/v1/uploads", headers=BLOG)).json()["uploads"] == []
        assert (await world.client.get(path, headers=SHOP)).status_code == 200


async def test_list_has_pages(database_url: str) -> None:
    async with World.opened(database_url) as world:
        made = [(await upload(world, PNG + bytes([number]))).json()["id"] for number in range(5)]
        first = (await world.client.get("/v1/uploads?limit=3")).json()
        second = (await world.client.get(f"/v1/uploads?limit=3&cursor={first['next']}")).json()
        found = [each["id"] for page in (first, second) for each in page["uploads"]]
        assert (found, second["next"]) == (made[::-1], None)
        assert (await world.client.get("/v1/uploads?cursor=upl_x")).status_code == 422


async def test_expired_upload_is_gone_with_its_object(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_UPLOADS__KEEP="2h") as world:
        made = (await upload(world)).json()
        assert world.context.objects is not None
        assert len(await objects_in(world.context.objects)) == 1
        world.clock.forward(3600)
        assert await uploads.expire_due(world.context) == 0
        world.clock.forward(3700)
        assert (await world.client.get(f"/v1/uploads/{made['id']}")).status_code == 404
        assert await uploads.expire_due(world.context) == 1
        assert await objects_in(world.context.objects) == []
        assert await uploads.expire_due(world.context) == 0


async def test_upload_that_cannot_be_deleted_now_is_deleted_later(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, DOVECOTE_UPLOADS__KEEP="1h") as world:
        await upload(world)
        world.clock.forward(3700)
        objects, world.context.objects = world.context.objects, None
        claimed = await world.context.writers.journeys.run(
            uploads.upload_store.claim_expired, now=world.context.now(), most=10
        )
        assert len(claimed) == 1, "the process dies here"
        world.context.objects = objects
        assert await uploads.expire_due(world.context) == 0, "another process may be deleting it"
        world.clock.forward(301)
        assert await uploads.expire_due(world.context) == 1


NO_FILES: list[tuple[bytes, dict[str, str], int]] = [
    (b"", {}, 422),
    (b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
    (PNG, {"Content-Encoding": "gzip"}, 415),
]


async def test_body_that_is_no_file_is_refused(sqlite_url: str) -> None:
    async with World.opened(sqlite_url) as world:
        for content, headers, status in NO_FILES:
            assert (await world.client.post("/v1/uploads", content=content, headers=headers)).status_code == status
        assert (await world.client.get("/v1/uploads")).json()["uploads"] == []


async def test_upload_without_a_storage_says_what_to_set(sqlite_url: str) -> None:
    async with World.opened(sqlite_url) as world:
        world.context.objects = None
        answer = await upload(world)
        assert (answer.status_code, answer.json()["code"]) == (409, "no_storage")
        assert "storage.url" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("size", "status"), [(1000, 408), (10_000_000, 201)], ids=["a trickle", "a film over a slow line"]
)
async def test_file_that_trickles_is_refused_and_a_slow_one_is_not(sqlite_url: str, size: int, status: int) -> None:
    async with World.opened(sqlite_url) as world:
        clock = LoopClock()

        async def parts() -> AsyncIterator[bytes]:
            yield PNG
            for _ in range(30):
                clock.forward(15.0)  # each pause is a permitted one
                yield bytes(size // 30)

        answer = await world.client.post("/v1/uploads", content=parts())
        assert answer.status_code == status, answer.text
        assert world.context.objects is not None
        assert len(await objects_in(world.context.objects)) == (status == 201)
