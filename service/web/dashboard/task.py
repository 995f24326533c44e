"""The page of a task: the sentence, the facts, the time line, the result, and what can be done."""

import asyncio
import dataclasses
import datetime as dt
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from service.domain.explanation import explain
from service.domain.redaction import Redactor
from service.domain.task import ENDED, Source, State, Submission, Task
from service.flows.callbacks.preview import preview
from service.flows.context import Context
from service.flows.conversation import secrets_of
from service.flows.render import show_task
from service.flows.statistics import typical_seconds
from service.flows.upstreams import status as upstream_status
from service.providers.capabilities import CanCancel
from service.providers.registry import DIALECTS, FAMILIES
from service.store import callbacks as callback_store
from service.store import events as event_store
from service.store import history as history_store
from service.store import overview
from service.store import submissions as submission_store
from service.store.callbacks import Received
from service.store.money.reservations import Reservation
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import messages as message_store
from service.web.api.route import json_response
from service.web.dashboard import words
from service.web.dashboard.acts import awaited_by, find_task
from service.web.dashboard.bodies import Body, body_of, json_of
from service.web.dashboard.history import KINDS, Heard, Records
from service.web.dashboard.history_items import MAX_REBUILT
from service.web.dashboard.paid import Paid, Tone, paid_for
from service.web.dashboard.results import shown_results
from service.web.dashboard.schema_form import fields_of
from service.web.dashboard.task_money import money_of, open_reservations
from service.web.dashboard.task_row import flags_of, icon_of, rows_together
from service.web.dashboard.tasks import stuck
from service.web.dashboard.timeline import counts, timeline
from service.web.dashboard.visit import Visit

MAX_RELATED: Final = 30
MAX_CALLBACKS: Final = 100
"""Callbacks of a task that are shown: the last ones."""
_HOW: Final = {
    "callback": "Callback",
    "poll": "Poll",
    "submit": "Answer to the submit",
    "sweep": "Dovecote",
    "client": "Client",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """An answer in a word, and its reason."""

    name: str
    word: str
    detail: str = ""
    tone: Tone | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How far a task is, against what tasks of its kind take. Lengths are of a line of 1000."""

    passed: int
    usual: int
    late: int
    words: tuple[str, str]
    label: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """The acts that a task offers now."""

    cancel: bool
    refresh: bool
    refresh_why_not: str
    retry: bool
    answer: bool
    stops_at_provider: bool


async def task_page(visit: Visit) -> Response:
    """Return the page of a task."""
    task = await find_task(visit)
    records, related, held = await _read(visit, task)
    context, now = visit.context, visit.now
    items = timeline(records, now=now)
    position = await upstream_status.queue_position(context, task)
    paid = paid_for(task, records.submissions)
    family = FAMILIES.get(task.family)
    usual = (typical_seconds(context, task), context.statistics.nine_in_ten(task))
    return visit.page(
        "task.html",
        title=f"{task.family if family is None else family.title} {task.operation}",
        task=task,
        sentence=sentence_of(task, now=now),
        flags=flags_of(task, records.submissions, stuck=stuck(context, task)),
        position=position,
        facts=tuple(
            facts_of(
                task,
                paid,
                usual=usual,
                missed=missed_callback(context, records, now=now),
                now=now,
                operator=visit.is_operator,
            )
        ),
        forecast=forecast_of(task, *usual, now=now),
        items=items,
        kinds=KINDS,
        counted=counts(items),
        created=task.created_at,
        offers=offers_of(context, task),
        paid=paid,
        money=money_of(task, records.events, held),
        results=shown_results(task),
        input=input_of(task),
        details=tuple(details_of(task)),
        related=rows_together(related, now=now),
        actions=task.next_actions if task.state is State.SUCCEEDED else (),
        follow_key=f"follow-{secrets.token_hex(8)}",
        answer_fields=fields_of(awaited_by(task) or {}, {}),
        icon_name=icon_of(task),
    )


async def task_json(visit: Visit) -> Response:
    """Return a task as the API shows it."""
    return json_response(show_task(await find_task(visit), now=visit.now))


async def _read(visit: Visit, task: Task) -> tuple[Records, list[Task], list[Reservation]]:
    context = visit.context
    async with context.database.reading() as connection:
        submissions = (await submission_store.of_tasks(connection, [task.id]))[task.id]
        ids = [each.id for each in submissions]
        events = await event_store.of_task(connection, task.id)
        answers = await history_store.answers_to(connection, ids)
        polls = await history_store.polls_of(connection, task.id)
        received = (await callback_store.of_submissions(connection, ids))[-MAX_CALLBACKS:]
        messages = await message_store.of_task(connection, task.id)
        attempts = await attempt_store.of_messages(connection, [each.id for each in messages])
        related = await overview.related(connection, task, most=MAX_RELATED)
        held = await open_reservations(connection, task)
    heard = await asyncio.to_thread(_heard, context, received, submissions)
    records = Records(
        task=task,
        events=events,
        submissions=submissions,
        answers=answers,
        sent=_sent(context, task, submissions),
        callbacks=heard,
        polls=polls,
        messages=messages,
        attempts=attempts,
    )
    return records, related, held


def _heard(context: Context, received: Sequence[Received], submissions: Sequence[Submission]) -> list[Heard]:
    """Return callbacks with what this version reads in each."""
    known = {each.id: each for each in submissions}
    return [heard_of(context, each, known.get(each.submission_id)) for each in received]


def heard_of(context: Context, received: Received, submission: Submission | None) -> Heard:
    """Return a callback with its body, its headers, and what this version reads in it."""
    read = preview(context, received, submission)
    upstream = None if submission is None else context.upstreams.get(submission.upstream)
    redactor = Redactor(context.tokens, () if upstream is None else secrets_of(upstream))
    understood: Any = {"error": read.error}
    if read.error is None:
        understood = [_understood(update) for update in read.updates]
        understood = understood[0] if len(understood) == 1 else understood
    headers = "\n".join(f"{name}: {redactor.text(value)}" for name, value in sorted(received.headers.items()))
    return Heard(
        received=received,
        says=read.says or read.error or "",
        signed=read.signed,
        bodies=(
            body_of("Body, as it came", redactor.body(received.body)),
            json_of("As this version reads it", understood),
            *((Body("Stored headers", headers),) if headers else ()),
        ),
    )


def _understood(update: Any) -> dict[str, Any]:
    shown = {
        "state": update.state,
        "progress": update.progress,
        "external_id": update.external_id,
        "results": [f"{each.kind} ({each.role})" for each in update.results] or None,
        "failure": None if update.failure is None else update.failure.as_json(),
        "cost": update.cost,
        "refunded": update.refunded,
        "unknown_word": update.unknown_word,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _sent(context: Context, task: Task, submissions: Sequence[Submission]) -> Mapping[UUID, Body]:
    """Return the request of each submission, written anew by its dialect: requests are not stored."""
    found: dict[UUID, Body] = {}
    for each in submissions[:MAX_REBUILT] if not (task.large_input or task.adopted) else ():
        upstream, dialect = context.upstreams.get(each.upstream), DIALECTS.get(each.dialect)
        if upstream is None or dialect is None:
            continue
        public = context.settings.public_url
        url = f"{public}/callbacks/[redacted]" if public and dialect.facts.callbacks else None
        try:
            call = dialect.create(dataclasses.replace(upstream.in_its_names(task), submission_id=each.id), url)
            redactor = Redactor(context.tokens, secrets_of(upstream))
            found[each.id] = json_of(f"Request: {call.method} {call.path[:120]}", redactor.value(call.body))
        except Exception:  # noqa: BLE001, S112 - the request of an older version may be one that this version refuses
            continue
    return found


def sentence_of(task: Task, *, now: dt.datetime) -> tuple[str, str]:
    """Return the state, and the sentence about it without the state where it begins with it."""
    sentence = explain(task, now=now)
    word = task.state.replace("_", " ").capitalize()
    if sentence.startswith(word):
        return word, sentence.removeprefix(word)
    return f"{word}.", f" {sentence}"


def missed_callback(context: Context, records: Records, *, now: dt.datetime) -> bool:
    """Return whether a task ended without a callback that was expected. Callbacks may have been pruned: then it is not said."""
    task, kept_for = records.task, context.settings.retention.age("callbacks")
    if task.finished_at is None or not task.callback_expected or records.callbacks:
        return False
    return kept_for is None or now - task.finished_at < kept_for


def facts_of(
    task: Task, paid: Paid, *, usual: tuple[float, float | None], missed: bool, now: dt.datetime, operator: bool
) -> Iterator[Fact]:
    """Yield at most six answers about a task."""
    common, most = usual
    within = f"usual {words.duration(common)}" + (f", nine in ten within {words.duration(most)}" if most else "")
    if task.finished_at is not None and task.state in ENDED:
        yield Fact("Took", words.duration((task.finished_at - task.created_at).total_seconds()), within)
    else:
        yield Fact("Age", words.duration((now - task.created_at).total_seconds()), within)
    yield Fact("Paid", paid.word, paid.detail, paid.tone)
    if task.state in ENDED:
        came = "no callback came; " if missed and task.outcome_source == Source.POLL else ""
        yield Fact("Learned by", _HOW.get(task.outcome_source or "", "not recorded"), f"{came}{_decided(task)}")
    elif task.due_at is not None:
        due = max(task.due_at, now)
        yield Fact("Next check", words.clock(due, now=now), words.remaining(due, now=now))
    labels = ", ".join(f"{name}={value}" for name, value in task.labels.items())
    if operator:
        yield Fact("Client", task.client, labels)
    elif labels:
        yield Fact("Labels", str(len(task.labels)), labels)
    where = ", ".join(filter(None, (task.dialect, task.model)))
    yield Fact("Upstream", task.upstream or "none yet", where or f"route: {', '.join(task.route)}")


def _decided(task: Task) -> str:
    return f"decided by {'the provider' if task.decided_by == 'provider' else 'Dovecote'}"


def forecast_of(task: Task, usual: float, most: float | None, *, now: dt.datetime) -> Forecast | None:
    """Return how far an open task is; None for one that has ended, waits for input, or has not been submitted."""
    if task.state in ENDED | {State.AWAITING_INPUT} or task.submitted_at is None:
        return None
    passed = (now - task.submitted_at).total_seconds()
    late = most or 2 * usual
    whole = max(passed * 1.1, late * 1.15)
    left = f"{words.duration(max(usual - passed, 0))} to {words.duration(max(late - passed, 0))} more"
    compared = "nine in ten tasks of its kind take" if most else "twice the usual time"
    over = f"longer than {compared} ({words.duration(late)})"
    said = f"usually done after {words.duration(usual)} to {words.duration(late)}: {left}" if passed < late else over
    so_far = f"{words.duration(passed)} since the submit"
    return Forecast(
        passed=round(1000 * passed / whole),
        usual=round(1000 * usual / whole),
        late=round(1000 * late / whole),
        words=(so_far, said),
        label=f"{so_far}; {said}.",
    )


def offers_of(context: Context, task: Task) -> Offers:
    """Return what can be done with a task now."""
    dialect = context.dialect(task)
    asked = task.decided_by != "provider" and task.external_id is not None
    why_not = "the provider's report is final" if task.decided_by == "provider" else "there is no job id to ask about"
    operation = FAMILIES[task.family].operations.get(task.operation) if task.family in FAMILIES else None
    return Offers(
        cancel=task.state not in ENDED,
        refresh=asked,
        refresh_why_not="" if asked else why_not,
        retry=task.state is State.UNCONFIRMED and not task.adopted,
        answer=task.state is State.AWAITING_INPUT and operation is not None and operation.answer is not None,
        stops_at_provider=isinstance(dialect, CanCancel) and task.external_id is not None,
    )


def input_of(task: Task) -> tuple[tuple[str, str, bool], ...]:
    """Return the fields of the input: name, text, and whether it is long."""
    fields = {**task.input, **{f"options.{name}": value for name, value in task.options.items()}}
    found = []
    for name, value in fields.items():
        text = (
            value
            if isinstance(value, str)
            else json_of("", value).text
            if isinstance(value, dict | list)
            else str(value)
        )
        shown = f"{text[:60]}… ({words.size(len(text))})" if text.startswith("data:") else text[:8000]
        found.append((name, shown, len(shown) > 200))  # noqa: PLR2004 - characters that fit without scrolling
    return tuple(found)


def details_of(task: Task) -> Iterator[tuple[str, str, bool]]:
    """Yield further facts: name, text, and whether it is an id."""
    if task.external_id is not None:
        yield f"id at {task.upstream}", task.external_id, True
    yield "if uncertain", task.on_uncertain, False
    for name, at in (("accepted", task.created_at), ("submitted", task.submitted_at), ("ended", task.finished_at)):
        if at is not None:
            yield name, words.moment(at), False
    yield "deadline", words.moment(task.deadline_at), False
    if task.callback_url is not None:
        yield "webhook", task.callback_url, False
    if task.idempotency_key is not None:
        yield "Idempotency-Key", task.idempotency_key, True
    for warning in task.warnings:
        yield "warning", warning.message, False
