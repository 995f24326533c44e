"""Messages to clients: signed, repeated by the schedule, accepted once, and given up at the end."""

import asyncio
import dataclasses
import datetime as dt
import itertools
from collections.abc import AsyncIterator

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.domain.destination_slots import PER_CLIENT
from service.domain.schedules import MESSAGE_SCHEDULE
from service.domain.task import State, Task
from service.flows.concurrency import TaskPool
from service.flows.webhooks import dispatch
from service.store.webhooks import messages as message_store
from service.store.webhooks.messages import Message
from tests.support.values import a_message, a_task, keep
from tests.support.waiting import LIMIT
from tests.support.world import JOB_SECONDS, WEBHOOK_SECRET, World

CLIENT = "http://client.test/hook"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A request to a client, and its time."""

    at: dt.datetime
    headers: httpx.Headers
    body: bytes


def listen(world: World, *answers: int, body: int = 1) -> list[Attempt]:
    """Serve ``client.test``: record the requests, and answer with each status in turn. The last one repeats."""
    attempts: list[Attempt] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        attempts.append(Attempt(world.clock(), request.headers, request.content))
        return httpx.Response(answers[min(len(attempts), len(answers)) - 1], content=blocks(body))

    world.edge.hosts["client.test"] = httpx.MockTransport(answer)
    return attempts


async def blocks(many: int) -> AsyncIterator[bytes]:
    for _ in range(many):
        yield bytes(1000)


async def deliver(world: World) -> None:
    """Make the attempts that are due now."""
    pool = TaskPool(100)
    await dispatch.run_due(world.context, pool)
    await pool.finish()


async def until_settled(world: World, task: Task) -> Message:
    """Move the clock from attempt to attempt until none is due."""
    for _ in range(30):
        await deliver(world)
        [message] = await world.messages(task)
        if message.due_at is None:
            return message
        world.clock.now = message.due_at
    raise AssertionError(f"the schedule has no end: attempt {message.attempts}")


async def ended(world: World, prompt: str = "[drop] a dove") -> Task:
    """End a task without delivering its messages."""
    task = await world.submit(prompt, callback_url=CLIENT)
    world.edge.down.add("client.test")
    await world.pass_time(JOB_SECONDS * 2.5, step=5)
    world.edge.down.discard("client.test")
    [message] = await world.messages(task)
    async with world.context.database.writing() as connection:  # as if it had never been tried
        fresh = dataclasses.replace(message, due_at=world.clock(), attempts=0, last_error=None)
        await connection.execute(message_store.webhook_messages.delete())
        await message_store.insert(connection, [fresh])
    return await world.task(task)


async def test_failing_message_follows_the_schedule_and_is_exhausted(world: World) -> None:
    task = await ended(world)
    begin = world.clock()
    attempts = listen(world, 500, 404, 302, 409, 503)
    message = await until_settled(world, task)
    assert (message.state, message.attempts, message.last_status, message.last_error) == (
        "exhausted",
        10,
        503,
        "HTTP 503",
    )
    waits = [(two.at - one.at).total_seconds() for one, two in itertools.pairwise(attempts)]
    assert attempts[0].at == begin
    for waited, planned in zip(waits, MESSAGE_SCHEDULE[1:], strict=True):
        assert 0.8 * planned <= waited <= 1.2 * planned
    assert waits != list(MESSAGE_SCHEDULE[1:])
    assert len({each.headers["webhook-id"] for each in attempts}) == 1
    assert len({each.body for each in attempts}) == 1
    assert len({each.headers["webhook-signature"] for each in attempts}) == 10  # each is of its own time
    world.clock.forward(1e6)
    await deliver(world)
    assert len(attempts) == 10


async def test_delivered_message_is_not_sent_again(world: World) -> None:
    task = await ended(world)
    attempts = listen(world, 500, 503, 204)
    message = await until_settled(world, task)
    assert (message.state, message.attempts, message.last_status, message.last_error) == ("delivered", 3, 204, None)
    assert message.delivered_at == attempts[-1].at
    assert {each.headers["webhook-id"] for each in attempts} == {str(message.id)}


async def test_signature_verifies_with_the_secret_only(world: World) -> None:
    task = await ended(world)
    [attempt] = await one_attempt(world)
    headers = dict(attempt.headers)
    sent = Webhook(WEBHOOK_SECRET).verify(attempt.body, headers)
    assert (sent["type"], sent["data"]["id"], sent["data"]["state"]) == ("task.succeeded", str(task.id), "succeeded")
    assert int(headers["webhook-timestamp"]) == int(attempt.at.timestamp())
    for secret, body in (
        ("whsec_" + "b3RoZXItc2VjcmV0LW9mLXNvbWVib2R5LWVsc2U=", attempt.body),
        (WEBHOOK_SECRET, attempt.body.replace(b"succeeded", b"failed")),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)


async def one_attempt(world: World) -> list[Attempt]:
    attempts = listen(world, 200)
    await deliver(world)
    return attempts


async def test_long_answer_body_does_not_matter(world: World) -> None:
    task = await ended(world)
    listen(world, 200, body=10**9)
    assert (await until_settled(world, task)).state == "delivered"


async def test_hanging_receiver_does_not_delay_others(world: World) -> None:
    """A hanging attempt ends after 15 seconds. Here it ends when the test releases it."""
    attempts, let_go = listen(world, 200), asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        await let_go.wait()
        raise httpx.ReadTimeout("no complete answer", request=request)

    world.edge.hosts["hanging.test"] = httpx.MockTransport(hang)
    slow = await enqueued(world, "http://hanging.test/")
    world.clock.forward(1)
    quick = await enqueued(world, CLIENT)
    pool = TaskPool(100)
    await dispatch.run_due(world.context, pool)
    async with asyncio.timeout(LIMIT):
        while (await world.messages(quick))[0].state != "delivered":  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
    assert len(attempts) == 1
    assert (await world.messages(slow))[0].state == "pending"
    let_go.set()
    await pool.finish()
    [message] = await world.messages(slow)
    assert message.last_error == "ReadTimeout no answer within 15 s"


async def enqueued(world: World, url: str) -> Task:
    """Store an ended task, and a message about it that is due now."""
    task = a_task(state=State.SUCCEEDED)
    await keep(world.context.database, task)
    async with world.context.database.writing() as connection:
        await message_store.insert(connection, [a_message(task, url=url, due_at=world.clock())])
    return task


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_redirect_is_a_failure_and_is_not_followed(world: World, status: int) -> None:
    there = listen(world, 200)

    async def move(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"Location": CLIENT}, content=blocks(1))

    world.edge.hosts["moved.test"] = httpx.MockTransport(move)
    task = await enqueued(world, "http://moved.test/")
    await deliver(world)
    [message] = await world.messages(task)
    assert (message.state, message.last_status, there) == ("pending", status, [])


async def test_task_without_a_callback_url_has_no_message(world: World) -> None:
    task = await world.submit(callback_url=None)
    await world.pass_time(JOB_SECONDS * 2, step=5)
    assert (await world.task(task)).state == "succeeded"
    assert await world.messages(task) == []


@pytest.mark.parametrize("seconds", [dispatch.SEND_WITHIN - 1, dispatch.SEND_WITHIN + 1, 7200.0])
async def test_message_whose_claim_is_too_old_is_not_sent(world: World, seconds: float) -> None:
    """A frozen process finds its claim expired. Another process may have sent the message meanwhile."""
    attempts = listen(world, 503, 200)
    task = a_task(state=State.SUCCEEDED)
    await keep(world.context.database, task)
    async with world.context.database.writing() as connection:
        await message_store.insert(connection, [a_message(task, url=CLIENT, due_at=world.clock())])
    await deliver(world)
    [before] = await world.messages(task)
    assert before.due_at is not None
    world.clock.now = before.due_at
    began, elapsed = world.context.monotonic(), itertools.chain([0.0], itertools.repeat(seconds))
    world.context.monotonic = lambda: began + next(elapsed)
    await deliver(world)
    [after] = await world.messages(task)
    if seconds < dispatch.SEND_WITHIN:
        assert (after.state, len(attempts)) == ("delivered", 2)
        return
    assert (after.state, after.due_at, len(attempts)) == ("pending", world.clock(), 1)
    assert (after.last_status, after.last_error) == (503, "HTTP 503")
    assert after.attempts - after.schedule_from == 1  # no part of the schedule was used up
    world.context.monotonic = lambda: began
    await deliver(world)
    [settled] = await world.messages(task)
    assert (settled.state, len(attempts)) == ("delivered", 2)


async def test_hanging_endpoints_of_one_client_do_not_delay_another(world: World) -> None:
    """50 endpoints of one client hang with a backlog. The other client's messages are sent in the first round with free slots."""
    hanging, answered = asyncio.Event(), 0

    async def hang(_: httpx.Request) -> httpx.Response:
        await hanging.wait()
        raise httpx.ReadTimeout("no answer")

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal answered
        answered += 1
        return httpx.Response(200)

    world.edge.hosts["quick.test"] = httpx.MockTransport(answer)
    messages = []
    task = a_task(state=State.SUCCEEDED)
    await keep(world.context.database, task)
    for number in range(50):
        host = f"hanging-{number % 10}.test"
        world.edge.hosts[host] = httpx.MockTransport(hang)
        messages += [
            a_message(
                task,
                client="many",
                url=f"http://{host}/",
                destination=f"endpoint {number}",
                sequence=each,
                due_at=world.clock(),
            )
            for each in range(20)
        ]
    world.clock.forward(1)
    messages += [
        a_message(task, client="few", url="http://quick.test/", sequence=each, due_at=world.clock()) for each in (1, 2)
    ]
    async with world.context.database.writing() as connection:
        await message_store.insert(connection, messages)
    pool = TaskPool(dispatch.MAX_CONCURRENT)
    for _ in range(3):
        await dispatch.run_due(world.context, pool)
    async with asyncio.timeout(LIMIT):
        while answered < 2:  # noqa: ASYNC110 - the receiver has no event
            await asyncio.sleep(0.01)
    assert pool.free > 0
    assert world.context.destination_slots.of_client("many") == PER_CLIENT
    hanging.set()
    await pool.finish()
