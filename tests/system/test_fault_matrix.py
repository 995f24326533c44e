"""Every case of the fault matrix is played and judged, and its outcome equals docs/fault-matrix.md."""

import dataclasses
import datetime as dt

import pytest

from tests.support.matrix import ORDERS, PAGE, Cell, cells, faults, play_all, read, written

pytestmark = pytest.mark.long

STALE = "stale: run .venv/bin/python -m tests.support.matrix"


@pytest.mark.parametrize("order", ORDERS)
async def test_fault_matrix_pays_once_and_ends_every_task(sqlite_url: str, order: str) -> None:
    endings = await play_all(sqlite_url, [cell for cell in cells() if cell.order == order])
    wrong = [f"{cell}: {what}" for cell, ending in endings.items() for what in ending.contradictions(cell)]
    assert wrong == []
    page = read()
    assert {cell: page.get(cell) for cell in endings} == {cell: str(each) for cell, each in endings.items()}, STALE


ON_POSTGRESQL = [
    Cell("503 ×3", "first", "hold", callbacks=True, order="gateways first"),
    Cell("cut", "retry", "resubmit_once", callbacks=False, order="gateways first"),
    Cell("cut late, refuse", "first", "resubmit_once", callbacks=True, order="gateways first"),
    Cell("dies unsent", "first", "hold", callbacks=True, order="gateways first"),
    Cell("dies asking", "first", "hold", callbacks=True, order="gateways first"),
    Cell("dies answered", "first", "hold", callbacks=False, order="gateways first"),
    Cell("no database", "first", "hold", callbacks=False, order="gateways first"),
]


async def test_fault_matrix_is_the_same_on_postgresql(postgresql_url: str) -> None:
    page, endings = read(), await play_all(postgresql_url, ON_POSTGRESQL)
    assert [what for cell, ending in endings.items() for what in ending.contradictions(cell)] == []
    assert {cell: str(ending) for cell, ending in endings.items()} == {cell: page[cell] for cell in ON_POSTGRESQL}


def test_fault_matrix_page_is_current() -> None:
    page = read()
    assert list(page) == sorted(cells(), key=list(page).index), STALE
    assert written(page) in PAGE.read_text(encoding="utf-8"), STALE
    assert faults() in PAGE.read_text(encoding="utf-8"), STALE


async def test_fault_matrix_detects_a_contradiction(sqlite_url: str) -> None:
    """Each violation is reported for an outcome that contains it."""
    cell = Cell("none", "first", "hold", callbacks=True, order="one upstream")
    ending = (await play_all(sqlite_url, [cell]))[cell]
    late = dataclasses.replace(ending.task, finished_at=ending.task.deadline_at + dt.timedelta(seconds=1))
    [taken] = ending.submissions
    wrong = {
        "2 jobs were paid for": {"jobs": {**ending.jobs, "cometapi": 1}},
        "it has not ended by its deadline": {"task": late},
        "a submission is forgotten": {"submissions": [taken, dataclasses.replace(taken, outcome="sending")]},
        "a paid result is not delivered": {"task": dataclasses.replace(ending.task, results=())},
        "there is a result that nobody paid for": {"jobs": dict.fromkeys(ending.jobs, 0), "submissions": []},
        "the client was told ['task.succeeded', 'task.succeeded'] of ['succeeded']": {"told": ending.told * 2},
    }
    assert list(ending.contradictions(cell)) == []
    for words, change in wrong.items():
        assert words in list(dataclasses.replace(ending, **change).contradictions(cell))  # type: ignore[arg-type]
