"""The submission journey: claim tasks, see what upstreams admit, write each submission, and send it once."""

import asyncio
import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import Change
from service.domain.errors import Unavailable
from service.domain.moderation import WITHHELD
from service.domain.schedules import LEASE, SUBMIT_LEASE_MARGIN
from service.domain.submission_changes import SubmissionPostponed, SubmissionStarted
from service.domain.task import Submission, Task, WaitingFor
from service.flows.apply import Applied, announce, apply, settle_surely
from service.flows.concurrency import TaskPool
from service.flows.context import Context, Upstream, log
from service.flows.money import allowance as allowances
from service.flows.money.allowance import Allowance, Offer, Unaffordable, read_allowance
from service.flows.submission.media import seconds_for
from service.flows.submission.plan import Candidate, Send, plan
from service.flows.submission.send import Handover, callback_url, change_for, hand_over
from service.flows.upstreams.admission import Admission, claim_next, claim_probes, read_admission, save
from service.flows.upstreams.models import with_warning
from service.http.client import CONNECT_TIMEOUT, WRITE_TIMEOUT
from service.logs import about
from service.providers.dialect import SUBMIT_TIMEOUT, Dialect
from service.store import queue, submissions
from service.store import waiting as waiting_store
from service.store.database import StoreLocked, StoreUnavailable

MAX_CONCURRENT = 512
"""Submissions in flight at once from one process; each upstream has fewer slots."""
MAX_PLANNED = 64
"""Tasks that are planned in one transaction."""

PROBE_LEASE = CONNECT_TIMEOUT + WRITE_TIMEOUT + SUBMIT_TIMEOUT + SUBMIT_LEASE_MARGIN
"""Seconds that one probe of an upstream may take."""

Planned = tuple[Change, Handover | None]


@dataclasses.dataclass(slots=True)
class Round:
    """The plan of one transaction. It is filled anew if the transaction is tried again."""

    claimed: Sequence[Task]
    most: int
    """How many waiting tasks may be claimed besides."""
    claimed_at: float = 0.0
    """When they were claimed, on the monotonic clock."""
    taken: int = 0
    """How many were."""
    handovers: list[Handover] = dataclasses.field(default_factory=list)
    applied: list[Applied] = dataclasses.field(default_factory=list)
    again_in: float | None = None
    """Seconds until the rate limit of an upstream admits the next waiting task."""
    skip_locked: bool = False
    """Whether upstreams whose row is locked are left out, instead of waited for."""
    begun_before: Sequence[Handover] = ()
    """Submissions that were begun a moment ago, and have not acquired their slots yet."""


async def run_due(context: Context, pool: TaskPool) -> int:
    """Start to send the tasks that were handed over, are due, or whose turn it is; return how many were claimed, or still wait in memory."""
    room = min(pool.free, MAX_PLANNED)
    if not room:
        return 0
    claimed, found, claimed_at = await _take(context, room)
    planned = Round(claimed, room, claimed_at)
    try:
        if not claimed and not await _read_waited_for(context):
            return 0
        await _begin(context, planned)
    except StoreUnavailable:
        # It may have been written and only the answer was lost. Nothing was sent, and the rows record that.
        away = Unavailable("overloaded", "the database went away before anything was sent")
        for handover in planned.handovers:
            pool.start(_revoke(context, handover, away))
        begun = {handover.task.id for handover in planned.handovers}
        for task in claimed:
            if task.id not in begun:
                pool.start(_release(context, task))
        raise
    announce(context, planned.applied)
    if context.mark is not None and planned.handovers:
        context.mark.note(max(handover.submission.id for handover in planned.handovers))
    for handover in planned.handovers:
        handover.upstream.slots.try_acquire()
        pool.start(serve(context, handover))
    if planned.again_in is not None:
        asyncio.get_running_loop().call_later(planned.again_in, context.signals.journeys["submit"].set)
    return found + planned.taken or len(context.handed_tasks.waiting())


async def _take(context: Context, room: int) -> tuple[list[Task], int, float]:
    """Return the tasks that were handed over and those that are due, how many of them were due, and when the first was claimed."""
    handed = context.handed_tasks.take(room)
    claimed_at = handed[0][0] if handed else context.monotonic()
    found: list[Task] = []
    if len(handed) < room and context.handed_tasks.needs_claim(len(handed)):
        try:
            found = await _claim(context, room - len(handed))
        except StoreUnavailable:
            context.handed_tasks.put_back(handed)
            raise
    return [*(task for _, task in handed), *found], len(found), claimed_at


async def _claim(context: Context, most: int) -> list[Task]:
    """Claim tasks that are due."""
    now = context.now()
    until = now + dt.timedelta(seconds=LEASE)
    claimed = await context.writers.journeys.run(queue.claim_tasks, "submit", now=now, until=until, most=most)
    context.handed_tasks.claimed(all_due=len(claimed) < most)
    return claimed


async def _read_waited_for(context: Context) -> set[str]:
    """Return the keys of everything that tasks wait for."""
    async with context.database.reading() as connection:
        return await waiting_store.awaited(connection, [each.key for each in context.waits])


async def _begin(context: Context, planned: Round) -> None:
    """Plan a round and write it; if it cannot be written, each task by itself, so that one costs no other."""
    try:
        await context.writers.journeys.run(_plan_and_write, context, planned)
    except StoreLocked as error:
        log.warning("submission round skips locked rows error=%s", error)
        planned.skip_locked = True
        await _begin_around_locks(context, planned)
    except StoreUnavailable:
        raise
    except Exception:  # noqa: BLE001 - one that cannot be written waits for its lease and stops no other
        log.exception("tasks cannot be submitted in one transaction; each is submitted by itself")
        await _begin_one_by_one(context, planned)


async def _begin_around_locks(context: Context, planned: Round) -> None:
    """Plan a round without locked upstreams; if a task is locked, too, each task by itself."""
    try:
        await context.writers.journeys.run(_plan_and_write, context, planned)
    except StoreLocked:
        await _begin_one_by_one(context, planned)


async def _begin_one_by_one(context: Context, planned: Round) -> None:
    together = Round(planned.claimed, planned.most)
    planned.handovers.clear()
    planned.applied.clear()
    for task in together.claimed:
        alone = Round([task], 0, planned.claimed_at, skip_locked=planned.skip_locked, begun_before=planned.handovers)
        try:
            await context.writers.journeys.run(_plan_and_write, context, alone)
        except StoreLocked as error:
            log.warning("task waits for its lease task=%s error=%s", task.id, error)
            continue
        except StoreUnavailable:
            planned.handovers += alone.handovers  # it may have been written and only the answer was lost
            raise
        except Exception:  # noqa: BLE001 - it comes back after its lease
            log.exception("task cannot be submitted task=%s", task.id)
            continue
        planned.handovers += alone.handovers
        planned.applied += alone.applied


async def _plan_and_write(connection: AsyncConnection, context: Context, planned: Round) -> None:
    """Read what upstreams admit, claim the waiting tasks whose turn it is, and write what becomes of each task."""
    planned.handovers.clear()
    until = context.now() + dt.timedelta(seconds=LEASE)
    waited_for = await waiting_store.awaited(connection, [each.key for each in context.waits])
    begun = Counter(each.upstream.name for each in planned.begun_before)
    admission = await read_admission(context, connection, waited_for, begun=begun, skip_locked=planned.skip_locked)
    taken = await claim_next(context, connection, admission, waited_for, until=until, most=planned.most)
    planned.taken = len(taken)
    tasks: list[tuple[Task, WaitingFor | None]] = [*taken, *((task, None) for task in planned.claimed)]
    histories = await submissions.of_tasks(connection, [task.id for task, _ in tasks])
    allowance = await read_allowance(context, connection, [task for task, _ in tasks], histories)
    capacity = Capacity(admission, allowance)
    plans = [_plan(context, task, histories[task.id], capacity, waited) for task, waited in tasks]
    answered_by = admission.now + dt.timedelta(seconds=PROBE_LEASE)
    lost = await claim_probes(connection, admission, sorted(admission.probes), until=answered_by)
    for number, (task, waited) in enumerate(tasks):
        found = plans[number]
        if found is not None and found[1] is not None and found[1].key in lost:
            admission.lose_probe(found[1].upstream, found[1].dialect, client=task.client)
            plans[number] = _plan(context, task, histories[task.id], capacity, waited)
    written = [each for each in plans if each is not None]
    planned.applied = await apply(context, connection, [change for change, _ in written])
    await save(connection, admission)
    sent = [
        handover
        for (_, handover), applied in zip(written, planned.applied, strict=True)
        if handover is not None and applied.decision == "applied"
    ]
    if allowance is not None:
        await allowances.save(context, connection, allowance, [(each.task, each.submission) for each in sent])
    planned.handovers += [dataclasses.replace(each, claimed_at=planned.claimed_at) for each in sent]
    # A waiting task is woken when a slot is released; only a rate limit needs a timer.
    waits = [rate.wait(admission.now) for name, rate in admission.rates.items() if name in waited_for]
    planned.again_in = min((wait for wait in waits if wait > 0), default=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """The bounds of one round: what upstreams admit, and what tasks may spend."""

    admission: Admission
    allowance: Allowance | None


def _plan(
    context: Context, task: Task, history: Sequence[Submission], capacity: Capacity, waited_for: WaitingFor | None
) -> Planned | None:
    """Plan one task, and take its share of the admission and of its budgets."""
    admission, allowance = capacity.admission, capacity.allowance
    try:
        if allowance is not None:
            allowance.release(task.id)
        offers: dict[str, Offer] = {}
        withheld = {each.upstream for each in history if each.code == WITHHELD and each.superseded_at is not None}
        elsewhere = withheld if task.terms.on_moderated == "next_upstream" else set()
        candidates = [
            each
            for each in _candidates(context, task, capacity, waited_for, offers)
            if each.upstream.name not in elsewhere
        ]
        planned = plan(task, history, candidates, now=admission.now, waited_for=waited_for)
        if not isinstance(planned, Send):
            return planned.change, None
        admission.admit(planned.upstream, planned.dialect, client=task.client)
        if allowance is not None:
            allowance.take(task, offers[planned.upstream.name])
        probe = admission.is_probe(planned.upstream, planned.dialect)
        return _start(context, task, history, planned, probe=probe)
    except Exception:  # noqa: BLE001 - one that cannot be planned waits for its lease and stops no other
        log.exception("task cannot be planned task=%s", task.id)
        return None


def _candidates(
    context: Context, task: Task, capacity: Capacity, waited_for: WaitingFor | None, offers: dict[str, Offer]
) -> list[Candidate]:
    """Return the configured upstreams of a task's route that have its operation.

    :param offers: is filled with what the task may cost at each
    """
    upstreams = [context.upstreams[name] for name in task.route if name in context.upstreams]
    found: list[Candidate] = []
    for upstream in upstreams:
        dialect = _dialect(context, task, upstream)
        if dialect is None:
            continue
        unaffordable: Unaffordable | None = None
        if capacity.allowance is not None:
            offer = capacity.allowance.offer(task, upstream, dialect)
            if isinstance(offer, Unaffordable):
                unaffordable = offer
            else:
                offers[upstream.name] = offer
        rejection = capacity.admission.rejection(upstream, dialect, waited_for=waited_for)
        found.append(Candidate(upstream, dialect, rejection, unaffordable))
    return found


def _dialect(context: Context, task: Task, upstream: Upstream) -> Dialect | None:
    """Return the dialect of a task at an upstream: a follow-up uses that of its parent, whose ids it refers to."""
    return context.dialect(task) if task.inherited else upstream.dialect_for_task(task)


def _start(context: Context, task: Task, history: Sequence[Submission], chosen: Send, *, probe: bool) -> Planned:
    now = context.now()
    upstream, dialect = chosen.upstream, chosen.dialect
    submission = Submission(
        id=context.new_id(), task_id=task.id, upstream=upstream.name, dialect=dialect.facts.key, sent_at=now
    )
    lease = CONNECT_TIMEOUT + WRITE_TIMEOUT + dialect.facts.read_timeout(task.operation) + SUBMIT_LEASE_MARGIN
    lease += seconds_for(upstream, dialect, task)
    change = SubmissionStarted(
        task_id=task.id,
        attempt=task.attempts,
        submission=submission,
        callback_expected=callback_url(context, upstream, dialect, task, submission.id) is not None,
        lease_until=now + dt.timedelta(seconds=lease),
        warnings=with_warning(task, upstream, dialect),
    )
    return change, Handover(task, submission, upstream, dialect, history, probe)


async def serve(context: Context, handover: Handover) -> None:
    """Send a task, and release its slot at the upstream."""
    try:
        with about(handover.task.id):
            await hand_over(context, handover)
    finally:
        handover.upstream.slots.release()


async def _revoke(context: Context, handover: Handover, away: Unavailable) -> None:
    """Settle a submission that was never sent."""
    applied = await settle_surely(context, change_for(context, handover, away))
    if applied.decision != "applied":  # the submission was not written
        await _release(context, handover.task)


async def _release(context: Context, task: Task) -> None:
    """Make a claimed task due now instead of at the end of its lease."""
    await settle_surely(context, SubmissionPostponed(task_id=task.id, attempt=task.attempts, until=context.now()))
    context.signals.wake("submit")
