"""Schedules: polls, repeated submits, deliveries of messages, and repeated reads of a callback."""

import dataclasses
import datetime as dt
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.domain.schedules import (
    EXPECTING,
    LATE_WATCH,
    MESSAGE_SCHEDULE,
    POLLING,
    STEP,
    UNCONFIRMED_SHORTEST,
    PollPlan,
    counts_as_missing,
    in_step,
    next_delivery,
    next_poll,
    next_reconciliation,
    reconciliation_ends,
    retry_inbox,
    retry_submit,
)
from service.domain.task import ENDED, Failure, State, Task

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
MEDIAN = 100.0
DEADLINE = 3600.0
MINUTE, HOUR = 60.0, 3600.0


def after(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


def seconds(until: dt.datetime | None, since: dt.datetime) -> float:
    assert until is not None
    return (until - since).total_seconds()


TASK = Task(
    id=UUID(int=1),
    client="default",
    family="runway",
    operation="text_to_video",
    input={},
    state=State.RUNNING,
    external_id="job",
    upstream="elkapi",
    created_at=START - dt.timedelta(seconds=50),
    updated_at=START,
    submitted_at=START,
    deadline_at=after(DEADLINE),
    due_at=START,
)
EXPIRED = dataclasses.replace(
    TASK,
    state=State.EXPIRED,
    decided_by="dovecote",
    failure=Failure("provider_timeout"),
    finished_at=after(DEADLINE),
)


def wait(task: Task, plan: PollPlan, age: float, **more: float) -> float:
    """Return the seconds from a poll at some age of the task until the next poll."""
    return seconds(next_poll(task, plan, median=MEDIAN, now=after(age), **more), after(age))


@pytest.mark.parametrize(
    ("plan", "age", "expected"),
    [
        (EXPECTING, 0, 100),  # at the median
        (EXPECTING, 60, 40),
        (EXPECTING, 100, 15),  # then every 15 % of its age …
        (EXPECTING, 400, 60),
        (EXPECTING, 1000, 150),
        (EXPECTING, 2500, 300),  # … but at most 300 s
        (POLLING, 0, 50),  # at half the median
        (POLLING, 20, 30),
        (POLLING, 50, 4),  # then every 8 % …
        (POLLING, 500, 40),
        (POLLING, 1000, 60),  # … at most 60 s
    ],
)
def test_poll_plan_gives_the_expected_waits(plan: PollPlan, age: float, expected: float) -> None:
    assert wait(TASK, plan, age) == pytest.approx(expected)


@pytest.mark.parametrize(("plan", "shortest"), [(EXPECTING, 5.0), (POLLING, 2.0)])
def test_short_durations_are_polled_at_the_shortest_interval(plan: PollPlan, shortest: float) -> None:
    found = next_poll(TASK, plan, median=1.0, now=after(3))
    assert seconds(found, after(3)) == shortest


@given(st.sampled_from([EXPECTING, POLLING]), st.integers(1, 2000), st.integers(0, int(DEADLINE) - 1))
def test_poll_waits_are_bounded_by_plan_and_deadline(plan: PollPlan, median: int, age: int) -> None:
    found = next_poll(TASK, plan, median=median, now=after(age))
    assert after(age) < found <= TASK.deadline_at
    assert age < plan.first * median or seconds(found, after(age)) <= plan.longest
    left = seconds(TASK.deadline_at, found)
    assert seconds(found, after(age)) >= plan.shortest or left == 0 or age < plan.first * median


@pytest.mark.parametrize("age", [DEADLINE, DEADLINE + 100])
def test_task_at_its_deadline_is_due_at_once(age: float) -> None:
    assert wait(TASK, EXPECTING, age) == 0


@pytest.mark.parametrize("age", [0, 500, DEADLINE + 1])
def test_task_without_external_id_is_due_at_its_deadline(age: float) -> None:
    unconfirmed = dataclasses.replace(TASK, state=State.UNCONFIRMED, external_id=None, submitted_at=None)
    assert next_poll(unconfirmed, EXPECTING, median=MEDIAN, now=after(age)) == max(TASK.deadline_at, after(age))


def test_first_poll_of_a_dialect_is_made_once() -> None:
    assert wait(TASK, EXPECTING, 0, first_look=8) == 8
    assert wait(TASK, EXPECTING, 8, first_look=8) == 92


@given(st.floats(0, 1e6))
def test_batch_polls_are_aligned_to_steps(offset: float) -> None:
    due = after(offset)
    moved = in_step(due, deadline=after(2e6))
    assert due <= moved < due + dt.timedelta(seconds=STEP)
    assert moved.timestamp() % STEP == pytest.approx(0, abs=1e-5) or moved.timestamp() % STEP == pytest.approx(STEP)


@given(st.floats(0, 100), st.floats(0, 100))
def test_batch_poll_is_not_moved_beyond_the_deadline(offset: float, deadline: float) -> None:
    due, moved = after(offset), in_step(after(offset), deadline=after(deadline))
    assert moved <= after(deadline) if offset <= deadline else moved >= due


@pytest.mark.parametrize("state", sorted(ENDED - {State.EXPIRED}))
def test_task_ended_by_the_provider_is_not_polled(state: State) -> None:
    task = dataclasses.replace(TASK, state=state, decided_by="provider", finished_at=START)
    assert next_poll(task, POLLING, median=MEDIAN, now=after(10)) is None


def test_expired_task_is_polled_for_a_day_at_growing_intervals() -> None:
    looks, now = [], after(DEADLINE)
    while (found := next_poll(EXPIRED, EXPECTING, median=MEDIAN, now=now)) is not None:
        looks.append(seconds(found, now))
        now = found
    assert looks[0] == DEADLINE / 2
    assert looks == sorted(looks)
    assert max(looks) == HOUR
    assert LATE_WATCH - HOUR <= seconds(now, TASK.deadline_at) <= LATE_WATCH
    young = dataclasses.replace(EXPIRED, state=State.CANCELLED)
    assert wait(young, EXPECTING, 10) == EXPECTING.longest


def test_expired_task_without_external_id_is_not_polled() -> None:
    lost = dataclasses.replace(EXPIRED, external_id=None)
    assert next_poll(lost, EXPECTING, median=MEDIAN, now=after(DEADLINE)) is None


@given(st.integers(1, 10), st.floats(0, 1))
def test_submit_retry_uses_full_jitter(tries: int, chance: float) -> None:
    bound = {1: 1.0, 2: 2.0, 3: 4.0}.get(tries, 60.0)
    waited = seconds(retry_submit(tries, retry_after=None, chance=chance, now=START), START)
    assert waited == pytest.approx(bound * chance, abs=1e-5)


@given(st.integers(1, 5), st.floats(0, 1), st.floats(0, 1000))
def test_retry_after_of_an_upstream_is_honoured_up_to_two_minutes(tries: int, chance: float, stated: float) -> None:
    waited = seconds(retry_submit(tries, retry_after=stated, chance=chance, now=START), START)
    assert min(stated, 120) - 1e-5 <= waited <= max(60, min(stated, 120)) + 1e-5


def test_message_has_ten_attempts_over_three_days() -> None:
    planned = [5, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 20 * HOUR, 36 * HOUR]
    assert [seconds(next_delivery(n, chance=0.5, now=START), START) for n in range(10)] == [0, *planned]
    assert next_delivery(10, chance=0.5, now=START) is None


@given(st.integers(1, len(MESSAGE_SCHEDULE) - 1), st.floats(0, 1))
def test_message_retry_varies_by_a_fifth(attempts: int, chance: float) -> None:
    waited = seconds(next_delivery(attempts, chance=chance, now=START), START)
    assert 0.8 - 1e-6 <= waited / MESSAGE_SCHEDULE[attempts] <= 1.2 + 1e-6


def test_message_retry_uses_the_whole_spread() -> None:
    assert [seconds(next_delivery(1, chance=chance, now=START), START) for chance in (0, 1)] == [4.0, 6.0]


def test_failed_callback_is_retried_five_times_then_parked() -> None:
    waits = [retry_inbox(attempts, now=START) for attempts in range(1, 8)]
    assert [seconds(found, START) for found in waits[:5]] == [1, 5, 30, 120, 600]
    assert waits[5:] == [None, None]


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_unknown_id_counts_after_grace_and_confirmation(age: float, since: float) -> None:
    assume(since <= age)
    missing = dataclasses.replace(TASK, missing_since=after(since))
    believed = counts_as_missing(missing, now=after(age))
    # Timestamps have microseconds; the exact borders are not tested.
    assume(abs(age - 300) > 1e-3 and abs(age - since - 60) > 1e-3)
    assert believed == (age > 300 and age - since > 60)
    assert not counts_as_missing(TASK, now=after(age))


# ── lost answers ───────────────────────────────────────────────────────────────────────────────────────────────────

LOST = dataclasses.replace(
    TASK, state=State.UNCONFIRMED, external_id=None, submitted_at=None, unconfirmed_since=START, callback_expected=True
)
lost = st.builds(
    dataclasses.replace,
    st.just(LOST),
    on_uncertain=st.sampled_from(["hold", "fail", "resubmit_once"]),
    callback_expected=st.booleans(),
    cancel_requested_at=st.sampled_from([None, START]),
)


@pytest.mark.parametrize(
    ("callback_expected", "median", "lookup", "expected"),
    [
        (True, 100.0, False, 200.0),  # a callback may come at the end of the job, and jobs take their time
        (True, 10.0, False, 120.0),
        (False, 100.0, True, 120.0),
        (False, 100.0, False, 0.0),
    ],
)
def test_reconciliation_ends_after_callback_or_list_time(
    *, callback_expected: bool, median: float, lookup: bool, expected: float
) -> None:
    task = dataclasses.replace(LOST, callback_expected=callback_expected)
    assert seconds(reconciliation_ends(task, median=median, lookup=lookup), START) == expected


@given(task=lost, lookup=st.booleans(), median=st.floats(1, 2000), age=st.floats(0, 2 * DEADLINE))
def test_next_reconciliation_is_later_unless_policy_or_deadline_is_due(
    task: Task, *, lookup: bool, median: float, age: float
) -> None:
    """Reconciliation never runs in a busy loop. Only the policy or the deadline may be due at once."""
    now = after(age)
    found = next_reconciliation(task, median=median, lookup=lookup, now=now)
    decides = task.on_uncertain != "hold" and now >= reconciliation_ends(task, median=median, lookup=lookup)
    assert now <= found <= max(task.deadline_at, now)
    assert (found == now) == (decides or now >= task.deadline_at)
    assert found == next_poll(task, EXPECTING, median=median, lookup=lookup, now=now)


@given(task=lost, lookup=st.booleans(), median=st.floats(1, 2000))
def test_policy_applies_when_reconciliation_ends(task: Task, *, lookup: bool, median: float) -> None:
    now, looks = START, 0
    ends = reconciliation_ends(task, median=median, lookup=lookup)
    while now < min(ends, task.deadline_at):
        now = next_reconciliation(task, median=median, lookup=lookup, now=now)
        looks += 1
    last = min(ends, task.deadline_at) if task.on_uncertain != "hold" or lookup else task.deadline_at
    assert last <= now <= min(last + dt.timedelta(seconds=EXPECTING.longest), task.deadline_at) or now == START
    assert looks <= (400 if lookup else 1)


def test_job_list_is_polled_at_growing_intervals() -> None:
    now, waits = START, []
    for _ in range(12):
        found = next_reconciliation(LOST, median=MEDIAN, lookup=True, now=now)
        waits.append(seconds(found, now))
        now = found
    assert waits[:4] == [10, 10, 10, 10]
    assert waits == sorted(waits)
    assert waits[-1] < UNCONFIRMED_SHORTEST


@given(back=st.floats(1, 90_000_000), median=st.floats(0.1, 3600))
def test_clock_that_was_set_back_delays_no_poll_beyond_the_plan(back: float, median: float) -> None:
    """A job that was submitted before the jump seems to begin in the future."""
    now = after(-back)
    due = next_poll(TASK, POLLING, median=median, now=now)
    assert POLLING.shortest - 0.001 <= seconds(due, now) <= POLLING.longest + 0.001


@pytest.mark.parametrize(("since", "counts"), [(299, False), (301, True)])
def test_unknown_id_counts_after_the_whole_grace_where_the_clock_was_set_back(since: float, *, counts: bool) -> None:
    missing = dataclasses.replace(TASK, missing_since=after(-86_400 - since))
    assert counts_as_missing(missing, now=after(-86_400)) is counts
