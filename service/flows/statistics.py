"""Statistics of finished tasks, and their use in the poll schedule: usual durations and next checks."""

import asyncio
import datetime as dt

from service.domain.money.learned import bounds_of
from service.domain.operator_events import CALLBACKS_STOPPED, Occurrence
from service.domain.schedules import EXPECTING, POLLING, in_step
from service.domain.schedules import next_poll as next_poll_by_plan
from service.domain.task import Task
from service.flows.context import Context, log
from service.flows.webhooks.operator import ended, report
from service.providers.capabilities import CanListJobs, CanPollMany
from service.providers.dialect import TYPICAL_SECONDS
from service.store.database import StoreUnavailable
from service.store.endings import recent_endings
from service.store.money.usage import recent_charges

WINDOW = dt.timedelta(days=7)
LEARN_EVERY = 30.0
"""Seconds between two updates."""
PRICE_WINDOW = dt.timedelta(days=30)
MAX_ENDINGS = 2000
"""Maximum number of finished tasks, and of charges, that are read."""
MAX_WORDS = 1000
"""Unknown status words that a process counts one by one, and reports."""
MAX_WORD = 80
OTHER_WORDS = "…"


async def update_statistics(context: Context) -> int:
    """Update the statistics from the last finished tasks; return how many there were.

    :raises StoreUnavailable: when the database is out of reach
    """
    async with context.database.reading() as connection:
        endings = await recent_endings(connection, since=context.now() - WINDOW, most=MAX_ENDINGS)
        context.learned_prices = bounds_of(
            await recent_charges(connection, since=context.now() - PRICE_WINDOW, most=MAX_ENDINGS)
        )
    before, shares = context.statistics.unreliable_callbacks(), dict(context.statistics.callback_shares())
    context.statistics.replace(endings)
    now = context.statistics.unreliable_callbacks()
    reliable = context.statistics.callback_shares().keys() - now
    for upstream, dialect in sorted(reliable - (shares.keys() - before)):  # also what another process has reported
        await ended(context, CALLBACKS_STOPPED, f"{upstream} {dialect}")
    for upstream, dialect in sorted(now - before):
        share = context.statistics.callback_share(upstream, dialect)
        data = {"upstream": upstream, "dialect": dialect, "share": share}
        await report(context, Occurrence(CALLBACKS_STOPPED, f"{upstream} {dialect}", data))
        log.warning("callbacks stopped; polling as if there were none upstream=%s dialect=%s", upstream, dialect)
    return len(endings)


async def keep_learning(context: Context) -> None:
    """Update the statistics again and again, in a process without a worker: it quotes tasks and orders their routes, too."""
    while True:
        try:
            await update_statistics(context)
        except StoreUnavailable as error:
            log.warning("statistics cannot be read error=%s", error)
        except Exception:  # noqa: BLE001 - the next round is tried whatever this one met
            log.exception("statistics cannot be updated")
        await asyncio.sleep(LEARN_EVERY)


def typical_seconds(context: Context, task: Task) -> float:
    """Return the usual duration of a task of this kind: measured, configured, or the dialect's default, in this order."""
    measured = context.statistics.median(task)
    if measured is not None:
        return measured
    upstream = context.upstreams.get(task.upstream or "")
    if upstream is not None and upstream.settings.typical_seconds is not None:
        return upstream.settings.typical_seconds
    dialect = context.dialect(task)
    return TYPICAL_SECONDS if dialect is None else dialect.facts.typical(task.operation)


def can_list_jobs(context: Context, task: Task) -> bool:
    """Return whether the task's upstream has a list in which a job without an id can be found."""
    upstream, dialect = context.upstreams.get(task.upstream or ""), context.dialect(task)
    if upstream is None or not isinstance(dialect, CanListJobs) or task.operation in dialect.facts.synchronous:
        return False
    return dialect.facts.jobs_listed_by == "key" or upstream.settings.account_token is not None


def next_poll(context: Context, task: Task) -> dt.datetime | None:
    """Return the time of the next poll of a task, by the statistics of its kind; None when no query is left."""
    expecting = task.callback_expected and not context.statistics.callbacks_unreliable(task.upstream, task.dialect)
    dialect = context.dialect(task)
    due = next_poll_by_plan(
        task,
        EXPECTING if expecting else POLLING,
        median=typical_seconds(context, task),
        lookup=can_list_jobs(context, task),
        first_look=None if dialect is None else dialect.facts.first_poll,
        now=context.now(),
    )
    in_batches = due is not None and isinstance(dialect, CanPollMany)
    return in_step(due, deadline=task.deadline_at) if due is not None and in_batches else due


def count_unknown_word(context: Context, dialect: str, word: str) -> None:
    """Count a status word that the dialect's table does not contain, and log its first occurrence."""
    key = _key_of_word(context, dialect, word)
    context.unknown_words[key] += 1
    context.metrics.unknown_words.labels(dialect).inc()
    if context.unknown_words[key] == 1:
        log.warning("unknown status word; state kept dialect=%s word=%r", *key)


def times_counted(context: Context, dialect: str, word: str) -> int:
    """Return how often this process has counted a status word."""
    return context.unknown_words[_key_of_word(context, dialect, word)]


def _key_of_word(context: Context, dialect: str, word: str) -> tuple[str, str]:
    """Return the key of a status word. Some providers write numbers into their words: those beyond a bound share a key."""
    key = (dialect, word[:MAX_WORD])
    return key if key in context.unknown_words or len(context.unknown_words) < MAX_WORDS else (dialect, OTHER_WORDS)
