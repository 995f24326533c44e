"""Hostile requests at every route of every door: hosts, headers, queries and ids, as no client sends them. None is a 5xx."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from service.web.facades import DOORS
from service.web.facades import door as door_module
from service.web.facades import outcome as outcome_module
from service.web.facades import stream as stream_module
from tests.support.cases import share
from tests.support.clients import ALICE, BOB
from tests.support.doors import DOORS as SWITCHES
from tests.support.doors import upstreams
from tests.support.world import World

HELD = ("/images/", "/chat/", "/responses", "/audio/", "/fal-run/", "/fal-proxy", "/upload-discord-images", "/generate")
"""Routes that wait for a result, and answer 504 here: no worker runs."""
BODY = {
    "prompt": "a",
    "model": "sora-2",
    "input": {"prompt": "a"},
    "messages": [{"role": "user", "content": "a"}],
    "promptText": "a",
    "ratio": "1280:720",
    "duration": 5,
    "voice": "alloy",
    "gpt_description_prompt": "a",
}
SECRET = "a secret of bob"


@pytest.fixture(autouse=True)
def not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (door_module, outcome_module, stream_module):
        monkeypatch.setattr(module, "MAX_HELD", 0.0)


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    switches = {f"DOVECOTE_DOORS__{name}": "true" for name in SWITCHES}
    switches["DOVECOTE_DOORS__CORS_ORIGINS"] = "*"
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB}"}
    async with World.opened(sqlite_url, **switches, **keys, **upstreams("http://sandbox.test")) as opened:
        yield opened


def routes() -> Iterator[tuple[str, str]]:
    for door in DOORS:
        for route in door.routes:
            if not route.path.startswith("/v1/v1/"):
                yield route.method, f"{door.prefixes[0]}{route.path}"


ROUTES = list(routes())


def filled(path: str, value: str) -> str:
    for name in ("{id}", "{name:path}", "{name}", "{owner}", "{version}", "{link}"):
        path = path.replace(name, value)
    return path.replace("{app:falapp}", "fal-ai/flux")


async def ask(
    world: World,
    method: str,
    path: str,
    *,
    headers: list[tuple[bytes, bytes]] = [],  # noqa: B006 - it is not changed
    query: bytes = b"",
    body: bytes = json.dumps(BODY).encode(),
    key: str = ALICE,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send a request as a server hands it over, with headers of any bytes; return its status, headers and body."""
    given = {name for name, _ in headers}
    usual = [
        (b"host", b"localhost"),
        (b"authorization", f"Bearer {key}".encode()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "headers": [*headers, *(each for each in usual if each[0] not in given)],
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query,
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return parts.pop() if parts else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await world.app(scope, receive, send)
    content = b"".join(each.get("body", b"") for each in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), content


def check(path: str, status: int, headers: dict[bytes, bytes], content: bytes) -> None:
    assert status < 500 or (status == 504 and any(part in path for part in HELD)), (path, status, content[:300])
    assert all(b"\r" not in value and b"\n" not in value for value in headers.values()), (path, headers)


HEADERS: list[list[tuple[bytes, bytes]]] = [
    [(b"host", b"[")],
    [(b"host", b"[::1")],
    [(b"host", b"a b\xff/..?#@")],
    [(b"host", b"")],
    [(b"host", b"x" * 5000)],
    [(b"x-forwarded-proto", b"https\x00"), (b"prefer", b"wait=1e9")],
    [(b"prefer", b"wait=" + b"9" * 400)],
    [(b"prefer", b"wait=-1, wait=\xff")],
    [(b"x-stainless-retry-count", b"\xb2\xb3"), (b"user-agent", b"fal-client/\xff\xfe")],
    [(b"x-stainless-retry-count", b"9" * 5000)],
    [(b"idempotency-key", b"\xff\xfe key")],
    [(b"idempotency-key", b"k" * 5000)],
    [(b"idempotency-key", b"door 0000000000000000000000000000000000000000 00000000")],
    [(b"content-type", b"multipart/form-data; boundary=" + b"x" * 5000)],
    [(b"content-type", b'multipart/form-data; boundary=""')],
    [(b"content-type", b"multipart/form-data; boundary=\xff\xfe")],
    [(b"content-type", b"application/x-www-form-urlencoded; charset=utf-7")],
    [(b"content-type", b"\xff/\xfe;;;===")],
    [(b"content-type", b"text/html"), (b"accept", b"text/event-stream")],
    [(b"content-encoding", b"gzip")],
    [(b"content-length", b"\xb2")],
    [(b"content-length", b"9" * 40)],
    [(b"origin", b"null"), (b"access-control-request-headers", b"\xff" * 3000)],
    [(b"origin", b"https://a.example\x0bx")],
    [(b"x-fal-target-url", b"https://queue.fal.run/a/b%0d%0ax: y")],
    [(b"x-fal-target-url", b"https://fal.run/a/../../v1/tasks")],
    [(b"x-fal-target-url", b"https://[")],
    [(b"x-fal-target-url", b"\xff")],
    [(b"range", b"bytes=9-1,5-,-0"), (b"if-range", b"\xff")],
    [(b"traceparent", b"\xff\x00")],
]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "all"])
async def test_hostile_headers_are_refused_or_ignored(world: World, *, every: bool) -> None:
    for number, headers in enumerate(HEADERS):
        for method, path in ROUTES if every else ROUTES[number % 6 :: 6]:
            for one in (method, "OPTIONS") if b"origin" in dict(headers) else (method,):
                check(path, *(await ask(world, one, filled(path, "x"), headers=headers)))


@pytest.mark.parametrize("host", [b"[", b"a b\xff/..?#@", b"]:x"], ids=["bracket", "odd", "port"])
async def test_hostile_host_makes_no_task_whose_answer_is_lost(world: World, host: bytes) -> None:
    for path in ("/fal/fal-ai/flux/dev", "/replicate/v1/models/a/b/predictions", "/openai/v1/videos"):
        status, _, content = await ask(world, "POST", path, headers=[(b"host", host)])
        tasks = (await world.client.get("/v1/tasks", headers={"Authorization": f"Bearer {ALICE}"})).json()["tasks"]
        assert status < 500, content
        assert status < 300 or not tasks


QUERIES = [
    b"limit=" + b"9" * 500,
    b"limit=-1&after=%00&order=%ff&cursor=%ff",
    b"cursor=" + b"z" * 26 + b"&before=x&limit=0",
    b"fal_webhook=javascript:alert(1)",
    b"fal_webhook=https://[&fal_webhook=%0d%0aSet-Cookie:x",
    b"fal_webhook=" + b"%F0%9F%92%A9" * 1000,
    b"ids=" + b"1," * 3000,
    b"ids=%00,%ff,&task_id=%0d%0a&variant=%0d%0ax",
    b"&" * 3000,
    b"client=bob&until=99999999999&proof=%ff",
    b"\xff\xfe=\x00",
]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "all"])
async def test_hostile_queries_are_refused_or_ignored(world: World, *, every: bool) -> None:
    for number, query in enumerate(QUERIES):
        for method, path in ROUTES if every else ROUTES[number % 4 :: 4]:
            check(path, *(await ask(world, method, filled(path, "x"), query=query)))


IDS = [
    "\r\nset-cookie: x",
    "\x00",
    "..",
    "../../../v1/tasks",
    "\ufffd" * 30,
    "9" * 4000,
    "-1",
    "0" * 32,
    "ſ" * 32,
    "%0d%0a",
    "' OR 1=1 --",
]


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/tasks", "/ui/tasks", "/openai/nothing", "/callbacks/x", "/docs", "/"]
)
async def test_query_that_is_no_text_is_no_error(world: World, path: str) -> None:
    status, _, content = await ask(world, "GET", path, query=b"\xff\xfe=\x00&a=%ff")
    assert status < 500, content


async def test_hostile_ids_are_not_found(world: World) -> None:
    for hostile in IDS:
        for method, path in ROUTES:
            if "{" in path:
                check(path, *(await ask(world, method, filled(path, hostile))))


BODIES = [
    b'{"prompt": "\\ud800", "model": "sora-2"}',
    b'{"prompt": "\xed\xa0\x80"}',
    b'{"prompt": 1' + b"0" * 400 + b"}",
    b'{"n": 9223372036854775808, "seconds": 1e308, "duration": -1e308, "prompt": "a", "model": "sora-2"}',
    b'{"prompt": "a", "prompt": ["b"], "model": {}, "model": "sora-2"}',
    b'{"input": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    b'{"input": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"__proto__": {}, "constructor": 1, "": "", "\\u0000": 1, "prompt": "a"}',
    b'{"webhook": "\\r\\nx", "notifyHook": 5, "callback_url": [], "notify_hook": {}, "prompt": "a", "input": {}}',
    b'{"webhook": "http://169.254.169.254/", "webhook_events_filter": [[], {}, 5], "input": {"prompt": "a"}}',
    b'{"image": "file:///etc/passwd", "promptImage": "http://[", "input_reference": {"image_url": {"url": {}}}, "prompt": "a"}',
    b'{"taskId": [], "content": {}, "ids": [[], {}, null, 5], "parent_id": 5, "previous_response_id": {}, "video": {"id": []}}',
    b"\xef\xbb\xbf{}",
    b"\x1f\x8b\x08\x00",
    b'"text"',
    b"NaN",
]


KINDS = (b"application/json", b"text/plain", b"application/x-www-form-urlencoded")


@pytest.mark.parametrize("parts", [3, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])
async def test_hostile_bodies_are_refused_or_accepted(world: World, parts: int) -> None:
    for number, body in enumerate(BODIES):
        for method, path in ROUTES:
            if method in {"POST", "PUT"}:
                for kind in share(KINDS, parts, number, path):
                    found = await ask(world, method, filled(path, "x"), body=body, headers=[(b"content-type", kind)])
                    check(path, *found)


FIELDS = (
    *(
        "taskId",
        "parent_id",
        "task_id",
        "id",
        "video",
        "previous_response_id",
        "continue_clip_id",
        "clip_id",
        "cover_clip_id",
    ),
    *("artist_clip_id", "content", "audio_id", "state", "root_clip_id", "customId", "file", "image", "webhook"),
)
"""Fields that may name a task or a part of one."""


async def test_id_of_another_client_in_a_field_shows_and_changes_nothing(world: World) -> None:
    document = {"family": "midjourney", "operation": "imagine", "input": {"prompt": SECRET}}
    bobs = {"Authorization": f"Bearer {BOB}"}
    made = (await world.client.post("/v1/tasks", json=document, headers=bobs)).json()["id"]
    await world.pass_time(60)
    before = (await world.client.get(f"/v1/tasks/{made}", headers=bobs)).json()
    bare = made.replace("-", "")
    for method, path in ROUTES:
        if method != "POST":
            continue
        for named in (made, bare, f"video_{bare}", f"resp_{bare}", f"{made}-0"):
            given: dict[str, Any] = dict.fromkeys(FIELDS, named)
            given |= {"ids": [named], "content": f"{named} U1", "video": {"id": named}, "input": {"clip_id": named}}
            status, headers, content = await ask(
                world, "POST", filled(path, named), body=json.dumps({**BODY, **given}).encode()
            )
            check(path, status, headers, content)
            assert SECRET.encode() not in content, path
    assert (await world.client.get(f"/v1/tasks/{made}", headers=bobs)).json() == before
    for each in (await world.client.get("/v1/tasks?limit=100", headers={"Authorization": f"Bearer {ALICE}"})).json()[
        "tasks"
    ]:
        assert each.get("parent_id") != made
