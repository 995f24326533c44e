"""Submits by REST: the same key returns the same task, all mistakes are reported at once, and no document causes an error."""

import asyncio
import datetime as dt
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.contract import CONTRACT
from tests.support.world import JOB_SECONDS, RECEIVER_URL, TASK_REQUEST, World


async def test_accepted_task_is_found_at_its_location(api: httpx.AsyncClient) -> None:
    answer = await api.post(
        "/v1/tasks", json={**TASK_REQUEST, "labels": {"project": "intro"}, "callback_url": RECEIVER_URL}
    )
    task = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"tasks/{task['id']}")
    assert (task["state"], task["labels"], task["callback_url"]) == ("queued", {"project": "intro"}, RECEIVER_URL)
    address = answer.url.join(answer.headers["location"])
    found = await api.get(address)
    assert (found.status_code, found.json()) == (200, task)
    events = (await api.get(f"{address}/events")).json()["events"]
    assert [(event["sequence"], event["type"], event["source"]) for event in events] == [(1, "accepted", "client")]


async def test_same_idempotency_key_and_body_return_the_same_task(api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order 7/ü"}
    first = await api.post("/v1/tasks", json=TASK_REQUEST, headers={"Idempotency-Key": "order 7"})
    again = await api.post(
        "/v1/tasks",
        content=orjson.dumps(dict(reversed(TASK_REQUEST.items()))),
        headers={"Idempotency-Key": "order 7", "Content-Type": "application/json"},
    )
    assert (first.status_code, again.status_code, again.json()["id"]) == (202, 202, first.json()["id"])
    assert (first.headers.get("idempotency-replayed"), again.headers.get("idempotency-replayed")) == (None, "true")
    other = await api.post(
        "/v1/tasks", json={**TASK_REQUEST, "labels": {"a": "b"}}, headers={"Idempotency-Key": "order 7"}
    )
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (
        await api.post("/v1/tasks", json=TASK_REQUEST, headers={k: v.encode() for k, v in key.items()})
    ).status_code == 202  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("key", ["", "a" * 256, "a\x01b", "a\tb"])
async def test_invalid_idempotency_key_is_rejected(api: httpx.AsyncClient, key: str) -> None:
    answer = await api.post("/v1/tasks", json=TASK_REQUEST, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "Idempotency-Key")


async def test_hundred_concurrent_duplicates_create_one_task(world: World, api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "the one"}
    requests = [
        TASK_REQUEST if number % 10 else {**TASK_REQUEST, "labels": {"another": "body"}} for number in range(100)
    ]
    answers = await asyncio.gather(*(api.post("/v1/tasks", json=request, headers=key) for request in requests))
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert {answer.status_code for answer in answers} == {202, 422}
    assert len({answer.json()["id"] for answer in accepted}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in accepted) == 1
    await world.until(JOB_SECONDS * 4)
    assert world.sandbox.ledger.paid() == 1
    assert len((await api.get("/v1/tasks")).json()["tasks"]) == 1


async def test_repeated_submit_is_accepted_after_its_deadline(world: World, api: httpx.AsyncClient) -> None:
    request = {**TASK_REQUEST, "deadline": (world.clock() + dt.timedelta(seconds=30)).isoformat()}
    first = await api.post("/v1/tasks", json=request, headers={"Idempotency-Key": "k"})
    world.clock.forward(60)
    again = await api.post("/v1/tasks", json=request, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert (await api.post("/v1/tasks", json=request, headers={"Idempotency-Key": "other"})).status_code == 422


async def test_all_mistakes_are_reported_with_suggestions(api: httpx.AsyncClient) -> None:
    request = {
        "family": "runway",
        "operation": "text_to_video",
        "input": {"promt": "a dove", "aspect_ratio": "wide", "duration": "long"},
        "labls": {},
        "labels": {"bad name": "x", "a": 1},
        "callback_url": "gopher://x",
        "deadline": 1,
    }
    answer = await api.post("/v1/tasks", json=request)
    said = {error["path"]: error["message"] for error in answer.json()["errors"]}
    assert answer.status_code == 422
    hints = {
        "labls": "did you mean 'labels'?",
        "labels": "bad name",
        "labels.a": "string",
        "deadline": "",
        "callback_url": "http(s) URL",
        "input.promt": "did you mean 'prompt'?",
        "input.prompt": "is required",
        "input.aspect_ratio": "wide",
        "input.duration": "number",
    }
    assert {path: hint for path, hint in hints.items() if hint not in said.get(path, "-")} == {}


@pytest.mark.parametrize(
    ("change", "path", "hint"),
    [
        ({"family": "runaway"}, "family", "did you mean 'runway'?"),
        ({"family": "zzz"}, "family", "there are"),
        ({"operation": "text_to_vidoe"}, "operation", "did you mean 'text_to_video'?"),
        ({"upstream": "elkapy"}, "upstream", "did you mean 'elkapi'?"),
        ({"upstream": "cometapi"}, "upstream", "set COMETAPI_KEY"),
        ({"operation": "voice_isolation", "input": {"audio": "https://x/a.mp3"}}, "operation", "set one of"),
        ({"options": {"callback_url": "https://evil.example"}}, "options.callback_url", "Dovecote fills it"),
        ({"input": {"prompt": "a\x00b"}}, "input.prompt", "NUL"),
        ({"labels": {"a": "\x00"}}, "labels.a", "NUL"),
        ({"deadline": "2020-01-01T00:00:00Z"}, "deadline", "from now"),
        ({"deadline": "tomorrow"}, "deadline", ""),
        ({"input": []}, "input", "object"),
    ],
)
async def test_mistake_names_the_field_and_the_remedy(
    api: httpx.AsyncClient, change: dict[str, Any], path: str, hint: str
) -> None:
    answer = await api.post("/v1/tasks", json={**TASK_REQUEST, **change})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    said = {error["path"]: error["message"] for error in answer.json()["errors"]}
    assert hint in said[path]


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "not_json"),
        (b"", "application/json", 400, "not_json"),
        (b"\xff", "application/json", 400, "not_json"),
        (b'"\\ud800"', "application/json", 400, "not_json"),
        (b"null", "application/json", 422, "invalid_request"),
        (b"[]", "application/json; charset=utf-8", 422, "invalid_request"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "", 415, "unsupported_media_type"),
        (b'{"options":' * 1 + b'{"a":' * 300 + b"1" + b"}" * 301, "application/json", 422, "invalid_request"),
        (b"[" * 1000 + b"]" * 1000, "application/json", 422, "invalid_request"),
        (b" " * (32 * 1024 * 1024 + 1), "application/json", 413, "too_large"),
    ],
    ids=range(11),
)
async def test_invalid_body_is_rejected(
    api: httpx.AsyncClient, content: bytes, content_type: str, status: int, code: str
) -> None:
    answer = await api.post("/v1/tasks", content=content, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
fields = st.sampled_from(
    ["family", "operation", "input", "options", "labels", "callback_url", "upstream", "deadline", "parent_id"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(anything | st.dictionaries(fields, anything).map(lambda changes: {**TASK_REQUEST, **changes}))
async def test_arbitrary_document_causes_no_internal_error(sqlite_url: str, document: Any) -> None:
    async with World.opened(sqlite_url) as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        answer = await world.client.post(
            "/v1/tasks", content=orjson.dumps(document), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in {202, 422}
