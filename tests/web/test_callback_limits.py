"""Callbacks of one submission are bounded, accepted in every form that providers send, and never lost."""

import gzip
import json
import urllib.parse
from typing import Any

import pytest

from service.domain.task import State
from service.web import callback_limits
from tests.support.provider_callbacks import callback_body, submitted_task
from tests.support.world import JOB_SECONDS, World


async def test_callbacks_beyond_the_limit_are_refused_and_the_task_is_polled(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callback_limits, "MAX_ROWS", 23)
    task, path = await submitted_task(world)
    statuses = [(await world.client.post(path, content=f'{{"number":{number}}}')).status_code for number in range(40)]
    assert statuses == [200] * 23 + [429] * 17
    assert len(await world.callbacks(task)) == 23
    refused = await world.client.post(path, content="{}")
    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("too_many_callbacks", "3600")
    assert len([each for each in caplog.records if "callbacks refused" in each.getMessage()]) == 1
    assert (await world.task(task)).due_at <= world.clock()
    await world.until(JOB_SECONDS * 3)
    assert (await world.task(task)).state is State.SUCCEEDED


async def test_large_callbacks_are_limited_by_their_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_limits, "MAX_BYTES", 250_000)
    monkeypatch.setattr(callback_limits, "_CHECK_BYTES", 100_000)
    task, path = await submitted_task(world)
    statuses = [(await world.client.post(path, content=f"{number}" + "x" * 60_000)).status_code for number in range(12)]
    assert statuses == [200] * 4 + [429] * 8
    assert sum(len(each.body) for each in await world.callbacks(task)) <= 250_000


async def test_copies_of_one_callback_do_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_limits, "MAX_ROWS", 4)
    monkeypatch.setattr(callback_limits, "_CHECK_ROWS", 2)
    _, path = await submitted_task(world)
    assert {(await world.client.post(path, content="{}")).status_code for _ in range(20)} == {200}


async def test_limit_of_one_submission_leaves_the_others_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_limits, "MAX_ROWS", 1)
    monkeypatch.setattr(callback_limits, "_CHECK_ROWS", 1)
    (_, first), (_, second) = await submitted_task(world), await submitted_task(world)
    assert (await world.client.post(first, content="1")).status_code == 200
    assert (await world.client.post(first, content="2")).status_code == 429
    assert (await world.client.post(second, content="1")).status_code == 200


# ── forms ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _as_form(body: bytes) -> dict[str, Any]:
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in json.loads(body).items()}
    return {"content": urllib.parse.urlencode(fields), "headers": {"Content-Type": "application/x-www-form-urlencoded"}}


FORMS = {
    "put": lambda body: {"method": "PUT", "content": body},
    "slash": lambda body: {"slash": "/", "content": body},
    "form": _as_form,
    "json in json": lambda body: {"content": json.dumps(body.decode())},
    "gzip": lambda body: {"content": gzip.compress(body), "headers": {"Content-Encoding": "gzip"}},
    "gzip without a header": lambda body: {"content": gzip.compress(body)},
}


@pytest.mark.parametrize("form", FORMS)
async def test_callback_in_an_unusual_form_is_applied(world: World, form: str) -> None:
    task, path = await submitted_task(world)
    sent = {"method": "POST", **FORMS[form](callback_body(task))}
    answer = await world.client.request(sent.pop("method"), path + sent.pop("slash", ""), **sent)
    assert answer.status_code == 200
    await world.work()
    assert [each.decision for each in await world.callbacks(task)] == ["applied"]
    assert (await world.task(task)).state is State.SUCCEEDED
