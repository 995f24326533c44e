"""The explanation of a task in one sentence. It is true in every state, names reasons, and contains no secret."""

import dataclasses
import datetime as dt
import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.explanation import explain
from service.domain.task import ENDED, Failure, Source, State, Task, WaitingFor

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
SECRET = "hunter2"
TASK = Task(
    id=UUID(int=1),
    client=f"client-{SECRET}",
    family="runway",
    operation="text_to_video",
    input={"prompt": SECRET, "image": f"https://example.com/?key={SECRET}"},
    options={"token": SECRET},
    labels={"note": SECRET},
    callback_url=f"https://client.example/{SECRET}",
    idempotency_key=SECRET,
    request_hash=SECRET,
    upstream="elkapi",
    external_id="job-7",
    created_at=NOW,
    updated_at=NOW,
    deadline_at=NOW + dt.timedelta(hours=1),
    due_at=NOW + dt.timedelta(seconds=42),
)


def say(state: State, **more: object) -> str:
    ended = {"finished_at": NOW, "decided_by": "provider", "outcome_source": Source.POLL} if state in ENDED else {}
    return explain(dataclasses.replace(TASK, state=state, **{**ended, **more}), now=NOW)


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        (say(State.QUEUED), ["Waiting to be submitted; the submit is due within 42 s", "Nothing has been paid"]),
        (
            say(State.QUEUED, last_error="elkapi: no channel"),
            ["within 42 s", "elkapi: no channel", "Nothing has been paid"],
        ),
        (say(State.SUBMITTING), ["Being submitted to elkapi."]),
        (
            say(State.UNCONFIRMED, last_error="elkapi: reset", callback_expected=True),
            [
                "elkapi",
                "elkapi: reset",
                "may be running and paid",
                "not submitted again",
                "a callback can settle it",
                "expires at 2026-03-01 01:00:00 UTC",
            ],
        ),
        (say(State.UNCONFIRMED), ["elkapi", "the next search for the job is due within 42 s"]),
        (say(State.UNCONFIRMED, due_at=TASK.deadline_at), ["elkapi", "no way to look it up"]),
        (say(State.SUBMITTED), ["elkapi has it in its queue", "the next poll is due within 42 s"]),
        (say(State.SUBMITTED, due_at=NOW), ["the next poll has been due since 2026-03-01 00:00:00 UTC"]),
        (say(State.RUNNING, progress=40, callback_expected=True), ["elkapi", "40 %", "callback may come"]),
        (say(State.RUNNING, last_error="elkapi: HTTP 502"), ["last problem: elkapi: HTTP 502"]),
        (
            say(State.AWAITING_INPUT),
            ["elkapi waits for your input; without it the task expires at 2026-03-01 01:00:00 UTC", "next poll"],
        ),
        (
            say(State.QUEUED, upstream=None, waits_for=WaitingFor("elkapi"), last_error="it may be given 2 at once"),
            [
                "Waiting for a slot at elkapi: it may be given 2 at once; the next attempt is due within 42 s",
                "expires at 2026-03-01 01:00:00 UTC",
                "Nothing has been paid",
            ],
        ),
        (say(State.SUBMITTED, due_at=NOW + dt.timedelta(seconds=120)), ["within 120 s"]),
        (say(State.SUBMITTED, due_at=NOW + dt.timedelta(seconds=121)), ["within 3 min"]),
        (say(State.SUBMITTED, due_at=NOW + dt.timedelta(seconds=7201)), ["within 3 h"]),
        (say(State.RUNNING, cancel_requested_at=NOW), ["requested to cancel", "no report has confirmed", "next poll"]),
        (say(State.SUBMITTING, cancel_requested_at=NOW), ["requested to cancel", "once its answer has come"]),
        (say(State.UNCONFIRMED, cancel_requested_at=NOW), ["a job that is found is cancelled", "may be running"]),
        (
            say(State.FAILED, failure=Failure("insufficient_credit", "用户额度不足")),
            ["Failed at elkapi: its account has not enough credit: 用户额度不足 (found by a poll)."],
        ),
        (say(State.FAILED, failure=Failure("unauthorized")), ["Failed at elkapi: it refuses the API key (found"]),
        (
            say(
                State.FAILED,
                upstream=None,
                decided_by="dovecote",
                failure=Failure("unauthorized", "none of elkapi is configured any more"),
            ),
            ["Failed: none of elkapi is configured any more ("],
        ),
        (say(State.SUCCEEDED), ["Succeeded at elkapi", "found by a poll"]),
        (say(State.SUCCEEDED, outcome_source=Source.CALLBACK), ["reported by a callback"]),
        (
            say(State.FAILED, failure=Failure("content_policy")),
            ["Failed at elkapi", "content_policy", "found by a poll"],
        ),
        (say(State.FAILED, failure=Failure("provider_error", "no frames")), ["no frames"]),
        (
            say(State.CANCELLED, failure=Failure("cancelled", "by the provider")),
            ["Cancelled at elkapi", "by the provider"],
        ),
        (
            say(
                State.CANCELLED,
                decided_by="dovecote",
                outcome_source=Source.CLIENT,
                failure=Failure("cancelled", "it runs on"),
            ),
            ["Cancelled by the client", "it runs on"],
        ),
        (
            say(
                State.EXPIRED,
                decided_by="dovecote",
                outcome_source=Source.SWEEP,
                failure=Failure("provider_timeout", "no result"),
            ),
            ["deadline", "no result", "if elkapi still delivers a result"],
        ),
    ],
)
def test_explanation_contains_upstream_reason_and_next_step(sentence: str, parts: list[str]) -> None:
    assert [part for part in parts if part not in sentence] == []


def test_lost_job_is_not_explained_as_late() -> None:
    lost = Failure("not_found", "elkapi does not know job job-7")
    sentence = say(State.FAILED, decided_by="dovecote", outcome_source=Source.SWEEP, failure=lost)
    assert "elkapi does not know job job-7" in sentence
    assert "deadline" not in sentence


def test_task_that_was_never_submitted_promises_no_late_result() -> None:
    failure = Failure("provider_timeout", "not submitted before the deadline")
    sentence = say(State.EXPIRED, decided_by="dovecote", upstream=None, external_id=None, failure=failure)
    assert "not submitted" in sentence
    assert "still delivers" not in sentence


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    state = draw(st.sampled_from(State))
    nobody = state in {State.QUEUED, State.EXPIRED, State.CANCELLED, State.FAILED} and draw(st.booleans())
    due = draw(st.none() | st.integers(-100, 10_000))
    return dataclasses.replace(
        TASK,
        state=state,
        upstream=None if nobody else "elkapi",
        external_id=draw(st.sampled_from([None, "job-7"])),
        progress=draw(st.none() | st.integers(0, 100)),
        outcome_source=draw(st.none() | st.sampled_from(Source)),
        decided_by=draw(st.sampled_from(["provider", "dovecote"])),
        failure=draw(st.sampled_from([None, Failure("unknown"), Failure("provider_error", "broken")])),
        callback_expected=draw(st.booleans()),
        due_at=None if due is None else NOW + dt.timedelta(seconds=due),
        cancel_requested_at=draw(st.sampled_from([None, NOW])),
        last_error=draw(st.sampled_from([None, "elkapi: HTTP 500"])),
        deadline_at=NOW + dt.timedelta(seconds=draw(st.integers(-100, 10_000))),
        on_uncertain=draw(st.sampled_from(["hold", "fail", "resubmit_once"])),
        waits_for=draw(st.sampled_from([None, WaitingFor("elkapi"), WaitingFor("elkapi", "runway/aggregator")])),
        unconfirmed_since=draw(st.sampled_from([None, NOW])),
    )


@given(tasks())
def test_explanation_is_one_sentence_without_secrets(task: Task) -> None:
    sentence = explain(task, now=NOW)
    assert sentence[0].isupper() or sentence.startswith("elkapi")
    assert sentence.endswith(".")
    assert "None" not in sentence
    assert SECRET not in sentence


MOMENT = re.compile(r"(due since |at )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


@given(tasks(), st.integers(0, 20_000))
def test_no_time_in_the_past_is_named_as_future(task: Task, passed: int) -> None:
    """The sentence is read at any time after the task was written."""
    now = NOW + dt.timedelta(seconds=passed)
    sentence = explain(task, now=now)
    for prefix, written in MOMENT.findall(sentence):
        moment = dt.datetime.fromisoformat(written).replace(tzinfo=dt.UTC)
        assert prefix in {"due since ", "at "}
        assert (moment <= now) is (prefix == "due since ")
    for seconds in re.findall(r"within (-?\d+) s", sentence):
        assert int(seconds) >= 1
        assert task.due_at is not None
        assert dt.timedelta() <= now + dt.timedelta(seconds=int(seconds)) - task.due_at < dt.timedelta(seconds=1)
    for number, unit in re.findall(r"within (\d+) (min|h)\b", sentence):
        length = dt.timedelta(minutes=1) if unit == "min" else dt.timedelta(hours=1)
        assert task.due_at is not None
        assert dt.timedelta() <= now + int(number) * length - task.due_at < length


@given(tasks(), st.integers(0, 20_000))
def test_explanation_never_states_that_a_request_is_sent_or_happens_now(task: Task, passed: int) -> None:
    sentence = explain(task, now=NOW + dt.timedelta(seconds=passed)).lower()
    assert not re.search(r"\b(now|right now|at once)\b", sentence)
    if task.state not in {State.SUBMITTED, State.RUNNING, State.AWAITING_INPUT, State.SUCCEEDED}:
        assert not re.search(r"\bsent\b", sentence)


@given(tasks(), st.integers(0, 5_000), st.integers(1, 5_000))
def test_two_readings_without_an_attempt_between_name_the_same_moment(task: Task, first: int, later: int) -> None:
    """An overdue check stays overdue. It gets no new time."""
    readings = [explain(task, now=NOW + dt.timedelta(seconds=each)) for each in (first, first + later)]
    if "due since" in readings[0]:
        assert re.findall(r"due since [^,;.(]*", readings[0]) == re.findall(r"due since [^,;.(]*", readings[1])
    if "within" not in readings[0]:
        assert "within" not in readings[1]


def test_task_that_may_have_been_paid_is_not_called_unpaid() -> None:
    words = Failure("provider_timeout", "no result")
    restored = {"decided_by": "dovecote", "upstream": None, "external_id": None, "failure": words}
    assert "nothing has been paid" in say(State.EXPIRED, **restored)
    assert "may have been submitted and paid for" in say(State.EXPIRED, **restored, unconfirmed_since=NOW)
    assert "Nothing has been paid" not in say(State.QUEUED, unconfirmed_since=NOW)


@pytest.mark.parametrize("state", [State.SUBMITTED, State.RUNNING])
def test_success_without_output_is_explained(state: State) -> None:
    sentence = say(state, progress=100)
    assert "elkapi reports that it is done, but returns no output yet" in sentence
    assert "queue" not in sentence
    assert "%" not in sentence


def test_queued_job_shows_no_progress() -> None:
    assert "40" not in say(State.SUBMITTED, progress=40)


def test_submission_with_ended_lease_is_not_explained_as_in_flight() -> None:
    assert "no answer came in time" in say(State.SUBMITTING, due_at=NOW)
