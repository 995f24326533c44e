"""Polling: with every callback lost each task still ends, at the planned times and with no query more."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator

import httpx
import pytest

from service.domain.schedules import LATE_WATCH
from service.domain.task import Source, State, Task
from service.flows.concurrency import TaskPool
from service.flows.polling import run_due
from service.flows.statistics import typical_seconds, update_statistics
from service.flows.upstreams import poll_rate
from service.sandbox import Faults
from service.store.database import StoreUnavailable
from tests.support.values import a_task, keep
from tests.support.world import JOB_SECONDS, World

MEDIAN = JOB_SECONDS * 1.5
"""The usual duration of a task by the world's settings."""
DROP = Faults(drop=True)


@contextlib.asynccontextmanager
async def mute(database_url: str, **settings: str) -> AsyncIterator[World]:
    """Open a world whose provider sends no callbacks."""
    async with World.opened(database_url, faults=DROP, **settings) as world:
        yield world


def looks(duration: float, *, first: float, growth: float, shortest: float, longest: float) -> list[float]:
    """Return the planned poll ages of a task until its usual duration, calculated independently of the code."""
    ages = [first]
    while ages[-1] < duration:
        ages.append(ages[-1] + min(max(growth * ages[-1], shortest), longest))
    return ages


def expecting(duration: float, median: float = MEDIAN) -> list[float]:
    return looks(duration, first=median, growth=0.15, shortest=5, longest=120)


def polling(duration: float, median: float = MEDIAN) -> list[float]:
    return looks(duration, first=median / 2, growth=0.08, shortest=2, longest=60)


def polls(world: World, task: Task) -> int:
    job = world.sandbox.ledger.find(task.external_id or "")
    assert job is not None
    return job.polls


def age_at_end(task: Task) -> float:
    assert task.finished_at is not None
    assert task.submitted_at is not None
    return (task.finished_at - task.submitted_at).total_seconds()


@pytest.mark.parametrize(("public_url", "plan"), [("http://dovecote.test", expecting), ("", polling)])
async def test_tasks_without_callbacks_are_polled_by_the_plan(
    database_url: str, public_url: str, plan: type[list[float]]
) -> None:
    async with mute(database_url, DOVECOTE_PUBLIC_URL=public_url) as world:
        durations = [0.5 + 13 * number for number in range(20)]
        tasks = [await world.submit(f"[seconds={duration}] a dove") for duration in durations]
        await world.until(400)
        for task, duration in zip(tasks, durations, strict=True):
            home, planned = await world.task(task), plan(duration)  # type: ignore[call-arg]
            assert (home.state, home.outcome_source) == (State.SUCCEEDED, Source.POLL)
            assert polls(world, home) == len(planned)
            assert age_at_end(home) == pytest.approx(planned[-1], abs=0.001)
        assert world.sandbox.ledger.paid() == 20
        assert len({received.task_id for received in world.receiver.received}) == 20


async def test_callback_makes_polls_unnecessary(world: World) -> None:
    task = await world.submit()
    await world.until(60)
    home = await world.task(task)
    assert (home.outcome_source, polls(world, home)) == (Source.CALLBACK, 0)


async def test_poll_plan_follows_the_share_of_callbacks(database_url: str) -> None:
    async with mute(database_url) as world:

        async def one_more(*, after: int) -> list[float]:
            """End some tasks so that their durations are learned, and return the poll plan of another task."""
            for _ in range(after):
                await world.submit()
            await world.until(60)
            await update_statistics(world.context)
            begun = world.clock()
            task = await world.submit("[drop][seconds=30] a dove")
            await world.work()
            due = (await world.task(task)).due_at
            assert due is not None
            await world.until(60)
            return [(due - begun).total_seconds()]

        assert await one_more(after=6) == expecting(0)  # these seven are too few to decide
        assert await one_more(after=6) == polling(0)
        world.sandbox.faults = Faults()
        assert await one_more(after=3) == polling(0)
        assert await one_more(after=11) == expecting(0)  # of the last twenty, fourteen came by callback


async def test_usual_duration_is_learned_from_thirty_tasks(world: World) -> None:
    now = world.clock()

    def an_end(seconds: float, **more: object) -> Task:
        began = now - dt.timedelta(seconds=seconds)
        return a_task(
            state=State.SUCCEEDED, submitted_at=began, finished_at=now, outcome_source=Source.CALLBACK, **more
        )

    await keep(world.context.database, *(an_end(20 + number) for number in range(29)))
    await keep(world.context.database, an_end(5000, decided_by="dovecote"))  # an end decided by Dovecote does not count
    await keep(world.context.database, *(an_end(1, input={"model": "gen4_turbo"}) for _ in range(29)))
    await keep(world.context.database, *(an_end(1, operation="image_to_video") for _ in range(29)))
    asked = a_task(state=State.RUNNING)
    assert await update_statistics(world.context) == 87
    assert typical_seconds(world.context, asked) == MEDIAN
    await keep(world.context.database, an_end(1000))
    await update_statistics(world.context)
    assert typical_seconds(world.context, asked) == 34.5
    assert typical_seconds(world.context, a_task(state=State.RUNNING, input={"model": "gen4_turbo"})) == MEDIAN


async def test_old_durations_are_forgotten(world: World) -> None:
    began = world.clock()
    ends = (
        a_task(state=State.SUCCEEDED, submitted_at=began, finished_at=began + dt.timedelta(seconds=40))
        for _ in range(30)
    )
    await keep(world.context.database, *ends)
    world.clock.forward(7 * 86_400 + 60)
    assert await update_statistics(world.context) == 0


# ── what is unknown, unreachable or too late ───────────────────────────────────────────────────────────────────────


async def test_id_that_is_not_visible_yet_is_not_a_failure(database_url: str) -> None:
    async with mute(database_url) as world:
        task = await world.submit("[ghost=200] a dove")
        await world.until(150)
        assert (
            await world.task(task)
        ).last_error == f"elkapi does not know job {(await world.task(task)).external_id} (yet)"
        await world.until(150)
        assert (await world.task(task)).state is State.SUCCEEDED


async def without_money(world: World, task: Task) -> list[str]:
    """Return the types of a task's events, besides those about its price."""
    return [event.type for event in await world.events(task) if event.type not in {"settled", "cost_corrected"}]


async def test_unknown_job_fails_and_is_still_polled(database_url: str) -> None:
    async with mute(database_url) as world:
        task = await world.submit("[ghost=1000] a dove")
        await world.until(299)
        assert (await world.task(task)).state is State.SUBMITTED
        await world.until(200)
        lost = await world.task(task)
        assert lost.failure is not None
        assert (lost.state, lost.decided_by, lost.failure.code) == (State.FAILED, "dovecote", "not_found")
        await world.until(3000)
        found = await world.task(task)
        assert (found.state, found.decided_by) == (State.SUCCEEDED, "provider")
        assert (await without_money(world, task))[-2:] == ["failed", "late_result"]
        assert [received.state for received in world.receiver.received] == ["failed", "succeeded"]


@pytest.mark.parametrize(("words", "by"), [("", Source.CALLBACK), ("[drop]", Source.POLL)])
async def test_late_result_is_kept_and_sent(world: World, words: str, by: Source) -> None:
    task = await world.submit(f"{words}[seconds=60] a dove", deadline=20)
    await world.until(21)
    expired = await world.task(task)
    assert expired.failure is not None
    assert (expired.state, expired.decided_by, expired.failure.code) == (State.EXPIRED, "dovecote", "provider_timeout")
    await world.until(600)
    late = await world.task(task)
    assert (late.state, late.decided_by, late.outcome_source, late.due_at) == (State.SUCCEEDED, "provider", by, None)
    assert late.results
    assert (await without_money(world, task))[-2:] == ["expired", "late_result"]
    told = [received for received in world.receiver.received if received.task_id == str(task.id)]
    assert [received.state for received in told] == ["expired", "succeeded"]
    assert len({received.id for received in told}) == 2


async def test_expired_job_is_polled_for_a_day_only(database_url: str) -> None:
    async with mute(database_url) as world:
        task = await world.submit("[stuck] a dove", deadline=60)
        await world.until(LATE_WATCH + 3600)
        left = await world.task(task)
        assert (left.state, left.due_at) == (State.EXPIRED, None)
        assert polls(world, left) < 60


@pytest.mark.parametrize("trouble", ["down", "html", "502"])
async def test_poll_errors_never_fail_a_task(database_url: str, trouble: str) -> None:
    async with mute(database_url) as world:
        task = await world.submit()
        await world.work()
        sandbox = world.edge.hosts["sandbox.test"]
        page = httpx.MockTransport(lambda _: httpx.Response(502 if trouble == "502" else 200, content=html()))
        world.edge.hosts["sandbox.test"] = page
        if trouble == "down":
            del world.edge.hosts["sandbox.test"]
        await world.until(1200)
        waiting = await world.task(task)
        assert (waiting.state, waiting.finished_at) == (State.SUBMITTED, None)
        assert (waiting.last_error or "").startswith("elkapi: ")
        world.edge.hosts["sandbox.test"] = sandbox
        await world.until(200)
        home = await world.task(task)
        assert (home.state, home.last_error) == (State.SUCCEEDED, None)


async def html() -> AsyncIterator[bytes]:
    yield b"<html><body>502 Bad Gateway</body></html>"


@pytest.mark.parametrize(("stated", "waited"), [("90", 90), ("1000", 120), ("soon", 5), ("1", 5)])
async def test_retry_after_delays_the_next_poll(database_url: str, stated: str, waited: float) -> None:
    async with mute(database_url) as world:
        task = await world.submit("[seconds=1000] a dove")
        await world.work()
        limited = httpx.Response(429, headers={"Retry-After": stated}, content=html())
        world.edge.hosts["sandbox.test"] = httpx.MockTransport(lambda _: limited)
        world.clock.forward(MEDIAN)
        await world.work()
        due = (await world.task(task)).due_at
        assert due is not None
        assert (due - world.clock()).total_seconds() == waited


async def test_tasks_are_polled_again_at_once_after_the_database_was_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mute(database_url) as world:
        task = await world.submit("[seconds=1000] a dove")
        await world.work()
        world.clock.forward(MEDIAN)
        pool = TaskPool(10)
        with monkeypatch.context() as away:
            away.setattr(poll_rate, "take", unavailable)
            with pytest.raises(StoreUnavailable):
                await run_due(world.context, pool)
            await pool.finish()
        assert (await world.task(task)).due_at == world.clock()
        assert await run_due(world.context, pool) == 1
        await pool.finish()


async def unavailable(*_: object) -> None:
    raise StoreUnavailable("the database is away")


async def test_task_without_external_id_expires_at_its_deadline(database_url: str) -> None:
    async with mute(database_url) as world:
        task = await world.submit("[cut] a dove", deadline=60)
        await world.until(59)
        assert (await world.task(task)).state is State.UNCONFIRMED
        await world.until(2)
        ended = await world.task(task)
        assert (ended.state, ended.decided_by, ended.due_at) == (State.EXPIRED, "dovecote", None)
        assert world.sandbox.ledger.requests["POST /runway/feed"] == 0
        assert world.sandbox.ledger.paid() == 1
        assert [received.state for received in world.receiver.received] == ["expired"]
