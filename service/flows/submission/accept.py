"""Accept a client's wish: check all of it, say every mistake at once, and make the task that stands for it."""

import dataclasses
import datetime as dt
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import orjson

from service.domain.task import State, Task
from service.domain.validation import MAX_MISTAKES, Invalid, Mistake, Schema, nearest
from service.domain.webhook_events import TYPES
from service.flows.context import Context
from service.flows.webhooks.url_check import url_mistakes
from service.providers.operation import Family, Operation
from service.providers.registry import DIALECTS, FAMILIES, PROVIDERS, Provider
from service.store import tasks as task_store

DEADLINE_SECONDS = (10, 7 * 86_400)
MAX_LABELS = 20
MAX_VALUES = 100_000
DEEPEST = 50
"""Levels of nesting that a wish may have."""

WISH: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["family", "operation"],
    "properties": {
        "family": {
            "type": "string",
            "description": "What is asked for; see `GET /v1/families`.",
            "examples": ["runway"],
        },
        "operation": {"type": "string", "description": "The verb within the family.", "examples": ["text_to_video"]},
        "input": {
            "type": "object",
            "description": "What the operation works on, in Dovecote's names; `GET /v1/families` has the schema of every operation.",
            "examples": [{"prompt": "a dove comes home at dusk", "duration": 5}],
        },
        "options": {
            "type": "object",
            "description": "Fields of the provider's own body. They are sent as they are and win over what `input` maps to.",
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
            "description": "The messages to post there; default: its end, and a result that comes late.",
        },
        "labels": {
            "type": "object",
            "maxProperties": MAX_LABELS,
            "propertyNames": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
            "additionalProperties": {"type": "string", "maxLength": 256},
            "description": "Your own names for the task; lists can be filtered by them.",
        },
        "parent_id": {
            "type": "string",
            "format": "uuid",
            "description": "The succeeded task that a follow-up goes on from; it is served by the upstream of that task.",
        },
        "upstream": {
            "type": "string",
            "description": "The one upstream that may serve it; default: those of the family's route, in order.",
        },
        "route": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "maxItems": 20,
            "items": {"type": "string"},
            "description": "The upstreams that may serve it, in this order, instead of `upstream`.",
        },
        "on_uncertain": {
            "type": "string",
            "enum": ["hold", "fail", "resubmit_once"],
            "description": (
                "What becomes of it when a submit got no usable answer and there is no way left to find out whether the job "
                "was bought: wait for the deadline, fail, or buy it again, once and perhaps for the second time."
            ),
        },
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

_SCHEMA = Schema(WISH)
_INPUTS = {
    (family.name, operation.name): Schema(operation.input)
    for family in FAMILIES.values()
    for operation in family.operations.values()
}


class KeyReused(Exception):
    """The idempotency key belongs to another request."""

    def __init__(self, task: Task) -> None:
        """Keep the task that has the key."""
        super().__init__(
            f"this Idempotency-Key already belongs to task {task.id}, which was submitted with another body"
        )
        self.task = task


async def accept(
    context: Context, wish: Any, *, client: str, idempotency_key: str | None = None
) -> task_store.Accepted:
    """Make a task of a wish, or find the one that the same wish with the same key has made before.

    :param wish: the document that a client sent
    :raises Invalid: with every mistake
    :raises KeyReused: when the key came with another body before
    :raises StoreUnavailable: when it could not be written; nothing has been accepted
    """
    try:
        parent = await _parent(context, wish, client)
        task = make(context, wish, client=client, idempotency_key=idempotency_key, parent=parent)
    except Invalid:
        # What was accepted once stays accepted, though its deadline has passed or its upstream is gone.
        known = await _known(context, client, idempotency_key)
        if known is None or known.request_hash != _hash(wish):
            raise
        return task_store.Accepted(known, new=False)
    accepted = await context.writer.do_first(task_store.accept, task)
    if accepted.new:
        context.signals.wake("submit")
    elif accepted.task.request_hash != task.request_hash:
        raise KeyReused(accepted.task)
    return accepted


def make(context: Context, wish: Any, *, client: str, idempotency_key: str | None, parent: Task | None = None) -> Task:
    """Check a wish and make the task; nothing is written yet.

    :param parent: the client's task that ``parent_id`` names
    :raises Invalid: with every mistake
    """
    mistakes = list(itertools.islice(_unstorable(wish), MAX_MISTAKES)) or _too_many_labels(wish)
    if mistakes:
        raise Invalid(mistakes)
    mistakes = _SCHEMA.mistakes(wish)
    if not isinstance(wish, dict) or any(
        mistake.path in {"family", "operation", "input", "options"} for mistake in mistakes
    ):
        raise Invalid(mistakes)
    family, operation = _find(wish, mistakes)
    if family is None or operation is None:
        raise Invalid(mistakes)
    now = context.now()
    given = wish.get("input", {})
    mistakes += _INPUTS[family.name, operation.name].mistakes(given, below="input")
    deadline = _deadline(wish.get("deadline"), operation, now, mistakes)
    mistakes += url_mistakes(context.settings.webhook_rules, wish.get("callback_url"), field="callback_url")
    if "callback_events" in wish and "callback_url" not in wish:
        mistakes.append(Mistake("callback_events", "means nothing without a callback_url"))
    task = Task(
        id=context.new_id(),
        client=client,
        family=family.name,
        operation=operation.name,
        input=given,
        options=wish.get("options", {}),
        labels=wish.get("labels", {}),
        callback_url=wish.get("callback_url"),
        on_uncertain=wish.get("on_uncertain") or context.settings.policy_of(client),
        callback_events=tuple(wish.get("callback_events", ())),
        idempotency_key=idempotency_key,
        request_hash=_hash(wish),
        sequence=1,
        created_at=now,
        updated_at=now,
        deadline_at=deadline,
        due_at=now,
    )
    _check_parent(wish, operation, parent, mistakes)
    if not mistakes and parent is not None:
        task = _follow(context, task, parent, _wished_route(wish, mistakes), mistakes)
    elif not mistakes:
        route, skipped_upstreams = _route(context, task, _wished_route(wish, mistakes), mistakes)
        task = dataclasses.replace(task, route=route, skipped_upstreams=skipped_upstreams)
    if mistakes:
        raise Invalid(mistakes)
    return task


async def _parent(context: Context, wish: Any, client: str) -> Task | None:
    """Read the task that a follow-up goes on from, if it is the client's."""
    try:
        parent_id = UUID(wish["parent_id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    async with context.database.reading() as connection:
        return await task_store.find(connection, parent_id, client)


def _check_parent(wish: Mapping[str, Any], operation: Operation, parent: Task | None, mistakes: list[Mistake]) -> None:
    if "parent_id" not in wish:
        if operation.parent == "required":
            mistakes.append(Mistake("parent_id", f"is required: {operation.name} goes on from another task"))
    elif operation.parent is None:
        mistakes.append(Mistake("parent_id", f"does not fit: {operation.name} goes on from nothing"))
    elif parent is None:
        mistakes.append(Mistake("parent_id", "there is no task with this id"))
    elif parent.family != wish["family"]:
        mistakes.append(Mistake("parent_id", f"is a task of {parent.family}, not of {wish['family']}"))
    elif parent.state is not State.SUCCEEDED:
        mistakes.append(Mistake("parent_id", f"the task has not succeeded: it is {parent.state}"))


def _wished_route(wish: Mapping[str, Any], mistakes: list[Mistake]) -> tuple[str, ...] | None:
    """Read which upstreams the client wants; None: whichever there are."""
    if "upstream" in wish and "route" in wish:
        mistakes.append(Mistake("route", "leave out either upstream or route: they say the same"))
    if "upstream" in wish:
        return (wish["upstream"],)
    return tuple(wish["route"]) if "route" in wish else None


def _follow(
    context: Context, task: Task, parent: Task, wished: tuple[str, ...] | None, mistakes: list[Mistake]
) -> Task:
    """Send a follow-up where its parent is: ids and buttons mean nothing elsewhere."""
    upstream, dialect = context.upstreams.get(parent.upstream or ""), context.dialect(parent)
    if upstream is None or dialect is None:
        mistakes.append(Mistake("parent_id", f"its upstream {parent.upstream!r} is not configured any more"))
        return task
    if wished is not None and upstream.name not in wished:
        mistakes.append(
            Mistake("upstream", f"leave it out: the parent is at {upstream.name}, and so is whatever follows it")
        )
    task = dataclasses.replace(task, parent_id=parent.id, dialect=parent.dialect, route=(upstream.name,))
    if not dialect.offers(task.family, task.operation):
        mistakes.append(
            Mistake("operation", f"{parent.dialect}, by which the parent was served, has no {task.operation}")
        )
        return task
    inherited = dialect.from_parent(task, parent)
    if isinstance(inherited, list):
        mistakes += inherited
        return task
    task = dataclasses.replace(task, inherited=inherited)
    mistakes += dialect.validate(task)
    return task


async def _known(context: Context, client: str, idempotency_key: str | None) -> Task | None:
    if idempotency_key is None:
        return None
    async with context.database.reading() as connection:
        return await task_store.find_by_key(connection, client, idempotency_key)


def _hash(wish: Any) -> str:
    try:
        return hashlib.sha256(orjson.dumps(wish, option=orjson.OPT_SORT_KEYS)).hexdigest()
    except TypeError:  # nested beyond reason: equal to nothing that was accepted
        return ""


def _unstorable(wish: Any) -> Iterator[Mistake]:
    """Find what cannot be kept: texts with a NUL, nesting beyond reason, and more values than anybody wishes for."""
    seen = 0
    waiting: list[tuple[str, int, Any]] = [("", 0, wish)]
    while waiting:
        path, depth, value = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            yield Mistake("", f"holds more than {MAX_VALUES} values")
            return
        if isinstance(value, str) and "\x00" in value:
            yield Mistake(path, "holds a NUL character: leave it out")
        elif isinstance(value, dict | list) and depth >= DEEPEST:
            yield Mistake(path, f"is nested deeper than {DEEPEST} levels")
        elif isinstance(value, dict):
            waiting += [(f"{path}.{name}".strip("."), depth, name) for name in value]
            waiting += [(f"{path}.{name}".strip("."), depth + 1, item) for name, item in value.items()]
        elif isinstance(value, list):
            if len(value) > MAX_VALUES:
                yield Mistake(path, f"holds more than {MAX_VALUES} values")
                return
            waiting += [(f"{path}.{number}", depth + 1, item) for number, item in enumerate(value)]


def _too_many_labels(wish: Any) -> list[Mistake]:
    """Count labels before each is checked by its name: the checker keeps a copy of all of them for each mistake."""
    labels = wish.get("labels") if isinstance(wish, dict) else None
    if isinstance(labels, dict) and len(labels) > MAX_LABELS:
        return [Mistake("labels", f"has {len(labels)} labels; {MAX_LABELS} are allowed")]
    return []


def _find(wish: Mapping[str, Any], mistakes: list[Mistake]) -> tuple[Family | None, Operation | None]:
    family = FAMILIES.get(wish["family"])
    if family is None:
        mistakes.append(Mistake("family", f"unknown family {wish['family']!r}{nearest(wish['family'], FAMILIES)}"))
        return None, None
    names = {
        alias: operation for operation in family.operations.values() for alias in (operation.name, *operation.aliases)
    }
    operation = names.get(wish["operation"])
    if operation is None:
        hint = nearest(wish["operation"], family.operations)
        mistakes.append(Mistake("operation", f"{family.name} has no operation {wish['operation']!r}{hint}"))
    return family, operation


def _deadline(wished: Any, operation: Operation, now: dt.datetime, mistakes: list[Mistake]) -> dt.datetime:
    if isinstance(wished, str):
        try:
            deadline = dt.datetime.fromisoformat(wished)
            seconds = (deadline - now).total_seconds()
        except (ValueError, TypeError):
            seconds = -1.0
        if not DEADLINE_SECONDS[0] <= seconds <= DEADLINE_SECONDS[1]:
            mistakes.append(
                Mistake("deadline", f"is a time from {DEADLINE_SECONDS[0]} s to 7 days from now, with its zone (…Z)")
            )
            return now
        return deadline.astimezone(dt.UTC)
    return now + dt.timedelta(seconds=wished if isinstance(wished, int | float) else operation.deadline)


def _route(
    context: Context, task: Task, wished: tuple[str, ...] | None, mistakes: list[Mistake]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Name the upstreams that can serve a task, in order, and say of the others why they cannot."""
    if wished is not None:
        mistakes += [_not_configured(context, name) for name in wished if name not in context.upstreams]
        if mistakes:
            return (), {}
    names = wished or context.settings.routes.get(task.family) or tuple(context.upstreams)
    candidates = [context.upstreams[name] for name in names if name in context.upstreams]
    speaking = [(each, each.dialect_for(task.family, task.operation)) for each in candidates]
    able = [(upstream, dialect) for upstream, dialect in speaking if dialect is not None]
    if not able:
        mistakes.append(_nobody_serves(task, names, wished=wished is not None))
        return (), {}
    complaints = {upstream.name: dialect.validate(task) for upstream, dialect in able}
    route = tuple(name for name, found in complaints.items() if not found)
    if not route:
        mistakes += next(iter(complaints.values()))
    return route, {name: _complaint(found) for name, found in complaints.items() if found}


def _complaint(found: list[Mistake]) -> str:
    return "; ".join(f"{mistake.path}: {mistake.message}" for mistake in found)


def _not_configured(context: Context, name: str) -> Mistake:
    known = PROVIDERS.get(name)
    hint = (
        f"; it is known, and switched on by its key: set {known.key_variable}"
        if known
        else nearest(name, context.upstreams)
    )
    return Mistake("upstream", f"no upstream {name!r} is configured{hint}")


def _nobody_serves(task: Task, names: tuple[str, ...], *, wished: bool) -> Mistake:
    keys = ", ".join(provider.key_variable for provider in PROVIDERS.values() if _could_serve(provider, task))
    hint = f"set one of {keys}" if keys else "give an upstream a dialect that does"
    which = f"upstream {', '.join(map(repr, names))}" if wished else "none of the configured upstreams"
    where = "upstream" if wished else "operation"
    return Mistake(where, f"{which} serves {task.family} {task.operation}; {hint}")


def _could_serve(provider: Provider, task: Task) -> bool:
    return any(DIALECTS[name].offers(task.family, task.operation) for name in provider.dialects)
