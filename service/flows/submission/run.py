"""Hand tasks over: claim, see what may pass to which upstream, write down that we are about to send, and send once."""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import Unavailable
from service.domain.routing import ranked, rests_until
from service.domain.schedules import LEASE, SUBMIT_LEASE_MARGIN
from service.domain.task import Failure, Source, State, Submission, Task, Update
from service.flows.apply import Applied, News, announce, apply, settle_surely
from service.flows.concurrency import TaskPool
from service.flows.context import Context, Upstream, log
from service.flows.submission.cancel import unsent
from service.flows.submission.send import Handover, found_sending, hand_over, went_wrong, who_ends
from service.flows.upstreams.admission import Gates, Wait, claim_probes, look, take_turns, write_down
from service.http.client import CONNECT_TIMEOUT, WRITE_TIMEOUT
from service.providers.capabilities import CanCancel
from service.providers.dialect import SUBMIT_TIMEOUT, Dialect
from service.providers.registry import DIALECTS
from service.store import queue, submissions
from service.store import upstreams as upstream_store
from service.store.database import StoreUnavailable

MAX_CONCURRENT = 512
"""Purchases under way at once from one process; each upstream has fewer places."""
AT_ONCE = 64
"""Tasks that are planned in one transaction."""

PROBE_LEASE = CONNECT_TIMEOUT + WRITE_TIMEOUT + SUBMIT_TIMEOUT + SUBMIT_LEASE_MARGIN
"""Seconds for which the one submit that tries an upstream is waited for."""

Plan = tuple[News, Handover | None]


@dataclasses.dataclass(slots=True)
class Round:
    """What is planned in one transaction. It is filled anew should the transaction be tried again."""

    claimed: Sequence[Task]
    most: int
    """How many may be taken out of the lines."""
    taken: int = 0
    """How many were."""
    handovers: list[Handover] = dataclasses.field(default_factory=list)
    applied: list[Applied] = dataclasses.field(default_factory=list)
    again_in: float | None = None
    """Seconds until the next submit fits, where tasks wait for that."""


async def run_due(context: Context, pool: TaskPool) -> int:
    """Take the tasks that are due or whose turn it is, and start to hand them over; answer how many were taken."""
    room = min(pool.free, AT_ONCE)
    if not room:
        return 0
    now = context.now()
    until = now + dt.timedelta(seconds=LEASE)
    claimed: list[Task] = await context.writer.do(_claim, (now, until, room))
    planned = Round(claimed, 0)
    try:
        lines = await _lines(context)
        if not claimed and not lines:
            return 0
        planned.most = room if lines else 0
        await _begin(context, planned)
    except StoreUnavailable:
        # Perhaps it was written and only the answer got lost. We know that nothing was sent, and say so.
        away = Unavailable("overloaded", "the database went away before anything was sent")
        for handover in planned.handovers:
            pool.start(_take_back(context, handover, away))
        begun = {handover.task.id for handover in planned.handovers}
        for task in claimed:
            if task.id not in begun:
                pool.start(_let_go(context, task))
        raise
    announce(context, planned.applied)
    for handover in planned.handovers:
        handover.upstream.slots.try_acquire()
        pool.start(serve(context, handover))
    if planned.again_in is not None:
        asyncio.get_running_loop().call_later(planned.again_in, context.signals.journeys["submit"].set)
    return len(claimed) + planned.taken


async def _lines(context: Context) -> set[str]:
    """Name the lines in which somebody stands, and that may move."""
    async with context.database.reading() as connection:
        return await upstream_store.lines(connection, [line.key for line in context.lines])


async def _claim(
    connection: AsyncConnection, wishes: Sequence[tuple[dt.datetime, dt.datetime, int]]
) -> list[list[Task]]:
    return [
        await queue.claim_tasks(connection, "submit", now=now, until=until, most=most) for now, until, most in wishes
    ]


async def _begin(context: Context, planned: Round) -> None:
    """Plan a round and write it; where it cannot be written, each task by itself, so that one costs no other."""
    try:
        await context.writer.do(context.once(_plan_and_write), planned)
    except StoreUnavailable:
        raise
    except Exception:  # noqa: BLE001 - one that cannot be written waits for its lease and stops no other
        log.exception("tasks cannot be handed over together; each is by itself")
        await _begin_one_by_one(context, planned)


async def _begin_one_by_one(context: Context, planned: Round) -> None:
    together = Round(planned.claimed, planned.most)
    planned.handovers.clear()
    planned.applied.clear()
    for task in together.claimed:
        alone = Round([task], 0)
        try:
            await context.writer.do(context.once(_plan_and_write), alone)
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - it comes back after its lease
            log.exception("task %s cannot be handed over", task.id)
            continue
        planned.handovers += alone.handovers
        planned.applied += alone.applied


async def _plan_and_write(context: Context, connection: AsyncConnection, rounds: Sequence[Round]) -> list[None]:
    for planned in rounds:
        await _plan_round(context, connection, planned)
    return [None] * len(rounds)


async def _plan_round(context: Context, connection: AsyncConnection, planned: Round) -> None:
    """See what may pass, take whose turn it is, and write what becomes of each."""
    planned.handovers.clear()
    until = context.now() + dt.timedelta(seconds=LEASE)
    lines = await upstream_store.lines(connection, [line.key for line in context.lines])
    gates = await look(context, connection, lines)
    taken = await take_turns(context, connection, gates, lines, until=until, most=planned.most)
    planned.taken = len(taken)
    tasks: list[tuple[Task, str | None]] = [*taken, *((task, None) for task in planned.claimed)]
    histories = await submissions.of_tasks(connection, [task.id for task, _ in tasks])
    plans = [_planned(context, task, histories[task.id], gates, line) for task, line in tasks]
    answered_by = gates.now + dt.timedelta(seconds=PROBE_LEASE)
    lost = await claim_probes(connection, gates, sorted(gates.probes), until=answered_by)
    for number, (task, line) in enumerate(tasks):
        found = plans[number]
        if found is not None and found[1] is not None and found[1].key in lost:
            gates.probes.discard(found[1].key)
            gates.lose_probe(found[1].upstream, found[1].dialect)
            plans[number] = _planned(context, task, histories[task.id], gates, line)
    written = [each for each in plans if each is not None]
    planned.applied = await apply(context, connection, [news for news, _ in written])
    await write_down(connection, gates)
    planned.handovers += [
        handover
        for (_, handover), applied in zip(written, planned.applied, strict=True)
        if handover is not None and applied.decision == "applied"
    ]
    # Whoever waits for a place is called when one is given back; only a submit that does not fit yet has its time.
    waits = [rate.wait(gates.now) for name, rate in gates.rates.items() if name in lines]
    planned.again_in = min((wait for wait in waits if wait > 0), default=None)


def _planned(
    context: Context, task: Task, history: Sequence[Submission], gates: Gates, line: str | None
) -> Plan | None:
    try:
        return plan(context, task, history, gates, line=line)
    except Exception:  # noqa: BLE001 - one that cannot be planned waits for its lease and stops no other
        log.exception("task %s cannot be planned", task.id)
        return None


def plan(context: Context, task: Task, history: Sequence[Submission], gates: Gates, *, line: str | None = None) -> Plan:
    """Decide what to do with a claimed task; no I/O but for the clock and the id.

    :param line: what it has stood in line for
    """
    needless = _needless(task, history, context.now())
    return (needless, None) if needless is not None else _ask_around(context, task, history, gates, line)


def _needless(task: Task, history: Sequence[Submission], now: dt.datetime) -> News | None:
    """Say what becomes of a claimed task that is not to be handed over now, or never again."""
    if task.state is State.SUBMITTING:
        return found_sending(task, history, now)
    if task.cancel_requested_at is not None:
        return _end(task, Update(state=State.CANCELLED, failure=unsent(task)), Source.CLIENT)
    if now >= task.deadline_at:
        failure = Failure("provider_timeout", task.last_error or "not handed over before the deadline")
        return _end(task, Update(state=State.EXPIRED, failure=failure), Source.SWEEP)
    made = next((each for each in history if each.may_serve and _is_left_running(each)), None)
    return None if made is None else _adopt(task, made)


def _ask_around(context: Context, task: Task, history: Sequence[Submission], gates: Gates, line: str | None) -> Plan:
    """Hand a task to the best upstream that lets it pass, or say what it waits for."""
    now = context.now()
    wait: Wait | None = None
    rest: dt.datetime | None = None
    for name in ranked([name for name in task.route if name in context.upstreams], history, now=now):
        upstream = context.upstreams[name]
        dialect = _dialect(context, task, upstream)
        if dialect is None:
            continue
        until = rests_until(name, history)
        if until is not None and until > now:
            rest = until if rest is None else min(rest, until)
            continue
        met = gates.enter(upstream, dialect, client=task.client, comes_from=line)
        if met is None:
            return _hand_over(context, task, history, upstream, dialect, probe=gates.is_probe(upstream, dialect))
        if wait is None or (wait.recovery and not met.recovery):
            wait = met
        if not met.elsewhere:
            break
    if wait is not None:
        return _stand_in_line(task, wait, line, until=rest), None
    return (_nobody_left(task, history) if rest is None else _put_back(task, until=rest)), None


def _adopt(task: Task, made: Submission) -> News:
    """Buy nothing more: a job of an earlier submission is known by now, and can serve the task."""
    return News(
        task_id=task.id,
        source=Source.POLL,
        update=Update(state=State.SUBMITTED, external_id=made.external_id),
        attempt=task.attempts,
        holder_only=True,
        expects=frozenset({State.QUEUED}),
        set={"last_error": None},
        proves=made,
    )


def _is_left_running(made: Submission) -> bool:
    """Whether a job too many goes on: one that can be stopped is stopped as soon as it is known."""
    dialect = DIALECTS.get(made.dialect)
    return made.job_state in {None, State.SUCCEEDED} or (dialect is not None and not isinstance(dialect, CanCancel))


def _hand_over(
    context: Context, task: Task, history: Sequence[Submission], upstream: Upstream, dialect: Dialect, *, probe: bool
) -> Plan:
    now = context.now()
    submission = Submission(
        id=context.new_id(), task_id=task.id, upstream=upstream.name, dialect=dialect.facts.key, sent_at=now
    )
    lease = CONNECT_TIMEOUT + WRITE_TIMEOUT + dialect.facts.read_timeout(task.operation) + SUBMIT_LEASE_MARGIN
    fields: dict[str, Any] = {
        "upstream": upstream.name,
        "dialect": submission.dialect,
        "submission_id": submission.id,
        "callback_expected": context.callback_url(upstream, dialect, task, submission.id) is not None,
    }
    news = News(
        task_id=task.id,
        source=Source.SUBMIT,
        update=Update(state=State.SUBMITTING),
        attempt=task.attempts,
        holder_only=True,
        expects=frozenset({State.QUEUED}),
        set=fields,
        details={"upstream": upstream.name, "submission": str(submission.id)},
        begins=submission,
        retry_at=now + dt.timedelta(seconds=lease),
    )
    return news, Handover(task, submission, upstream, dialect, history, probe)


def _stand_in_line(task: Task, wait: Wait, line: str | None, *, until: dt.datetime | None) -> News:
    """Leave a task queued until it is called; its deadline counts all the same.

    :param until: when another upstream, which wants to be left alone now, may be asked again
    """
    return News(
        task_id=task.id,
        source=Source.SUBMIT,
        attempt=task.attempts,
        holder_only=True,
        expects=frozenset({State.QUEUED}),
        set={"waits_for": wait.line, "last_error": wait.reason},
        remark=None if wait.line == line else "waiting",
        details={"for": wait.line, "reason": wait.reason},
        retry_at=task.deadline_at if until is None else min(until, task.deadline_at),
    )


def _put_back(task: Task, *, until: dt.datetime) -> News:
    """Leave a task queued: whoever could serve it wants to be left alone for a while."""
    return News(
        task_id=task.id,
        source=Source.SUBMIT,
        attempt=task.attempts,
        holder_only=True,
        expects=frozenset({State.QUEUED}),
        set={"waits_for": None},
        retry_at=min(until, task.deadline_at),
    )


def _dialect(context: Context, task: Task, upstream: Upstream) -> Dialect | None:
    """Choose the dialect: a follow-up speaks that of its parent, whose ids it uses."""
    return context.dialect(task) if task.parent_id is not None else upstream.dialect_for(task.family, task.operation)


async def serve(context: Context, handover: Handover) -> None:
    """Hand a task over, and give its place at the upstream back."""
    try:
        await hand_over(context, handover)
    finally:
        handover.upstream.slots.release()


async def _take_back(context: Context, handover: Handover, away: Unavailable) -> None:
    applied = await settle_surely(context, went_wrong(context, handover, away))
    if applied.decision != "applied":  # it had not been written
        await _let_go(context, handover.task)


async def _let_go(context: Context, task: Task) -> None:
    """Leave a claimed task to whoever looks next, instead of until its lease ends."""
    await settle_surely(
        context,
        News(
            task_id=task.id,
            source=Source.SUBMIT,
            attempt=task.attempts,
            holder_only=True,
            expects=frozenset({State.QUEUED}),
            retry_at=context.now(),
        ),
    )
    context.signals.wake("submit")


def _nobody_left(task: Task, history: Sequence[Submission]) -> News:
    last = history[-1] if history else None
    failure = (
        Failure(last.code or "unknown", last.message)
        if last is not None
        else Failure("unauthorized", f"none of {', '.join(task.route)} is configured any more", retryable=True)
    )
    return _end(task, Update(state=State.FAILED, failure=failure), who_ends(history))


def _end(task: Task, update: Update, source: Source) -> News:
    return News(task_id=task.id, source=source, update=update, attempt=task.attempts, holder_only=True)
