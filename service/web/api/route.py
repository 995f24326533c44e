"""The declaration of an endpoint: its route, its checks and its documentation in one value."""

import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from service.domain.api_key import Scope
from service.domain.validation import Mistake, Schema, mistake_at, nearest, shorten
from service.flows.context import Context
from service.web.auth.bearer import Authenticator, Caller
from service.web.problems import Problem
from service.web.request_body import BodyBudget, Lease, read_json

MAX_SMALL_BODY: Final = 64 * 1024
"""Bytes of a request body that carries no media."""
LARGE_RESPONSE: Final = 1024 * 1024
"""Bytes from which on the memory of a response is counted."""
PART: Final = 256 * 1024
"""Bytes of a large response that are sent at once."""
MAX_PAGE: Final = 100
"""Items of a page."""
MAX_PARAMETERS: Final = 100
"""Query parameters of a request."""
MAX_MISTAKES_IN_DETAIL: Final = 5
"""Mistakes that ``detail`` repeats; ``errors`` has the others as well."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A query parameter, path parameter or header."""

    name: str
    place: Literal["query", "path", "header"]
    schema: Mapping[str, Any]
    description: str
    many: bool = False
    """Whether it may be repeated."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResponseSpec:
    """A successful response of an endpoint."""

    description: str
    schema: Mapping[str, Any] | None
    """JSON Schema of the body; None for a response without a body."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Description by header name."""
    media_type: str = "application/json"
    also: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """JSON Schema of the body by each other media type that a request can choose."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """A request that is authorized and whose query is valid."""

    http: Request
    context: Context
    caller: Caller
    authenticator: Authenticator
    lease: Lease
    """The memory of the request's body."""
    query: Mapping[str, Any]
    """Valid parameters by name; a list where repetition is allowed. Parameters that were not sent are missing."""

    @property
    def client(self) -> str:
        """The client that sent the request and owns what it creates."""
        return self.caller.client

    async def read_json(self, limit: int | None = None) -> Any:
        """Return the parsed body.

        :param limit: bytes; default: the setting ``max_body``, as media may be sent as data URIs
        :raises Problem: 400, 408, 413, 415 or 503
        """
        return await read_json(self.http, limit or self.context.settings.max_body, self.lease)

    @property
    def sees_only(self) -> str | None:
        """The client whose rows alone are visible; None, for an operator: every client's."""
        return self.caller.sees_only


class CountedResponse(Response):
    """A large response whose memory is counted until the client has read it."""

    def __init__(self, response: Response, bodies: BodyBudget, client: str) -> None:
        """Wrap a response."""
        self.background = None
        self._response = response
        self._bodies = bodies
        self._client = client

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Send the response, or 503 when too many large bodies are in memory."""
        with self._bodies.lease(self._client) as lease:
            try:
                lease.grow(len(self._response.body))
            except Problem as problem:
                self._response = problem.response()
            await self._response(scope, receive, _in_parts(send))


def _in_parts(send: Send) -> Send:
    """Return a ``send`` that sends a body in parts: the server waits for the client after each, and after the last one, too."""

    async def send_in_parts(message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] != "http.response.body" or len(body) <= PART:
            await send(message)
            return
        for start in range(0, len(body), PART):
            await send({"type": "http.response.body", "body": body[start : start + PART], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)})

    return send_in_parts


Handler = Callable[[ApiRequest], Awaitable[Response]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A method of a path."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    scope: Scope
    """The scope that a key needs."""
    name: str
    summary: str
    description: str = ""
    tag: str
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Any] | None = None
    body_type: str = "application/json"
    example: Mapping[str, Any] | None = None
    """A valid body of JSON, for the reference."""
    responses: Mapping[int, ResponseSpec]
    problems: tuple[int, ...] = ()

    def route(self, authenticator: Authenticator) -> Route:
        """Return the route."""

        async def answer(request: Request) -> Response:
            caller = await authenticator.authorize(request, self.scope)
            request.state.client_name = caller.client  # for the access log
            query = read_query(self.parameters, request)
            bodies: BodyBudget = request.app.state.bodies
            with bodies.lease(caller.client) as lease:
                try:
                    response = await self.handler(
                        ApiRequest(
                            http=request,
                            context=request.app.state.context,
                            caller=caller,
                            authenticator=authenticator,
                            lease=lease,
                            query=query,
                        )
                    )
                finally:
                    await lease.end_turn()
            if len(getattr(response, "body", b"")) > LARGE_RESPONSE:
                return CountedResponse(response, bodies, caller.client)
            return response

        return Route(self.path, answer, methods=[self.method], name=self.name)


def read_query(parameters: tuple[Parameter, ...], request: Request) -> dict[str, Any]:
    """Read and check the query.

    :raises Problem: 422 with every mistake
    """
    query: bytes = request.scope["query_string"]
    if not query:
        return {}
    if query.count(b"&") >= MAX_PARAMETERS:
        raise invalid([Mistake("", f"the query has more than {MAX_PARAMETERS} parameters")])
    known = {parameter.name: parameter for parameter in parameters if parameter.place == "query"}
    mistakes = [
        mistake_at(name, f"unknown parameter{nearest(name, known)}")
        for name in request.query_params
        if name not in known
    ]
    read: dict[str, Any] = {}
    for name, parameter in known.items():
        stated = request.query_params.getlist(name)
        if any("\x00" in value for value in stated):
            mistakes.append(Mistake(name, "contains a NUL character: remove it"))
            continue
        values = [_typed(value, parameter.schema) for value in stated]
        if not values:
            continue
        if len(values) > 1 and not parameter.many:
            mistakes.append(Mistake(name, "is repeated: send it once"))
        schema = Schema(parameter.schema)
        mistakes += [mistake for value in values for mistake in schema.mistakes(value, below=name)]
        read[name] = values if parameter.many else values[0]
    if mistakes:
        raise invalid(mistakes)
    return read


def _typed(value: str, schema: Mapping[str, Any]) -> Any:
    """Return a text as a number where one is expected. Any other text stays, and the schema rejects it."""
    if schema.get("type") != "integer":
        return value
    digits = value.removeprefix("-")
    return int(value) if digits.isascii() and digits.isdecimal() and len(digits) <= 20 else value  # noqa: PLR2004 - more than any 64-bit number has


def invalid(mistakes: list[Mistake]) -> Problem:
    """Return the error for a request with mistakes."""
    first = mistakes[:MAX_MISTAKES_IN_DETAIL]
    parts = [shorten(f"{each.path}: {each.message}" if each.path else each.message, 300) for each in first]
    if len(mistakes) > len(first):
        parts.append(f"and {len(mistakes) - len(first)} more, see errors")
    return Problem(422, "invalid_request", "; ".join(parts), mistakes=mistakes)


def address_of(request: ApiRequest, path: str) -> str:
    """Return the address of an object for ``Location``: absolute where the setting ``api_url`` is given, else relative to the request.

    A relative one is right behind a proxy that adds a path prefix.

    :param path: behind ``/v1/``, such as ``tasks/ID``
    """
    api_url = request.context.settings.api_url
    if api_url is not None:
        return f"{api_url}/v1/{path}"
    inside: int = request.http.scope["path"].removeprefix("/v1/").count("/")
    return "../" * (inside + getattr(request.http.state, "trailing_slash", False)) + path


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Render a document."""
    return Response(orjson.dumps(document), status, dict(headers or {}), "application/json")


def read_time(time: str | None, name: str, mistakes: list[Mistake]) -> dt.datetime | None:
    """Return the moment that a parameter names."""
    if time is None:
        return None
    try:
        return dt.datetime.fromisoformat(time).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        message = "must be a time with a zone, such as 2026-01-31T12:00:00Z (write + in a URL as %2B)"
        mistakes.append(Mistake(name, message))
        return None


def first_id_at(time: str | None, name: str, mistakes: list[Mistake]) -> UUID | None:
    """Return the lowest id of a moment: a UUID of version 7 begins with the milliseconds since 1970."""
    if time is None:
        return None
    try:
        at = dt.datetime.fromisoformat(time)
        milliseconds = (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
        return UUID(int=max(milliseconds, 0) << 80)
    except (ValueError, TypeError, OverflowError):
        message = "must be a time with a zone, such as 2026-01-31T12:00:00Z (write + in a URL as %2B)"
        mistakes.append(Mistake(name, message))
        return None


ID_SCHEMA: Final = {"type": "string", "format": "uuid"}
LIMIT: Final = Parameter(
    name="limit",
    place="query",
    schema={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50},
    description="Maximum number of items.",
)
CURSOR: Final = Parameter(name="cursor", place="query", schema=ID_SCHEMA, description="`next` of the previous page.")
