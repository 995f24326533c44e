"""Messages by the API: filtered, listed page by page, and delivered again under the same id."""

import datetime as dt
import itertools
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from standardwebhooks import Webhook

from service.domain.schedules import MESSAGE_SCHEDULE
from service.domain.task import State, Task
from service.domain.webhook_events import PROGRESS, TEST
from service.flows.webhooks import replay
from service.flows.webhooks.enqueue import endpoint_destination
from service.store.webhooks import messages as message_store
from service.store.webhooks.messages import Message
from tests.support.values import a_message, a_task, keep, new_id
from tests.support.world import World

HOOK = "http://client.test/hook"


async def nothing() -> AsyncIterator[bytes]:
    yield b""


def listen(world: World, *answers: int) -> list[httpx.Request]:
    heard: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request)
        return httpx.Response(answers[min(len(heard), len(answers)) - 1], content=nothing())

    world.edge.hosts["client.test"] = httpx.MockTransport(answer)
    return heard


def settled(world: World, task: Task, **more: Any) -> Message:
    """Store an exhausted message, or one with other values."""
    state = more.get("state", "exhausted")
    fitting: dict[str, Any] = {"due_at": None, "attempts": 10, "last_error": "HTTP 500"}
    if state == "delivered":
        fitting = {"due_at": None, "attempts": 1, "delivered_at": world.clock()}
    if state == "pending":
        fitting = {"due_at": world.clock() + dt.timedelta(hours=1), "attempts": 4}
    identity = world.context.new_id()
    plain = {"id": identity, "url": HOOK, "state": state, "created_at": world.clock()}
    return a_message(task, **{**plain, **fitting, **more})


async def kept(world: World, *messages: Message) -> None:
    async with world.context.database.writing() as connection:
        await message_store.insert(connection, messages)


async def ended(world: World, client: str = "default") -> Task:
    task = a_task(state=State.SUCCEEDED, client=client)
    await keep(world.context.database, task)
    return task


async def listed(api: httpx.AsyncClient, **query: Any) -> list[str]:
    """Return the items of all pages."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(50):
        page = (await api.get("/v1/messages", params={"limit": 3, **query, **cursor})).json()
        found += [message["id"] for message in page["messages"]]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}
    raise AssertionError("the pages have no end")


async def test_messages_are_listed_by_filter(world: World, api: httpx.AsyncClient) -> None:
    one, two, foreign = await ended(world), await ended(world), await ended(world, "another")
    endpoint = (await api.post("/v1/endpoints", json={"url": HOOK})).json()["id"]
    messages: list[Message] = []
    for number, (task, state, kind) in enumerate(
        itertools.product(
            (one, two), ("pending", "delivered", "exhausted", "discarded"), ("task.failed", "task.running")
        )
    ):
        world.clock.forward(0.001)
        where = {"endpoint_id": UUID(endpoint), "destination": endpoint} if kind == "task.running" else {}
        messages.append(settled(world, task, state=state, type=kind, sequence=number + 2, **where))
    await kept(world, *messages, settled(world, foreign))

    def those(**wanted: Any) -> list[str]:
        fitting = [each for each in messages if all(getattr(each, name) in value for name, value in wanted.items())]
        return [str(each.id) for each in reversed(fitting)]

    assert await listed(api) == those()
    assert await listed(api, state="exhausted") == those(state=["exhausted"])
    assert await listed(api, state=["delivered", "pending"]) == those(state=["delivered", "pending"])
    assert await listed(api, type="task.failed", task=str(one.id)) == those(type=["task.failed"], task_id=[one.id])
    assert await listed(api, endpoint=endpoint) == those(type=["task.running"])
    assert await listed(api, task=str(foreign.id)) == []
    for query in ({"state": "lost"}, {"type": "x"}, {"endpoint": "x"}, {"task": "x"}, {"limit": 0}, {"cursor": "x"}):
        assert (await api.get("/v1/messages", params=query)).status_code == 422


async def test_message_shows_its_body_and_every_attempt(world: World, api: httpx.AsyncClient) -> None:
    listen(world, 500, 429, 204)
    task = await ended(world)
    message = settled(world, task, state="pending", attempts=0, due_at=world.clock(), body='{"type":"x"}')
    await kept(world, message)
    await world.until(200)
    shown = (await api.get(f"/v1/messages/{message.id}")).json()
    assert (shown["state"], shown["attempts"], shown["body"], shown["task_id"]) == (
        "delivered",
        3,
        {"type": "x"},
        str(task.id),
    )
    assert [(each["attempt"], each["status"], each["error"]) for each in shown["deliveries"]] == [
        (1, 500, "HTTP 500"),
        (2, 429, "HTTP 429"),
        (3, 204, None),
    ]
    assert [each["at"] for each in shown["deliveries"]] == sorted(each["at"] for each in shown["deliveries"])


@pytest.mark.parametrize("state", ["delivered", "exhausted", "discarded"])
async def test_replay_sends_the_same_message_by_a_new_schedule(
    world: World, api: httpx.AsyncClient, state: str
) -> None:
    heard = listen(world, *[500] * 9, 200)
    message = settled(world, await ended(world), state=state)
    await kept(world, message)
    answer = await api.post(f"/v1/messages/{message.id}/replay")
    shown = answer.json()
    assert (answer.status_code, shown["state"], shown["delivered_at"]) == (202, "pending", None)
    assert shown["replayed_at"] == shown["next_attempt_at"]
    assert world.context.signals.journeys["webhooks"].is_set()
    await world.until(sum(MESSAGE_SCHEDULE) * 1.2 + 1)
    shown = (await api.get(f"/v1/messages/{message.id}")).json()
    assert (shown["state"], shown["attempts"]) == ("delivered", message.attempts + 10)
    assert [each["attempt"] for each in shown["deliveries"]] == [message.attempts + n for n in range(1, 11)]
    assert {request.headers["webhook-id"] for request in heard} == {str(message.id)}
    assert {request.content for request in heard} == {message.body.encode()}


async def test_failing_replay_is_exhausted_again(world: World, api: httpx.AsyncClient) -> None:
    heard = listen(world, 500)
    message = settled(world, await ended(world), state="delivered")
    await kept(world, message)
    await api.post(f"/v1/messages/{message.id}/replay")
    await world.until(sum(MESSAGE_SCHEDULE) * 1.2 + 1)
    assert (await api.get(f"/v1/messages/{message.id}")).json()["state"] == "exhausted"
    assert len(heard) == len(MESSAGE_SCHEDULE)


async def test_replay_of_a_pending_message_sends_it_now(world: World, api: httpx.AsyncClient) -> None:
    heard = listen(world, 500)
    message = settled(world, await ended(world), state="pending", attempts=4)
    await kept(world, message)
    shown = (await api.post(f"/v1/messages/{message.id}/replay")).json()
    assert (shown["attempts"], shown["replayed_at"]) == (4, None)
    await world.work()
    assert len(heard) == 1
    [after] = await world.messages(await world.task(message.task_id))
    assert after.due_at is not None
    assert 0.8 <= (after.due_at - world.clock()).total_seconds() / MESSAGE_SCHEDULE[5] <= 1.2


@pytest.mark.parametrize("kind", [PROGRESS, TEST])
async def test_progress_and_test_messages_are_not_replayed(world: World, api: httpx.AsyncClient, kind: str) -> None:
    task = await ended(world)
    old, waiting = settled(world, task, type=kind), settled(world, task, type=kind, state="pending", sequence=9)
    await kept(world, old, waiting)
    for message in (old, waiting):
        answer = await api.post(f"/v1/messages/{message.id}/replay")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_replayable")
    assert (await api.post("/v1/messages/replay", json={})).json()["replayed"] == 0


async def test_messages_are_replayed_by_time_type_and_state(world: World, api: httpx.AsyncClient) -> None:
    task, foreign = await ended(world), await ended(world, "another")
    made: dict[str, Message] = {}
    for number, (name, more) in enumerate(
        {
            "early": {},
            "exhausted": {},
            "discarded": {"state": "discarded"},
            "delivered": {"state": "delivered"},
            "pending": {"state": "pending"},
            "failed": {"type": "task.failed"},
            "to a deleted endpoint": {"endpoint_id": new_id(), "destination": endpoint_destination(new_id())},
            "late": {},
        }.items()
    ):
        made[name] = settled(world, task, sequence=number + 2, **more)
        world.clock.forward(10)
    await kept(world, *made.values(), settled(world, foreign))
    ten = dt.timedelta(seconds=10)
    window = {
        "after": (made["early"].created_at + ten).isoformat(),
        "before": made["late"].created_at.isoformat(),
    }

    async def replayed(**document: Any) -> set[str]:
        before = {each.id: each.replayed_at for each in await world.messages(task)}
        world.clock.forward(1)
        answer = await api.post("/v1/messages/replay", json=document)
        assert answer.status_code == 202, answer.text
        after = {each.id: each.replayed_at for each in await world.messages(task)}
        names = {name for name, message in made.items() if before[message.id] != after[message.id]}
        assert answer.json() == {"replayed": len(names), "next": None}
        async with world.context.database.writing() as connection:  # as they were
            await connection.execute(
                message_store.webhook_messages.delete().where(message_store.webhook_messages.c.task_id == task.id)
            )
            await message_store.insert(connection, list(made.values()))
        return names

    assert await replayed() == {"early", "exhausted", "discarded", "failed", "late"}
    assert await replayed(**window) == {"exhausted", "discarded", "failed"}
    assert await replayed(state=["delivered"]) == {"delivered"}
    assert await replayed(type=["task.failed"], **window) == {"failed"}
    assert await replayed(state=["discarded", "delivered"], **window) == {"discarded", "delivered"}
    assert await replayed(endpoint=str(made["to a deleted endpoint"].endpoint_id)) == set()
    assert [each.replayed_at for each in await world.messages(foreign)] == [None]


async def test_replay_is_paged_and_replays_each_message_once(world: World, api: httpx.AsyncClient) -> None:
    task = await ended(world)
    messages = []
    for number in range(25):
        messages.append(settled(world, task, state="delivered", sequence=number + 2))
        world.clock.forward(0.001)
    await kept(world, *messages)
    counts, cursor = [], {}
    while True:
        document = {"state": ["delivered"], "limit": 10, **cursor}
        answer = (await api.post("/v1/messages/replay", json=document)).json()
        counts.append(answer["replayed"])
        listen(world, 200)
        await world.work()  # delivered again, they fit again: the cursor goes on behind them
        if answer["next"] is None:
            break
        cursor = {"cursor": answer["next"]}
    assert counts == [10, 10, 5]
    assert {each.attempts for each in await world.messages(task)} == {2}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"after": "yesterday"}, "after"),
        ({"before": "2026-01-01T00:00:00"}, "before"),
        ({"type": [PROGRESS]}, "type.0"),
        ({"type": []}, "type"),
        ({"state": ["pending"]}, "state.0"),
        ({"limit": replay.MAX_REPLAYED + 1}, "limit"),
        ({"limit": 0}, "limit"),
        ({"endpoint": "x"}, "endpoint"),
        ({"cursor": "x"}, "cursor"),
        ({"sincce": "x"}, "sincce"),
        (5, ""),
    ],
)
async def test_invalid_request_is_refused(api: httpx.AsyncClient, document: Any, path: str) -> None:
    answer = await api.post("/v1/messages/replay", json=document)
    assert (answer.status_code, [each["path"] for each in answer.json()["errors"]]) == (422, [path])


async def test_replay_is_signed_by_the_current_secret(world: World, api: httpx.AsyncClient) -> None:
    heard = listen(world, 200)
    made = (await api.post("/v1/endpoints", json={"url": HOOK})).json()
    await api.post(f"/v1/endpoints/{made['id']}/rotate")
    world.clock.forward(25 * 3600)
    new = (await api.post(f"/v1/endpoints/{made['id']}/rotate")).json()["secret"]
    world.clock.forward(25 * 3600)
    task = await ended(world)
    identity = UUID(made["id"])
    message = settled(world, task, endpoint_id=identity, destination=endpoint_destination(identity))
    await kept(world, message)
    await api.post(f"/v1/messages/{message.id}/replay")
    await world.work()
    [request] = heard
    at = dt.datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), dt.UTC)
    assert request.headers["webhook-signature"] == Webhook(new).sign(str(message.id), at, message.body)


async def test_dry_run_counts_and_delivers_nothing(world: World, api: httpx.AsyncClient) -> None:
    heard = listen(world, 200)
    task = await ended(world)
    await kept(world, *(settled(world, task, sequence=number + 1) for number in range(5)))
    counted, cursor = 0, None
    for _ in range(3):
        document = {"dry_run": True, "limit": 2, **({} if cursor is None else {"cursor": cursor})}
        answer = (await api.post("/v1/messages/replay", json=document)).json()
        counted, cursor = counted + answer["replayed"], answer["next"]
    await world.work()
    assert (counted, cursor, heard) == (5, None, [])
    assert (await api.post("/v1/messages/replay", json={})).json()["replayed"] == 5
    await world.work()
    assert len(heard) == 5
