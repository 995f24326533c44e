"""Transitions of a task: each row of the table, and the guarantees of `advance` as properties."""

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.task import ENDED, Failure, Result, Source, State, Task, Update
from service.domain.transitions import ANSWER_GRACE, MOVES, advance

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
PROVIDER = (Source.SUBMIT, Source.CALLBACK, Source.POLL)
OURS = (Source.SWEEP, Source.CLIENT)
OURS_TO_SAY = (State.QUEUED, State.SUBMITTING, State.UNCONFIRMED, State.EXPIRED)
"""The states that no provider can report. Its own queue is `submitted`."""

RANK = {
    State.QUEUED: 0,
    State.SUBMITTING: 1,
    State.UNCONFIRMED: 2,
    State.SUBMITTED: 3,
    State.RUNNING: 4,
    State.AWAITING_INPUT: 4,
    **dict.fromkeys(ENDED, 5),
}
"""The order of DESIGN's picture, written down apart from the table of moves."""

QUEUED = Task(
    id=UUID(int=1),
    client="default",
    family="runway",
    operation="text_to_video",
    input={},
    created_at=START,
    updated_at=START,
    deadline_at=START + dt.timedelta(hours=1),
    due_at=START,
)
VIDEO = Result("video", url="https://example.com/a.mp4")
COVER = Result("image", url="https://example.com/a.png", role="cover")
PREVIEW = Result("image", url="https://example.com/0.png", role="preview")


def in_state(state: State, *, decided_by: str | None = None, **more: object) -> Task:
    """Return a task in a state. The provider has ended it unless the test changes that."""
    judge = decided_by or ("dovecote" if state is State.EXPIRED else "provider")
    ended = {"finished_at": START, "decided_by": judge} if state in ENDED else {}
    failure = Failure("provider_error") if state is State.FAILED else None
    return dataclasses.replace(QUEUED, state=state, failure=failure, **ended, **more)


def reported(task: Task, update: Update, source: Source = Source.POLL, *, later: float = 1.0) -> Task:
    return advance(task, update, now=START + dt.timedelta(seconds=later), source=source) or task


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", list(State))
@pytest.mark.parametrize("before", [state for state in State if state not in ENDED])
def test_open_task_makes_exactly_the_allowed_moves(before: State, after: State) -> None:
    source = Source.SUBMIT if after in OURS_TO_SAY else Source.POLL
    source = Source.SWEEP if (before, after) == (State.UNCONFIRMED, State.QUEUED) else source
    moved = reported(in_state(before), Update(state=after), source)
    needs_an_answer = before is State.AWAITING_INPUT and after is State.SUBMITTED
    allowed = after in MOVES[before] and not needs_an_answer
    assert moved.state is (after if allowed else before)


@pytest.mark.parametrize("source", [Source.SUBMIT, Source.CALLBACK, Source.POLL])
def test_unconfirmed_task_is_not_requeued_by_an_answer(source: Source) -> None:
    task = in_state(State.UNCONFIRMED)
    assert reported(task, Update(state=State.QUEUED), source) == task


@pytest.mark.parametrize("after", list(State))
@pytest.mark.parametrize("before", sorted(ENDED))
def test_outcome_of_the_provider_is_final(before: State, after: State) -> None:
    task = in_state(before, decided_by="provider")
    for source in Source:
        moved = reported(task, Update(state=after, progress=3, results=(VIDEO,), failure=Failure("unknown")), source)
        assert (moved.state, moved.decided_by, moved.finished_at) == (before, "provider", START)
        assert after is before or moved == task


@pytest.mark.parametrize("after", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
@pytest.mark.parametrize("before", [State.EXPIRED, State.CANCELLED, State.FAILED])
def test_own_outcome_gives_way_to_the_provider_only(before: State, after: State) -> None:
    task = in_state(before, decided_by="dovecote")
    for source in OURS:
        assert reported(task, Update(state=after), source) == task
    for source in PROVIDER:
        moved = reported(task, Update(state=after, results=(VIDEO,)), source)
        assert (moved.state, moved.decided_by, moved.outcome_source) == (after, "provider", source)
        assert moved.results == (VIDEO,)


@pytest.mark.parametrize("after", [state for state in State if state not in ENDED])
@pytest.mark.parametrize("before", [State.EXPIRED, State.CANCELLED, State.FAILED])
def test_own_outcome_never_returns_to_an_open_state(before: State, after: State) -> None:
    answered = START - dt.timedelta(seconds=ANSWER_GRACE * 2)
    for task in (
        in_state(before, decided_by="dovecote"),
        in_state(before, decided_by="dovecote", answered_at=answered),
    ):
        assert all(reported(task, Update(state=after), source).state is before for source in Source)


@pytest.mark.parametrize("said", OURS_TO_SAY)
@pytest.mark.parametrize("source", [Source.CALLBACK, Source.POLL])
@pytest.mark.parametrize("before", list(State))
def test_provider_cannot_set_states_of_dovecote(before: State, source: Source, said: State) -> None:
    """A submitted task that became `queued` again would be paid twice."""
    assert reported(in_state(before), Update(state=said), source).state is before


@pytest.mark.parametrize("answered", [None, 10.0, ANSWER_GRACE + 10])
def test_repeated_input_request_is_ignored_during_grace(answered: float | None) -> None:
    answered_at = None if answered is None else START - dt.timedelta(seconds=answered)
    task = in_state(State.RUNNING, answered_at=answered_at)
    moved = reported(task, Update(state=State.AWAITING_INPUT), later=0)
    assert moved.state is (State.RUNNING if answered == 10 else State.AWAITING_INPUT)


@pytest.mark.parametrize(
    ("update", "failure"),
    [
        (Update(state=State.FAILED), Failure("unknown")),
        (Update(state=State.FAILED, failure=Failure("content_policy", "no")), Failure("content_policy", "no")),
        (Update(state=State.SUCCEEDED, failure=Failure("unknown")), None),
    ],
)
def test_failed_task_has_a_failure_and_succeeded_task_has_none(update: Update, failure: Failure | None) -> None:
    task = reported(in_state(State.RUNNING, progress=40), update)
    assert task.failure == failure
    assert task.progress == (100 if update.state is State.SUCCEEDED else 40)
    assert (task.finished_at, task.outcome_source) == (START + dt.timedelta(seconds=1), Source.POLL)


def test_final_task_gains_missing_fields_from_later_messages() -> None:
    bare = reported(in_state(State.RUNNING), Update(state=State.SUCCEEDED))
    full = reported(bare, Update(state=State.SUCCEEDED, results=(VIDEO,), external_id="7", cost=5.0), Source.CALLBACK)
    assert (full.results, full.external_id, full.cost) == ((VIDEO,), "7", 5.0)
    assert (full.outcome_source, full.finished_at) == (bare.outcome_source, bare.finished_at)
    failed = reported(in_state(State.RUNNING), Update(state=State.FAILED))
    reason = Failure("content_policy", "no such thing")
    assert reported(failed, Update(state=State.FAILED, failure=reason)).failure == reason
    assert (
        reported(reported(failed, Update(state=State.FAILED, failure=reason)), Update(state=State.FAILED)).failure
        == reason
    )


def test_unknown_status_and_full_progress_do_not_end_a_task() -> None:
    task = in_state(State.RUNNING, progress=10)
    assert advance(task, Update(unknown_word="weird"), now=START, source=Source.POLL) is None
    assert reported(task, Update(progress=100)).state is State.RUNNING


# ── the properties ─────────────────────────────────────────────────────────────────────────────────────────────────

results = st.sampled_from([(), (VIDEO,), (VIDEO, COVER), (PREVIEW,)])
updates = st.builds(
    Update,
    state=st.none() | st.sampled_from(State),
    external_id=st.none() | st.sampled_from(["job-1", "job-2"]),
    progress=st.none() | st.integers(0, 100),
    results=results,
    failure=st.none() | st.just(Failure("provider_error", "broken")),
    cost=st.none() | st.just(5.0),
)
messages = st.tuples(updates, st.sampled_from(Source))
histories = st.lists(messages, max_size=8)
beginnings = st.builds(
    in_state,
    st.sampled_from([state for state in State if state not in ENDED]),
    answered_at=st.sampled_from([None, START, START - dt.timedelta(seconds=ANSWER_GRACE * 2)]),
)


def after_all(task: Task, history: Sequence[tuple[Update, Source]]) -> list[Task]:
    """Return every value that a task takes while the updates are applied."""
    values = [task]
    for seconds, (update, source) in enumerate(history):
        values.append(reported(values[-1], update, source, later=seconds))
    return values


@given(beginnings, histories)
def test_state_and_progress_never_go_backward(begins: Task, history: list[tuple[Update, Source]]) -> None:
    values = after_all(begins, history)
    for (before, after), (_, source) in zip(itertools.pairwise(values), history, strict=True):
        put_back = State.UNCONFIRMED if source in OURS else State.SUBMITTING
        given_back = before.state in {State.SUBMITTING, put_back} and after.state is State.QUEUED
        answered = (before.state, after.state) == (State.AWAITING_INPUT, State.SUBMITTED) and begins.answered_at
        assert RANK[after.state] >= RANK[before.state] or given_back or answered
        assert (after.progress or 0) >= (before.progress or 0)
        assert len([each for each in after.results if each != PREVIEW]) >= len(
            [each for each in before.results if each != PREVIEW]
        )
        assert not before.external_id or after.external_id  # the answer to the submit may still name the job
        assert before.decided_by != "provider" or (after.state, after.decided_by) == (before.state, "provider")


@given(beginnings, histories)
def test_every_reachable_task_satisfies_the_schema_checks(begins: Task, history: list[tuple[Update, Source]]) -> None:
    for task in after_all(begins, history):
        assert (task.state in ENDED) == (task.finished_at is not None) == (task.decided_by is not None)
        assert (task.state in ENDED) == (task.outcome_source is not None)
        assert task.state is not State.FAILED or task.failure is not None
        assert task.state is not State.SUCCEEDED or (task.failure, task.progress) == (None, 100)


@given(beginnings, histories, messages)
def test_repeated_update_changes_nothing(
    begins: Task, history: list[tuple[Update, Source]], message: tuple[Update, Source]
) -> None:
    update, source = message
    once = reported(after_all(begins, history)[-1], update, source)
    assert advance(once, update, now=START + dt.timedelta(seconds=1), source=source) is None


@given(beginnings, histories, messages)
def test_update_without_state_never_moves_a_task(
    begins: Task, history: list[tuple[Update, Source]], message: tuple[Update, Source]
) -> None:
    task = after_all(begins, history)[-1]
    update, source = message
    assert reported(task, dataclasses.replace(update, state=None, unknown_word="weird"), source).state is task.state


ENDINGS = {
    State.SUCCEEDED: Update(state=State.SUCCEEDED, external_id="job-1", results=(VIDEO, COVER), cost=5.0),
    State.FAILED: Update(state=State.FAILED, external_id="job-1", failure=Failure("content_policy", "no")),
    State.CANCELLED: Update(state=State.CANCELLED, external_id="job-1", failure=Failure("cancelled", "gone")),
}
BARE = {"results": (), "failure": None, "cost": None, "external_id": None}


@st.composite
def stories(draw: st.DrawFn) -> tuple[State, list[tuple[Update, Source]]]:
    """Draw the updates of one job by callbacks and polls: repeated, out of order, and with missing fields."""
    end = draw(st.sampled_from(sorted(ENDINGS)))
    steps = sorted(draw(st.lists(st.integers(0, 99), max_size=3)))
    said = [Update(state=State.SUBMITTED, external_id="job-1")]
    said += [Update(state=State.RUNNING, progress=step, results=(PREVIEW,)) for step in steps]
    said += [ENDINGS[end], dataclasses.replace(ENDINGS[end], **BARE)]
    copies = draw(st.lists(st.sampled_from(said), max_size=4))
    sources = st.sampled_from([Source.CALLBACK, Source.POLL])
    heard = [(update, draw(sources)) for update in [*said, *copies]]
    if draw(st.booleans()):
        heard.append((Update(state=State.EXPIRED, failure=Failure("provider_timeout")), Source.SWEEP))
    if draw(st.booleans()):
        heard.append((Update(state=State.CANCELLED, failure=Failure("cancelled")), Source.CLIENT))
    return end, draw(st.permutations(heard))


@given(stories(), st.sampled_from([State.SUBMITTING, State.UNCONFIRMED, State.SUBMITTED]))
@example((State.FAILED, [(dataclasses.replace(ENDINGS[State.FAILED], **BARE), Source.POLL)]), State.SUBMITTED)
def test_final_state_is_independent_of_message_order(
    story: tuple[State, list[tuple[Update, Source]]], begins: State
) -> None:
    end, history = story
    values = after_all(in_state(begins), history)
    outputs = {each for each in values[-1].results if each != PREVIEW}
    if (ENDINGS[end], Source.POLL) in history or (ENDINGS[end], Source.CALLBACK) in history:
        assert outputs == set(ENDINGS[end].results)
        assert values[-1].failure == ENDINGS[end].failure
    assert (values[-1].state, values[-1].decided_by) == (end, "provider")
    verdicts = [1 for one, two in itertools.pairwise(values) if one.decided_by != two.decided_by == "provider"]
    assert len(verdicts) == 1


# ── bought again ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("source", list(Source))
def test_unconfirmed_task_is_requeued_by_policy_or_admin_only(source: Source) -> None:
    """No callback and no poll leads to a second purchase. Only a policy or an operator does."""
    since = START - dt.timedelta(seconds=5)
    task = in_state(State.UNCONFIRMED, unconfirmed_since=since)
    again = reported(task, Update(state=State.QUEUED), source)
    assert again.state is (State.QUEUED if source in OURS else State.UNCONFIRMED)
    assert again.unconfirmed_since == since, "it is not forgotten that it may be paid twice"
    assert reported(again, Update(state=State.RUNNING), Source.CALLBACK).unconfirmed_since is None
