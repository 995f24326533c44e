"""The frame of a door: an API of others, as a table of routes, with its keys, errors and headers.

A door is one file: two pure functions (their request → a request of ours, our task → their document) and a table of
routes. Everything that doors share is here and in the files beside it.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from service.domain.api_key import Scope
from service.domain.repeats import Sender
from service.domain.task import Task
from service.domain.validation import Invalid, Mistake
from service.flows.context import Context, log
from service.flows.money.allowance import NoRoom
from service.flows.submission import accept
from service.flows.submission.adoption import JobTaken
from service.flows.submission.repeats import Arrival, Recent, accept_once
from service.flows.webhooks.formats.ids import task_id_of
from service.logs import request_id
from service.store import tasks as task_store
from service.store.database import StoreUnavailable
from service.web.api.budgets import over_budget
from service.web.api.route import LARGE_RESPONSE, CountedResponse, invalid
from service.web.auth.bearer import Authenticator, Caller
from service.web.facades import headers as door_headers
from service.web.facades.body import Fields, fingerprint_of, read_fields
from service.web.facades.links import with_links
from service.web.facades.prefix import AnyMethod, PrefixRoute
from service.web.problems import Problem, unavailable
from service.web.request_body import BodyBudget, Lease
from service.web.server_protocol import is_disconnected
from service.web.waiting import wait_for_end

MAX_HELD: Final = 590.0
"""Seconds for which a request that waits for its result is held: OpenAI's clients wait 600."""
MAX_KEY: Final = 255
"""Characters of an idempotency key, where a client sends one nevertheless."""
_MAYBE: Final = 504
"""The status after which a task may exist: no known client sends such a request to another host."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DoorRequest:
    """A request at a door that is authorized."""

    http: Request
    headers: Mapping[str, str]
    """Its headers by their names in lower case."""
    context: Context
    caller: Caller
    recent: Recent
    lease: Lease
    door: "Door"
    route: "DoorRoute"
    prefix: str
    """The prefix of the door that its path begins with."""
    number: int
    """Its number among the requests of this process."""

    @property
    def client(self) -> str:
        """The client that sent the request and owns what it creates."""
        return self.caller.client

    @property
    def own_address(self) -> str:
        """The address of this Dovecote as the client calls it, or of the setting ``api_url``."""
        links = self.context.settings.api_url
        if links is not None:
            return links
        forwarded = self.headers.get("x-forwarded-proto", "")
        scope = self.http.scope  # `http.url` is not always a URL: its host and its query are what the client sent
        scheme = forwarded if forwarded in {"http", "https"} else scope["scheme"]
        return f"{scheme}://{self.headers.get('host') or scope['server'][0]}"

    @property
    def base(self) -> str:
        """The address of this door as the client calls it, or of the setting ``api_url``: links in documents begin with it."""
        return f"{self.own_address}{self.prefix}"

    async def fields(self) -> Fields:
        """Return the fields of the body: of JSON, of a form, or of a form with files.

        :raises Problem: 400, 408, 413, 415 or 503
        """
        return await read_fields(self.http, self.headers, self.context.settings.max_body, self.lease)

    async def find(self, named: str) -> Task:
        """Return the caller's task that an id names, in any of the forms in which doors show ids.

        :raises Problem: 404 where there is none, or where it belongs to another client
        """
        task_id = task_id_of(named)
        task = None if task_id is None else await self.find_by_id(task_id)
        if task is None:
            raise Problem(404, "not_found", "no task has this id")
        return task

    async def find_by_id(self, task_id: UUID) -> Task | None:
        """Return the caller's task of an id; None where there is none."""
        async with self.context.database.reading() as connection:
            task = await task_store.find(connection, task_id, self.client)
        if task is None:
            return None
        self.recent.know(task.id)
        return with_links(self.context, task, self.own_address)

    async def find_many(self, named: Iterable[Any]) -> dict[UUID, Task]:
        """Return the caller's tasks that ids name, in their order; other ids are left out."""
        ids = [found for each in named if isinstance(each, str) and (found := task_id_of(each)) is not None]
        async with self.context.database.reading() as connection:
            tasks = await task_store.find_all(connection, ids, self.client)
        for task in tasks:
            self.recent.know(task.id)
        return {task.id: task for task in tasks}

    async def whole(self, task: Task) -> Task:
        """Return a task with its whole input."""
        if not task.large_input:
            return task
        await self.lease.wait_for_turn()
        async with self.context.database.reading() as connection:
            return await task_store.with_whole_input(connection, task)

    async def accept(self, document: Mapping[str, Any], said: Fields) -> task_store.Accepted:
        """Store the task of a request, once, however often its client repeats it.

        :param document: our request
        :param said: the fields of their request, by which a repeat is recognised
        :raises Problem: 400 with every mistake, 402 when no budget has room, 409, or 504 when it may have been stored
        """
        key = self.headers.get("idempotency-key")
        arrival: Arrival | None = None
        with self._refusals():
            if key is not None and 0 < len(key) <= MAX_KEY and key.isprintable():
                accepted = await self._accept_under(key, document)
            else:
                arrival = await self._arrival(said)
                accepted = await accept_once(
                    self.context, self.recent, document, arrival, client=self.client, large=self.lease.size > 0
                )
        await self.lease.end_turn()
        self.lease.release()
        self.http.state.accepted = accepted
        self.http.state.fingerprint = None if arrival is None else arrival.fingerprint
        return accepted

    async def accept_under(self, key: str, document: Mapping[str, Any]) -> task_store.Accepted:
        """Store the task of a request of ours under a key of the door's own: one task, whoever asks again.

        :raises Problem: as :meth:`accept`
        """
        with self._refusals():
            return await self._accept_under(key, document)

    async def _accept_under(self, key: str, document: Mapping[str, Any]) -> task_store.Accepted:
        large = self.lease.size > 0
        return await accept.accept(self.context, document, client=self.client, idempotency_key=key, large=large)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn every refusal of a request within the block into an error response."""
        try:
            yield
        except Invalid as error:
            raise refused(error.mistakes, self.door.invalid_status) from None
        except NoRoom as error:
            problem = over_budget(error.over)
            final = {"x-should-retry": "false"}
            raise Problem(self.door.no_room_status, problem.code, problem.detail, headers=final) from None
        except JobTaken as error:
            raise Problem(409, "job_taken", str(error)) from None
        except accept.KeyReused as error:
            raise Problem(422, "idempotency_key_reused", str(error)) from None
        except StoreUnavailable as error:
            log.warning("request failed status=%d reason=%s", _MAYBE, error)
            detail = (
                "the database does not answer, and the request may have been carried out: look before you repeat it"
            )
            raise Problem(_MAYBE, "unavailable", detail) from None
        except asyncio.CancelledError:  # the process stops, and the commit may be under way
            detail = "the server is stopping, and the request may have been carried out: look before you repeat it"
            raise Problem(_MAYBE, "unavailable", detail, headers={"Connection": "close"}) from None

    async def wait(self, task: Task, seconds: float = MAX_HELD) -> Task:
        """Return a task after its end, or after some seconds."""
        ended = await wait_for_end(self.context, task, min(seconds, MAX_HELD))
        return with_links(self.context, ended, self.own_address)

    async def _arrival(self, said: Fields) -> Arrival:
        scope = self.http.scope  # `http.url` would be parsed for this
        about = (self.caller.key, self.door.name, scope["path"], scope["query_string"].decode("latin-1"))
        return Arrival(
            fingerprint=await fingerprint_of(said, about, self.lease),
            sender=self.door.sender(self.headers),
            number=self.number,
            is_cut_off=self._is_cut_off,
        )

    async def _is_cut_off(self) -> bool:
        """Return whether the client has closed the connection. uvicorn knows it; to ask ASGI costs a cancellation."""
        known = is_disconnected(self.http.receive)
        return await self.http.is_disconnected() if known is None else known


Handler = Callable[[DoorRequest], Awaitable[Response]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DoorRoute:
    """A route of a door."""

    method: str
    path: str
    """Behind the prefix, in Starlette's form."""
    handler: Handler
    scope: Scope = Scope.SUBMIT
    is_open: bool = False
    """Whether it needs no key: the handler checks another proof."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An API of others."""

    name: str
    """The setting that switches it on."""
    prefixes: tuple[str, ...]
    """Where its paths begin; empty for the root, where none of them collides with a path of ours."""
    routes: tuple[DoorRoute, ...]
    write_error: Callable[[Problem], Mapping[str, Any]]
    """Returns the document of an error in the form of this API, so that its client raises its own exception."""
    sender: Callable[[Mapping[str, str]], Sender] = door_headers.sender_of
    """Returns how the sender of a request repeats it, by its headers."""
    invalid_status: int = 400
    """The HTTP status of a request with mistakes."""
    no_room_status: int = 402
    """The HTTP status of a request that no budget has room for."""
    late_headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Headers of an error after which the task may exist: with them its client sends no repeat."""
    ok_errors: bool = False
    """Whether this API answers errors with HTTP 200."""

    def at_prefixes(self, authenticator: Authenticator) -> list[BaseRoute]:
        """Return one route for each prefix, which serves every path below it."""
        prefixes = sorted(filter(None, self.prefixes), key=len, reverse=True)
        return [PrefixRoute(prefix, self._below(prefix, authenticator)) for prefix in prefixes]

    def _below(self, prefix: str, authenticator: Authenticator) -> Router:
        found = [self._route(prefix, route, authenticator) for route in self.routes]
        others = [Route(f"{prefix}{rest}", AnyMethod(self._unknown)) for rest in ("", "/{rest:path}")]
        return Router([*found, *others], redirect_slashes=False)

    def at_root(self, authenticator: Authenticator) -> list[Route]:
        """Return the routes at the root, where the door has some."""
        return [self._route("", route, authenticator) for route in self.routes] if "" in self.prefixes else []

    def _route(self, prefix: str, route: DoorRoute, authenticator: Authenticator) -> Route:
        async def answer(http: Request) -> Response:
            origins = _context(http).settings.doors.cors_origins
            if http.method == "OPTIONS":
                return door_headers.preflight(http, origins)
            headers = door_headers.headers_of(http)
            response = await self._answer(http, headers, route, prefix, authenticator)
            response.raw_headers += _own_headers(http)
            if "origin" in headers:
                door_headers.complete(response, headers["origin"], origins)
            if len(getattr(response, "body", b"")) > LARGE_RESPONSE:
                return CountedResponse(response, http.app.state.bodies, http.state.client_name)
            return response

        name = f"{self.name} {route.method} {prefix}{route.path}"
        return Route(f"{prefix}{route.path}", answer, methods=[route.method, "OPTIONS"], name=name)

    async def _answer(
        self, http: Request, headers: Mapping[str, str], route: DoorRoute, prefix: str, authenticator: Authenticator
    ) -> Response:
        """Answer a request; every error has the form of this API."""
        try:
            caller = await _caller_of(http, headers, route, authenticator)
            http.state.client_name = caller.client  # for the access log
            bodies: BodyBudget = http.app.state.bodies
            with bodies.lease(caller.client) as lease:
                recent: Recent = http.app.state.recent
                request = DoorRequest(
                    http=http,
                    headers=headers,
                    context=_context(http),
                    caller=caller,
                    recent=recent,
                    lease=lease,
                    door=self,
                    route=route,
                    prefix=prefix,
                    number=recent.arrive(),
                )
                try:
                    return await route.handler(request)
                finally:
                    await lease.end_turn()
        except Problem as problem:
            return self.error(problem)
        except StoreUnavailable as error:
            log.warning("request failed status=503 reason=%s", error)
            return self.error(unavailable("the database does not answer; repeat the request later"))
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - the client understands only its own API's errors
            log.error("request failed status=500 door=%s route=%s", self.name, route.path, exc_info=error)
            return self.error(Problem(500, "internal_error", "see the server's log"))

    def error(self, problem: Problem) -> Response:
        """Return an error in the form of this API."""
        status = 200 if self.ok_errors and problem.status != _UNAUTHORIZED else problem.status
        found = {**(self.late_headers if status == _MAYBE else {}), **problem.headers}
        if problem.status not in _MAY_REPEAT:
            found.setdefault("x-should-retry", "false")
        return Response(orjson.dumps(self.write_error(problem)), status, found, "application/json")

    def _unknown(self, http: Request) -> Response:
        origins = _context(http).settings.doors.cors_origins
        if http.method == "OPTIONS":
            return door_headers.preflight(http, origins)
        response = self.error(
            Problem(404, "not_found", f"{http.method[:20]} {http.scope['path'][:80]} is not served; see docs/doors.md")
        )
        if "origin" in http.headers:
            door_headers.complete(response, http.headers["origin"], origins)
        return response


async def _caller_of(
    http: Request, headers: Mapping[str, str], route: DoorRoute, authenticator: Authenticator
) -> Caller:
    """Return the caller of a request; of an open route nobody, who owns nothing."""
    if route.is_open:
        return Caller("", frozenset(), "open")
    return await authenticator.authorize(http, route.scope, key=door_headers.key_of(headers))


_UNAUTHORIZED: Final = 401
_MAY_REPEAT: Final = frozenset({408, 429, 503})
"""Statuses after which no task exists, and a later request may succeed."""


def _context(http: Request) -> Context:
    context: Context = http.app.state.context
    return context


def refused(mistakes: list[Mistake], status: int) -> Problem:
    """Return the error of a request with mistakes."""
    problem = invalid([Mistake(their_name(each.path), each.message) for each in mistakes])
    return Problem(status, problem.code, problem.detail, mistakes=problem.mistakes)


def their_name(path: str) -> str:
    """Return the name of a field without the part of our request that it stands in."""
    for part in ("input.", "options."):
        path = path.removeprefix(part)
    return path


def _own_headers(http: Request) -> list[tuple[bytes, bytes]]:
    """Return the headers that name the request and its task, and that say whether an earlier request has made the task."""
    found = [(b"x-request-id", (request_id.get() or "").encode())]
    accepted: task_store.Accepted | None = getattr(http.state, "accepted", None)
    if accepted is not None:
        found.append((b"dovecote-task", str(accepted.task.id).encode()))
        if not accepted.new:
            found.append((b"idempotency-replayed", b"true"))
    return found


def shown(document: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return a document as JSON."""
    return Response(orjson.dumps(document), status, dict(headers or {}), "application/json")
