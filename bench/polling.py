"""Simulate the poll plan: ``python -m bench polling``.

Tasks of one kind are open at an upstream, and the clock is simulated: no second passes. The plan is the one that Dovecote
uses, :func:`service.domain.schedules.next_poll`. The table shows the polls of a task, and how late an end without a
callback is found.
"""

import argparse
import dataclasses
import datetime as dt
import math
import random
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from service.domain.schedules import EXPECTING, POLLING, PollPlan, in_step, next_poll
from service.domain.task import State, Task

START: Final = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
TASKS: Final = 1_000
LOST: Final = 0.02
SPREADS: Final = (0.1, 0.3, 0.5)
"""Spreads of the durations around their median: the standard deviation of their logarithm."""
MEDIANS: Final = (10.0, 30.0, 90.0, 300.0, 1200.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Economy:
    """The cost of polling, and what it finds."""

    polls: float
    """Polls of a task, on average."""
    delay: float
    """Seconds from the end of a job whose callback did not come until a poll finds it, on average."""


def simulate(
    *, median: float, spread: float, callbacks: bool, batch: bool, tasks: int = TASKS, lost: float = LOST, seed: int = 1
) -> Economy:
    """Run tasks of one kind to their end.

    :param median: seconds that a job takes, as the statistics have learned it
    :param callbacks: whether callbacks are expected; a share of them is lost
    :param batch: whether the dialect queries many jobs at once, so that polls fall into steps
    """
    chance = random.Random(seed)
    plan = EXPECTING if callbacks else POLLING
    polls, delays = 0, list[float]()
    for number in range(tasks):
        duration = median * math.exp(chance.gauss(0.0, spread))
        is_lost = not callbacks or number < lost * tasks
        made, found = _polls_of(plan, median, duration, submitted=chance.uniform(0, 60), ends=not is_lost, batch=batch)
        polls += made
        if is_lost:
            delays.append(found - duration)
    return Economy(polls / tasks, sum(delays) / len(delays))


def _polls_of(
    plan: PollPlan, median: float, duration: float, *, submitted: float, ends: bool, batch: bool
) -> tuple[int, float]:
    """Return the polls of one task, and the seconds after the submit at which its end is found.

    :param ends: whether a callback reports the end
    """
    at = START + dt.timedelta(seconds=submitted)
    task = Task(
        id=UUID(int=1),
        client="default",
        family="runway",
        operation="text_to_video",
        input={},
        state=State.RUNNING,
        upstream="elkapi",
        external_id="job",
        callback_expected=plan is EXPECTING,
        created_at=at,
        updated_at=at,
        submitted_at=at,
        deadline_at=at + dt.timedelta(days=1),
        due_at=at,
    )
    polls, now = 0, at
    while True:
        due = next_poll(task, plan, median=median, now=now)
        assert due is not None
        now = in_step(due, deadline=task.deadline_at) if batch else due
        age = (now - at).total_seconds()
        if ends and age >= duration:
            return polls, duration
        polls += 1
        if age >= duration:
            return polls, age


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench polling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--live", action="store_true", help="with a real server, in real time")
    parser.add_argument("--median", type=float, action="append", help="seconds; with --live (default 40)")
    given = parser.parse_args(arguments)
    if given.live:
        from bench import polling_live  # noqa: PLC0415 - it imports this module

        print(polling_live.table(given.median or [40.0], 0.3, given.tasks))
        return
    print(
        "| median s | spread | batch | callbacks: polls a task | lost callback found after s | without callbacks: delay s | polls a task |"
    )
    print("|---|---|---|---|---|---|---|")
    for median in MEDIANS:
        for spread in SPREADS:
            for batch in (False, True):
                on = simulate(median=median, spread=spread, callbacks=True, batch=batch, tasks=given.tasks)
                off = simulate(median=median, spread=spread, callbacks=False, batch=batch, tasks=given.tasks)
                cells = (f"{on.polls:.2f}", f"{on.delay:.1f}", f"{off.delay:.1f}", f"{off.polls:.1f}")
                print(f"| {median:.0f} | {spread} | {'yes' if batch else 'no'} | {' | '.join(cells)} |")
