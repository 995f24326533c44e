"""Messages that are written with a change: their recipients, their number and their size."""

import asyncio
import dataclasses
import datetime as dt
from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select

from service.domain.changes import Ended, StatusReported
from service.domain.destination_slots import DestinationSlots
from service.domain.task import Failure, Result, Source, State, Task, Update
from service.domain.webhook_events import ENDS, LATE, PROGRESS, TYPES
from service.flows.apply import announce, apply
from service.flows.concurrency import TaskPool
from service.flows.render import LEFT_OUT, MAX_BRIEF, show_task
from service.flows.webhooks import dispatch
from service.flows.webhooks.enqueue import MAX_DESTINATION, callback_destination
from service.flows.webhooks.payload import payload_of
from service.store import tables
from service.store.webhooks import endpoints
from service.store.webhooks.claim import destination_of
from service.store.webhooks.endpoints import Endpoint
from tests.support.contract import DOCUMENT
from tests.support.values import NOW, a_task, keep, new_id
from tests.support.world import JOB_SECONDS, RECEIVER_URL, World

HOOK = "http://client.test/hook"


async def listening(world: World, *events: str, client: str = "default", **more: Any) -> Endpoint:
    """Store an endpoint without the checks of the API."""
    now = world.clock()
    endpoint = Endpoint(
        id=new_id(), client=client, url=HOOK, events=events, secret="whsec_QUFB", created_at=now, updated_at=now, **more
    )
    async with world.context.database.writing() as connection:
        await endpoints.register(connection, endpoint, most=100)
    return endpoint


async def change(world: World, task: Task, *updates: Update, source: Source = Source.POLL) -> None:
    """Apply some updates of a provider in one transaction."""
    changes = [StatusReported(task_id=task.id, source=source, update=update) for update in updates]
    async with world.context.database.writing() as connection:
        applied = await apply(world.context, connection, changes)
    announce(world.context, applied)


async def begun(world: World, **more: Any) -> Task:
    """Store a task that a provider has accepted."""
    task = a_task(state=State.SUBMITTED, external_id=str(new_id()), **more)
    await keep(world.context.database, task)
    return task


async def messages_of(world: World, task: Task) -> list[tuple[str, UUID | None, str]]:
    return [(each.type, each.endpoint_id, each.state) for each in await world.messages(task)]


DONE = Update(state=State.SUCCEEDED, results=(Result("video", url="https://x/v.mp4"),))
RUNNING = Update(state=State.RUNNING)


def at(percent: int) -> Update:
    return Update(state=State.RUNNING, progress=percent)


# ── who ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_change_is_sent_to_the_receivers_of_its_type(world: World) -> None:
    everything = await listening(world)
    ends = await listening(world, "task.succeeded", "task.failed")
    moves = await listening(world, PROGRESS)
    await listening(world, client="another")
    await listening(world, disabled_at=world.clock(), disabled_reason="client")
    task = await begun(world, callback_url=RECEIVER_URL)
    await change(world, task, RUNNING)
    await change(world, task, at(40))
    await change(world, task, dataclasses.replace(at(40), cost=2.0))  # no event for a client
    assert sorted(await messages_of(world, task), key=str) == sorted(
        [("task.running", everything.id, "pending"), (PROGRESS, moves.id, "pending")], key=str
    )
    await change(world, task, DONE)
    assert {(kind, to) for kind, to, state in await messages_of(world, task) if kind == "task.succeeded"} == {
        ("task.succeeded", None),
        ("task.succeeded", everything.id),
        ("task.succeeded", ends.id),
    }


async def test_task_can_name_the_types_for_its_callback_url(world: World) -> None:
    plain = await begun(world, callback_url=RECEIVER_URL)
    named = await begun(world, callback_url=RECEIVER_URL, callback_events=("task.running", PROGRESS))
    for task in (plain, named):
        for update in (RUNNING, at(10), DONE):
            await change(world, task, update)
    assert [kind for kind, _, _ in await messages_of(world, plain)] == ["task.succeeded"]
    assert [(kind, state) for kind, _, state in await messages_of(world, named)] == [
        ("task.running", "pending"),
        (PROGRESS, "discarded"),
    ]


async def test_request_names_the_types_for_the_callback_url(world: World) -> None:
    request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}
    answer = await world.client.post(
        "/v1/tasks",
        json={**request, "callback_url": RECEIVER_URL, "callback_events": ["task.running", "task.succeeded"]},
    )
    assert (answer.status_code, answer.json()["callback_events"]) == (202, ["task.running", "task.succeeded"])
    await world.pass_time(JOB_SECONDS * 2)
    task = await world.task(UUID(answer.json()["id"]))
    assert [kind for kind, _, _ in await messages_of(world, task)] == ["task.running", "task.succeeded"]
    assert [each.type for each in world.receiver.received] == ["task.running", "task.succeeded"]
    for mistake in ({"callback_events": ["task.running"]}, {"callback_url": RECEIVER_URL, "callback_events": ["x"]}):
        answer = await world.client.post("/v1/tasks", json={**request, **mistake})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["path"].startswith("callback_events")


async def test_late_result_makes_a_late_result_message(world: World) -> None:
    endpoint = await listening(world, LATE)
    now = world.clock()
    task = await begun(world, callback_url=RECEIVER_URL, deadline_at=now + dt.timedelta(seconds=1))
    world.clock.forward(1)  # a task does not expire before its deadline
    async with world.context.database.writing() as connection:
        await apply(
            world.context,
            connection,
            [Ended(task_id=task.id, state=State.EXPIRED, failure=Failure("provider_timeout"))],
        )
    await change(world, task, DONE)
    first, *late = [(kind, to) for kind, to, _ in await messages_of(world, task)]
    assert first == ("task.expired", None)
    assert sorted(late, key=str) == sorted([(LATE, None), (LATE, endpoint.id)], key=str)
    [*_, message] = await world.messages(task)
    assert orjson.loads(message.body)["data"]["state"] == "succeeded"


async def test_messages_match_the_events_of_a_task(world: World) -> None:
    """The messages of a client that wants all types equal the feed by ``events.message``."""
    await listening(world, *TYPES)
    task = await begun(world)
    for update in (RUNNING, at(10), DONE):
        await change(world, task, update)
        await world_delivers(world)
    told_of = [(each.type, each.sequence) for each in await world.messages(task)]
    assert told_of == [(each.message, each.sequence) for each in await world.events(task) if each.message is not None]
    assert [kind for kind, _ in told_of] == ["task.running", PROGRESS, "task.succeeded"]


async def world_delivers(world: World) -> None:
    pool = TaskPool(100)
    await dispatch.run_due(world.context, pool)
    await pool.finish()


# ── how often ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_the_latest_progress_is_pending(world: World) -> None:
    endpoint = await listening(world, PROGRESS)
    task, other = await begun(world), await begun(world)
    await change(world, task, RUNNING, at(10), at(20))
    await change(world, other, RUNNING, at(5))
    await change(world, task, at(30))
    [message] = await world.messages(task)
    assert (message.type, message.endpoint_id, message.sequence) == (
        PROGRESS,
        endpoint.id,
        (await world.task(task)).sequence,
    )
    body = orjson.loads(message.body)
    assert (body["data"]["progress"], body["sequence"]) == (30, message.sequence)
    [alone] = await world.messages(other)
    assert orjson.loads(alone.body)["data"]["progress"] == 5


async def test_tried_progress_is_superseded_and_keeps_its_body(world: World) -> None:
    await listening(world, PROGRESS)
    task = await begun(world)
    await change(world, task, RUNNING, at(10))
    await world_delivers(world)  # no receiver at client.test
    await change(world, task, at(20))
    first, second = await world.messages(task)
    assert (first.state, first.last_error, first.attempts) == (
        "discarded",
        "superseded by a newer message of the task",
        1,
    )
    assert (second.state, second.attempts) == ("pending", 0)
    assert [orjson.loads(each.body)["data"]["progress"] for each in (first, second)] == [10, 20]


async def test_superseded_progress_under_way_stays_discarded(world: World) -> None:
    await listening(world, PROGRESS)
    task = await begun(world)
    await change(world, task, RUNNING, at(10))
    now = world.clock()
    [claimed] = await world.context.writers.journeys.run(
        dispatch._claim, now=now, until=now + dt.timedelta(minutes=1), most=9, slots=DestinationSlots()
    )
    await change(world, task, at(20))
    world.context.destination_slots.acquire(destination_of(claimed.message))
    await dispatch.deliver(world.context, claimed, claimed_at=world.context.monotonic())
    assert [each.state for each in await world.messages(task)] == ["discarded", "pending"]


@pytest.mark.parametrize("together", [True, False])
async def test_end_of_a_task_discards_pending_progress(world: World, together: bool) -> None:  # noqa: FBT001
    endpoint = await listening(world, *TYPES)
    task = await begun(world, callback_url=RECEIVER_URL, callback_events=TYPES)
    if together:
        await change(world, task, RUNNING, at(10), DONE)
    else:
        await change(world, task, RUNNING, at(10))
        await change(world, task, at(20))
        await change(world, task, DONE)
    left = [(kind, to) for kind, to, state in await messages_of(world, task) if state == "pending"]
    ends = [("task.succeeded", None), ("task.succeeded", endpoint.id)]
    begins = [("task.running", None), ("task.running", endpoint.id)]
    assert sorted(left, key=str) == sorted(ends + begins, key=str)


async def test_two_changes_at_once_make_two_messages(world: World) -> None:
    """Two workers change one task's progress at the same time. The second one reads the first one's change."""
    await listening(world, PROGRESS)
    tasks = [await begun(world) for _ in range(5)]
    for percent in (10, 20, 30):
        await asyncio.gather(*(change(world, task, at(percent)) for task in tasks for _ in range(2)))
    for task in tasks:
        [message] = await world.messages(task)
        assert orjson.loads(message.body)["data"]["progress"] == 30


async def test_change_without_receivers_writes_nothing(world: World) -> None:
    tasks = [await begun(world) for _ in range(20)]
    asked: list[str] = []
    for engine in {world.context.database.writer, world.context.database.reader}:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *heard: asked.append(heard[2]))
    async with world.context.database.writing() as connection:
        await apply(
            world.context,
            connection,
            [StatusReported(task_id=task.id, source=Source.POLL, update=at(10)) for task in tasks],
        )
    assert sum("FROM webhook_endpoints" in statement for statement in asked) == 1
    assert not any("webhook_messages" in statement for statement in asked)
    asked.clear()
    async with world.context.database.writing() as connection:
        await apply(
            world.context, connection, [StatusReported(task_id=tasks[0].id, source=Source.POLL, update=Update())]
        )
        assert await connection.scalar(select(func.count()).select_from(tables.webhook_messages)) == 0
    assert not any("webhook_endpoints" in statement for statement in asked)


async def test_delivery_is_woken_only_when_a_message_was_written(world: World) -> None:
    task = await begun(world)
    woken = world.context.signals.journeys["webhooks"]
    await change(world, task, RUNNING)
    assert not woken.is_set()
    await listening(world, PROGRESS)
    await change(world, task, at(10))
    assert woken.is_set()


# ── the size of a body ─────────────────────────────────────────────────────────────────────────────────────────────


def body(task: Task, **more: Any) -> dict[str, Any]:
    written = payload_of("task.succeeded", task, NOW, sequence=task.sequence, api_url=more.get("api_url"))
    assert len(written.encode()) <= MAX_BRIEF + 200
    read: dict[str, Any] = orjson.loads(written)
    schema = {**DOCUMENT["components"]["schemas"]["Task"], "components": DOCUMENT["components"]}
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(read["data"])
    return read


def test_body_of_a_small_task_holds_the_task_as_the_api_shows_it() -> None:
    task = a_task(state=State.SUCCEEDED, sequence=5, labels={"a": "b"})
    assert body(task) == {
        "type": "task.succeeded",
        "timestamp": "2026-03-01T12:30:15.250Z",
        "sequence": 5,
        "data": show_task(task, now=NOW),
    }


@pytest.mark.parametrize("api_url", [None, "https://dovecote.example.com"])
@pytest.mark.parametrize(
    ("bulk", "left_out"),
    [
        ({"input": {"image": "data:image/png;base64," + "A" * 30_000}}, {"input"}),
        ({"options": {"deep": [{"images": ["A" * 10_000, "B" * 10_001]}]}}, {"input", "options"}),
        ({"input": {"many": list(range(20_001))}}, {"input"}),
        ({"input": {"text": "🕊" * 6000}}, {"input"}),  # few characters, many bytes
        (
            {"results": tuple(Result("image", url=f"https://x/{'a' * 500}/{number}") for number in range(60))},
            {"input", "options", "awaits", "next_actions", "results"},
        ),
        (
            {"labels": {f"label-{number}": "🕊" * 256 for number in range(20)}},
            {"input", "options", "awaits", "next_actions", "results", "labels"},
        ),
    ],
    ids=["input", "options", "numbers", "bytes", "results", "labels"],
)
def test_body_of_a_large_task_leaves_out_fields_and_links_to_the_task(
    bulk: dict[str, Any], left_out: set[str], api_url: str | None
) -> None:
    given: dict[str, Any] = {"input": {"prompt": "a dove"}, "labels": {"a": "b"}, **bulk}
    task = a_task(state=State.FAILED, sequence=5, failure=Failure("content_policy", "no"), **given)
    expected = {name: LEFT_OUT[name] if name in left_out else value for name, value in show_task(task, now=NOW).items()}
    assert body(task, api_url=api_url)["data"] == {
        **expected,
        "truncated": True,
        "url": f"{api_url or ''}/v1/tasks/{task.id}",
    }


def test_long_failure_message_is_cut_in_a_body() -> None:
    task = a_task(state=State.FAILED, failure=Failure("unknown", "x" * 30_000), callback_url="http://" + "y" * 30_000)
    data = body(task)["data"]
    assert data["failure"] == {"code": "unknown", "message": "x" * 500, "retryable": False}
    assert data["callback_url"] is None


def test_large_input_is_not_encoded_to_measure_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    real = orjson.dumps
    monkeypatch.setattr(orjson, "dumps", lambda *given: written.append(len(real(*given))) or real(*given))
    body(a_task(input={"image": "A" * 1_000_000}))
    assert max(written) < MAX_BRIEF


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=4000),
    lambda inner: (
        st.lists(inner, max_size=9) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=9)
    ),
)


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), json_values, max_size=5),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=64), st.text(max_size=256), max_size=20),
    st.text(st.characters(codec="utf-8"), max_size=5000),
)
def test_body_of_any_task_stays_below_the_limit(given: dict[str, Any], labels: dict[str, str], words: str) -> None:
    labels = {name: value.encode("utf-8", "ignore").decode() for name, value in labels.items()}
    body(a_task(state=State.FAILED, input=given, labels=labels, failure=Failure("unknown", words), callback_url=words))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.com/a?b=c", "https://example.com"),
        ("http://example.com:8080/", "http://example.com:8080"),
        ("http://[::1]:80/", "http://::1:80"),
        ("http://[broken/", "http://[broken/"),
        ("http://example.com:99999/", "http://example.com:99999/"),
    ],
)
def test_destination_of_a_callback_url_is_its_origin(url: str, host: str) -> None:
    assert callback_destination(url) == host


def test_destination_is_cut_to_the_index_limit() -> None:
    assert len(callback_destination("http://" + "ü" * 2000 + "/")) == MAX_DESTINATION


def test_default_types_of_a_callback_url_are_the_ends() -> None:
    ends = {f"task.{state}" for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED)}
    assert ends | {LATE} == ENDS
    assert set(TYPES) > ENDS
    assert len(set(TYPES)) == len(TYPES) == 13
