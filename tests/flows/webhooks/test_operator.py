"""Messages to operators: who gets them, what they show, and that each occurrence is reported once."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.clock import Clock, ClockGuard
from service.domain import operator_events
from service.domain.flows import FLOWS, Flow
from service.domain.operator_events import KINDS, MAX_EXCERPT, Occurrence, excerpt
from service.domain.statistics import Ending
from service.flows import statistics
from service.flows.submission.restored import settle_restored
from service.flows.webhooks import operator, watch
from service.store import health
from tests.support.operators import ON_CALL, listen, reported, types
from tests.support.world import JOB_SECONDS, World


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with World.opened(database_url) as opened:
        await listen(opened)
        yield opened


async def test_open_circuit_is_reported_once_and_delivered(world: World) -> None:
    world.edge.down.add("sandbox.test")
    for _ in range(7):
        await world.submit()
        await world.pass_time(6)
    [event] = await reported(world)
    assert event["type"] == "operator.circuit_open"
    assert event["data"] == {"upstream": "elkapi", "dialect": "runway/aggregator"}
    assert event["sequence"] == 0
    assert "operator.circuit_open" in {each.type for each in world.receiver.received}


async def test_unknown_word_is_reported_once_with_the_message_that_shows_it(world: World) -> None:
    for word in ("PONDERING", "PONDERING", "MUSING"):
        task = await world.submit("[stuck] a dove")
        await world.pass_time(JOB_SECONDS / 2)
        [running] = await world.callbacks(task)
        body = re.sub(rb'("status": ?)"[^"]+"', rb'\1"' + word.encode() + b'"', running.body)
        token = world.context.tokens.make(running.submission_id)
        assert (await world.client.post(f"/callbacks/{token}", content=body)).status_code == 200
        await world.work()
    found = [each["data"] for each in await reported(world)]
    assert [each["word"] for each in found] == ["pondering", "musing"]
    assert {each["dialect"] for each in found} == {"runway/aggregator"}
    assert found[1]["task_id"] == str(task.id)
    for each in found:
        assert f'"{each["word"].upper()}"' in each["message"]


async def test_unknown_word_of_a_poll_is_reported_with_the_answer(world: World) -> None:
    task = await world.submit("[stuck] [drop] a dove")
    await world.work()
    real = world.edge.hosts["sandbox.test"]

    class Odd(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await real.handle_async_request(request)
            body = re.sub(rb'("status": ?)"[^"]+"', rb'\1"PONDERING"', await answer.aread())
            return httpx.Response(answer.status_code, stream=httpx.ByteStream(body))

    world.edge.hosts["sandbox.test"] = Odd()
    await world.pass_time(JOB_SECONDS * 3)
    [event] = await reported(world)
    assert event["data"]["task_id"] == str(task.id)
    assert "PONDERING" in event["data"]["message"]
    assert (await world.task(task)).state == "submitted"


async def test_exhausted_messages_are_reported_once_a_day_for_each_receiver(world: World) -> None:
    for number in range(3):
        await world.submit(callback_url=f"http://nowhere{number % 2}.test/hook")
    await world.until(JOB_SECONDS * 3 + 8 * 86_400)
    found = [each["data"] for each in await reported(world) if each["type"] == "operator.messages_exhausted"]
    assert sorted(each["destination"] for each in found) == ["http://nowhere0.test", "http://nowhere1.test"]
    assert all(each["error"] for each in found)


async def test_operators_own_endpoint_that_fails_reports_nothing_about_itself(world: World) -> None:
    world.edge.down.add("receiver.test")
    await operator.report_clock(world.context, "jump", 60.0)
    await world.until(8 * 86_400)
    assert await types(world) == ["operator.clock_skew"]


async def test_disabled_endpoint_is_reported(world: World) -> None:
    gone = await listen(world, url="http://gone.test/hook", scope="client")
    world.edge.hosts["gone.test"] = answering(410)
    await world.submit(callback_url=None)
    await world.until(JOB_SECONDS * 3)
    [event] = await reported(world)
    assert event["type"] == "operator.endpoint_disabled"
    expected = {"endpoint_id": str(gone.id), "client": "default", "url": gone.url, "reason": "gone"}
    assert event["data"] == expected


def answering(status: int) -> Any:
    return httpx.MockTransport(lambda _: httpx.Response(status))


async def test_callbacks_that_stop_are_reported_once_by_all_processes_and_again_after_they_came_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endings(*, came: bool) -> list[Ending]:
        return [Ending("runway", "text_to_video", None, "elkapi", "runway/aggregator", 9.0, came, True)] * 10

    now: list[Ending] = []

    async def recent(*_: Any, **__: Any) -> list[Ending]:
        return now

    monkeypatch.setattr(statistics, "recent_endings", recent)
    other = dataclasses.replace(world.context, statistics=type(world.context.statistics)())
    for came, times in ((False, 1), (False, 1), (True, 1), (False, 2)):
        now[:] = endings(came=came)
        for context in (world.context, other):
            await statistics.update_statistics(context)
        found = [each for each in await types(world) if each == "operator.callbacks_stopped"]
        assert len(found) == times
    assert (await reported(world))[0]["data"] == {"upstream": "elkapi", "dialect": "runway/aggregator", "share": 0.0}


async def test_recovery_that_a_restart_missed_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[Ending] = []

    async def recent(*_: Any, **__: Any) -> list[Ending]:
        return now

    monkeypatch.setattr(statistics, "recent_endings", recent)
    for came in (False, True, False):
        now[:] = [Ending("runway", "text_to_video", None, "elkapi", "runway/aggregator", 9.0, came, True)] * 10
        fresh = dataclasses.replace(world.context, statistics=type(world.context.statistics)())
        await statistics.update_statistics(fresh)
    assert await types(world) == ["operator.callbacks_stopped"] * 2


async def test_refused_account_is_reported_once_an_hour(world: World) -> None:
    for hours in (0, 0.5, 0.6):
        world.clock.forward(hours * 3600)
        await world.submit("[nocredit] a dove")
        await world.work()
    found = [each for each in await reported(world) if each["type"] == "operator.account_refused"]
    assert len(found) == 2
    assert found[0]["data"]["upstream"] == "elkapi"


async def test_missing_worker_is_reported_once_and_delivered_by_the_process_that_noticed_it(world: World) -> None:
    await watch.check_workers(world.context)
    world.clock.forward(watch.WORKER_SILENT + 1)
    await asyncio.gather(*(watch.check_workers(world.context) for _ in range(3)))
    assert [each.type for each in world.receiver.received] == ["operator.worker_missing"]
    [event] = await reported(world)
    assert event["data"] == {"silent_seconds": 61, "flows": sorted(FLOWS)}
    async with world.context.database.writing() as connection:
        await health.beat(connection, "worker a", "worker", now=world.clock())
    await watch.check_workers(world.context)
    world.clock.forward(watch.WORKER_SILENT + 1)
    await watch.check_workers(world.context)
    assert await types(world) == ["operator.worker_missing"] * 2


async def test_flow_without_a_worker_is_reported_once_until_one_is_back(world: World) -> None:
    async def beat(name: str, *flows: Flow) -> None:
        async with world.context.database.writing() as connection:
            await health.beat(connection, f"worker {name}", "worker", now=world.clock(), flows=flows)

    most = [flow for flow in FLOWS if flow not in {"poll", "money"}]
    world.clock.forward(watch.WORKER_SILENT + 1)
    for _ in range(2):
        await beat("a", *most)
        await beat("b", "money")
        await asyncio.gather(*(watch.check_workers(world.context) for _ in range(2)))
    assert [each["data"]["flows"] for each in await reported(world)] == [["poll"]]
    await beat("c", "poll")
    await watch.check_workers(world.context)
    world.clock.forward(watch.WORKER_SILENT + 1)
    await beat("a", *most)
    await watch.check_workers(world.context)
    assert [each["data"]["flows"] for each in await reported(world)] == [["poll"], ["money"], ["poll"]]


async def test_jump_of_a_clock_is_reported(world: World) -> None:
    at = [1_800_000_000.0]
    guard = ClockGuard(Clock(wall=lambda: at[0], monotonic=lambda: 5.0), world.context.database, world.context.signals)
    heard: list[tuple[str, float]] = []

    async def note(kind: str, seconds: float) -> None:
        heard.append((kind, seconds))

    guard.on_skew = note
    at[0] += 90
    await guard.check()
    assert heard == [("jump", 90.0)]
    for _ in range(2):
        await operator.report_clock(world.context, "jump", 90.0)
    [event] = await reported(world)
    assert (event["type"], event["data"]["seconds"]) == ("operator.clock_skew", 90.0)


async def test_restored_backup_is_reported_with_the_number_of_unconfirmed_tasks(world: World) -> None:
    await world.submit()
    await settle_restored(world.context, "it moved")
    [event] = await reported(world)
    assert event["type"] == "operator.backup_restored"
    assert event["data"] == {"reason": "it moved", "unconfirmed_tasks": 1}


async def test_endpoint_of_operators_gets_no_task_and_a_client_no_operator_message(world: World) -> None:
    await listen(world, url="http://receiver.test/client", scope="client")
    await world.submit(callback_url=None)
    await operator.report_clock(world.context, "jump", 60.0)
    await world.until(JOB_SECONDS * 3)
    assert await types(world) == ["operator.clock_skew"]
    assert {each["type"].partition(".")[0] for each in await reported(world, "http://receiver.test/client")} == {"task"}


async def test_events_select_the_types_of_an_endpoint(world: World) -> None:
    await listen(world, url="http://receiver.test/some", events=("operator.low_credit",))
    await operator.report_clock(world.context, "jump", 60.0)
    assert await reported(world, "http://receiver.test/some") == []


async def test_occurrence_of_a_transaction_that_fails_is_reported_later(world: World) -> None:
    happened = Occurrence(operator_events.LOW_CREDIT, "elkapi", {"upstream": "elkapi"})
    async with world.context.database.writing() as connection:
        await operator.announce(world.context, connection, [happened])
        await connection.rollback()
    assert await reported(world) == []
    await operator.report(world.context, happened)
    assert await types(world) == ["operator.low_credit"]


async def test_two_processes_report_the_same_occurrence_once(world: World) -> None:
    happened = Occurrence(operator_events.WORKER_MISSING, "", {"silent_seconds": 70})
    await asyncio.gather(*(operator.report(world.context, happened) for _ in range(5)))
    assert await types(world) == ["operator.worker_missing"]


def test_every_kind_has_a_field_and_a_type_of_its_own() -> None:
    assert len({kind.type for kind in KINDS}) == len(KINDS) >= 10
    assert all(kind.type.startswith("operator.") and kind.data for kind in KINDS)


@pytest.mark.parametrize(
    ("body", "word", "shown"),
    [
        pytest.param(b'{"status": "ODD"}', "odd", '{"status": "ODD"}', id="whole"),
        pytest.param(b"\xff\x00odd", "odd", "\ufffdodd", id="not-text"),
        pytest.param(b"nothing", "odd", "nothing", id="word-not-there"),
        pytest.param(b"", "odd", "", id="empty"),
    ],
)
def test_excerpt_of_a_message(body: bytes, word: str, shown: str) -> None:
    assert excerpt(body, word) == shown


def test_excerpt_of_a_long_message_has_the_word() -> None:
    shown = excerpt(b"x" * 50_000 + b"ODD" + b"y" * 50_000, "odd")
    assert "ODD" in shown
    assert len(shown) == MAX_EXCERPT


BOSS, SHOP = "boss-key-that-is-long-enough", "shop-key-that-is-long-enough"


@pytest.mark.parametrize(
    ("key", "document", "status", "where"),
    [
        pytest.param(BOSS, {"scope": "admin"}, 201, None, id="operator"),
        pytest.param(BOSS, {"scope": "admin", "events": ["operator.low_credit"]}, 201, None, id="some-events"),
        pytest.param(BOSS, {"scope": "client", "events": ["task.failed"]}, 201, None, id="operators-own-tasks"),
        pytest.param(SHOP, {"scope": "admin"}, 403, None, id="no-operator"),
        pytest.param(SHOP, {"scope": "client"}, 201, None, id="client"),
        pytest.param(SHOP, {"scope": "root"}, 422, "scope", id="unknown-scope"),
        pytest.param(SHOP, {"events": ["operator.low_credit"]}, 422, "events.0", id="operator-event-of-a-client"),
        pytest.param(
            BOSS, {"scope": "admin", "events": ["operator.low_credit", "task.failed"]}, 422, "events.1", id="task-event"
        ),
    ],
)
async def test_scope_of_an_endpoint_needs_that_of_the_key(
    sqlite_url: str, key: str, document: dict[str, Any], status: int, where: str | None
) -> None:
    keys = {"DOVECOTE_API_KEYS": f"boss={BOSS},shop={SHOP}", "DOVECOTE_OPERATORS": "boss"}
    async with World.opened(sqlite_url, **keys) as world:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await world.client.post("/v1/endpoints", json={"url": ON_CALL, **document}, headers=headers)
        assert answer.status_code == status, answer.text
        if status == 201:
            made = answer.json()
            assert made["scope"] == document.get("scope", "client")
            wrong = "task.failed" if made["scope"] == "admin" else "operator.low_credit"
            path = f"/v1/endpoints/{made['id']}"
            changed = await world.client.patch(path, json={"events": [wrong]}, headers=headers)
            assert changed.status_code == 422
            assert (await world.client.patch(path, json={"scope": "client"}, headers=headers)).status_code == 422
        if where is not None:
            assert [each["path"] for each in answer.json()["errors"]] == [where]


async def test_test_message_reaches_an_endpoint_of_operators(sqlite_url: str) -> None:
    async with World.opened(sqlite_url) as world:
        endpoint = await listen(world)
        answer = (await world.client.post(f"/v1/endpoints/{endpoint.id}/test")).json()
        assert (answer["type"], len(answer["deliveries"])) == ("endpoint.test", 1)
