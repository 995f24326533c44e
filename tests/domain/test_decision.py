"""Decisions on changes of a task: the lease, the expected states, the evidence of jobs, and the events."""

import dataclasses
import datetime as dt
from typing import Any
from uuid import UUID

import pytest

from service.domain.changes import (
    CancelRequested,
    Change,
    CheckFailed,
    CheckPostponed,
    Ended,
    InputSending,
    InputSent,
    JobMissing,
    StatusReported,
)
from service.domain.decision import Decided, Facts, decide
from service.domain.evidence import has_no_job
from service.domain.explanation import explain
from service.domain.submission_changes import (
    DatabaseRestored,
    KnownJobAdopted,
    LostJobFound,
    ResubmissionAllowed,
    SubmissionAccepted,
    SubmissionFailed,
    SubmissionInterrupted,
    SubmissionNotSent,
    SubmissionPostponed,
    SubmissionStarted,
    WaitingForUpstream,
)
from service.domain.task import (
    ENDED,
    Failure,
    Outcome,
    Result,
    Source,
    State,
    Submission,
    Task,
    Update,
    WaitingFor,
)

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(seconds=77)
NEXT_POLL = NOW + dt.timedelta(seconds=33)
TASK_ID, FIRST, SECOND = UUID(int=1), UUID(int=2), UUID(int=3)
DONE = Update(state=State.SUCCEEDED, external_id="job-7", results=(Result("video", url="https://x/v.mp4"),))


def task(state: State = State.QUEUED, **more: Any) -> Task:
    fields: dict[str, Any] = {
        "id": TASK_ID,
        "client": "ada",
        "family": "runway",
        "operation": "text_to_video",
        "input": {},
        "state": state,
        "created_at": NOW,
        "updated_at": NOW,
        "deadline_at": NOW + dt.timedelta(hours=1),
        "due_at": NOW,
        "attempts": 4,
        "sequence": 6,
    }
    if state is not State.QUEUED:
        fields |= {"upstream": "elkapi", "dialect": "runway/aggregator", "submission_id": FIRST}
    return Task(**{**fields, **more})


def submission(outcome: Outcome = Outcome.SENDING, **more: Any) -> Submission:
    fields = {"id": FIRST, "task_id": TASK_ID, "upstream": "elkapi", "dialect": "runway/aggregator", "sent_at": NOW}
    settled = None if outcome is Outcome.SENDING else NOW
    return Submission(**{**fields, "outcome": outcome, "settled_at": settled, **more})


def refused(**more: Any) -> Task:
    """Return a task that ended because its only submission was refused."""
    ended = {"decided_by": "provider", "outcome_source": Source.SUBMIT, "finished_at": NOW, "due_at": None}
    return task(State.FAILED, failure=Failure("invalid_input"), **{**ended, **more})


def on(before: Task, change: Change, *known: Submission) -> Decided:
    facts = Facts(submissions={each.id: each for each in known}, next_check=lambda _: NEXT_POLL)
    return decide(before, change, facts, now=NOW)


def reported(update: Update, proven: Submission, source: Source = Source.CALLBACK) -> StatusReported:
    return StatusReported(task_id=TASK_ID, source=source, update=update, submission=proven)


# ── leases and schedules ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        SubmissionStarted(
            task_id=TASK_ID, attempt=3, submission=submission(), callback_expected=True, lease_until=LATER
        ),
        SubmissionPostponed(task_id=TASK_ID, attempt=3, until=LATER),
        WaitingForUpstream(task_id=TASK_ID, attempt=3, waits_for=WaitingFor("elkapi"), reason="full", retry_at=LATER),
        KnownJobAdopted(task_id=TASK_ID, attempt=3, submission=submission(Outcome.TAKEN, external_id="job-7")),
        SubmissionInterrupted(task_id=TASK_ID, attempt=3, submission=None),
    ],
    ids=lambda change: type(change).__name__,
)
def test_change_of_lost_claim_is_dropped(change: Change) -> None:
    before = task()
    assert on(before, change) == Decided(decision="stale", task=before)


def test_report_of_lost_claim_counts_and_keeps_the_schedule() -> None:
    before = task(State.RUNNING, external_id="job-7")
    change = StatusReported(task_id=TASK_ID, attempt=3, source=Source.POLL, update=Update(progress=40))
    decided = on(before, change)
    assert (decided.task.progress, decided.task.due_at) == (40, NOW)


@pytest.mark.parametrize(
    ("change", "due_at"),
    [
        (CheckPostponed(task_id=TASK_ID, attempt=4, until=LATER), LATER),
        (CheckPostponed(task_id=TASK_ID, attempt=4), NEXT_POLL),
        (CheckPostponed(task_id=TASK_ID, attempt=3, until=LATER), NOW),
        (CheckFailed(task_id=TASK_ID, attempt=4, error="x", not_before=LATER), LATER),
        (CheckFailed(task_id=TASK_ID, attempt=4, error="x", not_before=NOW), NEXT_POLL),
        (JobMissing(task_id=TASK_ID, attempt=4, since=NOW, error="x"), NEXT_POLL),
    ],
    ids=["postponed", "by its schedule", "lost claim", "pause asked for", "short pause asked for", "missing"],
)
def test_next_poll_follows_the_change(change: Change, due_at: dt.datetime) -> None:
    decided = on(task(State.RUNNING, external_id="job-7"), change)
    assert (decided.task.due_at, decided.event) == (due_at, None)


def test_provider_outcome_ends_the_schedule() -> None:
    decided = on(task(State.RUNNING, external_id="job-7"), reported(DONE, submission(Outcome.TAKEN)))
    assert (decided.task.state, decided.task.due_at) == (State.SUCCEEDED, None)


# ── expected states ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (
            task(State.RUNNING, external_id="job-7"),
            SubmissionFailed(task_id=TASK_ID, submission=submission(Outcome.UNAVAILABLE), state=State.QUEUED),
        ),
        (
            task(State.RUNNING, external_id="job-7"),
            ResubmissionAllowed(
                task_id=TASK_ID,
                submission=submission(Outcome.UNCERTAIN, superseded_at=NOW),
                at=NOW,
                source=Source.CLIENT,
                event_type="retried",
            ),
        ),
        (task(State.RUNNING), DatabaseRestored(task_id=TASK_ID, submission=submission(Outcome.UNCERTAIN))),
        (task(State.RUNNING), InputSending(task_id=TASK_ID, at=NOW, names=("prompt",))),
        (
            task(State.SUBMITTED),
            Ended(
                task_id=TASK_ID,
                state=State.CANCELLED,
                failure=Failure("cancelled"),
                expects=frozenset({State.QUEUED}),
            ),
        ),
    ],
    ids=["failure", "resubmission", "restore", "input", "cancel while queued"],
)
def test_change_in_an_unexpected_state_changes_nothing(before: Task, change: Change) -> None:
    decided = on(before, change)
    assert decided.task == before
    assert (decided.event, decided.settles, decided.begins) == (None, None, None)


# ── evidence ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.ACCOUNT, Outcome.UNAVAILABLE])
def test_success_of_a_refused_submission_is_delivered(outcome: Outcome) -> None:
    denied = submission(outcome)
    decided = on(refused(), reported(DONE, denied), denied)
    after = decided.task
    assert (after.state, after.decided_by, after.failure) == (State.SUCCEEDED, "provider", None)
    assert (after.results, after.external_id, after.submission_id) == (DONE.results, "job-7", FIRST)
    assert decided.event is not None
    assert (decided.event.type, decided.event.message) == ("late_result", "task.late_result")
    assert decided.settles is not None
    assert (decided.settles.outcome, decided.supersedes_others) == (Outcome.TAKEN, True)


@pytest.mark.parametrize("state", [State.SUBMITTED, State.RUNNING, None])
def test_running_job_of_a_refused_submission_is_polled_until_it_succeeds(state: State | None) -> None:
    denied = submission(Outcome.REFUSED)
    decided = on(refused(), reported(Update(state=state, external_id="job-7"), denied), denied)
    after = decided.task
    assert (after.state, after.decided_by, after.external_id) == (State.FAILED, "dovecote", "job-7")
    assert after.due_at == NEXT_POLL
    assert decided.event is not None
    assert (decided.event.type, decided.event.message) == ("job_found", None)
    success = on(after, StatusReported(task_id=TASK_ID, source=Source.POLL, update=DONE))
    assert (success.task.state, success.task.results) == (State.SUCCEEDED, DONE.results)


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_failed_job_of_a_refused_submission_is_recorded_and_changes_nothing(state: State) -> None:
    denied = submission(Outcome.REFUSED)
    failed = Update(state=state, external_id="job-7", failure=Failure("provider_error"))
    decided = on(refused(), reported(failed, denied), denied)
    assert (decided.task.state, decided.task.failure) == (State.FAILED, Failure("invalid_input"))
    assert decided.settles is not None
    assert (decided.settles.outcome, decided.settles.job_state) == (Outcome.TAKEN, str(state))


def test_success_beside_a_serving_job_is_a_duplicate() -> None:
    before = task(State.RUNNING, external_id="job-8", submission_id=SECOND)
    denied = submission(Outcome.REFUSED)
    decided = on(before, reported(DONE, denied), denied)
    assert (decided.task.state, decided.task.external_id) == (State.RUNNING, "job-8")
    assert decided.event is not None
    assert decided.event.type == "duplicate_job"
    assert decided.settles is not None
    assert decided.settles.job_state == "succeeded"


def test_provider_verdict_on_a_job_is_not_reopened() -> None:
    before = refused(outcome_source=Source.CALLBACK, external_id="job-8", submission_id=SECOND)
    assert not has_no_job(before)
    decided = on(before, reported(DONE, submission(Outcome.REFUSED)))
    assert decided.task.state is State.FAILED


def test_answer_names_the_id_that_can_be_polled() -> None:
    proven = submission(Outcome.TAKEN, external_id="vendor-1")
    before = task(State.SUBMITTED, external_id="vendor-1")
    answer = SubmissionAccepted(task_id=TASK_ID, attempt=4, submission=proven, update=Update(external_id="job-7"))
    decided = on(before, answer, proven)
    assert (decided.task.external_id, decided.answered) == ("job-7", True)


def test_job_found_in_list_serves_the_unconfirmed_task() -> None:
    lost = submission(Outcome.UNCERTAIN)
    before = task(State.UNCONFIRMED, unconfirmed_since=NOW)
    decided = on(before, LostJobFound(task_id=TASK_ID, attempt=4, submission=lost, external_id="job-7"), lost)
    assert (decided.task.state, decided.task.external_id) == (State.SUBMITTED, "job-7")
    assert decided.task.unconfirmed_since is None
    assert decided.event is not None
    assert decided.event.type == "found_in_list"


# ── submissions that were not sent, and restored databases ─────────────────────────────────────────────────────────


def not_sent(*, paid_before: bool = False) -> SubmissionNotSent:
    settled = submission(Outcome.UNAVAILABLE, message="not sent in time")
    return SubmissionNotSent(task_id=TASK_ID, attempt=4, submission=settled, paid_before=paid_before, retry_at=NOW)


@pytest.mark.parametrize("state", [State.SUBMITTING, State.UNCONFIRMED])
@pytest.mark.parametrize("paid_before", [False, True])
def test_unsent_submission_queues_its_task_again(state: State, *, paid_before: bool) -> None:
    """This also holds where another process has concluded that it may have been sent."""
    decided = on(task(state, unconfirmed_since=LATER, attempts=9), not_sent(paid_before=paid_before))
    assert (decided.task.state, decided.task.due_at) == (State.QUEUED, NOW)
    assert (decided.task.unconfirmed_since is not None) == paid_before
    assert decided.settles is not None
    assert (decided.settles.outcome, decided.certain) == (Outcome.UNAVAILABLE, True)


@pytest.mark.parametrize(
    "before",
    [
        task(State.FAILED, decided_by="dovecote", finished_at=NOW, failure=Failure("unknown")),
        task(State.SUBMITTING, submission_id=SECOND),
        task(State.UNCONFIRMED, submission_id=SECOND),
        task(State.QUEUED, submission_id=FIRST),
        task(State.RUNNING, submission_id=SECOND, external_id="job-8"),
    ],
    ids=["given up", "submitted again", "submitted again and unconfirmed", "queued again", "served by another"],
)
def test_unsent_submission_is_settled_and_leaves_a_task_that_went_on(before: Task) -> None:
    decided = on(before, not_sent())
    assert dataclasses.replace(decided.task, due_at=before.due_at) == before
    assert decided.settles is not None
    assert (decided.settles.outcome, decided.certain) == (Outcome.UNAVAILABLE, True)


@pytest.mark.parametrize("state", [State.QUEUED, State.SUBMITTING])
def test_restored_task_may_have_been_submitted(state: State) -> None:
    decided = on(task(state, waits_for=WaitingFor("elkapi")), DatabaseRestored(task_id=TASK_ID))
    assert (decided.task.state, decided.task.unconfirmed_since) == (State.UNCONFIRMED, NOW)
    assert (decided.task.waits_for, decided.task.due_at) == (None, NEXT_POLL)
    assert decided.event is not None
    assert decided.event.type == "restored"


@pytest.mark.parametrize("was_unconfirmed", [False, True])
def test_restored_task_loses_a_resubmission_that_may_have_been_used(*, was_unconfirmed: bool) -> None:
    before = task(State.UNCONFIRMED if was_unconfirmed else State.QUEUED, on_uncertain="resubmit_once")
    after = on(before, DatabaseRestored(task_id=TASK_ID, was_unconfirmed=was_unconfirmed)).task
    assert after.state is State.UNCONFIRMED
    assert after.on_uncertain == ("hold" if was_unconfirmed else "resubmit_once")


@pytest.mark.parametrize("source", [Source.POLL, Source.CALLBACK])
def test_unknown_status_word_is_named_until_the_next_known_one(source: Source) -> None:
    before = task(State.RUNNING, external_id="job-7")
    word = StatusReported(task_id=TASK_ID, source=source, update=Update(unknown_word="WEIRD" * 100))
    decided = on(before, word)
    assert (decided.task.state, decided.unknown_word) == (State.RUNNING, "WEIRD" * 100)
    assert "WEIRDWEIRD" in str(decided.task.last_error)
    assert len(str(decided.task.last_error)) < 200
    assert "WEIRDWEIRD" in explain(decided.task, now=NOW)
    known = StatusReported(task_id=TASK_ID, source=source, update=Update(state=State.RUNNING, progress=50))
    assert on(decided.task, known).task.last_error is None


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_repeated_wait_for_the_same_writes_no_event() -> None:
    waiting = WaitingForUpstream(
        task_id=TASK_ID, attempt=4, waits_for=WaitingFor("elkapi"), reason="full", retry_at=LATER
    )
    first = on(task(), waiting)
    assert first.event is not None
    assert (first.event.type, first.event.message) == ("waiting", None)
    assert (first.task.waits_for, first.task.due_at) == (WaitingFor("elkapi"), LATER)
    assert on(first.task, dataclasses.replace(waiting, waited_already=True)).event is None


def test_only_the_first_request_to_cancel_is_noted() -> None:
    first = on(task(State.RUNNING), CancelRequested(task_id=TASK_ID, at=NOW))
    assert first.task.cancel_requested_at == NOW
    assert first.event is not None
    assert first.event.data["cancel_requested_at"] == "2026-03-01T00:00:00.000Z"
    again = on(first.task, CancelRequested(task_id=TASK_ID, at=LATER, repeated=True))
    assert (again.task, again.event) == (first.task, None)


@pytest.mark.parametrize("state", sorted(ENDED))
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(CancelRequested(task_id=TASK_ID, at=LATER), id="request to cancel"),
        pytest.param(InputSent(task_id=TASK_ID, error="elkapi: busy", still_awaited=True), id="input not taken"),
        pytest.param(InputSent(task_id=TASK_ID, update=Update(state=State.SUBMITTED)), id="input taken"),
        pytest.param(InputSent(task_id=TASK_ID, error="elkapi: no answer"), id="input without an answer"),
    ],
)
def test_act_of_a_client_that_meets_the_end_of_its_task_changes_nothing(state: State, change: Change) -> None:
    before = task(state, decided_by="provider", due_at=None)
    decided = on(before, change)
    assert (decided.task, decided.event) == (before, None)


def test_input_that_is_not_taken_is_still_awaited() -> None:
    sent = on(task(State.AWAITING_INPUT), InputSending(task_id=TASK_ID, at=NOW, names=("prompt",))).task
    assert (sent.state, sent.answered_at) == (State.SUBMITTED, NOW)
    before = dataclasses.replace(sent, state=State.RUNNING)
    decided = on(before, InputSent(task_id=TASK_ID, error="elkapi: busy", still_awaited=True))
    assert (decided.task.state, decided.task.answered_at) == (State.AWAITING_INPUT, None)


WITH_CONTROL = dataclasses.replace(
    DONE,
    results=(*DONE.results, Result("text", text="a\x00b", item="\udcff"), Result("image", url="https://x/\x00.png")),
)


@pytest.mark.parametrize(
    "change",
    [
        StatusReported(task_id=TASK_ID, source=Source.POLL, update=WITH_CONTROL),
        SubmissionAccepted(task_id=TASK_ID, submission=submission(), update=WITH_CONTROL),
        InputSent(task_id=TASK_ID, update=WITH_CONTROL),
    ],
    ids=lambda change: type(change).__name__,
)
def test_essential_change_keeps_state_id_and_storable_results(change: Any) -> None:
    kept = change.essential().update
    assert (kept.state, kept.external_id) == (State.SUCCEEDED, "job-7")
    assert kept.results == (*DONE.results, Result("text", text="ab", item="\ufffd"))


def test_essential_failure_keeps_outcome_and_code() -> None:
    failed = SubmissionFailed(
        task_id=TASK_ID,
        submission=submission(Outcome.REFUSED, code="invalid_input", message="\x00"),
        state=State.FAILED,
        error="\x00",
        failure=Failure("invalid_input", "\x00"),
        message="\x00",
    ).essential()
    assert (failed.submission.outcome, failed.submission.message) == (Outcome.REFUSED, None)
    assert (failed.failure, failed.error, failed.message) == (Failure("invalid_input"), None, None)


# ── the expiry of results ───────────────────────────────────────────────────────────────────────────────────────────

DAY = 86400.0


def polled(before: Task, update: Update, *, lifetime: float | None = DAY, now: dt.datetime = LATER) -> Task:
    facts = Facts(submissions={}, next_check=lambda _: NEXT_POLL, result_lifetime=lambda _: lifetime)
    change = StatusReported(task_id=TASK_ID, source=Source.POLL, update=update)
    return decide(before, change, facts, now=now).task


def running() -> Task:
    return task(State.RUNNING, external_id="job-7")


def test_new_result_expires_after_the_lifetime_of_the_dialect() -> None:
    [result] = polled(running(), DONE).results
    assert result.expires_at == LATER + dt.timedelta(days=1)


@pytest.mark.parametrize(
    "result",
    [Result("text", text="words"), Result("image", url="data:image/png;base64,AA==")],
    ids=["text", "data URL"],
)
def test_result_that_is_in_the_task_itself_does_not_expire(result: Result) -> None:
    assert polled(running(), dataclasses.replace(DONE, results=(result,))).results == (result,)


def test_result_of_an_unknown_lifetime_has_no_expiry() -> None:
    assert polled(running(), DONE, lifetime=None).results == DONE.results


def test_expiry_that_the_provider_states_is_kept() -> None:
    stated = dataclasses.replace(DONE.results[0], expires_at=NOW + dt.timedelta(minutes=10))
    assert polled(running(), dataclasses.replace(DONE, results=(stated,))).results == (stated,)


@pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED])
def test_repeated_result_keeps_its_first_expiry_and_changes_nothing(state: State) -> None:
    first = polled(running(), dataclasses.replace(DONE, state=state))
    again = polled(first, dataclasses.replace(DONE, state=state), now=LATER + dt.timedelta(hours=5))
    assert again.results == first.results
    assert again.sequence == first.sequence


def test_fresh_url_gets_an_expiry_of_its_own() -> None:
    first = polled(running(), dataclasses.replace(DONE, state=State.RUNNING))
    fresh = dataclasses.replace(DONE, results=(Result("video", url="https://x/v.mp4?fresh"),))
    [result] = polled(first, fresh, now=LATER + dt.timedelta(hours=5)).results
    assert result.expires_at == LATER + dt.timedelta(hours=29)


def test_result_that_was_known_without_an_expiry_gets_none_later() -> None:
    known, new = DONE.results[0], Result("image", url="https://x/cover.png", role="cover")
    before = dataclasses.replace(running(), results=(known,))
    after = polled(before, dataclasses.replace(DONE, results=(known, new)))
    assert [result.expires_at for result in after.results] == [None, LATER + dt.timedelta(days=1)]
