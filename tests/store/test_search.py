"""Lists and counts under any combination of filters: complete, and in bounded steps however many tasks there are."""

import dataclasses
import itertools
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import OPEN, TO_SUBMIT, State, Task
from service.store import overview, search
from service.store import tasks as task_store
from service.store.database import Database
from service.store.tables import tasks
from service.store.tasks import Filter
from tests.support.query_plans import fill, plan_of, uses
from tests.support.values import NOW, a_task, keep, later, opened

CLIENTS, FAMILIES, UPSTREAMS = (None, "default", "another"), (None, "runway", "suno"), (None, "elkapi", "tuzi")
STATES: tuple[tuple[State, ...], ...] = (
    (),
    (State.FAILED,),
    (State.QUEUED,),
    (State.FAILED, State.RUNNING),
    tuple(OPEN),
)
LABELS: tuple[dict[str, str], ...] = ({}, {"project": "a"}, {"project": "a", "shot": "1"}, {"project": "nothing"})


def combinations() -> list[Filter]:
    names = ("client", "family", "upstream", "states", "labels")
    values = itertools.product(CLIENTS, FAMILIES, UPSTREAMS, STATES, LABELS)
    return [Filter(**dict(zip(names, each, strict=True))) for each in values]  # type: ignore[arg-type]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


def fits(task: Task, wanted: Filter) -> bool:
    return (
        wanted.client in {None, task.client}
        and wanted.family in {None, task.family}
        and wanted.upstream in {None, task.upstream}
        and (not wanted.states or task.state in wanted.states)
        and wanted.labels.items() <= dict(task.labels).items()
    )


def some_tasks() -> list[Task]:
    kinds = itertools.product(
        ("default", "another"),
        ("runway", "suno"),
        ("elkapi", "tuzi"),
        (State.FAILED, State.RUNNING, State.QUEUED),
        ({}, {"project": "a"}, {"project": "a", "shot": "1"}),
    )
    return [
        a_task(client=client, family=family, upstream=upstream, state=state, labels=labels)
        for client, family, upstream, state, labels in kinds
    ]


async def pages(connection: AsyncConnection, wanted: Filter) -> list[UUID]:
    """Return the ids of all pages, read one after the other."""
    found: list[UUID] = []
    for _ in range(400):
        page = await search.search(connection, wanted, most=5)
        found += [task.id for task in page.tasks]
        following = page.tasks[-1].id if len(page.tasks) == 5 else page.searched_to
        if following is None:
            return found
        wanted = dataclasses.replace(wanted, before=following)
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("window", [search.WINDOW, 7], ids=["wide", "narrow"])
async def test_pages_of_every_combination_are_complete_whatever_the_window(
    database: Database, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "WINDOW", window)
    monkeypatch.setattr(search, "WINDOW_OF_LABEL", window)
    monkeypatch.setattr(search, "FEW", min(window, 3) if window == 7 else search.FEW)
    tasks = some_tasks()
    await keep(database, *tasks)
    async with database.reading() as connection:
        for wanted in combinations()[:: 13 if window == 7 else 23]:
            expected = [task.id for task in reversed(tasks) if fits(task, wanted)]
            assert await pages(connection, wanted) == expected, wanted
            counted = await search.count_by_state(connection, wanted)
            every = dataclasses.replace(wanted, states=())
            number = sum(fits(task, every) for task in tasks)
            assert (sum(counted.states.values()) == number) or (
                not counted.complete and sum(counted.states.values()) < number
            ), wanted


STEPS = 500
"""Instructions of SQLite, in hundreds, that no combination exceeds."""


async def test_no_combination_takes_more_steps_where_there_are_more_tasks(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "WINDOW", 400)
    monkeypatch.setattr(search, "WINDOW_OF_LABEL", 100)
    monkeypatch.setattr(search, "FEW", 50)
    monkeypatch.setattr(overview, "MAX_COUNTED", 300)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    async def most(connection: AsyncConnection) -> dict[str, int]:
        nonlocal steps
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        found = {}
        await driver.set_progress_handler(count, 100)
        try:
            for wanted in combinations()[::7]:
                for name, act in (
                    ("list", search.search(connection, wanted, most=51)),
                    ("count", search.count_by_state(connection, wanted)),
                ):
                    steps = 0
                    await act
                    found[f"{name} {wanted}"] = steps
        finally:
            await driver.set_progress_handler(None, 0)
        return found

    async with opened(sqlite_url) as database:
        async with database.writing() as connection:
            await fill(connection)
            await connection.execute(
                text("UPDATE tasks SET upstream = CASE rowid % 2 WHEN 0 THEN 'elkapi' ELSE 'tuzi' END")
            )
            await connection.execute(text("UPDATE OR REPLACE task_labels SET value = 'a'"))
        async with database.reading() as connection:
            taken = await most(connection)
    worst = max(taken, key=lambda each: taken[each])
    assert taken[worst] < STEPS, f"{worst}: {taken[worst]} hundred instructions; 4,000 tasks are not to be read"
    monkeypatch.setattr(search, "WINDOW", 100_000)
    monkeypatch.setattr(search, "WINDOW_OF_LABEL", 100_000)
    async with opened(sqlite_url) as database, database.reading() as connection:
        assert max((await most(connection)).values()) > STEPS, "the bound would not notice a whole scan"


async def test_window_reads_no_row_but_the_index(database: Database) -> None:
    async with database.writing() as connection:
        await fill(connection)
    leads = {
        "ix_tasks_upstream": Filter(upstream="elkapi", family="nobody"),
        "ix_tasks_family": Filter(family="suno", client="nobody", upstream="x"),
        "ix_tasks_state": Filter(states=(State.AWAITING_INPUT,), family="suno"),
    }
    for index, wanted in leads.items():
        for name, lead in zip(
            (
                name
                for name in ("state", "upstream", "family", "client")
                if getattr(wanted, "states" if name == "state" else name)
            ),
            search._leads(wanted),
            strict=True,
        ):
            if f"ix_tasks_{name}" != index:
                continue
            async with database.reading() as connection:
                plan = await plan_of(connection, lambda connection, lead=lead: connection.execute(lead.limit(100)))
            assert uses(plan, index), plan
            assert "COVERING" in plan or "Index Only" in plan, plan


async def test_count_of_a_state_reads_its_own_index(sqlite_url: str) -> None:
    async with opened(sqlite_url) as database:
        async with database.writing() as connection:
            await fill(connection)
        for state in State:
            index = "ix_tasks_due_submit" if state in TO_SUBMIT else "ix_tasks_state"
            for after in (None, UUID(int=1 << 100)):
                wanted = Filter(states=(state,), after=after)
                counted = task_store.fitting(select(tasks.c.id), wanted).limit(9).subquery()
                async with database.reading() as connection:
                    count = select(func.count()).select_from(counted)
                    plan = await plan_of(connection, lambda connection, count=count: connection.execute(count))
                assert "SEARCH tasks" in plan, plan
                assert uses(plan, index), plan


async def test_unconfirmed_tasks_are_counted_by_upstream(database: Database) -> None:
    kinds = (("default", "elkapi"), ("default", "tuzi"), ("another", "tuzi"))
    await keep(
        database,
        *(
            a_task(client=client, upstream=upstream, state=State.UNCONFIRMED, unconfirmed_since=NOW, due_at=later(9))
            for client, upstream in kinds
        ),
        a_task(state=State.RUNNING, upstream="elkapi"),
    )
    async with database.reading() as connection:
        assert await overview.count_unconfirmed(connection, None) == {"elkapi": 1, "tuzi": 2}
        assert await overview.count_unconfirmed(connection, "another") == {"tuzi": 1}
