"""The kept copies of results over HTTP: ranges, conditions, links, and nothing that a browser would run."""

import hashlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest

from service.domain.task import Task
from service.object_errors import StorageError
from tests.support.kept_results import keeping, kept_file, names, stored
from tests.support.world import World

FILM = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 5000
ETAG = f'"{hashlib.sha256(FILM).hexdigest()}"'


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with keeping(database_url) as opened:
        yield opened


@pytest.fixture
async def film(world: World) -> Task:
    return await kept_file(world, FILM)


def address(task: Task, part: str = "content", number: object = 0) -> str:
    return f"/v1/tasks/{task.id}/results/{number}/{part}"


async def test_copy_is_served_whole(world: World, film: Task) -> None:
    answer = await world.client.get(address(film))
    assert (answer.status_code, answer.content) == (200, FILM)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["etag"] == ETAG
    assert answer.headers["content-length"] == str(len(FILM))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == f'inline; filename="runway-{film.id.hex[-12:]}.mp4"'
    shown = (await world.client.get(f"/v1/tasks/{film.id}")).json()["results"][0]
    assert urlsplit(shown["content_url"]).path == address(film)
    assert (shown["kept"], shown["sha256"], shown["size"]) == ("kept", ETAG.strip('"'), len(FILM))
    assert "asset" not in shown


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=1000000-", 1_000_000, len(FILM)),
        ("bytes=-7", len(FILM) - 7, len(FILM)),
        (f"bytes=-{len(FILM) * 2}", 0, len(FILM)),
        (f"bytes=10-{len(FILM) * 2}", 10, len(FILM)),
        ("Bytes = 3 - 4", 3, 5),
    ],
)
async def test_range_is_served(world: World, film: Task, asked: str, start: int, end: int) -> None:
    for condition in ({}, {"If-Range": ETAG}):
        answer = await world.client.get(address(film), headers={"Range": asked, **condition})
        assert (answer.status_code, answer.content) == (206, FILM[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(FILM)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=", "bytes=-", "items=0-1", "bytes=5-1", "bytes=a-b", ""])
async def test_range_that_cannot_be_read_is_ignored(world: World, film: Task, asked: str) -> None:
    answer = await world.client.get(address(film), headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(FILM))


async def test_range_of_another_version_is_ignored(world: World, film: Task) -> None:
    answer = await world.client.get(address(film), headers={"Range": "bytes=0-1", "If-Range": '"another"'})
    assert (answer.status_code, len(answer.content)) == (200, len(FILM))


@pytest.mark.parametrize("asked", [f"bytes={len(FILM)}-", f"bytes={10**17}-", "bytes=-0"])
async def test_range_beyond_the_end_is_refused(world: World, film: Task, asked: str) -> None:
    answer = await world.client.get(address(film), headers={"Range": asked})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(FILM)}"


@pytest.mark.parametrize("condition", [ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*"])
async def test_known_copy_is_not_sent_again(world: World, film: Task, condition: str) -> None:
    answer = await world.client.get(address(film), headers={"If-None-Match": condition})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", ETAG)


async def test_head_has_the_headers_without_the_body(world: World, film: Task) -> None:
    answer = await world.client.head(address(film))
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", str(len(FILM)))
    part = await world.client.head(address(film), headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


SCRIPT = b"<script>fetch('/v1/tasks')</script>"
HOSTILE = {
    "html": (b"<!doctype html><html><body>" + SCRIPT, "text/plain; charset=utf-8"),
    "script": (SCRIPT, "text/plain; charset=utf-8"),
    "xhtml": (
        b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">' + SCRIPT,
        "text/plain; charset=utf-8",
    ),
    "comment": (b"<!-- a picture -->\n<html>" + SCRIPT, "text/plain; charset=utf-8"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg">' + SCRIPT + b"</svg>", "image/svg+xml"),
    "xml-svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">' + SCRIPT + b"</svg>", "image/svg+xml"),
    "pdf": (b"%PDF-1.7 /JavaScript", "application/pdf"),
    "javascript": (b"alert(1)", "text/plain; charset=utf-8"),
    "utf-16": (b"\xff\xfe<\0h\0t\0m\0l\0>\0", "application/octet-stream"),
    "nul": (b"\0<html>" + SCRIPT, "application/octet-stream"),
}


@pytest.mark.parametrize(("content", "served"), HOSTILE.values(), ids=HOSTILE)
async def test_file_with_a_script_runs_nowhere(world: World, content: bytes, served: str) -> None:
    task = await kept_file(world, content, "model")
    link = (await world.client.get(address(task, "link"))).json()["url"]
    for where in (address(task), urlsplit(link).path):
        answer = await world.client.get(where)
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-type"] == served
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert "allow-scripts" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_link_needs_no_key_and_expires(world: World, film: Task) -> None:
    made = (await world.client.get(address(film, "link"), params={"seconds": 60})).json()
    assert made["url"].startswith("http://dovecote.test/results/")
    where = urlsplit(made["url"]).path
    answer = await world.client.get(where, headers={"Range": "bytes=0-3", "Authorization": "Bearer none"})
    assert (answer.status_code, answer.content) == (206, FILM[:4])
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    world.clock.forward(60)
    assert (await world.client.get(where)).json()["code"] == "link_expired"


@pytest.mark.parametrize(
    "change", [lambda token: token[:-1], lambda token: "Z" + token[1:], lambda token: token + "A", lambda _: "x"]
)
async def test_forged_link_is_not_found(world: World, film: Task, change: object) -> None:
    made = (await world.client.get(address(film, "link"))).json()["url"]
    token = urlsplit(made).path.rpartition("/")[2]
    forged = change(token)  # type: ignore[operator]
    assert (await world.client.get(f"/results/{forged}")).status_code == 404


async def test_callback_token_is_no_link(world: World, film: Task) -> None:
    assert film.submission_id is not None
    assert (await world.client.get(f"/results/{world.context.tokens.make(film.submission_id)}")).status_code == 404


async def test_copy_of_another_client_is_not_found(database_url: str) -> None:
    keys = "alice=a-key-of-16-characters-or-more,bob=b-key-of-16-characters-or-more"
    async with keeping(database_url, DOVECOTE_API_KEYS=keys) as world:
        world.edge.hosts.pop("receiver.test")
        task = await kept_file(world, FILM)
        for key, status in (("a-key-of-16-characters-or-more", 404), ("wrong", 401)):
            for part in ("content", "link", "provenance"):
                answer = await world.client.get(address(task, part), headers={"Authorization": f"Bearer {key}"})
                assert answer.status_code == status
            gone = await world.client.delete(f"/v1/tasks/{task.id}/results", headers={"Authorization": f"Bearer {key}"})
            assert gone.status_code == status


@pytest.mark.parametrize("number", [1, 99_999, "-1", "x", "0x0", "1" * 30, "٠"])
async def test_result_that_is_not_there_is_not_found(world: World, film: Task, number: object) -> None:
    for part in ("content", "link", "provenance"):
        assert (await world.client.get(address(film, part, number))).status_code == 404


async def test_copy_that_is_not_there_says_why(world: World) -> None:
    pending = await kept_file(world, b"")
    assert "being fetched" in (await world.client.get(address(pending))).json()["detail"]
    await world.until(3 * 86_400)
    lost = (await world.client.get(address(pending))).json()
    assert (lost["code"], lost["detail"]) == ("not_kept", "the file could not be fetched: it is empty")


async def test_deleted_copies_leave_the_storage(world: World, film: Task) -> None:
    link = urlsplit((await world.client.get(address(film, "link"))).json()["url"]).path
    answer = await world.client.delete(f"/v1/tasks/{film.id}/results")
    assert (answer.status_code, answer.json()["results"][0]["kept"]) == (202, "deleted")
    assert (await world.client.get(address(film))).json()["detail"] == "the copy was deleted"
    assert (await world.client.get(link)).json()["code"] == "not_kept"
    await world.work()
    assert await names(world) == []
    assert [event.type for event in await world.events(film)][-1] == "results_deleted"
    again = await world.client.delete(f"/v1/tasks/{film.id}/results")
    assert again.status_code == 202
    assert [event.type for event in await world.events(film)].count("results_deleted") == 1


async def test_pending_copy_is_not_fetched_after_it_was_deleted(world: World) -> None:
    task = await kept_file(world, b"")
    await world.client.delete(f"/v1/tasks/{task.id}/results")
    world.edge.hosts["cdn.test"].files["/file"] = FILM  # type: ignore[attr-defined]
    await world.until(86_400)
    assert (await world.client.get(f"/v1/tasks/{task.id}")).json()["results"][0]["kept"] == "deleted"
    assert await names(world) == []


async def test_provenance_has_the_hashes_and_no_word_of_the_prompt(world: World, film: Task) -> None:
    answer = await world.client.get(address(film, "provenance"))
    document = answer.json()
    assert document["sha256"] == ETAG.strip('"')
    assert document["input_sha256"] == hashlib.sha256(b'{"input":{"prompt":"[drop][stuck]"},"options":{}}').hexdigest()
    assert (document["task"], document["upstream"], document["external_id"]) == (
        str(film.id),
        "elkapi",
        film.external_id,
    )
    assert "stuck" not in answer.text


async def test_file_that_left_the_storage_is_not_served(world: World, film: Task) -> None:
    objects = world.context.objects
    assert objects is not None
    await objects.delete(await names(world))
    answer = await world.client.get(address(film))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_kept")


async def test_storage_that_does_not_answer_is_unavailable(
    world: World, film: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise StorageError("503")

    monkeypatch.setattr(type(world.context.objects), "_block", broken)
    answer = await world.client.get(address(film))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_disk_holds_what_was_served(world: World, film: Task) -> None:
    [name, document] = await names(world)
    assert document == f"{name}.json"
    assert await stored(world, name) == FILM
    assert isinstance(world.client, httpx.AsyncClient)


@pytest.mark.parametrize("part", ["content", "link"])
async def test_bucket_that_signs_no_url_is_unavailable(
    world: World, film: Task, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def failing(*_: object, **__: object) -> str:
        raise StorageError("no credentials")

    monkeypatch.setattr(type(world.context.objects), "presigned", failing)
    monkeypatch.setitem(world.context.settings.results.__dict__, "redirect", True)
    answer = await world.client.get(address(film, part))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
