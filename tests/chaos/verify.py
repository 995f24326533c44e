"""The verifier: compares what the outside saw with the database. It takes part in nothing and knows no fault."""

import base64
import datetime as dt
import hashlib
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

import orjson

from service.domain.callback_token import Tokens
from service.domain.redaction import Redactor
from service.domain.task import WITHOUT_PURCHASE
from service.domain.webhook_events import LATE
from service.sandbox.files import FILES
from service.sandbox.served_files import content
from tests.chaos.evidence import Accepted, Arrived, Called, Fault, Job, Reading, Refused, Seen
from tests.chaos.facts import Facts, Row
from tests.chaos.launch import LEASE
from tests.chaos.load import CALLBACK_SECRET
from tests.chaos.truth import lies
from tests.support.replay import owed, wrong_with

ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
_FAR: Final = 300.0
MUST_SUCCEED: Final = 0.2
"""Share of the tasks."""
TOLERANCE: Final = 0.05
"""Seconds by which two processes may measure one moment differently."""
_WITH_COPIES: Final = ("results_kept after the end", "messages are owed")
"""What the stateful tests say of kept results, which they do not have."""


def no_error_of_the_server(facts: Facts) -> Iterator[str]:
    """Yield the answers that no client can handle."""
    for each in facts.of(Refused):
        yield f"{each.what} was answered {each.status}: {each.text}"


def the_round_did_something(facts: Facts) -> Iterator[str]:
    """Yield a round in which hardly a task succeeded: whatever it shows, it does not show that tasks survive faults."""
    succeeded = sum(task["state"] == "succeeded" for task in facts.tasks.values())
    if succeeded < len(facts.tasks) * MUST_SUCCEED:
        yield f"only {succeeded} of {len(facts.tasks)} tasks succeeded"


def acknowledged_submits_have_one_task(facts: Facts) -> Iterator[str]:
    """Yield acknowledged submits without their task, and keys with several tasks."""
    by_key: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in facts.of(Accepted):
        task = facts.tasks.get(UUID(each.task))
        if task is None:
            yield f"task {each.task} was acknowledged and is not there: {each.prompt}"
        elif task["client"] != each.client or each.key not in {None, task["idempotency_key"]}:
            yield f"task {each.task} belongs to {task['client']} {task['idempotency_key']}, not {each.client} {each.key}"
        if each.key is not None:
            by_key[each.client, each.key].add(each.task)
    for key, ids in by_key.items():
        if len(ids) > 1:
            yield f"key {key} was answered with several tasks: {sorted(ids)}"


def acknowledged_callbacks_are_stored(facts: Facts) -> Iterator[str]:
    """Yield callbacks that were answered 2xx and are not in the inbox with all of their copies, or were never decided."""
    tokens = Tokens(CALLBACK_SECRET)
    answered: Counter[tuple[UUID, bytes]] = Counter()
    for each in facts.of(Called):
        if 200 <= each.status < 300:
            submission = tokens.read(each.token)
            if submission is None:
                yield f"a forged callback was answered {each.status}"
            else:
                stored = Redactor(tokens, [each.token]).body(base64.b64decode(each.body))
                answered[submission, hashlib.sha256(stored).digest()] += 1
    for (submission, sha), count in answered.items():
        row = next((each for each in facts.callbacks.get(submission, ()) if each["dedupe_key"] == sha), None)
        if row is None:
            yield f"a callback of submission {submission} was acknowledged and is not stored: sha256 {sha.hex()[:12]}"
        elif row["copies"] < count:
            yield f"callback {row['id']} was acknowledged {count} times and counts {row['copies']} copies"
    for row in (each for rows in facts.callbacks.values() for each in rows):
        if row["decision"] == "parked" or (row["decision"] is None and facts.settled):
            yield f"callback {row['id']} was never applied: decision={row['decision']} detail={row['detail']}"


def no_job_is_paid_twice(facts: Facts) -> Iterator[str]:
    """Yield paid jobs that no submission knows, and second jobs of a task whose policy does not allow them."""
    by_submission: dict[UUID, list[Job]] = defaultdict(list)
    for job in facts.of(Job):
        submission = facts.submission_of(job)
        if submission is None:
            if job.callback_token is not None:
                yield f"job {job.id} at {job.upstream} was paid and no submission is known: {job.prompt}"
            continue
        by_submission[submission["id"]].append(job)
        if submission["outcome"] in WITHOUT_PURCHASE and not _answer_lies(job):
            yield f"job {job.id} was paid, but its submission {submission['id']} counts as {submission['outcome']}"
    policies = {UUID(each.task): each.on_uncertain for each in facts.of(Accepted)}
    by_task: dict[UUID, list[UUID]] = defaultdict(list)
    for key, jobs in by_submission.items():
        if len(jobs) > 1:
            yield f"submission {key} was paid {len(jobs)} times: {[job.id for job in jobs]} {jobs[0].prompt}"
        by_task[facts.submissions[key]["task_id"]].append(key)
    for task_id, keys in by_task.items():
        current = [key for key in keys if facts.submissions[key]["superseded_at"] is None]
        # A task that was submitted again is held from then on: what counts is the policy that it was accepted with.
        if len(keys) > 1 and (policies.get(task_id) != "resubmit_once" or len(keys) > 2 or len(current) > 1):
            prompt = by_submission[keys[0]][0].prompt
            yield f"task {task_id} has {len(keys)} paid jobs, and its policy allows no second one: {prompt}"


def _answer_lies(job: Job) -> bool:
    """Return whether the provider made a job and denied it."""
    return bool(job.faults.keys() & {"500", "503"})


def tasks_end_as_their_jobs(facts: Facts) -> Iterator[str]:
    """Yield tasks whose job is known and that did not end as the job did."""
    tokens = Tokens(CALLBACK_SECRET)
    proven = {
        tokens.read(each.token) for each in facts.of(Called) if each.own and 200 <= each.status < 300 and _whole(each)
    }
    for job in facts.of(Job):
        submission, task = facts.submission_of(job), facts.task_of(job)
        if submission is None or task is None or submission["superseded_at"] is not None or job.faults.get("stuck"):
            continue
        known = submission["id"] in proven or submission["outcome"] == "taken"
        late = job.ended_at is not None and job.ended_at > task["deadline_at"].timestamp() - 10
        if known and facts.settled and not late and job.state in ENDED and task["state"] != job.state:
            if task["cancel_requested_at"] is not None and task["state"] == "cancelled":
                continue
            yield (
                f"task {task['id']} is {task['state']} (decided by {task['decided_by']}), but its job {job.id} at "
                f"{job.upstream} is {job.state}: {job.prompt}; submission {submission['outcome']}; {task['last_error']}"
            )


def _whole(called: Called) -> bool:
    try:
        orjson.loads(base64.b64decode(called.body))
    except orjson.JSONDecodeError:
        return False
    return True


def waits_for_its_deadline(task: Row, now: float) -> bool:
    """Return whether nothing can be found out about a task's job, so that it waits for a deadline that is far away.

    A door sends no deadline, so that such a task of a door waits for longer than a round.
    """
    return bool(task["state"] == "unconfirmed" and task["deadline_at"].timestamp() > now + _FAR)


def every_task_ends(facts: Facts) -> Iterator[str]:
    """Yield what has not ended."""
    if not facts.settled:
        yield "not everything ended in time"
    last = max((each.at for each in facts.records), default=0.0)
    for task in facts.tasks.values():
        if task["state"] not in ENDED and not waits_for_its_deadline(task, last):
            yield f"task {task['id']} did not end: {task['state']} due_at={task['due_at']} {task['last_error']} {task['input']}"
    for row in facts.submissions.values():
        if row["outcome"] == "sending":
            yield f"submission {row['id']} is still being sent"
    for row in facts.messages.values():
        if row["state"] == "pending":
            yield f"message {row['id']} was not delivered: attempts={row['attempts']} {row['last_error']}"
    for row in (each for rows in facts.assets.values() for each in rows):
        if row["state"] in {"pending", "deleting"}:
            yield f"copy {row['id']} is {row['state']}: {row['last_error']}"


def messages_arrive_and_agree(facts: Facts) -> Iterator[str]:
    """Yield finished tasks whose message did not arrive, and messages that contradict one another or their task."""
    arrivals: dict[UUID, list[Arrived]] = defaultdict(list)
    for each in facts.of(Arrived):
        if not each.verified:
            yield f"message {each.message} had a wrong signature"
        arrivals[UUID(each.message.removeprefix("msg_"))].append(each)
    for key, came in arrivals.items():
        row = facts.messages.get(key)
        if row is None:
            yield f"message {key} arrived and is not in the outbox"
            continue
        if len({each.sha256 for each in came}) > 1:
            yield f"message {key} arrived with different bodies"
        if len(came) > row["attempts"]:
            yield f"message {key} arrived {len(came)} times in {row['attempts']} attempts"
    for row in facts.messages.values():
        accepted = any(200 <= each.status < 300 for each in arrivals.get(row["id"], ()))
        if row["state"] == "delivered" and not accepted:
            yield f"message {row['id']} counts as delivered and no receiver accepted it"
    yield from _finished_tasks_are_told(facts, arrivals)


def _finished_tasks_are_told(facts: Facts, arrivals: Mapping[UUID, Sequence[Arrived]]) -> Iterator[str]:
    told: dict[UUID, list[Arrived]] = defaultdict(list)
    for came in arrivals.values():
        if came[0].task is not None and any(200 <= each.status < 300 for each in came):
            told[UUID(came[0].task)].append(came[0])
    hooked = {UUID(each.task) for each in facts.of(Accepted) if each.hook}
    for task_id in hooked & facts.tasks.keys():
        task, got = facts.tasks[task_id], sorted(told.get(task_id, []), key=lambda each: each.sequence or 0)
        numbers = Counter(each.sequence for each in got)
        if any(count > 1 for count in numbers.values()):
            yield f"task {task_id} has several messages with one sequence: {dict(numbers)}"
        ends = [each for each in got if each.state in ENDED and each.type in {f"task.{each.state}", LATE}]
        if task["state"] in ENDED and facts.settled and not any(each.state == task["state"] for each in ends):
            yield f"task {task_id} is {task['state']} and no message said so: {[each.type for each in got]}"
        if ends and ends[-1].state != task["state"]:
            yield f"task {task_id} is {task['state']}, but its last message said {ends[-1].state}"
        provider = {each.state for each in ends} & {"succeeded", "failed"}
        if len(provider) > 1 and LATE not in {each.type for each in got}:
            yield f"task {task_id} was told as succeeded and as failed"


def _is_released(last: Seen, seen: Seen) -> bool:
    """Return whether a message is due again that its process had claimed as it wrote it, and did not send for want of a slot.

    Only the process that wrote it does that, once, and only while no other one has claimed it.
    """
    waits = last.state == seen.state == "pending"
    return seen.table == "message" and waits and (last.number, seen.number) == (1, 0)


def nothing_final_changes(facts: Facts) -> Iterator[str]:
    """Yield delivered messages that were sent again, outcomes of providers that changed, and numbers that went back."""
    before: dict[str, Seen] = {}
    for seen in facts.of(Seen):
        last = before.get(seen.id)
        before[seen.id] = seen
        if last is None:
            continue
        if last.final and (seen.state != last.state or (seen.table == "message" and seen.number > last.number)):
            yield f"{seen.table} {seen.id} was {last.state} ({last.number}) for good, and became {seen.state} ({seen.number})"
        if seen.number < last.number and not _is_released(last, seen):
            yield f"{seen.table} {seen.id} went back from {last.number} to {seen.number}"
        if last.final and last.job and seen.job != last.job:
            yield f"{seen.table} {seen.id} ended with job {last.job}, and became one of {seen.job}"


def invariants_hold(facts: Facts) -> Iterator[str]:
    """Yield what is wrong with one task by itself: its history, its ends, its messages, its times, its submissions."""
    now = dt.datetime.fromtimestamp(max((each.at for each in facts.records), default=0.0), dt.UTC)
    for kept in facts.kept:
        yield from (
            f"task {kept.task.id}: {wrong}" for wrong in wrong_with(kept, now=now) if not wrong.startswith(_WITH_COPIES)
        )
        copied = {each.sequence for each in kept.events if each.type == "results_kept"}
        wanted = [each for each in owed(kept.events) if each not in copied] if kept.task.callback_url else []
        made = sorted(each.sequence for each in kept.messages)
        if made != wanted:
            yield f"task {kept.task.id}: messages are owed of events {wanted}, and made of {made}"


def nothing_is_handled_twice_in_a_lease(facts: Facts) -> Iterator[str]:
    """Yield messages of which an attempt began within the lease of another, before that had ended.

    The times are those of the processes: they are compared until the first clock is wrong.
    """
    wrong_since = min((each.at for each in facts.of(Fault) if each.name == "clock"), default=math.inf)
    for key, made in facts.attempts.items():
        ordered = sorted(made, key=lambda each: each["attempt"])
        for earlier, later in itertools.pairwise(ordered):
            began, again = earlier["at"].timestamp(), later["at"].timestamp()
            ended = began + earlier["duration_ms"] / 1000
            if began < wrong_since and again < min(ended, began + LEASE) - TOLERANCE:
                yield (
                    f"message {key}: attempt {later['attempt']} began {again - began:.2f} s after attempt "
                    f"{earlier['attempt']}, which took {ended - began:.2f} s"
                )


def histories_are_whole(facts: Facts) -> Iterator[str]:
    """Yield tasks whose history lacks a number, has one twice, or does not end with the task's."""
    for task_id, task in facts.tasks.items():
        numbers = sorted(each["sequence"] for each in facts.events.get(task_id, ()))
        if numbers != list(range(1, task["sequence"] + 1)):
            yield f"task {task_id} has sequence {task['sequence']} and events {numbers}"


def kept_results_are_whole(facts: Facts) -> Iterator[str]:
    """Yield copies with other bytes than the provider served, and lost ones without a reason."""
    for task_id, rows in facts.assets.items():
        for row in rows:
            if row["state"] == "lost" and not row["last_error"]:
                yield f"copy {row['id']} is lost without a reason"
            if row["state"] == "kept":
                yield from _wrong_copy(facts, row)
        shown = (
            {each.get("asset"): each.get("kept") for each in facts.tasks[task_id]["results"]}
            if task_id in facts.tasks
            else {}
        )
        for row in rows:
            if str(row["id"]) in shown and shown[str(row["id"])] != row["state"]:
                yield f"copy {row['id']} is {row['state']}, but its task says {shown[str(row['id'])]}"


def _wrong_copy(facts: Facts, row: Row) -> Iterator[str]:
    file = facts.objects / row["object"]
    if not file.exists():
        yield f"copy {row['id']} is kept, but {row['object']} is not there"
        return
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    served = {hashlib.sha256(content(ending, row["size"])).hexdigest() for ending in FILES}
    if sha != row["sha256"] or sha not in served:
        yield f"copy {row['id']} has other bytes than the provider served"


def sentences_are_true(facts: Facts) -> Iterator[str]:
    """Yield sentences about tasks that were untrue when they were told."""
    jobs: dict[UUID, list[Job]] = defaultdict(list)
    for job in facts.of(Job):
        task = facts.task_of(job)
        if task is not None:
            jobs[task["id"]].append(job)
    wrong_since = min((each.at for each in facts.of(Fault) if each.name == "clock"), default=math.inf)
    for told in facts.of(Reading):
        for lie in lies(told, jobs.get(UUID(told.task), []), times=told.at < wrong_since):
            yield f"task {told.task} ({told.state}) {lie}. It was told: {told.explanation}"


CHECKS: Final[tuple[Callable[[Facts], Iterator[str]], ...]] = (
    the_round_did_something,
    no_error_of_the_server,
    acknowledged_submits_have_one_task,
    acknowledged_callbacks_are_stored,
    no_job_is_paid_twice,
    tasks_end_as_their_jobs,
    every_task_ends,
    messages_arrive_and_agree,
    nothing_final_changes,
    nothing_is_handled_twice_in_a_lease,
    invariants_hold,
    histories_are_whole,
    kept_results_are_whole,
    sentences_are_true,
)


def violations(facts: Facts) -> list[str]:
    """Return every violation, each with the name of its check."""
    return [f"{check.__name__}: {found}" for check in CHECKS for found in check(facts)]
