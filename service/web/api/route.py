"""One value says all of an endpoint: how it is routed, checked, answered and documented."""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.domain.api_key import Scope
from service.domain.validation import Mistake, Schema, nearest
from service.flows.context import Context
from service.web.auth.bearer import Access
from service.web.problems import Problem

BODY_CAP = 32 * 1024 * 1024
"""Bytes of a request that are taken: media may come as data URIs."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter, path parameter or header."""

    name: str
    place: Literal["query", "path", "header"]
    schema: Mapping[str, Any]
    description: str
    many: bool = False
    """Whether it may be given several times."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A status that an endpoint answers with."""

    description: str
    schema: Mapping[str, Any] | None
    """Of the body; None where there is none."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Description by name."""
    media_type: str = "application/json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that has passed its checks."""

    request: Request
    context: Context
    client: str
    """Who asks, and whose is what it makes."""
    sees_only: str | None
    """Whose rows alone may be shown and touched; None, for an operator: everybody's."""
    query: Mapping[str, Any]
    """Checked parameters by name; a list where many are allowed. What was not given is not there."""


Handler = Callable[[Asked], Awaitable[Response]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A method of a path."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    handler: Handler
    scope: Scope
    """What a key needs to be let in."""
    name: str
    summary: str
    description: str = ""
    tag: str
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Any] | None = None
    answers: Mapping[int, Answers]
    problems: tuple[int, ...] = ()

    def route(self, access: Access) -> Route:
        """Make the route."""

        async def answer(request: Request) -> Response:
            caller = await access.admit(request, self.scope)
            query = read_query(self.parameters, request)
            asked = Asked(
                request=request,
                context=request.app.state.context,
                client=caller.client,
                sees_only=caller.sees_only,
                query=query,
            )
            return await self.handler(asked)

        return Route(self.path, answer, methods=[self.method], name=self.name)


def read_query(parameters: tuple[Parameter, ...], request: Request) -> dict[str, Any]:
    """Read and check the query.

    :raises Problem: 422 with every mistake in it
    """
    if not request.scope["query_string"]:
        return {}
    known = {parameter.name: parameter for parameter in parameters if parameter.place == "query"}
    mistakes = [
        Mistake(name, f"unknown parameter{nearest(name, known)}") for name in request.query_params if name not in known
    ]
    read: dict[str, Any] = {}
    for name, parameter in known.items():
        stated = request.query_params.getlist(name)
        if any("\x00" in value for value in stated):
            mistakes.append(Mistake(name, "holds a NUL character: leave it out"))
            continue
        given = [_typed(value, parameter.schema) for value in stated]
        if not given:
            continue
        if len(given) > 1 and not parameter.many:
            mistakes.append(Mistake(name, "is given more than once"))
        schema = Schema(parameter.schema)
        mistakes += [mistake for value in given for mistake in schema.mistakes(value, below=name)]
        read[name] = given if parameter.many else given[0]
    if mistakes:
        raise invalid(mistakes)
    return read


def _typed(value: str, schema: Mapping[str, Any]) -> Any:
    """Read a number where one is wanted; what is none stays text, and the schema says so."""
    if schema.get("type") not in {"integer", "number"}:
        return value
    try:
        return int(value) if schema["type"] == "integer" else float(value)
    except ValueError:
        return value


def invalid(mistakes: list[Mistake]) -> Problem:
    """Say every mistake at once."""
    detail = "; ".join(
        f"{mistake.path}: {mistake.message}" if mistake.path else mistake.message for mistake in mistakes
    )
    return Problem(422, "invalid_request", detail, mistakes=mistakes)


def answer_json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Render a document."""
    return Response(orjson.dumps(document), status, dict(headers or {}), "application/json")
