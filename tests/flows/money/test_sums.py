"""Kept sums equal the sums of the rows, whatever changes afterwards and whoever changes it, on both databases."""

import contextlib
import dataclasses
import datetime as dt
import random
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import State, Task
from service.flows.money import sums as flow
from service.store import ledger, submissions, sums
from service.store.money import entries, label_sums, usage
from service.store.sums import DAY, HOUR, Plan, plan_of
from service.store.tables import label_sums as label_sums_table
from service.store.tables import ledger_entries, money_entries, sum_changes, sum_periods, sum_watches, tasks
from service.store.tables import submissions as submission_table
from service.store.triggers import LABELS, MONEY, SUBMISSIONS, TRIGGERS
from tests.support.retention import keep as keep_for
from tests.support.retention import sweep
from tests.support.values import a_submission, a_task, keep, new_id
from tests.support.world import World

FINEST = ["client", "day", "family", "upstream"]
GROUPS = [["upstream", "family"], ["day"], ["client"], FINEST]
BY_LABEL = [
    ["label:project"],
    ["day", "label:project"],
    ["label:user"],
    ["label:unknown"],
    ["label:project", "model"],
    ["label:project", "label:user"],
]
FEW: list[list[str]] = [["client", "model"], ["label:project", "client"]]
MONEY_GROUPS: list[list[str]] = [*FEW, ["day"], [], *BY_LABEL]


@contextlib.contextmanager
def nothing_kept(since: Any, until: Any) -> Iterator[None]:
    """Let everything be summed from its rows."""
    rows = Plan(days=(), hours=(), rest=((since, until),))
    nothing = Plan(days=(), hours=(), rest=())

    async def of_rows(*_: Any) -> Plan:
        return rows

    async def of_label(*_: Any) -> label_sums.LabelPlan:
        return label_sums.LabelPlan(rows, nothing)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ledger, "plan", of_rows)
        patched.setattr(usage, "plan", of_rows)
        patched.setattr(label_sums, "plan", of_label)
        yield


async def entry(connection: AsyncConnection, submission: Any, task: Task, number: int, **more: Any) -> None:
    values = {
        "key": f"set:{submission.id}",
        "submission_id": submission.id,
        "task_id": task.id,
        "client": task.client,
        "family": task.family,
        "operation": task.operation,
        "model": "gen4" if number % 2 else None,
        "upstream": submission.upstream,
        "dialect": submission.dialect,
        "labels": [{"project": "p", "user": str(number)}, {"project": "q"}, {}][number % 3],
        "verdict": "charged",
        "basis": "provider",
        "amount": Decimal("9000000000.123456789"),
        "gross": Decimal("9000000000.5"),
        "unit": "credits",
        "usd": "0.01",
        "computed": False,
        "delivered": True,
        "reason": "x",
        "source": "poll",
        "evidence": {},
        "purchased_at": submission.sent_at,
        "booked_at": submission.sent_at,
    }
    await connection.execute(insert(money_entries), {**values, **more})


@dataclasses.dataclass
class Stocked:
    """Tasks of some days with their submissions and entries, whose clock is a day and some hours behind the last of them."""

    world: World
    made: list[tuple[Task, Any]]

    async def round(self) -> None:
        while await flow.run_due(self.world.context):
            pass

    async def write(self, act: Callable[[AsyncConnection], Awaitable[Any]]) -> None:
        async with self.world.context.database.writing() as connection:
            await act(connection)

    async def check(self, *, every_group: bool = False) -> None:
        """Compare what is read with the sums of the rows, for all time and for spans that begin anywhere.

        :param every_group: compare coarser groups as well, which are sums of the finest
        """
        now = self.world.clock()
        spans: list[tuple[Any, Any]] = [(None, None), (now - dt.timedelta(days=2, minutes=7), None)]
        spans += [(None, now - dt.timedelta(hours=30, minutes=1)), (now - 3 * DAY, now - dt.timedelta(hours=5))]
        async with self.world.context.database.reading() as connection:
            for since, until in spans:
                for by in GROUPS if every_group else [FINEST]:
                    kept = await ledger.entries(connection, by=by, since=since, until=until)
                    assert kept == await self._from_rows(connection, by, since, until)
                for columns in MONEY_GROUPS if every_group else FEW:
                    for client in (None, "shop") if every_group else (None,):
                        asked = {"by": columns, "since": since, "until": until, "client": client}
                        quick = await usage.sums(connection, **asked)
                        assert quick == await self._money_from_rows(connection, **asked)

    async def _from_rows(
        self, connection: AsyncConnection, by: list[str], since: Any, until: Any
    ) -> list[ledger.Entry]:
        with nothing_kept(since, until):
            return await ledger.entries(connection, by=by, since=since, until=until)

    async def _money_from_rows(self, connection: AsyncConnection, **asked: Any) -> list[usage.Sum]:
        with nothing_kept(asked["since"], asked["until"]):
            return await usage.sums(connection, **asked)

    async def plan(self, subject: str) -> Plan:
        async with self.world.context.database.reading() as connection:
            return await sums.plan(connection, subject, None, None)

    async def notes(self) -> int:
        async with self.world.context.database.reading() as connection:
            return await connection.scalar(select(func.count()).select_from(sum_changes)) or 0


@pytest.fixture
async def stocked(world: World) -> Stocked:
    chance = random.Random(3)
    made = []
    now = world.clock()
    for number in range(60):
        sent = now - dt.timedelta(hours=chance.uniform(0, 100))
        task = a_task(
            client=chance.choice(["shop", "studio"]),
            family=chance.choice(["runway", "kling"]),
            state=State.RUNNING,
            idempotency_key=str(number),
            created_at=sent,
        )
        submission = a_submission(task, upstream=chance.choice(["elkapi", "runwayml"]), sent_at=sent)
        made.append((dataclasses.replace(task, submission_id=submission.id), submission))
    await keep(world.context.database, *(task for task, _ in made))
    async with world.context.database.writing() as connection:
        await submissions.begin(connection, [submission for _, submission in made])
        for number, (task, submission) in enumerate(made):
            await entry(connection, submission, task, number)
    return Stocked(world, made)


async def test_kept_sums_equal_those_of_the_rows(stocked: Stocked) -> None:
    await stocked.check(every_group=True)
    await stocked.round()
    plans = [await stocked.plan(subject) for subject in (SUBMISSIONS, MONEY, LABELS)]
    assert all(len(plan.days) == 1 and len(plan.rest) == 2 for plan in plans)
    await stocked.check(every_group=True)


def _old(stocked: Stocked) -> tuple[Task, Any]:
    return min(stocked.made, key=lambda each: each[1].sent_at)


async def _settle(stocked: Stocked, connection: AsyncConnection) -> None:
    _, submission = _old(stocked)
    values = {"outcome": "taken", "settled_at": stocked.world.clock()}
    await connection.execute(update(submission_table).where(submission_table.c.id == submission.id).values(**values))


async def _end(stocked: Stocked, connection: AsyncConnection) -> None:
    task, _ = _old(stocked)
    values = {"state": "succeeded", "finished_at": stocked.world.clock(), "decided_by": "provider", "due_at": None}
    await connection.execute(update(tasks).where(tasks.c.id == task.id).values(**values, cost=7.5))


async def _refund(stocked: Stocked, connection: AsyncConnection) -> None:
    await connection.execute(update(tasks).where(tasks.c.id == _old(stocked)[0].id).values(refunded=True))


async def _serve(stocked: Stocked, connection: AsyncConnection) -> None:
    """Name another submission as the one that serves the task."""
    task, _ = _old(stocked)
    await connection.execute(update(tasks).where(tasks.c.id == task.id).values(submission_id=new_id()))


async def _submit(stocked: Stocked, connection: AsyncConnection) -> None:
    task, submission = _old(stocked)
    values = {"outcome": "refused", "settled_at": stocked.world.clock()}
    await connection.execute(update(submission_table).where(submission_table.c.id == submission.id).values(**values))
    await submissions.begin(connection, [a_submission(task, sent_at=submission.sent_at, id=new_id())])


async def _book(stocked: Stocked, connection: AsyncConnection) -> None:
    task, submission = _old(stocked)
    another = dataclasses.replace(submission, id=new_id())
    await entry(connection, another, task, 100)


async def _correct(stocked: Stocked, connection: AsyncConnection) -> None:
    _, submission = _old(stocked)
    of_it = money_entries.c.submission_id == submission.id
    await connection.execute(update(money_entries).where(of_it).values(superseded_at=stocked.world.clock()))


async def _remove(stocked: Stocked, connection: AsyncConnection) -> None:
    _, submission = _old(stocked)
    await connection.execute(delete(money_entries).where(money_entries.c.submission_id == submission.id))


async def _erase_labels(stocked: Stocked, connection: AsyncConnection) -> None:
    labelled = [submission for number, (_, submission) in enumerate(stocked.made) if number % 3 != 2]
    await entries.remove_labels(connection, [min(labelled, key=lambda each: each.sent_at).id])


CHANGES = [_settle, _end, _refund, _serve, _submit, _book, _correct, _remove, _erase_labels]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__[1:])
async def test_change_of_a_kept_period_shows_at_once_and_after_the_next_round(
    stocked: Stocked, change: Callable[[Stocked, AsyncConnection], Awaitable[None]]
) -> None:
    await stocked.round()
    assert await stocked.notes() == 0
    await stocked.write(lambda connection: change(stocked, connection))
    assert await stocked.notes() > 0
    await stocked.check()
    await stocked.round()
    assert await stocked.notes() == 0
    await stocked.check()


async def _kept_values(stocked: Stocked, label: str) -> set[str | None]:
    async with stocked.world.context.database.reading() as connection:
        found = select(label_sums_table.c.value).where(label_sums_table.c.label == label)
        return set(await connection.scalars(found))


async def test_erased_label_is_in_no_kept_sum(stocked: Stocked) -> None:
    await stocked.round()
    users = {str(number) for number in range(60) if number % 3 == 0}
    assert await _kept_values(stocked, "user") - {""} <= users
    submission = next(submission for number, (_, submission) in enumerate(stocked.made) if number == 30)
    assert "30" in await _kept_values(stocked, "user")
    await stocked.write(lambda connection: entries.remove_labels(connection, [submission.id]))
    assert "30" not in await _kept_values(stocked, "user")
    await stocked.check(every_group=True)
    await stocked.round()
    assert "30" not in await _kept_values(stocked, "user")
    await stocked.check(every_group=True)


@pytest.mark.parametrize(("bound", "value"), [("MAX_VALUES", 1), ("MAX_LABELS", 1)])
async def test_label_with_too_many_values_is_summed_from_its_entries(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(label_sums, bound, value)
    await stocked.round()
    kept = {label: await _kept_values(stocked, label) for label in ("project", "user", "")}
    assert None in set().union(*kept.values())
    await stocked.check(every_group=True)


async def test_change_of_what_is_not_summed_notes_nothing(stocked: Stocked) -> None:
    await stocked.round()
    task, _ = _old(stocked)
    values = {"progress": 50, "updated_at": stocked.world.clock(), "state": "submitted"}
    await stocked.write(
        lambda connection: connection.execute(update(tasks).where(tasks.c.id == task.id).values(**values))
    )
    assert await stocked.notes() == 0
    await stocked.check()


async def test_rows_of_the_present_hour_note_nothing(stocked: Stocked) -> None:
    await stocked.round()
    task = a_task(created_at=stocked.world.clock(), idempotency_key="now")
    await keep(stocked.world.context.database, task)
    submission = a_submission(task, sent_at=stocked.world.clock())
    await stocked.write(lambda connection: submissions.begin(connection, [submission]))
    await stocked.write(lambda connection: entry(connection, submission, task, 1))
    assert await stocked.notes() == 0
    await stocked.check()


async def test_hours_become_a_day_and_old_hours_go(stocked: Stocked) -> None:
    await stocked.round()
    for _ in range(4):
        stocked.world.clock.forward(20 * 3600)
        await stocked.round()
        await stocked.check()
    async with stocked.world.context.database.reading() as connection:
        periods = (await connection.execute(select(sum_periods.c.since, sum_periods.c.until))).all()
    hours = [row for row in periods if row.until - row.since == HOUR]
    assert hours
    assert min(row.since for row in hours) >= sums.day_of(stocked.world.clock() - flow.HOURS_KEPT)


async def test_removed_tasks_leave_the_sums_as_they_were(stocked: Stocked) -> None:
    for change in (_settle, _end):
        await stocked.write(lambda connection, change=change: change(stocked, connection))  # type: ignore[misc]
    await stocked.round()
    async with stocked.world.context.database.reading() as connection:
        before = await ledger.entries(connection, by=["day"])
    keep_for(stocked.world, tasks="1d")
    stocked.world.clock.forward(10 * DAY.total_seconds())
    assert (await sweep(stocked.world))["tasks"] == 1
    assert await stocked.notes() == 0
    async with stocked.world.context.database.reading() as connection:
        assert await ledger.entries(connection, by=["day"]) == before
    await stocked.check()
    await stocked.write(lambda connection: connection.execute(delete(ledger_entries)))
    await stocked.check()


async def test_changes_during_the_sum_are_not_lost(stocked: Stocked) -> None:
    """A writer that commits after the rows were read leaves a note, so that the kept sum does not hold."""
    context = stocked.world.context
    await stocked.round()
    await stocked.write(lambda connection: _refund(stocked, connection))
    async with context.database.reading() as connection:
        (due,) = await sums.due(
            connection, SUBMISSIONS, days_until=sums.day_of(context.now()), oldest=sums.day_of(_old(stocked)[1].sent_at)
        )
    begun = [await context.writers.journeys.run(sums.begin, SUBMISSIONS, due) for _ in range(2)]
    async with context.database.reading() as connection:
        rows = await ledger.sums_of(connection, *due)
    await stocked.write(lambda connection: _end(stocked, connection))
    kept = [await context.writers.journeys.run(sums.keep, SUBMISSIONS, due, version, rows) for version in begun]
    assert kept == [False, True]
    await stocked.check()
    await stocked.round()
    await stocked.check()
    assert await stocked.notes() == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_watch_waits_for_writers_that_did_not_see_it(stocked: Stocked, world: World) -> None:
    """A transaction that has changed a row before the watch moved may not be overlooked. SQLite has one writer."""
    database = world.context.database
    async with database.writing() as slow:
        await _settle(stocked, slow)
        await flow.run_due(world.context)
        async with database.reading() as connection:
            assert await connection.scalar(select(func.count()).select_from(sum_watches)) == 0
    await stocked.round()
    await stocked.check()


async def test_triggers_are_in_the_database(world: World) -> None:
    """A migration in batch mode copies a table, and a copy has no trigger."""
    database = world.context.database
    names = {
        True: "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        False: "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }[database.sqlite]
    async with database.reading() as connection:
        found = {row[0] for row in await connection.exec_driver_sql(names)}
    wanted = [text.split()[2] for text in TRIGGERS["sqlite"]]
    assert found == set(wanted)
    assert len(wanted) == 10


T = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)


def h(hours: float) -> dt.datetime:
    return T + dt.timedelta(hours=hours)


@pytest.mark.parametrize(
    ("valid", "span", "plan"),
    [
        pytest.param([], (None, None), ([], [], [(None, None)]), id="nothing kept"),
        pytest.param([(0, 24)], (None, None), ([(0, 24)], [], [(None, 0), (24, None)]), id="a day within all time"),
        pytest.param([(0, 24), (24, 48)], (0, 48), ([(0, 48)], [], []), id="days that fill the span"),
        pytest.param([], (5, 5), ([], [], [(5, 5)]), id="an empty span"),
        pytest.param([], (5, 4), ([], [], [(5, 4)]), id="a span that ends before it begins"),
        pytest.param([(0, 24), (5, 6)], (0, 30), ([(0, 24)], [], [(24, 30)]), id="an hour within a kept day"),
        pytest.param([(1, 2), (2, 3)], (0.5, 3.5), ([], [(1, 3)], [(0.5, 1), (3, 3.5)]), id="hours within a span"),
        pytest.param([(2 * n, 2 * n + 1) for n in range(110)], (None, None), ([], [], [(None, None)]), id="too many gaps"),
        pytest.param([(0, 24), (24, 25), (26, 27)], (0, None), ([(0, 24)], [(24, 25), (26, 27)], [(25, 26), (27, None)]), id="a gap between hours"),
    ],
)  # fmt: skip
def test_span_is_divided_into_kept_periods_and_the_rest(valid: list[Any], span: Any, plan: Any) -> None:
    def at(given: Any) -> Any:
        return None if given is None else h(given)

    def spans(given: list[Any]) -> tuple[Any, ...]:
        return tuple(tuple(map(at, each)) for each in given)

    days, hours, rest = map(spans, plan)
    assert plan_of(spans(valid), *map(at, span)) == Plan(days=days, hours=hours, rest=rest)
