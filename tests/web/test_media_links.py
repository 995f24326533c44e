"""The links by which providers fetch media: ranges, HEAD, types in which no script runs, and tokens that cannot be guessed."""

import httpx
import pytest

from service.app import callback_application
from service.domain.media_references import upload_id
from service.flows.assets.media_links import link_to
from service.store import uploads as upload_store
from service.web.file_response import wanted_range
from tests.support.media import MP4, PNG
from tests.support.world import PUBLIC_URL, World


async def linked(world: World, content: bytes) -> str:
    """Upload a file; return the path of its link."""
    made = (await world.client.post("/v1/uploads", content=content)).json()["id"]
    wanted = upload_id(made)
    assert wanted is not None
    async with world.context.database.reading() as connection:
        stored = (await upload_store.by_id(connection, [wanted]))[wanted]
    url = await link_to(world.context, stored)
    assert url.startswith(f"{PUBLIC_URL}/callbacks/media/")
    return url.removeprefix(PUBLIC_URL)


async def test_link_serves_the_file_whole_and_in_part(database_url: str) -> None:
    async with World.opened(database_url) as world:
        path = await linked(world, MP4)
        assert path.endswith("/input.mp4")
        whole = await world.client.get(path)
        assert (whole.status_code, whole.content) == (200, MP4)
        assert (whole.headers["content-type"], whole.headers["accept-ranges"]) == ("video/mp4", "bytes")
        head = await world.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert (head.headers["content-length"], head.headers["content-type"]) == (str(len(MP4)), "video/mp4")
        part = await world.client.get(path, headers={"Range": "bytes=4-11"})
        assert (part.status_code, part.content) == (206, MP4[4:12])
        assert part.headers["content-range"] == f"bytes 4-11/{len(MP4)}"
        last = await world.client.get(path, headers={"Range": "bytes=-8"})
        assert (last.status_code, last.content) == (206, MP4[-8:])
        beyond = await world.client.get(path, headers={"Range": f"bytes={len(MP4)}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(MP4)}")
        known = await world.client.get(path, headers={"If-None-Match": whole.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        other = await world.client.get(path, headers={"Range": "bytes=0-1", "If-Range": '"another"'})
        assert (other.status_code, other.content) == (200, MP4)


@pytest.mark.parametrize(
    "content", [b"<html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"]
)
async def test_file_with_a_script_cannot_run_it(sqlite_url: str, content: bytes) -> None:
    async with World.opened(sqlite_url) as world:
        served = await world.client.get(await linked(world, content))
        assert served.content == content
        assert "sandbox" in served.headers["content-security-policy"]
        assert served.headers["x-content-type-options"] == "nosniff"
        assert served.headers["content-disposition"].startswith("attachment")
        assert served.headers["content-type"] != "text/html"


async def test_forged_token_is_refused(sqlite_url: str) -> None:
    async with World.opened(sqlite_url) as world:
        path = await linked(world, PNG)
        token = path.split("/")[3]
        callback = world.context.tokens.make(world.context.new_id())
        forged = [token[:-1] + ("A" if token[-1] != "A" else "B"), token.upper(), token + "A", "x", callback]
        for each in forged:
            answer = await world.client.get(f"/callbacks/media/{each}/input.png")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), each


async def test_token_of_a_link_is_none_of_a_callback(sqlite_url: str) -> None:
    async with World.opened(sqlite_url) as world:
        token = (await linked(world, PNG)).split("/")[3]
        assert (await world.client.post(f"/callbacks/{token}", content=b"{}")).status_code == 404


async def test_link_ends_with_the_upload(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_UPLOADS__KEEP="1h") as world:
        path = await linked(world, PNG)
        world.clock.forward(3500)
        assert (await world.client.get(path)).status_code == 200
        world.clock.forward(200)
        assert (await world.client.get(path)).status_code == 404


async def test_object_that_is_missing_or_cut_is_not_served(sqlite_url: str) -> None:
    async with World.opened(sqlite_url) as world:
        path = await linked(world, PNG)
        assert world.context.objects is not None
        [stored] = [each.name async for each in world.context.objects.list()]

        async def half():  # type: ignore[no-untyped-def]
            yield PNG[:10]

        await world.context.objects.put(stored, half(), limit=100)
        assert (await world.client.get(path)).status_code == 404
        await world.context.objects.delete([stored])
        assert (await world.client.get(path)).status_code in {404, 503}


async def test_link_works_on_the_port_of_callbacks(sqlite_url: str) -> None:
    async with World.opened(sqlite_url) as world:
        path = await linked(world, PNG)
        transport = httpx.ASGITransport(callback_application(world.context))
        async with httpx.AsyncClient(transport=transport, base_url="http://callbacks.test") as client:
            assert (await client.get(path)).content == PNG
            assert (await client.get("/v1/uploads")).status_code == 404


@pytest.mark.parametrize(
    ("stated", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 10)),
        ("bytes=0-0", (0, 1)),
        ("bytes=3-100", (3, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-100", (0, 10)),
        ("bytes=5-3", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("bytes=-", None),
        ("bytes=\u0663-", None),
    ],
)
def test_range_is_read(stated: str | None, part: tuple[int, int] | None) -> None:
    assert wanted_range(stated, 10) == part


@pytest.mark.parametrize(
    ("stated", "size"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=-0", 10), ("bytes=-5", 0)]
)
def test_range_outside_of_the_file_is_refused(stated: str, size: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - there is no text to compare
        wanted_range(stated, size)
