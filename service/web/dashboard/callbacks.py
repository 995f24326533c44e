"""The inbox: stored callbacks, those that were not understood first, and how to run them again."""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.validation import Mistake
from service.flows.callbacks.rerun import MAX_AT_ONCE, rerun
from service.flows.context import Context
from service.providers.registry import FAMILIES
from service.store import inbox
from service.store.inbox import Entry, Filter
from service.web.api.route import invalid
from service.web.dashboard import words
from service.web.dashboard.bodies import Body
from service.web.dashboard.decisions import DECISIONS, NOT_UNDERSTOOD, Chip
from service.web.dashboard.task import heard_of
from service.web.dashboard.task_query import as_id
from service.web.dashboard.visit import Visit
from service.web.problems import Problem

PAGE: Final = 50
MAX_URGENT: Final = 25
"""Callbacks that were not understood, shown above the others."""
MAX_COUNTED: Final = 999


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A callback as the list shows it."""

    id: UUID
    received: str
    exact: str
    upstream: str
    chip: Chip
    says: str
    task_id: UUID | None
    kind: str
    proof: str
    size: str
    copies: int
    bodies: tuple[Body, ...]


def row_of(context: Context, entry: Entry, *, now: dt.datetime) -> Row:
    """Return the row of a callback, with what this version reads in it."""
    received, submission = entry.received, entry.submission
    heard = heard_of(context, received, submission)
    chip = DECISIONS.get(received.decision or "", Chip("work", "late", "being read"))
    urgent = received.decision in NOT_UNDERSTOOD
    says = (
        ". ".join(filter(None, (received.detail, heard.says)))
        if urgent
        else ", ".join(filter(None, (heard.says, received.detail)))
    )
    family = FAMILIES.get(entry.family or "")
    return Row(
        id=received.id,
        received=words.clock(received.received_at, now=now),
        exact=words.moment(received.received_at),
        upstream="" if submission is None else submission.upstream,
        chip=chip,
        says=words.excerpt(says, 240),
        task_id=None if submission is None else submission.task_id,
        kind="" if entry.operation is None else f"{entry.family if family is None else family.title} {entry.operation}",
        proof="signed" if heard.signed else "token",
        size=words.size(len(received.body)),
        copies=received.copies,
        bodies=heard.bodies,
    )


async def inbox_page(visit: Visit) -> Response:
    """Return the inbox: for an operator, because a callback may belong to any client, or to none."""
    if not visit.is_operator:
        raise Problem(
            403,
            "forbidden",
            f"a key with the scope {Scope.ADMIN} is required: callbacks of your tasks are on the page of each task",
        )
    context = visit.context
    chosen = tuple(word for word in DECISIONS if word in visit.http.query_params.getlist("decision"))
    upstream, before = visit.query("upstream"), as_id(visit.query("before"))
    wanted = Filter(decisions=chosen, upstream=upstream or None, before=before)
    async with context.database.reading() as connection:
        urgent = await inbox.page(connection, Filter(decisions=NOT_UNDERSTOOD), most=MAX_URGENT) if not chosen else []
        found = await inbox.page(connection, wanted, most=PAGE + 1)
        counted = await inbox.count_by_decision(connection)
        number = await inbox.count_decided(connection, NOT_UNDERSTOOD, most=MAX_COUNTED)
    shown = found[:PAGE]
    rows = await asyncio.to_thread(lambda: [row_of(context, each, now=visit.now) for each in (*urgent, *shown)])
    return visit.page(
        "callbacks.html",
        title="Callbacks",
        urgent=rows[: len(urgent)],
        rows=rows[len(urgent) :],
        older=shown[-1].id if len(found) > PAGE else None,
        chips=tuple((word, chip, words.count(counted.get(word, 0))) for word, chip in DECISIONS.items()),
        chosen=chosen,
        upstream=upstream,
        upstreams=sorted(context.upstreams),
        share=share_of(counted),
        total=words.count(sum(counted.values())),
        not_understood=number,
        not_understood_words=words.count(number, limit=MAX_COUNTED),
        address=_address(chosen, upstream),
        toggles={
            word: _address(tuple(each for each in DECISIONS if (each in chosen) != (each == word)), upstream)
            for word in DECISIONS
        },
    )


def share_of(counted: Mapping[str | None, int]) -> str:
    """Return the share of callbacks that were understood, in words."""
    decided = sum(number for word, number in counted.items() if word is not None)
    if not decided:
        return ""
    understood = decided - sum(counted.get(word, 0) for word in NOT_UNDERSTOOD)
    share = 100 * understood / decided
    return f"{'100' if understood == decided else f'{min(share, 99.9):.1f}'}{words.NARROW}% understood"


def _address(decisions: Sequence[str], upstream: str) -> str:
    fields = [("decision", word) for word in decisions] + ([("upstream", upstream)] if upstream else [])
    return "?" + urlencode(fields)


async def rerun_callbacks(visit: Visit) -> Response:
    """Run callbacks again: the picked ones, or all that were not understood."""
    context = visit.context
    ids = {found for text in visit.form.get("callback", ())[:MAX_AT_ONCE] if (found := as_id(text)) is not None}
    async with context.database.reading() as connection:
        if visit.field("all") == "not_understood" and visit.is_operator:
            entries = await inbox.page(connection, Filter(decisions=NOT_UNDERSTOOD), most=MAX_AT_ONCE)
        else:
            picked = [await inbox.find(connection, each, visit.sees_only) for each in sorted(ids)[:PAGE]]
            entries = [each for each in picked if each is not None]
    if not entries:
        raise invalid([Mistake("callback", "pick at least one callback of yours")])
    await rerun(context, {each.id for each in entries})
    following = visit.field("next")
    task_id = entries[0].submission.task_id if entries[0].submission is not None else None
    if task_id is not None and f"/tasks/{task_id}" in following:
        return visit.redirect(f"/tasks/{task_id}")
    return visit.redirect("/callbacks", ran=len(entries))
