"""A simulated week: sporadic failures never disable an endpoint, continuous ones do, and secrets rotate between retries."""

import dataclasses
import datetime as dt
import random
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from standardwebhooks import Webhook

from service.domain.schedules import FAILING_LONG, MESSAGE_SCHEDULE, UNWATCHED
from service.domain.task import State, Task
from service.flows.webhooks.enqueue import endpoint_destination
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.endpoints import Endpoint, Health
from tests.support.due import read_due
from tests.support.values import NOW, a_message, a_task, keep, later, new_id, opened
from tests.support.world import World

HOUR = 3600.0
WEEK = 7 * 24 * HOUR


@dataclasses.dataclass
class Hook:
    """A receiver whose answer depends on the hours since it was opened."""

    world: World
    answers: Callable[[float], int]
    began: dt.datetime
    heard: list[tuple[float, httpx.Request, int]] = dataclasses.field(default_factory=list)

    @classmethod
    def opened(cls, world: World, answers: Callable[[float], int]) -> "Hook":
        hook = cls(world, answers, world.clock())
        world.edge.hosts["client.test"] = httpx.MockTransport(hook.answer)
        return hook

    @property
    def hours(self) -> float:
        return (self.world.clock() - self.began).total_seconds() / HOUR

    async def answer(self, request: httpx.Request) -> httpx.Response:
        status = self.answers(self.hours)
        self.heard.append((self.hours, request, status))
        return httpx.Response(status, content=nothing())


async def nothing() -> AsyncIterator[bytes]:
    yield b""


class Subject:
    """An endpoint, and a task whose messages go to it."""

    def __init__(self, world: World, endpoint: Endpoint, task: Task) -> None:
        self.world, self.endpoint, self.task, self._sequence = world, endpoint, task, 1

    @classmethod
    async def made(cls, world: World) -> "Subject":
        answer = await world.client.post("/v1/endpoints", json={"url": "http://client.test/hook"})
        task = a_task(state=State.SUCCEEDED)
        await keep(world.context.database, task)
        async with world.context.database.reading() as connection:
            found = await endpoints.find(connection, UUID(answer.json()["id"]), "default")
        assert found is not None
        return cls(world, found, task)

    async def enqueue(self) -> None:
        """Enqueue one more message, as apply does: only while the endpoint is enabled."""
        self._sequence += 1
        if (await self.now()).disabled_at is None:
            message = a_message(
                self.task,
                endpoint_id=self.endpoint.id,
                destination=endpoint_destination(self.endpoint.id),
                sequence=self._sequence,
                due_at=self.world.clock(),
                body='{"type":"task.succeeded","timestamp":"…","sequence":2,"data":{}}',
            )
            async with self.world.context.database.writing() as connection:
                await message_store.insert(connection, [message])

    async def now(self) -> Endpoint:
        async with self.world.context.database.reading() as connection:
            return (await endpoints.of_ids(connection, [self.endpoint.id]))[self.endpoint.id]

    async def states(self) -> list[str]:
        return [message.state for message in await self.world.messages(self.task)]


async def live(subject: Subject, seconds: float, *, every: float) -> None:
    """Advance the clock; enqueue a message at each interval and make each attempt when it is due."""
    clock = subject.world.clock
    end, following = clock() + dt.timedelta(seconds=seconds), clock()
    while True:
        async with subject.world.context.database.reading() as connection:
            due = (await read_due(connection)).at["webhooks"]
        moment = min(each for each in (due, following, end) if each is not None)
        clock.now = max(clock.now, moment)
        if clock.now >= end:
            return
        if following <= clock.now:
            following += dt.timedelta(seconds=every)
            await subject.enqueue()
        await subject.world.work()


CHANCE = random.Random(11)
SPORADIC: dict[str, Callable[[float], int]] = {
    "every other fails": lambda _: 500 if CHANCE.random() < 0.5 else 200,
    "nine of ten fail": lambda _: 503 if CHANCE.random() < 0.9 else 204,
    "an outage of almost five days": lambda hours: 500 if hours < 119 else 200,
    "down every night": lambda hours: 502 if hours % 24 < 10 else 200,
}


@pytest.mark.parametrize(
    "how", ["every other fails", *(pytest.param(how, marks=pytest.mark.long) for how in [*SPORADIC][1:])]
)
async def test_sporadic_failures_do_not_disable_an_endpoint(world: World, how: str) -> None:
    hook = Hook.opened(world, SPORADIC[how])
    subject = await Subject.made(world)
    await live(subject, WEEK, every=6 * HOUR)
    endpoint = await subject.now()
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (None, None)
    assert {True, False} == {status < 300 for _, _, status in hook.heard}
    last_status = hook.heard[-1][2]
    assert (endpoint.failing_since is None) == (last_status < 300)
    assert len(await subject.states()) == 28


async def test_endpoint_with_only_failures_for_five_days_is_disabled(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Hook.opened(world, lambda _: 500)
    subject = await Subject.made(world)
    await live(subject, WEEK, every=6 * HOUR)
    endpoint = await subject.now()
    assert endpoint.failing_since == hook.began
    assert endpoint.disabled_reason == "failing"
    assert endpoint.disabled_at is not None
    after = (endpoint.disabled_at - hook.began).total_seconds()
    assert FAILING_LONG <= after <= FAILING_LONG + 6 * HOUR
    assert max(hours for hours, _, _ in hook.heard) * HOUR == after  # no further attempt is made
    said = [each.getMessage() for each in caplog.records if "endpoint disabled" in each.getMessage()]
    assert said == [f"endpoint disabled endpoint={endpoint.id} client=default reason='only failures for 120 h'"]
    shown = (await world.client.get(f"/v1/endpoints/{endpoint.id}")).json()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "failing")
    await live(subject, WEEK, every=WEEK * 2)  # pending messages are discarded when they are due
    assert set(await subject.states()) == {"exhausted", "discarded"}
    # Enabled and asked for again, it is all delivered; it has a new start.
    hook.answers = lambda _: 200
    await world.client.patch(f"/v1/endpoints/{endpoint.id}", json={"enabled": True})
    assert (await subject.now()).failing_since is None
    replayed = await world.client.post("/v1/messages/replay", json={"endpoint": str(endpoint.id)})
    assert replayed.json() == {"replayed": len(await subject.states()), "next": None}
    await world.work()
    assert set(await subject.states()) == {"delivered"}


async def test_answer_410_disables_an_endpoint_at_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook.opened(world, lambda _: 410)
    subject = await Subject.made(world)
    await subject.enqueue()
    await subject.enqueue()
    await live(subject, WEEK, every=6 * HOUR)
    endpoint = await subject.now()
    assert (endpoint.disabled_reason, endpoint.disabled_at) == ("gone", hook.began)
    assert len(hook.heard) == 3  # those that were under way together
    assert set(await subject.states()) == {"discarded"}
    said = [each.getMessage() for each in caplog.records if "endpoint disabled" in each.getMessage()]
    assert said == [f"endpoint disabled endpoint={endpoint.id} client=default reason='answered 410 Gone'"]


async def test_failed_replay_does_not_change_the_health(world: World) -> None:
    hook = Hook.opened(world, lambda _: 200)
    subject = await Subject.made(world)
    await subject.enqueue()
    await world.work()
    [message] = await world.messages(subject.task)
    for status in (500, 410, 200):
        hook.answers = lambda _, status=status: status
        await world.client.post(f"/v1/messages/{message.id}/replay")
        await world.work()
        endpoint = await subject.now()
        assert (endpoint.disabled_at, endpoint.failing_since) == (None, None)
        if status == 200:
            break
        world.clock.forward(10)
    assert [status for _, _, status in hook.heard] == [200, 500, 410, 200]


async def test_retry_after_a_rotation_verifies_with_both_secrets(world: World) -> None:
    """The first attempts have the old secret's signature, those of the next day both, and later ones the new secret's."""
    hook = Hook.opened(world, lambda hours: 500 if hours < 60 else 200)
    subject = await Subject.made(world)
    old = subject.endpoint.secret
    await subject.enqueue()
    await live(subject, HOUR, every=WEEK)
    new = (await world.client.post(f"/v1/endpoints/{subject.endpoint.id}/rotate")).json()["secret"]
    rotated = hook.hours
    await live(subject, WEEK, every=WEEK * 2)
    first = hook.heard[0][1].headers["webhook-id"]
    attempts = [(hours, each) for hours, each, _ in hook.heard if each.headers["webhook-id"] == first]
    spans: set[str] = set()
    for hours, request in attempts:
        span = "before" if hours < rotated else "both" if hours < rotated + 24 else "after"
        spans.add(span)
        secrets = {"before": [old], "both": [new, old], "after": [new]}[span]
        at = dt.datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), dt.UTC)
        expected = [Webhook(secret).sign(first, at, request.content.decode()) for secret in secrets]
        assert request.headers["webhook-signature"].split(" ") == expected, (hours, span)
        assert abs((at - hook.began).total_seconds() / HOUR - hours) < 1e-3
    assert spans == {"before", "both", "after"}
    assert set(await subject.states()) == {"delivered"}


# ── what the store makes of it ─────────────────────────────────────────────────────────────────────────────────────


async def noted(database: Any, endpoint: UUID, *outcomes: Health, hours: float) -> tuple[dict[UUID, str], Endpoint]:
    now = later(hours * HOUR)
    async with database.writing() as connection:
        disabled = await endpoints.record_health(
            connection,
            outcomes,
            now=now,
            unwatched=now - dt.timedelta(seconds=UNWATCHED),
            too_long=now - dt.timedelta(seconds=FAILING_LONG),
        )
        return disabled, (await endpoints.of_ids(connection, [endpoint]))[endpoint]


async def test_pause_without_attempts_resets_the_failing_time(database_url: str) -> None:
    async with opened(database_url) as database:
        endpoint = Endpoint(id=new_id(), client="c", url="http://x", secret="s", created_at=NOW, updated_at=NOW)
        async with database.writing() as connection:
            await endpoints.register(connection, endpoint, most=1)
        bad, good = Health(endpoint.id, succeeded=False), Health(endpoint.id, succeeded=True)
        for hours in (0, 40, 80):
            disabled, found = await noted(database, endpoint.id, bad, bad, hours=hours)
            assert (disabled, found.failing_since) == ({}, NOW)
        disabled, found = await noted(database, endpoint.id, bad, hours=129)  # 49 hours later
        assert (disabled, found.failing_since) == ({}, later(129 * HOUR))
        _, found = await noted(database, endpoint.id, bad, good, bad, hours=130)
        assert (found.failing_since, found.failed_at) == (None, None)
        for hours in (200, 240, 280, 319):
            disabled, found = await noted(database, endpoint.id, bad, hours=hours)
            assert (disabled, found.failing_since) == ({}, later(200 * HOUR))
        disabled, found = await noted(database, endpoint.id, bad, bad, hours=320)
        assert (disabled, found.disabled_reason, found.disabled_at) == (
            {endpoint.id: "failing"},
            "failing",
            later(320 * HOUR),
        )
        disabled, again = await noted(
            database, endpoint.id, bad, Health(endpoint.id, succeeded=False, gone=True), hours=321
        )
        assert (disabled, again.disabled_at, again.disabled_reason) == ({}, found.disabled_at, "failing")
    assert max(MESSAGE_SCHEDULE) * 1.2 < UNWATCHED
