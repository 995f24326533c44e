"""Protocols as data: every packaged file is valid, and one new file adds a protocol to the sandbox."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Match, Route

from service.sandbox import InProcessTransport, Sandbox, protocol
from service.sandbox.lazy_routes import LazyRoutes
from service.sandbox.protocol import Protocol, read
from service.sandbox.template import FILTERS, fill, slots

PROTOCOLS = protocol.load()
FOLDER = files("service.sandbox") / "protocols"
README = (Path(__file__).parents[2] / "service/sandbox/README.md").read_text(encoding="utf-8")
ERROR = {"status": 400, "body": {"error": "${why}"}}
PLAIN = {"status": 400, "body": {"error": "no"}}
ERRORS = {
    **dict.fromkeys(("refuse", "moderate", "refuse200", "nocredit", "429", "503", "500"), PLAIN),
    "unauthorized": {"status": 401},
    "unknown": {"status": 404, "body": {"error": "unknown"}},
    "invalid": ERROR,
}
TOY: dict[str, Any] = {
    "about": "A toy.",
    "dialects": ["toy/official"],
    "account": "toy",
    "prefix": "/toy",
    "key_header": "X-Key",
    "key_prefix": "",
    "credits": 100,
    "errors": ERRORS,
    "creations": [
        {
            "path": "/jobs/{kind}",
            "needs": ["input.text|input.file", {"field": "input.size", "when": {"path.kind": "large"}}],
            "prompt": ["input.text"],
            "callback_url": "hook",
            "callback": "job",
            "points": {"each": 2, "field": "input.count", "otherwise": 3},
            "facts": {"made_of": "words"},
            "facts_with": {"input.file": {"made_of": "a file"}},
            "media": "image",
            "reply": {"job": "${id}", "kind": "${order:path.kind}"},
        }
    ],
    "queries": [{"path": "/jobs", "id": "query:id", "id_pattern": "job-(.*)", "message": "job"}],
    "queries_of_many": [{"path": "/list", "ids": "body:ids", "message": "job", "body": {"found": "${jobs}"}}],
    "cancels": [
        {
            "method": "POST",
            "path": "/cancel",
            "id": "body:id",
            "reply": {"body": {"was": "${id}"}},
            "too_late": {"status": 409, "body": "too late"},
        }
    ],
    "accounts": [{"path": "/me", "body": {"left": "${credits_left}", "by": {"${orders_by:input.text}": "${count}"}}}],
    "messages": {
        "job": {
            "always": {"id": "job-${id}", "state": "waiting", "from": "${fact:made_of}", "done": "${finished_at iso|null}"},
            "running": {"state": "at ${progress percent}%"},
            "succeeded": {"state": "done", "url": "${file}"},
            "failed": {"state": "failed"},
            "failed/moderate": {"state": "refused"},
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PROTOCOLS)
def test_packaged_protocol_is_read_and_names_its_dialects(name: str) -> None:
    assert PROTOCOLS[name].dialects
    assert PROTOCOLS[name].about.endswith(".")


def all_routes() -> Iterator[tuple[LazyRoutes | None, Route]]:
    """Yield every route of the sandbox, with the provider's routes that it is one of."""
    for each in Sandbox().app.routes:
        if isinstance(each, LazyRoutes):
            yield from ((each, route) for route in each.routes)
        elif isinstance(each, Route):
            yield None, each


def test_every_route_is_found_by_the_start_of_its_path() -> None:
    paths = [(routes, re.sub(r"{.*?}", "x", route.path), route) for routes, route in all_routes() if routes]
    assert len(paths) > 200
    for routes, path, route in paths:
        query = getattr(route, "query", "").encode()
        scope = {"type": "http", "path": path, "query_string": query, "method": min(route.methods or ())}
        assert routes.matches(scope)[0] is Match.FULL, route.path


def test_no_two_protocols_have_the_same_route() -> None:
    routes = [(route.path, getattr(route, "query", ""), *sorted(route.methods or ())) for _, route in all_routes()]
    assert [route for route, count in Counter(routes).items() if count > 1] == []


def test_every_dialect_is_played_by_one_protocol() -> None:
    played = Counter(dialect for each in PROTOCOLS.values() for dialect in each.dialects)
    assert [dialect for dialect, count in played.items() if count > 1] == []
    assert set(played) <= set(Sandbox.base_paths())


def test_every_key_slot_and_filter_of_the_format_is_documented() -> None:
    schema = Protocol.model_json_schema(by_alias=True)
    objects = [schema, *schema["$defs"].values()]
    keys = {name for each in objects for name in each.get("properties", {})}
    assert sorted(name for name in {*keys, *FILTERS} if f"`{name}" not in README and f'"{name}"' not in README) == []
    used = {name for each in PROTOCOLS.values() for name, *_ in slots(each.model_dump(by_alias=True))}
    assert sorted(name for name in used if f"${{{name}" not in README) == []


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"creatons": []}, "creatons"),
        ({"queries": [{"path": "/x", "message": "nothing"}]}, "no message 'nothing'"),
        ({"messages": {"job": {"queued": {}}}}, "'job' lacks the state 'running'"),
        ({"messages": {"job": {"always": {}, "finished": {}}}}, "has no state 'finished'"),
        ({"messages": {"job": {"always": {"id": "${ident}"}}}}, "no slot 'ident'"),
        ({"messages": {"job": {"always": "${created_at minutes}"}}}, "no filter 'minutes'"),
        ({"messages": {"job": {"always": "${message:other}"}}}, "no message 'other'"),
        ({"messages": {"job": {"always": "${order:input.size|large}"}}}, "large} is not JSON"),
        ({"messages": {"job": {"always": {"size": ["of ${order:input.size|}"]}}}}, "size[|]} is not JSON"),
        ({"headers": {"X-Version": "1"}}, "wrong_header"),
        ({"errors": {**ERRORS, "unknown": {"code": 404}}}, "unknown"),
    ],
    ids=[
        "unknown-key",
        "missing-message",
        "missing-state",
        "unknown-state",
        "unknown-slot",
        "unknown-filter",
        "missing-included-message",
        "default-that-is-not-json",
        "default-without-a-value",
        "headers-without-answer",
        "unknown-key-of-an-answer",
    ],
)
def test_mistake_in_a_file_is_named(change: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake) as raised:
        read("toy.json", json.dumps(TOY | change).encode())
    assert str(raised.value).startswith("toy.json: ")


class ToyVisit:
    """A sandbox of the toy protocol on a held clock, a client of it, and the callbacks that it sent."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.callbacks: list[dict[str, Any]] = []
        toy = read("toy.json", json.dumps(TOY).encode())
        self.sandbox = Sandbox(seconds=10, clock=lambda: self.now, send=self.receive, protocols=[toy])
        transport = InProcessTransport(self.sandbox.app)
        headers = {"X-Key": "sandbox-key"}
        self.client = httpx.AsyncClient(transport=transport, base_url="http://sandbox.test/toy", headers=headers)

    async def receive(self, url: str, body: bytes) -> int:
        assert url == "http://me.test"
        self.callbacks.append(json.loads(body))
        return 200

    async def create(self, kind: str = "small", **given: Any) -> httpx.Response:
        return await self.client.post(f"/jobs/{kind}", json={"input": given, "hook": "http://me.test"})

    async def job(self, job_id: str) -> dict[str, Any]:
        return dict((await self.client.get("/jobs", params={"id": f"job-{job_id}"})).json())


@pytest.fixture
async def toy() -> AsyncIterator[ToyVisit]:
    visit = ToyVisit()
    async with visit.client:
        yield visit


async def test_job_of_a_data_protocol_goes_through_its_states(toy: ToyVisit) -> None:
    taken = (await toy.create(text="a dove")).json()
    job = taken["job"]
    assert taken["kind"] == "small"
    waiting = {"id": f"job-{job}", "state": "waiting", "from": "words", "done": None}
    assert await toy.job(job) == waiting
    toy.now += 6
    assert await toy.job(job) == waiting | {"state": "at 50%"}
    toy.now += 4
    done = waiting | {"state": "done", "done": "2023-11-14T22:13:30.000Z"}
    assert await toy.job(job) == done | {"url": f"http://sandbox.test/sandbox/files/{job}.png"}
    await toy.sandbox.deliver_due()
    assert [callback["state"] for callback in toy.callbacks] == ["at 0%", "done"]


async def test_variant_of_a_state_overrides_the_state(toy: ToyVisit) -> None:
    jobs = [(await toy.create(text=text)).json()["job"] for text in ("[fail]", "[moderate]")]
    toy.now += 10
    assert [(await toy.job(job))["state"] for job in jobs] == ["failed", "refused"]


async def test_incomplete_order_is_refused_and_names_the_fields(toy: ToyVisit) -> None:
    refused = await toy.create("large")
    assert (refused.status_code, refused.json()) == (400, {"error": "input.text|input.file, input.size is required"})
    assert (await toy.create("large", file="x", size=3)).status_code == 200
    assert (await toy.create("small", file="x")).status_code == 200
    assert toy.sandbox.ledger.paid() == 2


async def test_price_facts_and_balance_follow_the_orders(toy: ToyVisit) -> None:
    await toy.create(text="a dove", count=5)
    job = (await toy.create(text="a dove", file="x")).json()["job"]
    assert (await toy.job(job))["from"] == "a file"
    assert [each.points for each in toy.sandbox.ledger.jobs] == [10, 6]
    assert (await toy.client.get("/me")).json() == {"left": 84, "by": {"a dove": 2}}


async def test_several_jobs_are_shown_at_once(toy: ToyVisit) -> None:
    jobs = [(await toy.create(text="a dove")).json()["job"] for _ in range(2)]
    found = (await toy.client.post("/list", json={"ids": [*jobs, "unknown"]})).json()["found"]
    assert {each["id"] for each in found} == {f"job-{job}" for job in jobs}


async def test_running_job_is_cancelled_and_finished_job_is_not(toy: ToyVisit) -> None:
    running, finished = [(await toy.create(text=text)).json()["job"] for text in ("a dove", "[seconds=1]")]
    toy.now += 5
    cancelled = await toy.client.post("/cancel", json={"id": running})
    assert (cancelled.status_code, cancelled.json()) == (200, {"was": running})
    too_late = await toy.client.post("/cancel", json={"id": finished})
    assert (too_late.status_code, too_late.json()) == (409, "too late")
    assert [job.state for job in toy.sandbox.ledger.jobs] == ["cancelled", "succeeded"]
    assert (await toy.client.post("/cancel", json={"id": "unknown"})).status_code == 404


async def test_key_is_expected_in_the_header_of_the_protocol(toy: ToyVisit) -> None:
    del toy.client.headers["X-Key"]
    toy.client.headers["Authorization"] = "Bearer sandbox-key"
    assert (await toy.create(text="a dove")).status_code == 401


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("${one}", 1.5),
        ("${one seconds text}", "1"),
        ("x${one}y", "x1.5y"),
        ("${none|0}", 0),
        ('${none|"later"}', "later"),
        ("${none}", None),
        (["${one}", {"a": "${one percent}"}], [1.5, {"a": 150}]),
        ("${not closed", "${not closed"),
        ({"${many}": {"n": "${count}", "one": "${one}"}}, {"a": {"n": 2, "one": 1.5}, "b": {"n": 3, "one": 1.5}}),
    ],
    ids=["value", "filters", "within-text", "default", "default-text", "no-value", "nested", "no-slot", "keys"],
)
def test_slots_are_filled(template: Any, filled: Any) -> None:
    values = {"one": 1.5, "none": None, "many": {"a": 2, "b": 3}}
    assert fill(template, lambda name, _detail: values[name]) == filled
