"""Forms for the endpoints of a client: register, change, switch on and off, rotate the secret, delete."""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from service.domain.operator_events import OPERATOR_TYPES
from service.domain.validation import Invalid, Mistake
from service.domain.webhook_events import TYPES
from service.flows.webhooks import endpoints as endpoint_flow
from service.flows.webhooks.formats import FORMATS
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints as endpoint_store
from service.store.webhooks.attempts import Made
from service.store.webhooks.endpoints import Endpoint
from service.web.dashboard.task_query import as_id
from service.web.dashboard.visit import Visit
from service.web.problems import Problem

HOURS: Final = 24
"""Bars of an endpoint's chart: one for each hour."""
_STEP: Final = 10
_FIELDS: Final = ("url", "description", "format", "callback_format")
_GOOD: Final = range(200, 300)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The attempts of an hour."""

    x: int
    tone: str
    words: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """The attempts of the last hours."""

    bars: tuple[Bar, ...]
    label: str


def bars_of(made: Iterable[Made], *, now: dt.datetime) -> Bars:
    """Return a bar for each of the last hours: whether attempts succeeded."""
    good, bad = [0] * HOURS, [0] * HOURS
    for each in made:
        hour = HOURS - 1 - int((now - each.at).total_seconds() // 3600)
        if 0 <= hour < HOURS:
            (good if each.status in _GOOD else bad)[hour] += 1
    bars = []
    for hour, (succeeded, failed) in enumerate(zip(good, bad, strict=True)):
        tone = "calm" if not succeeded + failed else "good" if not failed else "doubt" if succeeded else "bad"
        began = now - dt.timedelta(hours=HOURS - hour)
        bars.append(Bar(x=hour * _STEP, tone=tone, words=f"{began:%H:%M}: {succeeded} succeeded, {failed} failed"))
    ill = sum(bar.tone in {"bad", "doubt"} for bar in bars)
    label = f"Last {HOURS} hours: {sum(good)} attempts succeeded, {sum(bad)} failed, in {ill} of the hours"
    return Bars(bars=tuple(bars), label=label)


async def read_bars(visit: Visit, endpoints: Sequence[Endpoint]) -> dict[Any, Bars]:
    """Return the bars of some endpoints."""
    since = visit.now - dt.timedelta(hours=HOURS)
    async with visit.context.database.reading() as connection:
        made = {each.id: await attempt_store.made_since(connection, each.id, since) for each in endpoints}
    return {endpoint_id: bars_of(some, now=visit.now) for endpoint_id, some in made.items()}


async def new_page(visit: Visit) -> Response:
    """Return the form that registers an endpoint."""
    return _form(visit, None, {"format": "standard", "callback_format": "dovecote"})


async def register(visit: Visit) -> Response:
    """Register an endpoint, and show its secret once."""
    document = _document(visit)
    if visit.is_operator and visit.field("scope") == "admin":
        document["scope"] = "admin"
    try:
        endpoint = await endpoint_flow.register(
            visit.context, document, client=visit.caller.client, is_operator=visit.is_operator
        )
    except Invalid as error:
        return _form(visit, None, document, mistakes=error.mistakes)
    except endpoint_flow.TooMany as error:
        raise Problem(409, "too_many_endpoints", str(error)) from None
    return _secret(visit, endpoint, "registered")


async def endpoint_page(visit: Visit) -> Response:
    """Return the form that changes an endpoint."""
    endpoint = await _find(visit)
    return _form(visit, endpoint, _document_of(endpoint), bars=(await read_bars(visit, [endpoint]))[endpoint.id])


async def change(visit: Visit) -> Response:
    """Change an endpoint, or switch it on or off."""
    endpoint = await _find(visit)
    switched = visit.field("enabled")
    document: dict[str, Any] = {"enabled": switched == "true"} if switched else _document(visit)
    try:
        changed = await endpoint_flow.change(visit.context, endpoint, document)
    except Invalid as error:
        return _form(visit, endpoint, {**_document_of(endpoint), **document}, mistakes=error.mistakes)
    _existing(changed)
    return visit.redirect("/webhooks", client=_other(visit, endpoint), changed=1)


async def rotate(visit: Visit) -> Response:
    """Replace the secret of an endpoint, and show the new one once."""
    return _secret(visit, _existing(await endpoint_flow.rotate(visit.context, await _find(visit))), "rotated")


async def remove(visit: Visit) -> Response:
    """Delete an endpoint."""
    endpoint = _existing(await endpoint_flow.remove(visit.context, await _find(visit)))
    return visit.redirect("/webhooks", client=_other(visit, endpoint), removed=1)


def _form(
    visit: Visit,
    endpoint: Endpoint | None,
    values: Mapping[str, Any],
    *,
    mistakes: Sequence[Mistake] = (),
    bars: Bars | None = None,
) -> Response:
    scope = values.get("scope", "client") if endpoint is None else endpoint.scope
    return visit.page(
        "endpoint.html",
        status=422 if mistakes else 200,
        title="New endpoint" if endpoint is None else "Endpoint",
        endpoint=endpoint,
        values=values,
        types=OPERATOR_TYPES if scope == "admin" else TYPES,
        formats=("standard", "cloudevents"),
        callback_formats=tuple(FORMATS),
        mistakes={each.path.partition(".")[0]: each.message for each in mistakes},
        bars=bars,
    )


def _secret(visit: Visit, endpoint: Endpoint, done: str) -> Response:
    response = visit.page("endpoint_secret.html", title="Signing secret", endpoint=endpoint, done=done)
    response.headers["Cache-Control"] = "no-store"
    return response


def _document(visit: Visit) -> dict[str, Any]:
    """Return the fields of the form as the API's document."""
    document: dict[str, Any] = {name: visit.field(name).strip() for name in _FIELDS if name in visit.form}
    document["events"] = list(dict.fromkeys(visit.form.get("events", ())))
    return document


def _document_of(endpoint: Endpoint) -> dict[str, Any]:
    return {**{name: getattr(endpoint, name) for name in _FIELDS}, "events": list(endpoint.events)}


async def _find(visit: Visit) -> Endpoint:
    """Return the endpoint that the address names: of the visitor, or of the client that an operator names."""
    endpoint_id = as_id(visit.http.path_params["id"])
    client = visit.field("client") or visit.query("client")
    owner = client if visit.is_operator and client else visit.caller.client
    async with visit.context.database.reading() as connection:
        found = None if endpoint_id is None else await endpoint_store.find(connection, endpoint_id, owner)
    endpoint = _existing(found)
    if not endpoint_flow.may_change(endpoint, is_operator=visit.is_operator):
        raise Problem(403, "forbidden", endpoint_flow.FOR_OPERATORS)
    return endpoint


def _existing(endpoint: Endpoint | None) -> Endpoint:
    if endpoint is None:
        raise Problem(404, "not_found", "no endpoint has this id: it was deleted, or it is another client's")
    return endpoint


def _other(visit: Visit, endpoint: Endpoint) -> str:
    return endpoint.client if endpoint.client != visit.caller.client else ""
