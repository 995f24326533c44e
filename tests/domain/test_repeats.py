"""Repeated requests of clients without idempotency keys, and honest ones that only look the same."""

import dataclasses
import datetime as dt
from uuid import UUID

import pytest

from service.domain.repeats import Earlier, Sender, Windows, choose

NOW = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
WINDOWS = Windows(marked=dt.timedelta(seconds=300), unmarked=dt.timedelta(seconds=2))
FIRST, MARKED, UNMARKED = Sender(), Sender(attempt=1), Sender(repeats_unmarked=True)


def ago(seconds: float, *, seen: float | None = None, generation: int = 0, **more: object) -> Earlier:
    """Return a task that an equal request made some seconds ago."""
    made = Earlier(
        task_id=UUID(int=generation),
        generation=generation,
        created_at=NOW - dt.timedelta(seconds=seconds),
        seen_at=NOW - dt.timedelta(seconds=seconds if seen is None else seen),
    )
    return dataclasses.replace(made, **more)


@pytest.mark.parametrize(
    ("sender", "earlier", "expected"),
    [
        pytest.param(MARKED, ago(10), True, id="a marked repeat within the window"),
        pytest.param(MARKED, ago(301), False, id="a marked repeat after the window"),
        pytest.param(MARKED, ago(900, is_open=True), True, id="a marked repeat while the task is open"),
        pytest.param(MARKED, ago(10, is_known=True), False, id="a marked repeat of a task that the client has used"),
        pytest.param(MARKED, ago(10, attempt=1), False, id="a mark that another repeat had already"),
        pytest.param(Sender(attempt=2), ago(10, attempt=1), True, id="the next mark"),
        pytest.param(FIRST, ago(0.1), False, id="an equal request of a client that marks or never repeats"),
        pytest.param(FIRST, ago(1, cut_off=True), True, id="any client after a broken connection"),
        pytest.param(FIRST, ago(3, cut_off=True), False, id="any client long after a broken connection"),
        pytest.param(UNMARKED, ago(0.003), True, id="a repeat without a mark, at once"),
        pytest.param(UNMARKED, ago(3), False, id="a repeat without a mark, too late"),
        pytest.param(UNMARKED, ago(12, seen=8), True, id="a repeat without a mark whose pauses double"),
        pytest.param(UNMARKED, ago(3.25, seen=2.5), True, id="a pause a quarter longer after one a quarter shorter"),
        pytest.param(UNMARKED, ago(12, seen=9.6), True, id="a repeat within four times as long as those before"),
        pytest.param(UNMARKED, ago(12, seen=11), False, id="an equal request after a pause that is too long"),
        pytest.param(UNMARKED, ago(60, seen=2.5, cut_off=True), True, id="a late repeat of a held request that broke"),
        pytest.param(FIRST, ago(60, seen=2.5, cut_off=True), False, id="any client after that"),
        pytest.param(UNMARKED, ago(0, at_once=True), False, id="equal requests at the same time"),
        pytest.param(UNMARKED, ago(0.1, is_known=True), False, id="an equal request after the client used the task"),
        pytest.param(UNMARKED, ago(-5), True, id="a clock that went back"),
    ],
)
def test_repeat_is_told_from_a_new_request(sender: Sender, earlier: Earlier, expected: bool) -> None:  # noqa: FBT001
    assert (choose(sender, [earlier], WINDOWS, now=NOW) is not None) is expected


def test_each_repeat_of_equal_requests_gets_a_task_of_its_own() -> None:
    tasks = [ago(1, generation=1), ago(2, generation=0)]
    first = choose(MARKED, tasks, WINDOWS, now=NOW)
    assert first is tasks[0]
    tasks[0] = dataclasses.replace(tasks[0], attempt=1)
    assert choose(MARKED, tasks, WINDOWS, now=NOW) is tasks[1]
    assert choose(Sender(attempt=2), tasks, WINDOWS, now=NOW) is tasks[0], "the second repeat follows the first"


def test_task_whose_answer_was_cut_off_is_preferred() -> None:
    tasks = [ago(1, generation=1), ago(2, generation=0, cut_off=True)]
    assert choose(MARKED, tasks, WINDOWS, now=NOW) is tasks[1]


@pytest.mark.parametrize("sender", [MARKED, UNMARKED])
def test_recognition_is_switched_off_by_empty_windows(sender: Sender) -> None:
    off = Windows(marked=dt.timedelta(), unmarked=dt.timedelta())
    assert choose(sender, [ago(0, is_open=True, cut_off=True)], off, now=NOW) is None
