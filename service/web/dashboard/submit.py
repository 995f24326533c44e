"""Submit a task by a form that is made from its operation's schema."""

import dataclasses
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response

from service.domain.task import Task
from service.domain.validation import Invalid, Mistake
from service.flows.context import Context
from service.flows.submission import accept
from service.flows.submission.request import task_of_request
from service.providers.operation import Family, Operation
from service.providers.registry import DIALECTS, FAMILIES
from service.store import tasks as task_store
from service.web.api.refusals import refusals
from service.web.dashboard import words
from service.web.dashboard.acts import find_task
from service.web.dashboard.bodies import Body, body_of
from service.web.dashboard.schema_form import Field, elsewhere, fields_of, input_from, json_in
from service.web.dashboard.task_query import as_id
from service.web.dashboard.visit import Visit
from service.web.problems import Problem

MORE: Final = ("upstream", "labels", "callback_url", "deadline", "on_uncertain", "options", "parent_id")
"""Fields besides the input."""
POLICIES: Final = ("hold", "fail", "resubmit_once")
_FAULT: Final = re.compile(r"[a-z0-9_]{1,30}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The operation that a form submits, and the fields besides its input."""

    family: Family
    operation: Operation
    more: Mapping[str, str]
    key: str


async def form_page(visit: Visit) -> Response:
    """Return the form: empty, or with the input of a task that is to be submitted again."""
    context = visit.context
    copied = await _copied(visit)
    family, operation = visit.query("family"), visit.query("operation")
    more: dict[str, str] = {"parent_id": visit.query("parent_id")}
    given: Mapping[str, Any] = {}
    if copied is not None:
        family, operation, given = copied.family, copied.operation, copied.input
        more |= {"parent_id": str(copied.parent_id or ""), "labels": _label_lines(copied.labels)}
        more |= {"callback_url": copied.callback_url or "", "on_uncertain": copied.on_uncertain}
        more |= {"options": orjson.dumps(copied.options).decode() if copied.options else ""}
    choice = _choice(context, family, operation, more, f"form-{secrets.token_hex(8)}")
    return _page(visit, choice, given)


async def submit(visit: Visit) -> Response:
    """Submit the task of a form, or return the form with every mistake."""
    context = visit.context
    more = {name: visit.field(name).strip() for name in MORE}
    choice = _choice(
        context, visit.field("family"), visit.field("operation"), more, visit.field("idempotency_key")[:100]
    )
    given = input_from(choice.operation.input, visit.form)
    fault = visit.field("fault")
    if _FAULT.fullmatch(fault) and isinstance(given.get("prompt"), str):
        given["prompt"] = f"{given['prompt']} [{fault}]"
    document, mistakes = document_of(choice, given)
    if mistakes:
        return _page(visit, choice, given, [*mistakes, *_further_mistakes(visit, document)])
    with refusals():
        try:
            accepted = await accept.accept(
                context, document, client=visit.caller.client, idempotency_key=choice.key or None
            )
        except Invalid as error:
            return _page(visit, choice, given, error.mistakes)
        except accept.KeyReused:
            anew = dataclasses.replace(choice, key=f"form-{secrets.token_hex(8)}")
            return _page(visit, anew, given, [Mistake("", _CHANGED)])
    return visit.redirect(f"/tasks/{accepted.task.id}")


def _further_mistakes(visit: Visit, document: Mapping[str, Any]) -> Sequence[Mistake]:
    """Return the mistakes of a request that is not to be accepted anyway: all are reported at once."""
    try:
        task_of_request(visit.context, document, client=visit.caller.client, idempotency_key=None)
    except Invalid as error:
        return error.mistakes
    return ()


_CHANGED: Final = "This form was submitted before with other values. Submit it again to buy another job."


async def follow(visit: Visit) -> Response:
    """Submit a follow-up of a task: one of the actions that its provider offers."""
    parent = await find_task(visit)
    action = visit.field("action")
    if action not in {each.id for each in parent.next_actions}:
        raise Problem(409, "not_awaited", "the task does not offer this action any more; open it again")
    document = {
        "family": parent.family,
        "operation": "action",
        "parent_id": str(parent.id),
        "input": {"action": action},
    }
    key = f"{visit.field('idempotency_key')[:60]} {action}"[:255]
    with refusals():
        accepted = await accept.accept(visit.context, document, client=parent.client, idempotency_key=key)
    return visit.redirect(f"/tasks/{accepted.task.id}")


async def _copied(visit: Visit) -> Task | None:
    """Return the task whose input fills the form, with its whole input."""
    task_id = as_id(visit.query("from"))
    if task_id is None:
        return None
    async with visit.context.database.reading() as connection:
        found = await task_store.find(connection, task_id, visit.sees_only)
        return None if found is None else await task_store.with_whole_input(connection, found)


def served(context: Context) -> Mapping[str, tuple[str, ...]]:
    """Return the operations that a configured upstream offers, by family. Without upstreams: all."""
    upstreams = context.upstreams.values()
    found = {
        name: tuple(
            each for each in family.operations if not upstreams or any(one.dialect_for(name, each) for one in upstreams)
        )
        for name, family in FAMILIES.items()
    }
    return {name: operations for name, operations in sorted(found.items()) if operations}


def _choice(context: Context, family: str, operation: str, more: Mapping[str, str], key: str) -> Choice:
    """Return the chosen operation; where there is none of this name, the first that is offered."""
    offered = served(context)
    if family not in offered:
        family = "runway" if "runway" in offered else next(iter(offered), "runway")
    known = offered.get(family, tuple(FAMILIES[family].operations))
    if operation not in known:
        operation = known[0]
    return Choice(family=FAMILIES[family], operation=FAMILIES[family].operations[operation], more=more, key=key)


def document_of(choice: Choice, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the request that the API takes, and the mistakes of its texts."""
    document: dict[str, Any] = {"family": choice.family.name, "operation": choice.operation.name, "input": dict(given)}
    mistakes: list[Mistake] = []
    for name in MORE:
        text = choice.more.get(name, "")
        if not text:
            continue
        if name == "labels":
            document[name] = dict(_labels(text, mistakes))
        elif name == "options":
            document[name] = _json(text, mistakes)
        elif name == "deadline":
            document[name] = float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else text
        else:
            document[name] = text
    return document, mistakes


def _labels(text: str, mistakes: list[Mistake]) -> list[tuple[str, str]]:
    pairs = [line.strip().partition("=") for line in re.split(r"[\n,]", text) if line.strip()]
    if any(not equals for _, equals, _ in pairs):
        mistakes.append(Mistake("labels", "must have the form name=value, one a line"))
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _label_lines(labels: Mapping[str, str]) -> str:
    return "\n".join(f"{name}={value}" for name, value in labels.items())


def _json(text: str, mistakes: list[Mistake]) -> Any:
    try:
        return json_in(text)
    except ValueError as error:
        mistakes.append(Mistake("options", f"is no JSON: {error}"[:200]))
        return {}


def _page(visit: Visit, choice: Choice, given: Mapping[str, Any], mistakes: Sequence[Mistake] = ()) -> Response:
    context, operation = visit.context, choice.operation
    fields = fields_of(operation.input, given, mistakes)
    more_fields = {
        name: next((each.message for each in mistakes if each.path.split(".")[0] == name), "") for name in MORE
    }
    others = [each for each in elsewhere(mistakes, fields) if each.path.split(".")[0] not in MORE]
    sample = dict(given) or dict(operation.input.get("examples", [{}])[0])
    upstreams = [
        name for name, each in context.upstreams.items() if each.dialect_for(choice.family.name, operation.name)
    ]
    return visit.page(
        "submit.html",
        status=422 if mistakes else 200,
        title="Submit a task",
        choice=choice,
        offered={name: FAMILIES[name].title for name in served(context)},
        operations=served(context).get(choice.family.name, tuple(choice.family.operations)),
        fields=_primary(fields),
        rest=_secondary(fields),
        opened=any(field.mistake or field.value for field in _secondary(fields)),
        more=choice.more,
        more_opened=any(more_fields.values()) or any(choice.more.get(name) for name in MORE),
        more_mistakes=more_fields,
        mistakes=mistakes,
        others=others,
        upstreams=upstreams,
        policies=POLICIES,
        usual=_usual(context, choice),
        example=_curl(visit, choice, sample),
        free=_is_free(context, choice),
    )


def _primary(fields: Sequence[Field]) -> tuple[Field, ...]:
    """Return the fields that are always shown: the required ones, and a prompt."""
    shown = tuple(field for field in fields if field.required or field.title == "prompt" or field.mistake)
    return shown or tuple(fields[:3])


def _secondary(fields: Sequence[Field]) -> tuple[Field, ...]:
    shown = _primary(fields)
    return tuple(field for field in fields if field not in shown)


def _usual(context: Context, choice: Choice) -> str:
    """Return how long tasks of this kind usually take."""
    for upstream in context.upstreams.values():
        dialect = upstream.dialect_for(choice.family.name, choice.operation.name)
        if dialect is not None:
            seconds = upstream.settings.typical_seconds or dialect.facts.typical(choice.operation.name)
            return words.duration(seconds)
    return ""


def _is_free(context: Context, choice: Choice) -> bool:
    """Return whether the operation buys nothing wherever it is offered."""
    offering = [each.dialect_for(choice.family.name, choice.operation.name) for each in context.upstreams.values()]
    found = [DIALECTS[each.facts.key] for each in offering if each is not None]
    return bool(found) and all(choice.operation.name in each.facts.free for each in found)


def _curl(visit: Visit, choice: Choice, sample: Mapping[str, Any]) -> Body:
    """Return the same request as a command."""
    document, _ = document_of(choice, sample)
    address = visit.context.settings.links_url or str(visit.http.base_url).rstrip("/")
    shown = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode().replace("'", "'\\''")
    head = f"curl -s {address}/v1/tasks \\\n  -H \"Authorization: Bearer $KEY\" \\\n  -H 'Idempotency-Key: {choice.key}' \\\n  --json '"
    return Body("The same by REST", head + body_of("", shown).text + "'")
