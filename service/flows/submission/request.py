"""Check a client's request, report every mistake at once, and make the task."""

import datetime as dt
import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args
from uuid import UUID

import orjson

from service.domain.large_input import is_large
from service.domain.media_references import references_in
from service.domain.task import CallbackWhen, Task
from service.domain.uploads import Upload
from service.domain.validation import (
    MAX_MISTAKES,
    MAX_NAME,
    Invalid,
    Mistake,
    Schema,
    cut_texts,
    mistake_at,
    nearest,
    unstorable,
    without_nulls,
)
from service.domain.webhook_events import TYPES
from service.flows.context import Context
from service.flows.money.fields import TERMS_SCHEMA
from service.flows.money.quotes import read_terms, with_quotes
from service.flows.submission.adoption import as_adopted
from service.flows.submission.parents import check_parent, follow, follows_parent
from service.flows.submission.references import with_references, with_stand_ins
from service.flows.submission.routes import choose_route, quoted, requested_route
from service.flows.webhooks.formats import DOVECOTE, FORMATS
from service.flows.webhooks.url_check import callback_mistakes
from service.providers.operation import Family, Operation
from service.providers.registry import FAMILIES

MAX_CHECKED: Final = 20_000
"""Characters of a text that are checked against a schema: media are longer, and no schema has a larger limit."""
DEADLINE_SECONDS = (10, 7 * 86_400)
MAX_LABELS = 20
MAX_EXTERNAL_ID = 500
MAX_VALUES = 100_000
MAX_DEPTH = 50
"""Levels of nesting that a request may have."""

_NAME: Final = {"type": "string", "maxLength": MAX_NAME}

REQUEST: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["family", "operation"],
    "properties": {
        "family": {**_NAME, "description": "The family; see `GET /v1/families`.", "examples": ["runway"]},
        "operation": {**_NAME, "description": "The verb within the family.", "examples": ["text_to_video"]},
        "input": {
            "type": "object",
            "description": (
                "The input of the operation, in Dovecote's names; `GET /v1/families` has the schema of every operation. In place "
                'of a URL stands `{"upload": "upl_…"}` for an upload, or `{"result": 0}` for a result of the `parent_id`.'
            ),
            "examples": [{"prompt": "a dove comes home at dusk", "duration": 5}],
        },
        "options": {
            "type": "object",
            "description": "Fields of the provider's own body. They are sent unchanged and override the fields that `input` maps to.",
        },
        "callback_url": {
            "type": "string",
            "maxLength": 2048,
            "description": "Where Dovecote posts a signed message when the task ends: an https URL of a public host, "
            "unless the operator allows more.",
        },
        "callback_events": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string", "enum": list(TYPES)},
            "description": "The types of messages to post there; default: the end, and a late result.",
        },
        "callback_when": {
            "type": "string",
            "enum": list(get_args(CallbackWhen)),
            "description": "When the message about the end is posted there: `ended` (default), or `kept`: once every file of the "
            "result is kept or lost.",
        },
        "callback_format": {
            "type": "string",
            "enum": list(FORMATS),
            "description": "The form of the messages to the `callback_url`: Dovecote's own, or that of another API.",
        },
        "labels": {
            "type": "object",
            "maxProperties": MAX_LABELS,
            "propertyNames": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
            "additionalProperties": {"type": "string", "maxLength": 256},
            "description": "Your own names for the task, of 1 to 64 letters, digits, `_`, `.` or `-`; lists can be filtered by them.",
        },
        "parent_id": {
            "type": "string",
            "format": "uuid",
            "description": (
                "The succeeded task that a follow-up continues; it is served by the upstream of that task. Or the task of which "
                'the input takes a result, as `{"result": 0}`: then any upstream may serve it.'
            ),
        },
        "upstream": {
            **_NAME,
            "description": "The one upstream that may serve it; default: those of the family's route, in order.",
        },
        "route": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "maxItems": 20,
            "items": _NAME,
            "description": "The upstreams that may serve it, in this order, instead of `upstream`.",
        },
        "external_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_EXTERNAL_ID,
            "description": (
                "The provider's id of a job that was bought elsewhere. Dovecote follows it to its end at `upstream`, and never "
                "submits it. `input` may be left out."
            ),
        },
        "dialect": {
            **_NAME,
            "description": (
                "With `external_id`: the protocol in which the job was bought; default: the first of the upstream that has the "
                "operation."
            ),
        },
        "on_uncertain": {
            "type": "string",
            "enum": ["hold", "fail", "resubmit_once"],
            "description": (
                "The policy when a submit got no usable answer and it stays unknown whether a job exists: wait for the "
                "deadline, fail, or submit it again, once, at the risk of a second charge."
            ),
        },
        **TERMS_SCHEMA,
        "deadline": {
            "description": "When Dovecote stops waiting: seconds from now, or a time (RFC 3339).",
            "anyOf": [
                {"type": "number", "minimum": DEADLINE_SECONDS[0], "maximum": DEADLINE_SECONDS[1]},
                {"type": "string", "format": "date-time"},
            ],
        },
    },
}
"""JSON Schema of the body of ``POST /v1/tasks``."""

_SCHEMA = Schema(REQUEST)


@functools.cache
def _whole_input(family: str, operation: str) -> Schema:
    """Return the schema of an input. All of them together take 9 MB, and a tenth of a second of a start."""
    return Schema(FAMILIES[family].operations[operation].input)


@functools.cache
def _partial_input(family: str, operation: str) -> Schema:
    """Return the schema of an input of which every field may be missing: that of a job which was bought elsewhere."""
    return Schema({**FAMILIES[family].operations[operation].input, "required": []})


def task_of_request(
    context: Context,
    request: Any,
    *,
    client: str,
    idempotency_key: str | None,
    parent: Task | None = None,
    uploads: Mapping[UUID, Upload] | None = None,
    task_id: UUID | None = None,
) -> Task:
    """Check a request and return its task; nothing is written yet.

    :param parent: the client's task that ``parent_id`` names
    :param uploads: the uploads that it refers to, as far as there are any
    :param task_id: default: a new id
    :raises Invalid: with every mistake
    """
    request, family, operation, mistakes = _operation_of(request)
    now, adopts = context.now(), "external_id" in request
    given = without_nulls(request.get("input", {}), operation.input)
    found: list[Mistake] = []
    given = with_references(
        given, operation.input, client=client, uploads=uploads or {}, parent=parent, now=now, mistakes=found
    )
    schema = (_partial_input if adopts else _whole_input)(family.name, operation.name)
    mistakes += found or schema.mistakes(cut_texts(with_stand_ins(given), MAX_CHECKED), below="input")
    deadline = _deadline(request.get("deadline"), operation, now, mistakes)
    mistakes += callback_mistakes(context.settings.webhook_rules, request)
    task = Task(
        id=task_id or context.new_id(),
        client=client,
        family=family.name,
        operation=operation.name,
        input=given,
        options=request.get("options", {}),
        large_input=is_large(given, request.get("options", {})),
        labels=request.get("labels", {}),
        callback_url=request.get("callback_url"),
        on_uncertain=request.get("on_uncertain") or context.settings.policy_of(client),
        callback_events=tuple(request.get("callback_events", ())),
        callback_when=request.get("callback_when", "ended"),
        callback_format=request.get("callback_format", DOVECOTE),
        terms=read_terms(context, client, request, mistakes),
        idempotency_key=idempotency_key,
        request_hash=_hash_of(request),
        sequence=1,
        created_at=now,
        updated_at=now,
        deadline_at=deadline,
        due_at=now,
    )
    if adopts:
        task = as_adopted(context, task, request, mistakes)
    else:
        takes_result = any(each.source == "result" for each in references_in(given))
        check_parent(request, operation, parent, mistakes, takes_result=takes_result)
        task = _routed(
            context, task, request, parent, mistakes, follows=follows_parent(operation, takes_result=takes_result)
        )
        if not mistakes:
            task = with_quotes(context, task, mistakes)
    if mistakes:
        raise Invalid(mistakes)
    return task


def _operation_of(request: Any) -> tuple[dict[str, Any], Family, Operation, list[Mistake]]:
    """Return a request without nulls, its family and operation, and the mistakes in its other fields.

    :raises Invalid: when the operation is unknown, or cannot be checked
    """
    request = without_nulls(request, REQUEST)
    mistakes = [] if _is_storable(request) else list(itertools.islice(_unstorable(request), MAX_MISTAKES))
    mistakes = mistakes or _too_many_labels(request)
    if mistakes:
        raise Invalid(mistakes)
    mistakes = _SCHEMA.mistakes(cut_texts(request, MAX_CHECKED))
    if not isinstance(request, dict) or any(
        mistake.path in {"family", "operation", "input", "options"} for mistake in mistakes
    ):
        raise Invalid(mistakes)
    family, operation = _find(request, mistakes)
    if family is None or operation is None:
        raise Invalid(mistakes)
    return request, family, operation, mistakes


def _routed(
    context: Context,
    task: Task,
    request: Mapping[str, Any],
    parent: Task | None,
    mistakes: list[Mistake],
    *,
    follows: bool,
) -> Task:
    """Return the task with the upstreams that may serve it.

    :param follows: whether it continues its parent at the provider, and does not only take a result of it
    """
    if "dialect" in request:
        mistakes.append(Mistake("dialect", "has no effect without an external_id: leave it out"))
    if not mistakes and parent is not None and follows:
        return follow(context, task, parent, requested_route(request, mistakes), mistakes)
    if not mistakes:
        route, skipped_upstreams = choose_route(context, task, requested_route(request, mistakes), mistakes)
        parent_id = None if parent is None else parent.id
        return task.changed(route=route, skipped_upstreams=skipped_upstreams, parent_id=parent_id)
    return task


def request_hash(request: Any) -> str:
    """Return a hash that is equal for equal requests."""
    return _hash_of(without_nulls(request, REQUEST))


def _hash_of(request: Any) -> str:
    try:
        return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
    except TypeError:  # nested too deeply: equal to nothing that was accepted
        return ""


def _is_storable(request: Any) -> bool:
    """Return whether :func:`_unstorable` has nothing to yield: without paths, this takes a fifth of the time."""
    level, seen = [request], 0
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                if "\x00" in value:
                    return False
            elif isinstance(value, dict):
                below += value
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif unstorable(value) is not None:
                return False
        seen += len(level)
        if seen + len(below) > MAX_VALUES:
            return False
        if not below:
            return True
        level = below
    return False


def _unstorable(request: Any) -> Iterator[Mistake]:
    """Yield what cannot be stored: texts with a NUL, odd numbers, excessive nesting, and too many values."""
    seen = 0
    waiting: list[tuple[str, int, Any]] = [("", 0, request)]
    while waiting:
        path, depth, value = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            yield Mistake("", f"holds more than {MAX_VALUES} values")
            return
        if (reason := unstorable(value)) is not None:
            yield mistake_at(path, reason)
        elif isinstance(value, dict | list) and depth >= MAX_DEPTH:
            yield mistake_at(path, f"is nested deeper than {MAX_DEPTH} levels")
        elif isinstance(value, dict):
            waiting += [(f"{path}.{name}".strip("."), depth, name) for name in value]
            waiting += [(f"{path}.{name}".strip("."), depth + 1, item) for name, item in value.items()]
        elif isinstance(value, list):
            if len(value) > MAX_VALUES:
                yield mistake_at(path, f"holds more than {MAX_VALUES} values")
                return
            waiting += [(f"{path}.{number}", depth + 1, item) for number, item in enumerate(value)]


def _too_many_labels(request: Any) -> list[Mistake]:
    """Count labels before each name is checked: the checker keeps a copy of all labels for each mistake."""
    labels = request.get("labels") if isinstance(request, dict) else None
    if isinstance(labels, dict) and len(labels) > MAX_LABELS:
        return [Mistake("labels", f"has {len(labels)} labels; {MAX_LABELS} are allowed")]
    return []


def _find(request: Mapping[str, Any], mistakes: list[Mistake]) -> tuple[Family | None, Operation | None]:
    family = FAMILIES.get(request["family"])
    if family is None:
        mistakes.append(
            Mistake("family", f"unknown family {quoted(request['family'])}{nearest(request['family'], FAMILIES)}")
        )
        return None, None
    operation = _operations_by_name(family.name).get(request["operation"])
    if operation is None:
        hint = nearest(request["operation"], family.operations)
        mistakes.append(Mistake("operation", f"{family.name} has no operation {quoted(request['operation'])}{hint}"))
    return family, operation


@functools.cache
def _operations_by_name(family: str) -> dict[str, Operation]:
    """Return the operations of a family by their names and the other names that they are known by."""
    listed = FAMILIES[family].operations.values()
    return {name: operation for operation in listed for name in (operation.name, *operation.aliases)}


def _deadline(requested: Any, operation: Operation, now: dt.datetime, mistakes: list[Mistake]) -> dt.datetime:
    """Return when to stop waiting. A number out of its range is a mistake of the schema already."""
    if isinstance(requested, str):
        return _deadline_at(requested, now, mistakes)
    seconds = operation.deadline if requested is None or mistakes else requested
    return now + dt.timedelta(seconds=seconds)


def _deadline_at(requested: str, now: dt.datetime, mistakes: list[Mistake]) -> dt.datetime:
    try:
        deadline = dt.datetime.fromisoformat(requested)
        seconds = (deadline - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        seconds = -1.0
    if DEADLINE_SECONDS[0] <= seconds <= DEADLINE_SECONDS[1]:
        return deadline.astimezone(dt.UTC)
    words = f"is a time from {DEADLINE_SECONDS[0]} s to 7 days from now, with its zone (…Z)"
    mistakes.append(Mistake("deadline", words))
    return now
