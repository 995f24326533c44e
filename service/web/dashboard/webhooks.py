"""Client webhooks: endpoints with their health, messages with their attempts, tests, and replay after a count."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from service.domain.validation import Mistake
from service.flows.webhooks import endpoints as endpoint_flow
from service.flows.webhooks import replay
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints as endpoint_store
from service.store.webhooks import messages as message_store
from service.store.webhooks.attempts import Delivery
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Filter, Message
from service.web.api.route import invalid
from service.web.dashboard import words
from service.web.dashboard.decisions import MESSAGE_STATES, Chip
from service.web.dashboard.endpoints import read_bars
from service.web.dashboard.task_query import SINCE, as_id
from service.web.dashboard.tasks import known_clients
from service.web.dashboard.visit import Visit
from service.web.problems import Problem

PAGE: Final = 50
MAX_COUNTED: Final = 1000
"""Messages that one replay delivers again, and that are counted before it."""
_OFF: Final = {
    "client": "switched off by its client",
    "gone": "it answered 410: gone",
    "failing": "every delivery failed for five days",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    """An endpoint as the page shows it."""

    id: UUID
    title: str
    url: str
    events: str
    chip: Chip
    reason: str
    enabled: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """A message as the page shows it."""

    id: UUID
    written: str
    type: str
    task_id: UUID | None
    to: str
    chip: Chip
    attempts: tuple[tuple[str, str], ...]
    """The result of each attempt, and its tone."""
    error: str
    following: str
    replayable: bool


async def webhooks_page(visit: Visit) -> Response:
    """Return the page of one client: the visitor's, or the one that an operator chooses."""
    context, now = visit.context, visit.now
    client = client_of(visit)
    states = tuple(word for word in MESSAGE_STATES if word in visit.http.query_params.getlist("state"))
    searched = as_id(visit.query("q"))
    before, endpoint = as_id(visit.query("before")), as_id(visit.query("endpoint"))
    async with context.database.reading() as connection:
        endpoints = await endpoint_store.of_client(connection, client)
        wanted = Filter(client=client, states=states, endpoint_id=endpoint, before=before)
        found = await message_store.list_messages(connection, wanted, most=PAGE + 1)
        if searched is not None:
            own = await message_store.find(connection, searched, client)
            of_task = Filter(client=client, task_id=searched)
            found = [own] if own is not None else await message_store.list_messages(connection, of_task, most=PAGE)
        shown = found[:PAGE]
        attempts = await attempt_store.of_messages(connection, [message.id for message in shown])
    return visit.page(
        "webhooks.html",
        title="Webhooks",
        client=client,
        clients=await known_clients(visit) if visit.is_operator else (),
        endpoints=tuple(endpoint_row(each, now=now) for each in endpoints),
        bars=await read_bars(visit, endpoints),
        rows=tuple(message_row(each, attempts[each.id], now=now) for each in shown),
        older=shown[-1].id if len(found) > PAGE else None,
        states=MESSAGE_STATES,
        chosen=states,
        searched=visit.query("q"),
        endpoint=endpoint,
        periods={name: title for name, (title, period) in SINCE.items() if period is not None},
        said=_said(visit),
    )


def client_of(visit: Visit) -> str:
    """Return the client whose webhooks are meant."""
    return (
        (visit.field("client") or visit.query("client") or visit.caller.client)
        if visit.is_operator
        else visit.caller.client
    )


def endpoint_row(endpoint: Endpoint, *, now: dt.datetime) -> EndpointRow:
    """Return the row of an endpoint."""
    if endpoint.disabled_at is not None:
        tone = "calm" if endpoint.disabled_reason == "client" else "bad"
        chip = Chip("calm" if tone == "calm" else "bad", "pause", "off")
        reason = f"{_OFF.get(endpoint.disabled_reason or '', '')}, since {words.clock(endpoint.disabled_at, now=now)}"
    elif endpoint.failing_since is not None:
        chip = Chip("doubt", "alert", "failing")
        reason = f"no delivery succeeded for {words.duration((now - endpoint.failing_since).total_seconds())}"
    else:
        chip, reason = Chip("good", "check", "well"), ""
    return EndpointRow(
        id=endpoint.id,
        title=endpoint.description or "Endpoint",
        url=endpoint.url,
        events=", ".join(endpoint.events) or "all but progress",
        chip=chip,
        reason=reason,
        enabled=endpoint.disabled_at is None,
    )


def message_row(message: Message, made: Sequence[Delivery], *, now: dt.datetime) -> MessageRow:
    """Return the row of a message."""
    return MessageRow(
        id=message.id,
        written=words.clock(message.created_at, now=now),
        type=message.type,
        task_id=message.task_id,
        to=message.url.partition("://")[2].partition("/")[0].rpartition("@")[2],
        chip=MESSAGE_STATES[message.state],
        attempts=tuple(_attempt(each) for each in made[-6:]),
        error=message.last_error or "",
        following=words.remaining(message.due_at, now=now) if message.due_at is not None else "",
        replayable=message.type in replay.REPLAYED,
    )


def _attempt(made: Delivery) -> tuple[str, str]:
    good = made.status is not None and 200 <= made.status < 300  # noqa: PLR2004 - the class 2xx
    return str(made.status or "no answer"), "good" if good else "bad"


async def replay_message(visit: Visit) -> Response:
    """Deliver one message again."""
    client, message_id = client_of(visit), as_id(visit.http.path_params["id"])
    async with visit.context.database.reading() as connection:
        message = None if message_id is None else await message_store.find(connection, message_id, client)
    if message is None:
        raise Problem(404, "not_found", "no message has this id")
    try:
        await replay.replay_one(visit.context, message)
    except replay.NotReplayable as error:
        raise Problem(409, "not_replayable", str(error)) from None
    except replay.Disabled as error:
        raise Problem(409, "endpoint_disabled", str(error)) from None
    return _back(visit, client, replayed=1)


async def replay_many(visit: Visit) -> Response:
    """Count the messages that a replay would deliver, and deliver them after a confirmation."""
    context, client = visit.context, client_of(visit)
    period = SINCE.get(visit.field("since", "24h"), SINCE["24h"])[1] or dt.timedelta(days=1)
    states = tuple(word for word in ("exhausted", "discarded", "delivered") if word in visit.form.get("state", ()))
    wanted = Filter(
        client=client,
        types=replay.REPLAYED,
        states=states or replay.UNDELIVERED,
        endpoint_id=as_id(visit.field("endpoint")),
        after=UUID(int=int((visit.now - period).timestamp() * 1000) << 80),
    )
    if visit.field("confirmed") == "true":
        count, following = await replay.replay_many(context, wanted, most=MAX_COUNTED)
        return _back(visit, client, replayed=count, more=1 if following is not None else "")
    async with context.database.reading() as connection:
        found = await message_store.replayable(connection, wanted, most=MAX_COUNTED + 1)
        first = None if not found else await message_store.find(connection, found[0], client)
    return visit.page(
        "replay.html",
        title="Replay messages",
        client=client,
        count=min(len(found), MAX_COUNTED),
        count_words=words.count(len(found), limit=MAX_COUNTED),
        first=first,
        states=wanted.states,
        since=visit.field("since", "24h"),
        endpoint=visit.field("endpoint"),
    )


async def test_endpoint(visit: Visit) -> Response:
    """Send a test message to an endpoint."""
    client, endpoint_id = client_of(visit), as_id(visit.http.path_params["id"])
    async with visit.context.database.reading() as connection:
        endpoint = None if endpoint_id is None else await endpoint_store.find(connection, endpoint_id, client)
    if endpoint is None:
        raise Problem(404, "not_found", "no endpoint has this id")
    if not endpoint_flow.may_change(endpoint, is_operator=visit.is_operator):
        raise Problem(403, "forbidden", endpoint_flow.FOR_OPERATORS)
    if endpoint.disabled_at is not None:
        raise invalid([Mistake("endpoint", "is off: switch it on first")])
    message = await endpoint_flow.send_test(visit.context, endpoint)
    return _back(visit, client, q=message.id, tested=message.last_status or 0)


def _back(visit: Visit, client: str, **done: Any) -> Response:
    return visit.redirect("/webhooks", client=client if client != visit.caller.client else "", **done)


def _said(visit: Visit) -> str:
    """Return what the visitor's last act did. The address holds numbers only: nobody can put words into the page."""
    replayed, tested = visit.number("replayed"), visit.number("tested")
    if replayed is not None:
        rest = " There are more: replay again." if visit.number("more") else ""
        return f"{replayed} message{'s are' if replayed != 1 else ' is'} due now.{rest}"
    if visit.number("changed") is not None:
        return "The endpoint is changed."
    if visit.number("removed") is not None:
        return "The endpoint is deleted."
    if tested is not None:
        return (
            f"The receiver answered the test message with {tested}."
            if tested
            else "The test message got no answer yet."
        )
    return ""
