"""No number in a numeric field of a request causes a server error. It is accepted, or it is a mistake with a path."""

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from service.providers.registry import FAMILIES
from tests.support.cases import share
from tests.support.world import World

NUMBERS = [
    "1e400",
    "-1e400",
    "1e308",
    "-1e308",
    "1e-400",
    "-0.0",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1" + "0" * 400,
    "0." + "3" * 400,
    "1e22",
    "2147483648",
    "253402300800",
    "8.64e15",
    "-1",
    "true",
    '"7"',
    "[1e308]",
]
"""As they stand in the body: some are no numbers in JSON, or none that a float holds."""


def numeric_fields() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield family, operation and name of every numeric input, with the required ones."""
    for family in FAMILIES.values():
        for operation in family.operations.values():
            schema = operation.input
            required = dict.fromkeys(schema.get("required", ()), "x")
            for name, field in schema.get("properties", {}).items():
                kinds = field.get("type", ())
                if {"integer", "number"} & {kinds, *(kinds if isinstance(kinds, list) else ())}:
                    yield family.name, operation.name, name, required


def with_number(document: dict[str, Any], number: str) -> bytes:
    return orjson.dumps(document).replace(b'"@"', number.encode())


async def post(api: httpx.AsyncClient, path: str, document: dict[str, Any], number: str) -> httpx.Response:
    return await api.post(path, content=with_number(document, number), headers={"Content-Type": "application/json"})


def check(answer: httpx.Response, where: Any) -> None:
    assert answer.status_code in {200, 202, 400, 422}, (where, answer.text)
    assert len(answer.content) < 20_000
    if answer.status_code == 422:
        assert all(error["path"] for error in answer.json()["errors"]), where


@pytest.fixture
async def api(sqlite_url: str) -> Any:
    async with World.opened(sqlite_url) as world:
        yield world.client


@pytest.mark.parametrize("parts", [4, pytest.param(1, marks=pytest.mark.long)], ids=["some fields", "all fields"])
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:24])
async def test_number_in_any_input_is_accepted_or_a_mistake(api: httpx.AsyncClient, number: str, parts: int) -> None:
    fields = list(numeric_fields())
    assert len(fields) > 20
    for family, operation, name, required in share(fields, parts, number):
        document = {"family": family, "operation": operation, "input": {**required, name: "@"}}
        check(await post(api, "/v1/tasks", document, number), (family, operation, name))


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:24])
async def test_number_in_any_other_field_is_accepted_or_a_mistake(api: httpx.AsyncClient, number: str) -> None:
    task = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a"}}
    for more in ({"deadline": "@"}, {"options": {"n": "@", "list": ["@"]}}, {"labels": {"a": "@"}}, {"parent_id": "@"}):
        check(await post(api, "/v1/tasks", {**task, **more}, number), more)
    for name in ("limit", "after", "cursor", "state"):
        check(await post(api, "/v1/messages/replay", {name: "@"}, number), name)
    check(await post(api, "/v1/endpoints", {"url": "@", "description": "@"}, number), "endpoint")
    listed = (await api.get("/v1/tasks?limit=100")).json()["tasks"]
    for each in listed:
        assert (await api.get(f"/v1/tasks/{each['id']}")).status_code == 200


@pytest.mark.parametrize("number", [number.strip('"[]') for number in NUMBERS], ids=lambda number: number[:24])
async def test_number_in_a_query_is_accepted_or_a_mistake(api: httpx.AsyncClient, number: str) -> None:
    answer = await api.post(
        "/v1/tasks", json={"family": "runway", "operation": "text_to_video", "input": {"prompt": "a"}}
    )
    task = answer.json()["id"]
    for path in (f"/v1/tasks?limit={number}", f"/v1/events?limit={number}", f"/v1/messages?limit={number}"):
        assert (await api.get(path)).status_code in {200, 422}, path
    for path in (f"/v1/events?after={number}", f"/v1/tasks/{task}/events?after={number}"):
        assert (await api.get(path)).status_code in {200, 409, 422}, path
    if number not in {"7", "-1"}:
        assert (await api.get(f"/v1/tasks/{task}?wait={number}")).status_code in {200, 422}
