"""Every recorded message that states a cost, a refund or a quantity is understood: the number is in what was read."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import UpstreamError
from service.domain.task import Update
from service.providers.charges import with_charges
from service.providers.recordings import read_message
from service.providers.registry import DIALECTS
from service.providers.wire import Reply

RECORDINGS = Path(__file__).parents[1] / "recordings"
KINDS = {"submit_response", "poll_response", "callback", "cancel_response"}
COSTS = {
    "cost": 1.0,
    "point": 1.0,
    "consumeCredits": 1.0,
    "creditsConsumed": 1.0,
    "final_unit_deduction": 1.0,
    "ResultCreditConsumed": 1.0,
    "usage_cost_usd_micros": 1e-6,
    "charge_micro_usd": 1e-6,
    "cost_in_usd_ticks": 1e-10,
    "quota": 1.0,
}
"""Fields that state a cost, by the factor to its unit."""
QUANTITIES = {
    "completion_tokens",
    "output_tokens",
    "predict_time",
    "output_seconds",
}
"""Fields that state a quantity."""


def numbers(document: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, float]]:
    """Yield the costs and quantities that a document states, by the name of the field."""
    if isinstance(document, list):
        for each in document:
            yield from numbers(each, path)
    if not isinstance(document, dict):
        return
    for name, value in document.items():
        number = _number(value)
        if name == "credits" and path[-1:] == ("cost",) and number is not None:
            yield "cost", number
        elif name == "credits" and not path and number is not None:
            yield "credits", number
        elif name in COSTS and number is not None:
            yield name, number * COSTS[name]
        elif name in QUANTITIES and number is not None:
            yield name, number
        yield from numbers(value, (*path, name))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def messages() -> Iterator[Any]:
    for name in DIALECTS:
        for path in sorted((RECORDINGS / name).glob("*.json")):
            message = json.loads(path.read_text(encoding="utf-8"))
            body = message.get("body")
            if message["kind"] in KINDS and isinstance(body, dict):
                stated = [(field, number) for field, number in numbers(body) if number > 0]
                if stated:
                    yield pytest.param(name, message, stated, id=f"{name} {path.stem}")


OF_OTHER_JOBS = {"replicate/official poll_response.list-page"}
"""Lists of jobs, of which the reading is about one."""
MESSAGES = [each for each in messages() if each.id not in OF_OTHER_JOBS]


def read(name: str, message: dict[str, Any]) -> Update | None:
    reply = Reply(
        message["http_status"] or 200,
        message.get("headers", {}),
        json.dumps(message["body"]).encode(),
        message["endpoint"],
    )
    try:
        found = read_message(DIALECTS[name], message["kind"], reply)
    except UpstreamError:
        return None
    return with_charges(found, reply.document, reply.headers)


@pytest.mark.parametrize(("name", "message", "stated"), MESSAGES)
def test_stated_number_is_in_what_was_read(name: str, message: dict[str, Any], stated: list[tuple[str, float]]) -> None:
    found = read(name, message)
    if found is None:
        pytest.skip("the message is an error")
    known = {round(number, 9) for number in [found.cost or 0, *found.usage.values()]}
    missing = [(field, number) for field, number in stated if round(number, 9) not in known]
    assert not missing, (missing, known)


def test_sweep_finds_the_messages_about_money() -> None:
    assert len(MESSAGES) > 60
    assert len({each.values[0] for each in MESSAGES}) > 12
    assert dataclasses.is_dataclass(Update)
