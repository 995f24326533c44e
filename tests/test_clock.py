"""The clock of a process follows its reference, and stored times move with a jump."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.clock import JUMP, Clock, ClockGuard, warn_if_wrong
from service.domain.task import State
from service.flows.signals.local import Signals
from service.store import callbacks as callback_store
from service.store import clock as clock_store
from service.store import tables
from service.store.database import Database, StoreUnavailable
from tests.support.values import a_callback, a_task, keep, opened

HOUR, DAY = 3600.0, 86_400.0
JUMPS = [pytest.param(jump, id=f"{jump:+.0f}s") for jump in (-DAY, -HOUR, -10.0, 10.0, HOUR, DAY)]


class Machine:
    """A machine whose clocks the test sets."""

    def __init__(self) -> None:
        self.passed = 1000.0
        self.ahead = 1_700_000_000.0

    def wall(self) -> float:
        return self.passed + self.ahead

    def monotonic(self) -> float:
        return self.passed

    def clock(self) -> Clock:
        return Clock(wall=self.wall, monotonic=self.monotonic)


def seconds(at: dt.datetime) -> float:
    return at.timestamp()


def test_clock_follows_the_wall_and_small_corrections() -> None:
    machine = Machine()
    clock = machine.clock()
    assert seconds(clock()) == pytest.approx(machine.wall())
    machine.passed += 60
    assert seconds(clock()) == pytest.approx(machine.wall())
    for correction in (JUMP - 0.1, -(JUMP - 0.1)):
        machine.ahead += correction
        assert seconds(clock()) == pytest.approx(machine.wall())


@pytest.mark.parametrize("jump", JUMPS)
def test_clock_does_not_jump_before_the_jump_is_accepted(jump: float) -> None:
    machine = Machine()
    clock = machine.clock()
    before = seconds(clock())
    machine.ahead += jump
    machine.passed += 1
    assert seconds(clock()) == pytest.approx(before + 1)
    assert clock.jump_to(clock.wall_offset()) == pytest.approx(jump)
    clock.accept(clock.wall_offset())
    assert seconds(clock()) == pytest.approx(before + 1 + jump)


def test_clock_of_a_database_ignores_the_wall() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.follow_database(machine.ahead + 90)
    assert seconds(clock()) == pytest.approx(machine.wall() + 90)
    machine.ahead -= DAY
    machine.passed += 1
    assert seconds(clock()) == pytest.approx(machine.wall() + DAY + 90)


# ── stored times ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine whose clock is also that of its database server."""
    machine = Machine()

    async def database_time(_: AsyncConnection) -> float:
        return machine.wall()

    monkeypatch.setattr(clock_store, "read_database_time", database_time)
    return machine


def after(now: dt.datetime, wait: float) -> dt.datetime:
    return now + dt.timedelta(seconds=wait)


@contextlib.asynccontextmanager
async def stored(database_url: str, now: dt.datetime) -> AsyncIterator[Database]:
    """Store rows of every queue, each with a different wait."""
    made = {"created_at": now, "updated_at": now}
    async with opened(database_url) as database:
        queued = a_task(**made, due_at=after(now, -5), deadline_at=after(now, 30))
        running = a_task(
            **made, state=State.RUNNING, external_id="1", due_at=after(now, 20), deadline_at=after(now, 600)
        )
        lost = a_task(
            **made,
            state=State.UNCONFIRMED,
            due_at=after(now, 700),
            deadline_at=after(now, 700),
            unconfirmed_since=after(now, -50),
            missing_since=after(now, -40),
            answered_at=after(now, -20),
        )
        await keep(database, queued, running, lost)
        circuit = {"upstream": "elkapi", "dialect": "x/y", "failures": [], "opened_at": now}
        async with database.writing() as connection:
            await callback_store.receive(connection, [a_callback(due_at=after(now, 8))])
            await connection.execute(tables.circuits.insert(), {**circuit, "open_until": after(now, 30)})
            await connection.execute(tables.upstreams.insert(), {"name": "elkapi", "poll_slot_at": after(now, 3)})
        yield database


COLUMNS = {
    "task due": "SELECT due_at AS at FROM tasks ORDER BY deadline_at",
    "callback due": "SELECT due_at AS at FROM callbacks",
    "deadline": "SELECT deadline_at AS at FROM tasks ORDER BY deadline_at",
    "unconfirmed since": "SELECT unconfirmed_since AS at FROM tasks WHERE unconfirmed_since IS NOT NULL",
    "answered at": "SELECT answered_at AS at FROM tasks WHERE answered_at IS NOT NULL",
    "missing since": "SELECT missing_since AS at FROM tasks WHERE missing_since IS NOT NULL",
    "open until": "SELECT open_until AS at FROM circuits",
    "opened": "SELECT opened_at AS at FROM circuits",
    "slot": "SELECT poll_slot_at AS at FROM upstreams",
}


async def spans(database: Database, now: dt.datetime) -> dict[str, list[float]]:
    """Return every stored wait and age, in seconds from now."""
    found: dict[str, list[float]] = {}
    async with database.reading() as connection:
        for name, statement in COLUMNS.items():
            values = (await connection.execute(text(statement).columns(at=tables.UtcTime))).scalars().all()
            found[name] = [round((value - now).total_seconds(), 3) for value in values]
    return found


async def guard_of(clock: Clock, database: Database, signals: Signals | None = None) -> ClockGuard:
    guard = ClockGuard(clock, database, signals or Signals())
    await guard.start()
    await guard.check()
    return guard


@pytest.mark.parametrize("jump", JUMPS)
async def test_stored_waits_keep_their_length_across_a_jump(database_url: str, machine: Machine, jump: float) -> None:
    clock, signals = machine.clock(), Signals()
    async with stored(database_url, clock()) as database:
        guard = await guard_of(clock, database, signals)
        before = await spans(database, clock())
        machine.ahead += jump
        assert await spans(database, clock()) == before, "the process must not see the jump before rows have moved"
        await guard.check()
        after_it = await spans(database, clock())
        assert clock().timestamp() == pytest.approx(machine.wall())
    overdue = after_it["task due"].pop(0)
    assert overdue <= 0
    assert before["task due"].pop(0) == -5
    assert after_it == before
    assert all(journey.is_set() for journey in signals.journeys.values())


@pytest.mark.parametrize("jump", [-HOUR, DAY], ids=["back", "forward"])
async def test_jump_is_handled_once_by_several_processes(postgresql_url: str, machine: Machine, jump: float) -> None:
    clocks = [machine.clock() for _ in range(3)]
    async with stored(postgresql_url, clocks[0]()) as database:
        guards = [await guard_of(clock, database) for clock in clocks]
        before = await spans(database, clocks[0]())
        machine.ahead += jump
        for guard in guards:
            await guard.check()
        after_them = await spans(database, clocks[0]())
        assert len({round(clock().timestamp(), 3) for clock in clocks}) == 1
    assert {name: values[-1] for name, values in after_them.items()} == {
        name: values[-1] for name, values in before.items()
    }


async def test_jump_is_logged_once_and_timers_are_planned_again(
    database_url: str, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    clock, planned = machine.clock(), []
    async with stored(database_url, clock()) as database:
        guard = await guard_of(clock, database)
        guard.on_jump.append(lambda: planned.append(1))
        machine.ahead -= HOUR
        for _ in range(3):
            machine.passed += 1
            await guard.check()
    assert [line for line in caplog.messages if line.startswith("clock jumped")] == ["clock jumped seconds=-3600.0"]
    assert planned == [1]


async def test_jump_waits_for_a_database_that_is_away(
    database_url: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = machine.clock()
    async with stored(database_url, clock()) as database:
        guard = await guard_of(clock, database)
        before = await spans(database, clock())
        machine.ahead += DAY

        async def away(*_: object, **__: object) -> bool:
            raise StoreUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(clock_store, "shift", away)
            with pytest.raises(StoreUnavailable):
                await guard.check()
        assert await spans(database, clock()) == before, "time stands in the old frame until rows have moved"
        machine.passed += 30  # the database's clock is asked again
        await guard.check()
        assert clock().timestamp() == pytest.approx(machine.wall())
        assert [round(span + 30) for span in (await spans(database, clock()))["deadline"]] == [30, 600, 700]


async def test_clock_set_back_while_stopped_moves_stored_times(
    database_url: str, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    clock = machine.clock()
    now = clock()
    async with stored(database_url, now) as database:
        async with database.writing() as connection:
            task = (await connection.execute(tables.tasks.select().limit(1))).one()
            event = {"task_id": task.id, "client": "default", "sequence": 99, "type": "submitted", "source": "client"}
            await connection.execute(tables.events.insert(), {**event, "at": now, "data": {}})
        machine.ahead -= HOUR
        clock = machine.clock()
        await ClockGuard(clock, database, Signals()).start()
        found = await spans(database, clock())
        assert [round(value) for value in found["task due"][1:]] == [20, 700]
        assert round(found["callback due"][0]) == 8
        await ClockGuard(clock, database, Signals()).start()
    assert len([line for line in caplog.messages if line.startswith("clock was set back while stopped")]) >= 1


async def test_time_written_by_the_old_clock_after_a_jump_back_is_repaired(database_url: str, machine: Machine) -> None:
    clock = machine.clock()
    async with stored(database_url, clock()) as database:
        guard = await guard_of(clock, database)
        old = clock()
        machine.ahead -= HOUR
        await guard.check()
        before = await spans(database, clock())
        async with database.writing() as connection:  # a poll that was in flight
            running = tables.tasks.c.external_id == "1"
            await connection.execute(tables.tasks.update().where(running).values(due_at=after(old, 7)))
        machine.passed += 2
        await guard.check()
        found = await spans(database, clock())
        assert [round(value) for value in found["task due"]] == [-2, 5, 698]
        assert found["deadline"] == [value - 2 for value in before["deadline"]]


async def test_processes_of_machines_with_different_clocks_agree(postgresql_url: str) -> None:
    ahead = Machine()
    ahead.ahead = dt.datetime.now(dt.UTC).timestamp() - ahead.passed + 90
    async with opened(postgresql_url) as database:
        skewed, right = ahead.clock(), Clock()
        for clock in (skewed, right):
            await ClockGuard(clock, database, Signals()).start()
        assert abs((skewed() - right()).total_seconds()) < JUMP


@pytest.mark.parametrize(("year", "wrong"), [(1970, True), (1999, True), (2024, True), (2026, False), (2120, True)])
def test_impossible_clock_is_reported_at_the_start(year: int, *, wrong: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert warn_if_wrong(dt.datetime(year, 1, 1, tzinfo=dt.UTC)) is wrong
    assert ("clock is wrong" in caplog.text) is wrong
