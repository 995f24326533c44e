"""Callbacks: stored at the door before they are understood, then matched by their token and taken in."""

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import UpstreamError
from service.domain.schedules import LEASE, retry_inbox
from service.domain.task import Source, State, Submission, Update
from service.flows.apply import Applied, News, announce, apply
from service.flows.context import Context, Upstream, log
from service.flows.submission.cancel import to_be_cancelled
from service.providers.registry import DIALECTS
from service.providers.wire import Callback
from service.store import callbacks as callback_store
from service.store import queue, submissions
from service.store.callbacks import Received
from service.store.database import StoreUnavailable

MAX_AT_ONCE = 50

_KEPT_HEADERS = frozenset({"content-type", "user-agent", "date"})
_KEPT_PREFIXES = ("webhook-", "svix-", "x-webhook-")
"""Signature headers are kept, since they are verified later. Credentials, cookies and addresses are not."""


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Choose what is stored of a callback's headers."""
    return {
        name: value.replace("\x00", "")
        for name, value in headers.items()
        if name in _KEPT_HEADERS or name.startswith(_KEPT_PREFIXES)
    }


async def receive(context: Context, token: str, submission_id: UUID, headers: Mapping[str, str], body: bytes) -> None:
    """Store a callback whose token has been verified; returns after the commit.

    Some providers echo the address that they call: the token in it is a secret and is not stored.

    :raises StoreUnavailable: when it could not be stored: the provider must be told to come again
    """
    now = context.now()
    body = body.replace(token.encode(), b"[redacted]")
    received = Received(
        id=context.new_id(),
        submission_id=submission_id,
        headers=kept_headers(headers),
        body=body,
        dedupe_key=hashlib.sha256(body).digest(),
        received_at=now,
        due_at=now,
    )
    await context.writer.do_first(callback_store.receive, received)
    context.signals.wake("callbacks")


async def run_due(context: Context) -> int:
    """Take the callbacks that are due and take in what they say; answer how many were taken."""
    now = context.now()
    claimed = await context.writer.do(_claim, (now, now + dt.timedelta(seconds=LEASE), MAX_AT_ONCE))
    if claimed:
        try:
            announce(context, await context.writer.do(context.once(_take_in), claimed))
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - one that cannot be written must not stop the others
            log.exception("a callback cannot be written; each is taken in by itself")
            for row in claimed:
                await _take_in_alone(context, row)
    return len(claimed)


async def _take_in_alone(context: Context, row: Row[Any]) -> None:
    """Take in one callback, so that one that cannot be written costs no other; it is tried again, and parked in the end."""
    try:
        announce(context, await context.writer.do(context.once(_take_in), [row]))
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - it is tried again, and parked in the end
        log.exception("callback %s cannot be written", row.id)
        failed = _Heard(detail=f"cannot be written: {type(error).__name__}", retry=True)
        await context.writer.do(_settle, _settlement(context, row, failed, ()))


async def _settle(connection: AsyncConnection, settled: Sequence[dict[str, Any]]) -> list[None]:
    await queue.settle_inbox(connection, settled)
    return [None] * len(settled)


async def _claim(
    connection: AsyncConnection, wishes: Sequence[tuple[dt.datetime, dt.datetime, int]]
) -> list[Sequence[Row[Any]]]:
    return [
        await queue.claim_rows(connection, "callbacks", now=now, until=until, most=most) for now, until, most in wishes
    ]


async def _take_in(
    context: Context, connection: AsyncConnection, batches: Sequence[Sequence[Row[Any]]]
) -> list[list[Applied]]:
    """Understand claimed callbacks and apply them, with the decision on each, in one transaction."""
    return [await _take_in_one(context, connection, rows) for rows in batches]


async def _take_in_one(context: Context, connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Applied]:
    known = await submissions.by_id(connection, [row.submission_id for row in rows])
    heard = [_understand(context, row, known.get(row.submission_id)) for row in rows]
    applied = iter(await apply(context, connection, [news for each in heard for news in each.news]))
    hastened = [
        known[row.submission_id].task_id for row, each in zip(rows, heard, strict=True) if each.decision == "hastened"
    ]
    settled: list[dict[str, Any]] = []
    told: list[Applied] = []
    for row, each in zip(rows, heard, strict=True):
        came_of = [next(applied) for _ in each.news]
        told += came_of
        settled.append(_settlement(context, row, each, came_of))
    await queue.settle_inbox(connection, settled)
    # A wish to cancel that waited for the job's id is carried out by the poll.
    hastened += [each.task.id for each in told if each.task is not None and to_be_cancelled(each.task)]
    await queue.hasten(connection, hastened, now=context.now())
    if hastened:
        context.signals.wake("poll")
    if any(news.proves is not None and news.proves.superseded_at is not None for each in heard for news in each.news):
        context.signals.wake("duplicates")
    return told


@dataclasses.dataclass(frozen=True, slots=True)
class _Heard:
    """What a callback says: news, or a decision without any."""

    news: Sequence[News] = ()
    decision: str | None = None
    detail: str | None = None
    retry: bool = False


def _understand(context: Context, row: Row[Any], submission: Submission | None) -> _Heard:
    dialect = None if submission is None else DIALECTS.get(submission.dialect)
    if submission is None or dialect is None:
        return _Heard(
            decision="unmatched", detail="this database has no such submission, or this version no such dialect"
        )
    upstream = context.upstreams.get(submission.upstream)
    callback = Callback(row.headers, row.body, row.received_at.timestamp())
    confirms = dialect.facts.confirms or (upstream is not None and upstream.settings.callbacks == "confirm")
    try:
        if dialect.verify_signature(callback, _callback_key(upstream)) is False:
            return _Heard(decision="forged", detail="the signature is not the provider's")
        updates = dialect.read_callback(callback)
    except UpstreamError as error:
        # Where a poll tells all, whoever knows our token has given hint enough.
        return _Heard(decision="hastened" if confirms else "unreadable", detail=error.message or error.code)
    except Exception as error:  # noqa: BLE001 - a mistake of ours must not cost the callback
        log.exception("callback %s could not be read", row.id)
        return _Heard(detail=f"{type(error).__name__}: {error}"[:500], retry=True)
    if confirms:
        return _Heard(_proof(submission, updates), "hastened", "a poll is to confirm it")
    return _heard_of_ours(submission, updates)


def _proof(submission: Submission, updates: Sequence[Update]) -> Sequence[News]:
    """Take from a callback that is to be confirmed what no poll can tell: that there is a job, and which."""
    job = next((update.external_id for update in updates if update.external_id is not None), None)
    if submission.external_id is not None or job is None:
        return ()
    return [_news(submission, Update(state=State.SUBMITTED, external_id=job))]


def _heard_of_ours(submission: Submission, updates: Sequence[Update]) -> _Heard:
    """Take what is said of our job. A callback about another is one of several behind our id, or names the vendor's id."""
    ours = [
        update for update in updates if submission.external_id in {None, update.external_id or submission.external_id}
    ]
    if updates and not ours:
        return _Heard(
            decision="hastened", detail=f"it is about job {updates[0].external_id}: a poll is to tell of ours"
        )
    return _Heard([_news(submission, update) for update in ours])


def _callback_key(upstream: Upstream | None) -> str | None:
    key = None if upstream is None else upstream.settings.callback_key
    return None if key is None else key.get_secret_value()


def _news(submission: Submission, update: Update) -> News:
    return News(
        task_id=submission.task_id,
        source=Source.CALLBACK,
        update=update,
        set={"last_error": None} if update.state is not None else {},
        proves=submission,
    )


def _settlement(context: Context, row: Row[Any], heard: _Heard, applied: Sequence[Applied]) -> dict[str, Any]:
    now = context.now()
    decision, detail, due = heard.decision, heard.detail, None
    if heard.retry:
        due = retry_inbox(row.attempts, now=now)
        decision = None if due is not None else "parked"
    elif decision is None:
        decisions = [each.decision for each in applied]
        decision = "applied" if "applied" in decisions else (decisions[0] if decisions else "duplicate")
    return {
        "of_row": row.id,
        "of_attempt": row.attempts,
        "decision": decision,
        "detail": detail,
        "decided_at": None if decision is None else now,
        "due_at": due,
    }
