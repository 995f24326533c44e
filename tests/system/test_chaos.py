"""The verifier of `make chaos` finds what it is to find, and short rounds are clean."""

import asyncio
import base64
import dataclasses
import datetime as dt
import hashlib
import os
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.domain.callback_token import Tokens
from tests.chaos import verify
from tests.chaos.evidence import Accepted, Arrived, Called, Evidence, Job, Reading, Record, Refused, Seen, read
from tests.chaos.facts import Facts
from tests.chaos.faults import SORTS, schedule
from tests.chaos.launch import LEASE
from tests.chaos.load import CALLBACK_SECRET
from tests.chaos.rounds import Options, run
from tests.chaos.truth import lies
from tests.chaos.upgrade import NoSuchCommit

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0
TASK, SUBMISSION, MESSAGE, CALLBACK = (UUID(int=number) for number in (1, 2, 3, 4))
TOKEN = Tokens(CALLBACK_SECRET).make(SUBMISSION)
BODY = b'{"status":"3"}'


def facts(*more: Record, records: tuple[Record, ...] | None = None, **changes: Mapping[str, Any]) -> Facts:
    """Return a clean round of one task, with changed rows."""
    task = {
        "id": TASK,
        "client": "ada",
        "idempotency_key": "key",
        "state": "succeeded",
        "decided_by": "provider",
        "on_uncertain": "hold",
        "cancel_requested_at": None,
        "deadline_at": dt.datetime.fromtimestamp(NOW + 60, dt.UTC),
        "due_at": None,
        "last_error": None,
        "input": {},
        "sequence": 1,
        "results": [],
    } | changes.get("task", {})
    submission = {
        "id": SUBMISSION,
        "task_id": TASK,
        "external_id": "job",
        "outcome": "taken",
        "superseded_at": None,
    } | changes.get("submission", {})
    callback = {
        "id": CALLBACK,
        "dedupe_key": hashlib.sha256(BODY).digest(),
        "copies": 1,
        "decision": "applied",
        "detail": None,
    } | changes.get("callback", {})
    message = {"id": MESSAGE, "state": "delivered", "attempts": 1, "last_error": None} | changes.get("message", {})
    known = (accepted(), called(), job(), arrived()) if records is None else records
    return Facts(
        records=[*known, *more],
        tasks={TASK: task},
        submissions={SUBMISSION: submission},
        callbacks={SUBMISSION: [callback]},
        messages={MESSAGE: message},
        attempts={},
        events={TASK: [{"sequence": 1, "message": "task.succeeded"}]},
        assets={},
        objects=Path("/nowhere"),
    )


def accepted(**more: Any) -> Accepted:
    fields = {"task": str(TASK), "client": "ada", "prompt": "a dove", "key": "key", "family": "runway", "hook": True}
    return Accepted(at=NOW, **{**fields, "on_uncertain": "hold", **more})


def called(**more: Any) -> Called:
    body, sha = base64.b64encode(BODY).decode(), hashlib.sha256(BODY).hexdigest()
    return Called(**{"at": NOW + 5, "token": TOKEN, "body": body, "sha256": sha, "status": 200, "own": True, **more})


def job(**more: Any) -> Job:
    fields = {"upstream": "elkapi", "id": "job", "prompt": "a dove", "created_at": NOW + 1, "ended_at": NOW + 5}
    return Job(at=NOW, **{**fields, "state": "succeeded", "callback_token": TOKEN, "faults": {}, **more})


def arrived(**more: Any) -> Arrived:
    fields = {"message": f"msg_{MESSAGE}", "type": "task.succeeded", "task": str(TASK), "state": "succeeded"}
    return Arrived(at=NOW, **{**fields, "sequence": 1, "sha256": "a", "verified": True, "status": 204, **more})


def seen(number: int, state: str = "delivered", *, final: bool = True) -> Seen:
    return Seen(at=NOW, table="message", id=str(MESSAGE), state=state, number=number, final=final)


def test_clean_round_has_no_violation() -> None:
    assert verify.violations(facts(seen(1, "pending", final=False), seen(1))) == []


def test_message_without_a_slot_may_be_due_again_unsent() -> None:
    waits = [seen(number, "pending", final=False) for number in (1, 0, 1)]
    assert verify.violations(facts(*waits, seen(1))) == []


PLANTED = {
    "attempts went back": (facts(seen(2, "pending", final=False), seen(1, "pending", final=False)), "went back"),
    "sent message went back": (facts(seen(1), seen(0, "pending", final=False)), "went back"),
    "task lost": (facts(accepted(task=str(uuid4()), key="other")), "was acknowledged and is not there"),
    "key with two tasks": (facts(accepted(task=str(uuid4()))), "several tasks"),
    "callback lost": (facts(callback={"dedupe_key": b"other"}), "acknowledged and is not stored"),
    "copy of a callback lost": (facts(called()), "acknowledged 2 times and counts 1"),
    "callback parked": (facts(callback={"decision": "parked"}), "never applied"),
    "submission paid twice": (facts(job(id="second")), "was paid 2 times"),
    "job without a submission": (
        facts(job(callback_token=Tokens(CALLBACK_SECRET).make(uuid4()))),
        "no submission is known",
    ),
    "paid job that counts as refused": (facts(submission={"outcome": "refused"}), "counts as refused"),
    "effect of a job lost": (facts(task={"state": "expired", "decided_by": "dovecote"}), "is expired"),
    "task that never ends": (facts(task={"state": "running"}), "did not end"),
    "message never delivered": (facts(message={"state": "pending"}), "was not delivered"),
    "message delivered to nobody": (facts(records=(accepted(), called(), job())), "no receiver accepted it"),
    "message that contradicts the task": (facts(task={"state": "failed"}), "its last message said succeeded"),
    "message with a wrong signature": (facts(arrived(verified=False)), "wrong signature"),
    "message with another body": (facts(arrived(sha256="b"), message={"attempts": 2}), "different bodies"),
    "message sent more often than claimed": (facts(arrived()), "arrived 2 times in 1 attempts"),
    "message that nobody enqueued": (facts(arrived(message=f"msg_{uuid4()}")), "not in the outbox"),
    "delivered message that is sent again": (facts(seen(1), seen(2)), "for good, and became"),
    "delivered message that is pending again": (
        facts(seen(1), seen(1, "pending", final=False)),
        "for good, and became",
    ),
    "history with a hole": (facts(task={"sequence": 2}), "sequence 2 and events [1]"),
    "round in which nothing worked": (facts(task={"state": "expired"}), "only 0 of 1 tasks succeeded"),
    "internal error": (facts(Refused(what="GET", status=500, text="")), "answered 500"),
}


@pytest.mark.parametrize(("found", "words"), PLANTED.values(), ids=PLANTED)
def test_verifier_finds(found: Facts, words: str) -> None:
    assert any(words in line for line in verify.violations(found)), verify.violations(found)


@pytest.mark.parametrize(("policy", "clean"), [("resubmit_once", True), ("hold", False), ("fail", False)])
def test_second_paid_job_is_judged_by_the_policy_that_was_accepted(policy: str, *, clean: bool) -> None:
    second = UUID(int=5)
    other = job(id="lost", callback_token=Tokens(CALLBACK_SECRET).make(second))
    found = facts(
        other, records=(accepted(on_uncertain=policy), called(), job(), arrived()), task={"on_uncertain": "hold"}
    )
    superseded = {"id": second, "task_id": TASK, "external_id": None, "outcome": "uncertain", "superseded_at": NOW}
    found = dataclasses.replace(found, submissions={**found.submissions, second: superseded})
    assert (verify.violations(found) == []) is clean, verify.violations(found)


def attempt(number: int, after: float, seconds: float) -> dict[str, Any]:
    at = dt.datetime.fromtimestamp(NOW + after, dt.UTC)
    return {"attempt": number, "at": at, "duration_ms": int(seconds * 1000)}


@pytest.mark.parametrize(
    ("after", "clean"),
    [
        pytest.param(0.5, False, id="within the lease, before the end"),
        pytest.param(1.1, True, id="after the end"),
    ],
)
def test_two_attempts_within_one_lease_are_found(after: float, *, clean: bool) -> None:
    made = [attempt(1, 0, 1.0), attempt(2, after, 0.1)]
    found = dataclasses.replace(facts(message={"attempts": 2}), attempts={MESSAGE: made})
    assert (verify.violations(found) == []) is clean, verify.violations(found)


def test_attempt_of_a_process_that_was_frozen_past_its_lease_overlaps_with_the_next() -> None:
    made = [attempt(1, 0, LEASE + 5), attempt(2, LEASE + 1, 0.1)]
    found = dataclasses.replace(facts(message={"attempts": 2}), attempts={MESSAGE: made})
    assert verify.violations(found) == []


def reading(sentence: str, **more: Any) -> Reading:
    fields = {"asked": NOW, "at": NOW + 0.1, "task": str(TASK), "state": "queued", "document": {}, "clock_off": False}
    return Reading(explanation=sentence, **{**fields, **more})


def moment(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(NOW + seconds, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


LIES = {
    "paid, and says that it is not": ("Waiting to be submitted. Nothing has been paid.", [job(created_at=NOW - 1)]),
    "no job, and says that one runs": ("elkapi is working on it; the next poll is due within 3 s.", []),
    "succeeded without a job": ("Succeeded at elkapi; found by a poll.", []),
    "future called past": (f"Waiting; the submit has been due since {moment(30)}.", []),
    "past called future": (f"It may run: a callback can settle it, otherwise it expires at {moment(-30)}.", []),
    "negative span": ("elkapi has it; the next poll is due within -3 s.", [job()]),
}
TRUE = {
    "nothing paid": ("Waiting to be submitted. Nothing has been paid.", [job(created_at=NOW + 1)]),
    "job runs": ("elkapi is working on it; the next poll is due within 3 s.", [job(created_at=NOW - 1)]),
    "overdue": (f"Waiting; the submit has been due since {moment(-30)}.", []),
    "expires later": (f"It may run: a callback can settle it, otherwise it expires at {moment(30)}.", []),
}


@pytest.mark.parametrize(("sentence", "jobs"), LIES.values(), ids=LIES)
def test_untrue_sentence_is_found(sentence: str, jobs: list[Job]) -> None:
    assert list(lies(reading(sentence), jobs))


@pytest.mark.parametrize(("sentence", "jobs"), TRUE.values(), ids=TRUE)
def test_true_sentence_is_no_lie(sentence: str, jobs: list[Job]) -> None:
    assert list(lies(reading(sentence), jobs)) == []


def test_evidence_is_read_as_it_was_written(tmp_path: Path) -> None:
    records: list[Record] = [accepted(), called(), job(), arrived(), seen(1), reading("Queued.")]
    evidence = Evidence(tmp_path / "evidence.jsonl")
    for each in records:
        evidence.add(each)
    evidence.close()
    assert list(read(evidence.file)) == records


def test_schedule_is_decided_by_its_seed_and_uses_every_sort() -> None:
    one, same, other = (schedule("postgresql", random.Random(seed), 300, every=4, skip={}) for seed in (1, 1, 2))
    assert one == same != other
    assert {each.name for each in one} == {name for name, sort in SORTS.items() if sort.only != "sqlite"}
    assert "clock" not in {each.name for each in schedule("sqlite", random.Random(1), 300, every=4, skip={"clock": ""})}


@pytest.mark.long
@pytest.mark.xdist_group("demo")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_short_round_is_clean(kind: Any, tmp_path: Path) -> None:
    lines: list[str] = []
    outcome = await run(kind, 20, tmp_path, Options(seconds=12, every=3, deadline=12), lines.append)
    assert outcome.violations == [], lines
    assert outcome.counts["accepted"] > 10
    assert outcome.counts["faults"] > 2


@pytest.mark.long
@pytest.mark.xdist_group("demo")
@pytest.mark.parametrize("plant", ["double-submission", "lost-lease-check"])
async def test_planted_bug_shows_under_the_fault_that_it_needs_alone(plant: str, tmp_path: Path) -> None:
    """Without a frozen process the planted code does what the code does. A plant that broke everything would prove nothing."""
    lines: list[str] = []
    options = Options(seconds=10, every=5, deadline=12, plant=plant, only=("lose-notifications",))
    outcome = await run("postgresql", 20, tmp_path, options, lines.append)
    assert outcome.violations == [], lines


@pytest.mark.long
@pytest.mark.xdist_group("demo")
async def test_rolling_upgrade_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    lines: list[str] = []
    try:
        outcome = await run(
            "postgresql", 20, tmp_path, Options(seconds=20, deadline=15, upgrade_from="HEAD~1"), lines.append
        )
    except NoSuchCommit as error:
        pytest.skip(f"there is no commit before this one in this clone: {error}")
    assert outcome.violations == [], lines
    assert sum("replaced" in line for line in lines) == 4
    assert outcome.counts["accepted"] > 10


@pytest.mark.long
@pytest.mark.xdist_group("demo")
async def test_interrupted_round_leaves_nothing_behind(tmp_path: Path) -> None:
    command = ("-m", "tests.chaos", "--rounds", "1", "--database", "postgresql", "--keep", str(tmp_path))
    chaos = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert chaos.stdout is not None
    while b"begins" not in await chaos.stdout.readline():
        assert chaos.returncode is None
    chaos.send_signal(signal.SIGINT)
    await chaos.communicate()
    assert chaos.returncode == 128 + signal.SIGINT
    assert str(tmp_path) not in _mounts()
    assert [each for each in _command_lines() if str(tmp_path) in each] == []


def _mounts() -> str:
    return Path("/proc/mounts").read_text()


def _command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has ended meanwhile
            continue
    return found
