"""Secrets that a provider repeats never become ours: by value in every spelling, and callback tokens by their form."""

import gzip
import html
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from service.domain.callback_token import Tokens
from service.domain.compression import unpack
from service.domain.errors import Refused
from service.domain.task import Action, Failure, Result, State, Update
from service.flows.redaction import MAX_SPELLED, REDACTED, Redactor
from service.store import tables
from tests.support.world import World

KEY = "sk-/+&='\"<x> y%2F"
TOKENS = Tokens("secret")
TOKEN = TOKENS.make(uuid4())


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(each):04X}" for each in text)


SPELLINGS: dict[str, str] = {
    "as it is": KEY,
    "percent-encoded": quote(KEY, safe=""),
    "percent-encoded but for the slash": quote(KEY),
    "percent-encoded in lower case": quote(KEY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "as a form": quote_plus(KEY),
    "in JSON": json.dumps(KEY)[1:-1],
    "in JSON without ASCII": json.dumps(KEY, ensure_ascii=False)[1:-1],
    "in JSON with slashes": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "in JSON, all escaped": escaped(KEY),
    "in HTML": html.escape(KEY),
    "in HTML by numbers": "".join(f"&#{ord(each)};" for each in KEY),
    "in HTML by hexadecimal numbers": "".join(f"&#x{ord(each):X};" for each in KEY),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_secret_is_found_in_every_spelling(spelling: str) -> None:
    redactor = Redactor(TOKENS, [KEY])
    text = f"invalid key: {SPELLINGS[spelling]}!"
    assert redactor.text(text) == f"invalid key: {REDACTED}!"
    assert redactor.body(text.encode()) == f"invalid key: {REDACTED}!".encode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_secret_is_found_in_every_encoding_of_a_body(encoding: str) -> None:
    body = '{"message":"bad key sk-secret-key"}'.encode(encoding)
    expected = '{"message":"bad key [redacted]"}'.encode(encoding)
    assert Redactor(TOKENS, ["sk-secret-key"]).body(body) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://dovecote.example/callbacks/{token}",
        "https:\\/\\/dovecote.example\\/callbacks\\/{token}",
        "https%3A%2F%2Fdovecote.example%2Fcallbacks%2F{token}",
        "token={token}&x=1",
        "{token}",
        "x{token}",
        "{token}.json",
        "callbacks/{token}tail",
    ],
)
def test_token_of_any_submission_is_found_by_its_form(text: str) -> None:
    redacted = Redactor(TOKENS).text(text.format(token=TOKEN))
    assert TOKEN not in redacted
    assert redacted == text.format(token=REDACTED)


def test_forged_token_in_a_callback_url_is_redacted_as_well() -> None:
    foreign = Tokens("another").make(uuid4())
    assert Redactor(TOKENS).text(f"https://x/callbacks/{foreign}") == f"https://x/callbacks/{REDACTED}"
    assert Redactor(TOKENS).text(f"id {foreign}") == f"id {foreign}"


@given(st.text(max_size=300))
def test_text_without_secrets_is_returned_as_it_is(text: str) -> None:
    assert Redactor(TOKENS, ["canary-of-a-key-77"]).text(text) == text


@given(st.binary(max_size=300))
def test_body_without_secrets_is_returned_as_it_is(body: bytes) -> None:
    assert Redactor(TOKENS, ["canary-of-a-key-77"]).body(body) == body


def test_large_picture_is_returned_as_it_is_and_its_secret_is_found() -> None:
    picture = "data:image/png;base64," + "Ab1+/9_-" * MAX_SPELLED
    redactor = Redactor(TOKENS, ["sk-secret-key"])
    assert redactor.text(picture) == picture
    assert redactor.text(f"{picture} sk-secret-key") == f"{picture} {REDACTED}"


def test_every_text_of_a_value_is_redacted() -> None:
    update = Update(
        state=State.FAILED,
        external_id="7",
        progress=5,
        results=(Result("image", url=f"https://x/{KEY}"), Result("text", text=f"a {KEY}")),
        failure=Failure("unknown", f"no {KEY}"),
        actions=(Action("upscale", label=KEY),),
    )
    redacted = Redactor(TOKENS, [KEY]).value({"7": [update]})["7"][0]
    assert KEY not in repr(redacted)
    assert (redacted.state, redacted.external_id, redacted.progress) == (State.FAILED, "7", 5)
    assert redacted.results[0].url == f"https://x/{REDACTED}"


def test_every_text_of_an_error_is_redacted() -> None:
    error = Redactor(TOKENS, [KEY]).error(Refused("unauthorized", f"no {KEY}", details=(f"key: {KEY}",)))
    assert KEY not in f"{error} {error!r} {error.message} {error.details}"
    assert error.code == "unauthorized"


# ── through the journeys ───────────────────────────────────────────────────────────────────────────────────────────

UPSTREAM_KEY = "sk-live/key+with&signs"


async def streamed(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def shown(world: World, task: Any) -> str:
    """Return everything that is stored about a task or shown of it."""
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
            message = f'"key {key} for https://x/callbacks/{escaped(tokens[0])}"'
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
    spelt = escaped(echoed) if how == "escaped" else echoed
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
    for form in (echoed, escaped(echoed)):
        assert form not in str(row.headers)
        assert form.encode() not in stored
        assert form.encode("utf-16-le") not in stored
