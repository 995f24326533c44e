"""The one sentence that says where a task stands: for every state, true, with names and reasons, and without secrets."""

import dataclasses
import datetime as dt
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.explanation import explain
from service.domain.task import ENDED, Failure, Source, State, Task

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
        (say(State.QUEUED), ["Waiting to be handed over", "Nothing has been paid"]),
        (
            say(State.QUEUED, last_error="elkapi: no channel"),
            ["in 42 s", "elkapi: no channel", "Nothing has been paid"],
        ),
        (say(State.SUBMITTING), ["elkapi", "right now"]),
        (
            say(State.UNCONFIRMED, last_error="elkapi: reset", callback_expected=True),
            [
                "elkapi",
                "elkapi: reset",
                "may be running and paid",
                "not sent again",
                "a callback can settle it",
                "expires at",
            ],
        ),
        (say(State.UNCONFIRMED), ["elkapi", "Dovecote looks for it in 42 s"]),
        (say(State.UNCONFIRMED, due_at=TASK.deadline_at), ["elkapi", "no way to look it up"]),
        (say(State.SUBMITTED), ["elkapi has it in its queue", "Dovecote asks in 42 s"]),
        (say(State.SUBMITTED, due_at=NOW), ["Dovecote asks now"]),
        (say(State.RUNNING, progress=40, callback_expected=True), ["elkapi", "40 %", "callback may come"]),
        (say(State.RUNNING, last_error="elkapi: HTTP 502"), ["the last try failed: elkapi: HTTP 502"]),
        (say(State.AWAITING_INPUT), ["elkapi waits for your input"]),
        (say(State.SUCCEEDED), ["Succeeded at elkapi", "a poll found out"]),
        (say(State.SUCCEEDED, outcome_source=Source.CALLBACK), ["its callback said so"]),
        (
            say(State.FAILED, failure=Failure("content_policy")),
            ["Failed at elkapi", "content_policy", "a poll found out"],
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
            ["deadline", "no result", "should elkapi still deliver"],
        ),
    ],
)
def test_it_names_the_upstream_the_reason_and_what_comes_next(sentence: str, parts: list[str]) -> None:
    assert [part for part in parts if part not in sentence] == []


def test_a_job_that_was_lost_is_not_called_late() -> None:
    lost = Failure("not_found", "elkapi does not know job job-7")
    sentence = say(State.FAILED, decided_by="dovecote", outcome_source=Source.SWEEP, failure=lost)
    assert "elkapi does not know job job-7" in sentence
    assert "deadline" not in sentence


def test_what_was_never_handed_over_is_not_awaited() -> None:
    failure = Failure("provider_timeout", "not handed over before the deadline")
    sentence = say(State.EXPIRED, decided_by="dovecote", upstream=None, external_id=None, failure=failure)
    assert "not handed over" in sentence
    assert "still deliver" not in sentence


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
        last_error=draw(st.sampled_from([None, "elkapi: HTTP 500"])),
    )


@given(tasks())
def test_there_is_always_one_sentence_and_never_a_secret(task: Task) -> None:
    sentence = explain(task, now=NOW)
    assert sentence[0].isupper() or sentence.startswith("elkapi")
    assert sentence.endswith(".")
    assert "None" not in sentence
    assert SECRET not in sentence
