"""Extreme numbers in every numeric field of a submit: each is accepted or refused with 422, and never an internal error."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.providers.registry import FAMILIES
from tests.support.cases import share
from tests.support.world import World

NUMBERS: dict[str, str] = {
    "zero": "0",
    "negative zero": "-0.0",
    "negative": "-1",
    "fraction": "0.1",
    "tiny": "1e-320",
    "above float precision": str(2**53 + 1),
    "above int32": str(2**31),
    "above int64": str(2**63),
    "below int64": str(-(2**63) - 1),
    "above uint64": str(2**64),
    "hundred digits": "9" * 100,
    "thousands of digits": "9" * 5000,
    "largest float": "1.7976931348623157e308",
    "negative large float": "-1e308",
    "beyond float": "1e400",
    "negative beyond float": "-1e400",
    "whole float": "5.0",
    "truth": "true",
    "number as text": '"5"',
    "NaN": "NaN",
    "infinity": "Infinity",
}
TIMES = (
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59.999999Z",
    "2026-02-30T00:00:00Z",
    "2026-01-01T00:00:00+99:99",
    "2026-01-01T24:00:00Z",
    "2026-W01-1",
    "20260101T000000Z",
    "1e300",
    "",
)


def numeric_fields(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all properties that may be numbers."""
    if not isinstance(schema, dict):
        return
    types = schema.get("type")
    if path and {"number", "integer"} & set(types if isinstance(types, list) else [types]):
        yield path
    for name, below in schema.get("properties", {}).items():
        yield from numeric_fields(below, (*path, name))
    for key in ("anyOf", "oneOf", "allOf"):
        for below in schema.get(key, ()):
            yield from numeric_fields(below, path)


FIELDS = sorted(
    {
        (family.name, operation.name, path)
        for family in FAMILIES.values()
        for operation in family.operations.values()
        for path in numeric_fields(operation.input)
    }
)


def nested(path: tuple[str, ...], number: str) -> str:
    return number if not path else f'{{"{path[0]}": {nested(path[1:], number)}}}'


async def answer_to(world: World, body: str) -> int:
    headers = {"content-type": "application/json"}
    answer = await world.client.post("/v1/tasks", content=body.encode(), headers=headers)
    assert len(answer.content) < 50_000
    return answer.status_code


@pytest.fixture
async def world(sqlite_url: str) -> Any:
    async with World.opened(sqlite_url) as opened:
        yield opened


def test_there_are_numeric_fields() -> None:
    assert {family for family, *_ in FIELDS} >= {"runway", "midjourney", "suno"}


@pytest.mark.parametrize("parts", [4, pytest.param(1, marks=pytest.mark.long)], ids=["some fields", "all fields"])
@pytest.mark.parametrize("number", NUMBERS)
async def test_extreme_number_in_an_input_field_is_no_internal_error(world: World, number: str, parts: int) -> None:
    for family, operation, path in share(FIELDS, parts, number):
        given = nested(path, NUMBERS[number])
        body = f'{{"family": "{family}", "operation": "{operation}", "input": {given}}}'
        assert await answer_to(world, body) in {202, 400, 422}, (family, operation, path)


@pytest.mark.parametrize("number", NUMBERS)
async def test_extreme_number_elsewhere_is_no_internal_error(world: World, number: str) -> None:
    value = NUMBERS[number]
    plain = '"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}'
    more = [f'"{name}": {value}' for name in ("deadline", "labels", "callback_url", "parent_id", "route", "upstream")]
    more += [f'"options": {{"seed": {value}}}', f'"options": {{"model": {value}}}', f'"options": {{"a": [{value}]}}']
    more += [f'"labels": {{"n": {value}}}', f'"callback_events": [{value}]', f'"on_uncertain": {value}']
    for field in more:
        assert await answer_to(world, f"{{{plain}, {field}}}") in {202, 400, 422}, field
    await world.work()


@pytest.mark.parametrize("time", TIMES)
async def test_extreme_time_as_deadline_is_refused(world: World, time: str) -> None:
    body = f'{{"family": "runway", "operation": "text_to_video", "input": {{"prompt": "a"}}, "deadline": "{time}"}}'
    assert await answer_to(world, body) == 422
