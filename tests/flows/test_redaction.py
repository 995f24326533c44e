"""Secrets that a provider repeats are stored and shown nowhere."""

import gzip
import html
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from sqlalchemy import select

from service.domain.compression import unpack
from service.domain.redaction import REDACTED
from service.store import tables
from tests.support.values import unicode_escaped
from tests.support.world import World

UPSTREAM_KEY = "sk-live/key+with&signs"


async def streamed(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def shown(world: World, task: Any) -> str:
    """Return everything that is stored about a task or shown to a client."""
    pages = [(await world.client.get(f"/v1/tasks/{task.id}{more}")).text for more in ("", "/events")]
    async with world.context.database.reading() as connection:
        rows = [
            str(row)
            for table in (tables.tasks, tables.submissions, tables.events, tables.callbacks)
            for row in await connection.execute(select(table))
        ]
    return "\n".join([*pages, *rows])


@pytest.mark.parametrize("journey", ["submit refused", "submit unavailable", "poll succeeded", "poll refused"])
async def test_key_and_token_echoed_by_an_upstream_are_shown_nowhere(sqlite_url: str, journey: str) -> None:
    """The gateway escapes the key as JSON and PHP do, and repeats the callback URL."""
    async with World.opened(sqlite_url, ELKAPI_KEY=UPSTREAM_KEY) as world:
        tokens: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            document = orjson.loads(request.content)
            submits = "callback_url" in document
            if submits:
                tokens.append(document["callback_url"].rpartition("/")[2])
            key = json.dumps(UPSTREAM_KEY)[1:-1].replace("/", "\\/")
            message = f'"key {key} for https://x/callbacks/{unicode_escaped(tokens[0])}"'
            if submits and journey == "submit refused":
                return httpx.Response(400, content=streamed(f'{{"code":"bad","message":{message}}}'))
            if submits and journey == "submit unavailable":
                return httpx.Response(503, content=streamed(f'{{"error":{{"message":{message}}}}}'))
            if submits:
                return httpx.Response(200, content=streamed('{"code":200,"data":{"task_id":"7"}}'))
            if journey == "poll refused":
                return httpx.Response(403, content=streamed(f'{{"error":{{"message":{message}}}}}'))
            video = f"https://cdn.example/v.mp4?hook=callbacks%2F{tokens[0]}&key={quote(UPSTREAM_KEY, safe='')}"
            record = f'{{"task_id":"7","status":"3","video_url":"{video}","msg":{message}}}'
            return httpx.Response(200, content=streamed(f'{{"code":200,"data":{record}}}'))

        world.edge.hosts["sandbox.test"] = httpx.MockTransport(answer)
        task = await world.submit()
        await world.until(60)
        everything = await shown(world, task)
    assert tokens
    if journey != "poll refused":  # of a failed poll only the code is kept
        assert REDACTED in everything
    for secret in (UPSTREAM_KEY, UPSTREAM_KEY.replace("/", "\\/"), quote(UPSTREAM_KEY, safe=""), *tokens):
        assert secret not in everything


@pytest.mark.parametrize("how", ["plain", "escaped", "in a header", "gzip", "utf-16", "another submission's"])
async def test_token_echoed_by_a_callback_is_not_stored(world: World, how: str) -> None:
    task = await world.submit()
    await world.work()
    [submission] = await world.submissions(task)
    token = world.context.tokens.make(submission.id)
    echoed = world.context.tokens.make(uuid4()) if how == "another submission's" else token
    spelt = unicode_escaped(echoed) if how == "escaped" else echoed
    body = f'{{"code":200,"data":{{"task_id":"x","note":"https://x/callbacks/{spelt}"}}}}'.encode()
    headers = {"content-type": "application/json"}
    if how == "in a header":
        headers["webhook-origin"] = f"/callbacks/{token}"
        body = b"{}"
    if how == "gzip":
        body = gzip.compress(body)
        headers["content-encoding"] = "gzip"
    if how == "utf-16":
        body = body.decode().encode("utf-16-le")
    assert (await world.client.post(f"/callbacks/{token}", content=body, headers=headers)).is_success
    async with world.context.database.reading() as connection:
        [row] = (await connection.execute(select(tables.callbacks))).all()
    stored = unpack(row.body, [], 100_000)
    for form in (echoed, unicode_escaped(echoed)):
        assert form not in str(row.headers)
        assert form.encode() not in stored
        assert form.encode("utf-16-le") not in stored


@pytest.mark.parametrize(
    "spelt",
    [
        lambda url: "".join(f"%{byte:02x}" for byte in url.encode()),
        lambda url: "".join(f"&#{ord(letter)};" for letter in url),
        lambda url: "".join(f"&#x{ord(letter):X};" for letter in url),
        lambda url: "".join(f"\\u{ord(letter):04x}" for letter in url),
    ],
    ids=["percent", "decimal entities", "hexadecimal entities", "escaped twice"],
)
async def test_token_that_a_poll_repeats_with_every_character_escaped_is_not_shown(
    sqlite_url: str, spelt: Callable[[str], str]
) -> None:
    async with World.opened(sqlite_url) as world:
        urls: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            if "/submit/" in request.url.path:
                urls.append(orjson.loads(request.content)["notifyHook"])
                return httpx.Response(200, content=streamed('{"code": 1, "description": "ok", "result": "7"}'))
            failed = {"id": "7", "status": "FAILURE", "failReason": spelt(urls[0])}
            return httpx.Response(200, content=streamed(json.dumps(failed)))

        world.edge.hosts["sandbox.test"] = httpx.MockTransport(answer)
        request = {"family": "midjourney", "operation": "imagine", "input": {"prompt": "a dove"}}
        task_id = (await world.client.post("/v1/tasks", json=request)).json()["id"]
        await world.until(300)
        everything = await shown(world, await world.task(UUID(task_id)))
    assert REDACTED in everything
    token = urls[0].rpartition("/")[2]
    assert token not in unescaped(everything)


def unescaped(text: str) -> str:
    """Undo the escapes of JSON, URLs and HTML."""
    for _ in range(3):
        text = re.sub(r"\\+u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), unquote(html.unescape(text)))
    return text
