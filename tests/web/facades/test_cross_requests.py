"""Each door gets the requests of every other, and odd ones: it never fails inside, and never shows another client's task."""

import itertools
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.flows.webhooks.formats.ids import prefixed, short
from service.web.facades import DOORS
from service.web.facades import door as door_module
from service.web.facades import outcome as outcome_module
from service.web.facades import stream as stream_module
from tests.support.clients import ALICE, BOB
from tests.support.doors import DOORS as SWITCHES
from tests.support.doors import upstreams
from tests.support.world import World

RECORDINGS = Path(__file__).parents[2] / "recordings" / "doors"
BODIES = [
    json.loads(path.read_text(encoding="utf-8"))["request"]["body"] for path in sorted(RECORDINGS.glob("*/*.json"))
]
JSON = [body for body in BODIES if isinstance(body, dict) and "multipart" not in body]
FORMS = [body["multipart"] for body in BODIES if isinstance(body, dict) and "multipart" in body]
SECRET = "a secret of bob"
HELD = ("/images/", "/chat/", "/responses", "/audio/", "/fal-run/", "/upload-discord-images", "/api/generate_lyrics")
"""Routes that wait for a result. Here no worker runs, and they wait for no time: they answer 504 to what they accept."""


def routes(*, creating: bool) -> Iterator[tuple[str, str, str]]:
    """Yield the door, the method and the path of each route at its first prefix."""
    for door in DOORS:
        for route in (each for each in door.routes if not each.path.startswith("/v1/v1/")):
            if ("{id}" not in route.path) is creating:
                yield door.name, route.method, f"{door.prefixes[0]}{route.path}"


CREATING = [each for each in routes(creating=True) if each[1] == "POST"]
READING = [each for each in routes(creating=False) if "{app" not in each[2]]


@pytest.fixture(autouse=True)
def not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (door_module, outcome_module, stream_module):
        monkeypatch.setattr(module, "MAX_HELD", 0.0)


def is_sound(answer: httpx.Response, path: str) -> bool:
    """Return whether a route has accepted or refused a request."""
    return answer.status_code < 500 or (answer.status_code == 504 and any(part in path for part in HELD))


@pytest.fixture(autouse=True)
def nothing_fails_inside(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Assert it by the log: some APIs answer every error with 200."""
    yield
    failed = [each.getMessage() for each in caplog.get_records("call") if "status=500" in each.getMessage()]
    assert failed == []


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    switches = {f"DOVECOTE_DOORS__{name}": "true" for name in SWITCHES}
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB}"}
    async with World.opened(sqlite_url, **switches, **keys, **upstreams("http://sandbox.test")) as opened:
        yield opened


def filled(path: str, task_id: str) -> str:
    parts = {"{id}": task_id, "{name}": "x", "{owner}": "acme", "{version}": "v1", "{app:falapp}": "fal-ai/flux"}
    for name, value in parts.items():
        path = path.replace(name, value)
    return path.replace("{name:path}", "x/y")


def form_of(parts: list[dict[str, Any]]) -> list[tuple[str, tuple[str | None, Any]]]:
    return [(part["name"], (part.get("filename"), b"bytes" if "bytes" in part else part["value"])) for part in parts]


async def test_creating_route_accepts_or_refuses_requests_of_other_clients(world: World) -> None:
    chance = random.Random(11)
    for _, method, path in CREATING:
        few = (chance.sample(JSON, 2), chance.sample(FORMS, 1), chance.sample(ODD, 2))
        await accepts_or_refuses(world, method, path, *few)


@pytest.mark.long
@pytest.mark.parametrize(("door", "method", "path"), CREATING, ids=str)
async def test_creating_route_accepts_or_refuses_the_requests_of_all_clients(
    world: World, door: str, method: str, path: str
) -> None:
    await accepts_or_refuses(world, method, path, JSON, FORMS, ODD)


async def accepts_or_refuses(world: World, method: str, path: str, *requests: list[Any]) -> None:
    """Send requests to a route (JSON, forms, odd bodies), and assert that each is accepted or refused."""
    bodies, forms, odd = requests
    headers = {"Authorization": f"Bearer {ALICE}"}
    for body in bodies:
        answer = await world.client.request(method, filled(path, "x"), json=body, headers=headers)
        assert is_sound(answer, path), (body, answer.text)
    for parts in forms:
        answer = await world.client.request(method, filled(path, "x"), files=form_of(parts), headers=headers)
        assert is_sound(answer, path), (parts, answer.text)
    for content, kind in odd:
        more = {**headers, "Content-Type": kind} if kind else headers
        answer = await world.client.request(method, filled(path, "x"), content=content, headers=more)
        assert is_sound(answer, path), (content[:80], kind, answer.text)


ODD = [
    (b"", ""),
    (b"", "application/json"),
    (b"[]", "application/json"),
    (b"null", "application/json"),
    (b"{", "application/json"),
    (b"[" * 5000, "application/json"),
    (b'{"prompt": "a\\u0000b", "model": "sora-2"}', "application/json"),
    (b'{"input": ' + b'{"a":' * 300 + b"1" + b"}" * 301, "application/json"),
    (b"prompt=a&model[x][y]=b&model=c&%ff=%fe", "application/x-www-form-urlencoded"),
    (b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na', "multipart/form-data; boundary=b"),
    (b"--b--\r\n", "multipart/form-data"),
    (b"nonsense", "multipart/form-data; boundary=b"),
    (b"\xff\xfe", "text/plain"),
]


MISSING = "01a1fdfb-6590-78b2-9217-c49a4ce509c0"
ODD_VALUES: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        2**64,
        -(2**70),
        1.5,
        "",
        " ",
        "\0",
        "8" * 5000,
        "٣",
        "nan",
        "1e999",
        "1:1:1",
        "0x0",
        "--ar 0:0",
    ),
    *([], {}, [None], [[]], [{}], ["a"] * 1000, {"": ""}, {"a\0": 1}, {"id": MISSING}, {"type": []}, {"role": {}}),
    *(MISSING, f"video_{MISSING}", "data:", "data:image/png;base64,%%%", "https://[::1", "file:///etc/passwd"),
    *({"upload": "upl_x"}, {"upload": 5}, {"result": 0}, {"url": {}}, "x" * 100_000),
]
LITERALS = [b"1" + b"0" * 400, b"1e400", b'"\\ud800"', b'{"a":1,"a":2}', b"[" * 200 + b"]" * 200]
"""Values that Python's JSON does not write."""


@pytest.mark.parametrize("seed", [1, *(pytest.param(each, marks=pytest.mark.long) for each in range(2, 8))])
async def test_odd_value_of_a_field_is_accepted_or_refused(world: World, seed: int) -> None:
    chance = random.Random(seed)
    headers = {"Authorization": f"Bearer {ALICE}", "Content-Type": "application/json"}
    names = sorted({name for body in JSON for name in body} | {"stream", "tools", "previous_response_id", "notifyHook"})
    for _, method, path in CREATING:
        for _ in range(6):
            body = {**chance.choice(JSON), chance.choice(names): chance.choice(ODD_VALUES)}
            odd = {chance.choice(sorted(body)): chance.choice([*ODD_VALUES, *LITERALS]), **body} if body else body
            content = json.dumps({name: "@" if isinstance(value, bytes) else value for name, value in odd.items()})
            literal = next((value for value in odd.values() if isinstance(value, bytes)), b'"@"')
            sent = content.encode().replace(b'"@"', literal)
            answer = await world.client.request(method, filled(path, MISSING), content=sent, headers=headers)
            assert is_sound(answer, path), (path, sent[:500], answer.text)


WORDS = ("botType", "dimensions", "response_format", "role", "type", "stream", "n", "size")


@pytest.mark.parametrize("names", [WORDS, *(pytest.param((each,), marks=pytest.mark.long) for each in WORDS)], ids=str)
async def test_odd_value_of_a_word_is_accepted_or_refused(world: World, names: tuple[str, ...]) -> None:
    headers = {"Authorization": f"Bearer {ALICE}"}
    body: dict[str, Any] = {"prompt": "a", "model": "gpt-6-luna", "input": "a", "base64Array": ["data:,x"] * 2}
    for _, method, path in CREATING:
        for value in ([], {}, "8" * 5000):
            odd = dict.fromkeys(names, value)
            inner = {"messages": [{"role": "user", "content": "a", **odd}], "tools": [odd]}
            answer = await world.client.request(
                method, filled(path, "x"), json={**body, **odd, **inner}, headers=headers
            )
            assert is_sound(answer, path), (path, odd, answer.text)


MANY = [
    (b"&".join(b"f%d=x" % each for each in range(10_000)), "application/x-www-form-urlencoded"),
    (
        b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % each for each in range(10_000)),
        "multipart/form-data; boundary=b",
    ),
]


@pytest.mark.parametrize(("content", "kind"), MANY, ids=["form", "form with files"])
async def test_form_with_many_fields_is_refused(world: World, content: bytes, kind: str) -> None:
    headers = {"Authorization": f"Bearer {ALICE}", "Content-Type": kind}
    for path in ("/openai/v1/videos", "/openai/v1/images/edits", "/mj/submit/imagine", "/replicate/v1/files"):
        answer = await world.client.post(path, content=content, headers=headers)
        assert is_sound(answer, path)
        assert answer.status_code == 400 or answer.json().get("code") not in {1, 22}


async def test_task_of_another_client_is_never_shown_or_changed(world: World) -> None:
    ids = []
    for family, operation in (("openai", "text_to_video"), ("openai", "response"), ("runway", "text_to_video")):
        document = {"family": family, "operation": operation, "input": {"prompt": SECRET}}
        made = await world.client.post("/v1/tasks", json=document, headers={"Authorization": f"Bearer {BOB}"})
        ids.append(made.json()["id"])
    tasks = {}
    for each in ids:
        bobs = await world.client.get(f"/v1/tasks/{each}", headers={"Authorization": f"Bearer {BOB}"})
        tasks[each] = bobs.json()["sequence"]
        forms = (each, prefixed("video_", UUID(each)), short(UUID(each)))
        for (_, method, path), form in itertools.product(READING, forms):
            answer = await world.client.request(
                method, filled(path, form), headers={"Authorization": f"Bearer {ALICE}"}, json={}
            )
            is_refused = answer.status_code in {400, 403, 404} or answer.json().get("code") == 3
            assert is_refused, answer.text
            assert SECRET not in answer.text
        after = await world.client.get(f"/v1/tasks/{each}", headers={"Authorization": f"Bearer {BOB}"})
        assert after.json()["sequence"] == tasks[each]


async def test_lists_show_own_tasks_only(world: World) -> None:
    document = {"family": "openai", "operation": "text_to_video", "input": {"prompt": SECRET}}
    await world.client.post("/v1/tasks", json=document, headers={"Authorization": f"Bearer {BOB}"})
    for path in ("/openai/v1/videos", "/replicate/v1/predictions"):
        listed = await world.client.get(path, headers={"Authorization": f"Bearer {ALICE}"})
        assert listed.status_code == 200
        assert SECRET not in listed.text


NAMES = st.sampled_from(
    sorted(
        {name for body in JSON for name in body}
        | {"promptImage", "character", "voice", "keyframes", "images", "metadata"}
    )
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.just("data:,x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.long
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(NAMES, VALUES, max_size=8), data=st.data())
async def test_any_json_is_accepted_or_refused(sqlite_url: str, body: dict[str, Any], data: st.DataObject) -> None:
    switches = {f"DOVECOTE_DOORS__{name}": "true" for name in SWITCHES}
    async with World.opened(sqlite_url, **switches, **upstreams("http://sandbox.test")) as world:
        for _, method, path in CREATING:
            answer = await world.client.request(method, filled(path, "x"), json=body)
            assert is_sound(answer, path), (path, body, answer.text)
