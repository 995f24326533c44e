"""Request bodies: their size, their memory, and the errors about them are bounded."""

import asyncio
import gzip
import zlib
from typing import Any

import httpx
import orjson
import pytest

from service.domain.compression import zstd
from service.domain.validation import MAX_QUOTED
from service.web import request_body
from service.web.problems import MAX_BYTES, Problem
from service.web.request_body import MAX_WITHOUT_MEDIA, BodyBudget
from tests.support.world import TASK_REQUEST, World

MIB = 2**20
JSON = {"Content-Type": "application/json"}
PICTURE = "data:image/png;base64," + "QUJD" * (MIB // 2)
RUNWAY = {"family": "runway", "operation": "text_to_video"}


@pytest.mark.parametrize(
    "document",
    [
        {"family": "A" * MIB, "operation": "x"},
        {"family": "runway", "operation": "é x" * 100_000},
        {**RUNWAY, "x y" * 100_000: 1},
        {**RUNWAY, "upstream": "no such" * 100_000},
        {**RUNWAY, "route": ["a" * 300_000] * 3},
        {**RUNWAY, "labels": {"é" * 5_000 + str(number): "b" for number in range(20)}},
        {**RUNWAY, "labels": {"a": "b" * 500_000}},
        {**RUNWAY, "callback_url": "https://" + "a." * 200_000},
        {**RUNWAY, "parent_id": "u" * 500_000},
        {**RUNWAY, "deadline": "2" * 500_000},
        {**RUNWAY, "input": {"prompt": "a", "duration": ["x" * 5_000] * 150}},
        {**RUNWAY, "input": {"prompt": "a", "x" * 500_000: 1}},
        {**RUNWAY, "input": {f"{number}{'y' * 5_000}": 1 for number in range(90)}},
        {**RUNWAY, "options": "z" * 500_000},
        [{}] * 300_000,
        {"input": [[[]] * 1_000] * 200},
    ],
    ids=lambda document: str(document)[:30],
)
async def test_error_about_a_large_value_is_small(api: httpx.AsyncClient, document: Any) -> None:
    answer = await api.post("/v1/tasks", content=orjson.dumps(document), headers=JSON)
    assert answer.status_code == 422
    assert len(answer.content) <= MAX_BYTES
    for error in answer.json()["errors"]:
        assert len(error["path"]) <= 200
        for part in error["message"].split('"')[1::2]:
            assert len(part) <= MAX_QUOTED


@pytest.mark.parametrize(
    "query",
    [
        "x" * 30000 + "=1",
        "&".join(f"a{number}=1" for number in range(3000)),
        "limit=" + "9" * 30000,
        "label=" + "y" * 30000,
        "&".join("z" * 500 + f"{number}=1" for number in range(99)),
        "state=" + "q" * 30000,
        "limit=١٢",
        "limit=1_0",
        "limit=-1",
        "created_after=" + "2" * 30000,
        "cursor=" + "c" * 30000,
        "limit=1e9",
        "limit=",
        "limit=0x10",
        "limit=99999999999999999999",
    ],
    ids=lambda query: query[:20],
)
async def test_error_about_a_hostile_query_is_small(api: httpx.AsyncClient, query: str) -> None:
    answer = await api.get(f"/v1/tasks?{query}")
    assert answer.status_code == 422
    assert len(answer.content) <= MAX_BYTES


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z"])
async def test_extreme_time_in_a_query_is_accepted(api: httpx.AsyncClient, time: str) -> None:
    for name in ("created_after", "created_before"):
        assert (await api.get("/v1/tasks", params={name: time})).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" + b"{}," * (MAX_WITHOUT_MEDIA // 3) + b"{}]", 413),
        (b'{"input":{"prompt":"' + b"words and words " * (MAX_WITHOUT_MEDIA // 16) + b'"}}', 413),
        (b'{"a":' + b" " * MAX_WITHOUT_MEDIA + b"1}", 413),
        (b'{"a":[' + b'"b",' * (MAX_WITHOUT_MEDIA // 4) + b'"b"]}', 413),
        (b'{"family":"' + b"A" * MAX_WITHOUT_MEDIA + b'"}', 422),
        (
            orjson.dumps({**TASK_REQUEST, "operation": "image_to_video", "input": {"prompt": "a", "image": PICTURE}}),
            202,
        ),
        (orjson.dumps({**TASK_REQUEST, "options": {"image": PICTURE.replace("/", "\\/")}}), 202),
    ],
    ids=["objects", "text", "blanks", "strings", "name", "media", "media in options"],
)
async def test_body_over_one_mebibyte_is_accepted_for_media_only(
    api: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await api.post("/v1/tasks", content=body, headers=JSON)
    assert answer.status_code == status


async def test_large_body_is_parsed_and_checked_outside_the_event_loop(
    world: World, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    to_thread = asyncio.to_thread

    async def noted(function: Any, *arguments: Any) -> Any:
        calls.append(getattr(function, "__name__", None) or function.func.__name__)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    await api.post("/v1/tasks", json=TASK_REQUEST)
    assert calls == []
    large = {**TASK_REQUEST, "operation": "image_to_video", "input": {"prompt": "a", "image": PICTURE}}
    assert (await api.post("/v1/tasks", json=large)).status_code == 202
    assert calls == ["parse_json", "task_of_request"]


async def test_setting_max_body_limits_a_body(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_MAX_BODY=str(MIB)) as world:
        body = b'"' + b"A" * (MIB - 2) + b'"'
        assert (await world.client.post("/v1/tasks", content=body, headers=JSON)).status_code == 422
        refused = await world.client.post("/v1/tasks", content=body + b" ", headers=JSON)
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


# ── the budget ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_client_gets_half_of_the_budget_and_the_process_all_of_it() -> None:
    budget = BodyBudget(32 * MIB)
    with budget.lease("a") as first, budget.lease("b") as second, budget.lease("a") as third:
        first.grow(32 * MIB)
        with pytest.raises(Problem) as refused:
            third.grow(MIB)
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "5")
        second.grow(32 * MIB)
        assert budget.used == budget.limit
    assert budget.used == 0
    with budget.lease("a") as again:
        again.grow(32 * MIB)


def test_small_body_takes_nothing_from_the_budget() -> None:
    budget = BodyBudget(32 * MIB)
    with budget.lease("a") as full, budget.lease("a") as small:
        full.grow(32 * MIB)
        small.grow(request_body.SMALL)
        assert budget.used == 32 * MIB


async def test_body_is_refused_by_its_stated_length_when_the_budget_is_used(
    world: World, api: httpx.AsyncClient
) -> None:
    bodies = world.state.bodies
    with bodies.lease("default") as other:
        other.grow(bodies.client_limit)
        answer = await api.post("/v1/tasks", content=b'"' + b"A" * MIB + b'"', headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert (await api.post("/v1/tasks", json=TASK_REQUEST)).status_code == 202
    assert bodies.used == 0


async def test_large_bodies_of_a_client_are_processed_one_at_a_time() -> None:
    budget = BodyBudget(32 * MIB)
    with budget.lease("a") as first, budget.lease("a") as second:
        await first.wait_for_turn()
        waiting = asyncio.create_task(second.wait_for_turn())
        await asyncio.sleep(0)
        assert not waiting.done()
        await first.end_turn()
        await asyncio.wait_for(waiting, 60)
        await second.end_turn()


async def test_body_that_waits_too_long_for_its_turn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "MAX_TURN", 0.01)
    budget = BodyBudget(32 * MIB)
    with budget.lease("a") as first, budget.lease("b") as second:
        await first.wait_for_turn()
        with pytest.raises(Problem) as refused:
            await second.wait_for_turn()
        assert refused.value.status == 503
        await first.end_turn()
        await second.wait_for_turn()
        await second.end_turn()


# ── encodings and null ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, zstd.compress], ids=["gzip", "zlib", "zstd"])
async def test_compressed_body_without_a_header_is_named_as_such(api: httpx.AsyncClient, pack: Any) -> None:
    packed = pack(orjson.dumps(TASK_REQUEST))
    answer = await api.post("/v1/tasks", content=packed, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", None])
async def test_compressed_body_is_answered_415(api: httpx.AsyncClient, encoding: str | None) -> None:
    headers = {**JSON, **({} if encoding is None else {"Content-Encoding": encoding})}
    answer = await api.post("/v1/tasks", content=gzip.compress(orjson.dumps(TASK_REQUEST)), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "compress" in answer.text or "Content-Encoding" in answer.text


async def test_identity_is_no_compression(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks", json=TASK_REQUEST, headers={"Content-Encoding": "identity"})
    assert answer.status_code == 202


async def test_null_means_absent_for_every_optional_field(api: httpx.AsyncClient) -> None:
    optional = ["input", "options", "callback_url", "callback_events", "labels", "parent_id", "upstream", "route"]
    nothing = dict.fromkeys([*optional, "on_uncertain", "deadline"])
    document = {
        **nothing,
        **TASK_REQUEST,
        "input": {"prompt": "a", "seed": None, "duration": None},
        "labels": {"a": None},
    }
    answer = await api.post("/v1/tasks", json=document)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["input"], answer.json()["labels"]) == ({"prompt": "a"}, {})


async def test_null_of_a_required_field_is_a_missing_field(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks", json={**TASK_REQUEST, "family": None})
    assert {"path": "family", "message": "is required"} in answer.json()["errors"]


async def test_null_and_absence_are_the_same_request(api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order 7"}
    first = await api.post("/v1/tasks", json=TASK_REQUEST, headers=key)
    again = await api.post("/v1/tasks", json={**TASK_REQUEST, "callback_url": None}, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


async def test_null_in_options_is_sent_as_it_is(world: World, api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks", json={**TASK_REQUEST, "options": {"style": None}})
    assert answer.json()["options"] == {"style": None}
