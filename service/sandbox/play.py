"""Plays a protocol from data: reads orders, answers queries and renders callbacks by its templates."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox import desk as desks
from service.sandbox.desk import Answer, Desk, Provider, Serve, read_object
from service.sandbox.gateway import GATEWAY
from service.sandbox.jobs import Job, Order, State
from service.sandbox.lazy_routes import LazyRoutes, starts_of
from service.sandbox.protocol import (
    ALWAYS,
    Cancel,
    Creation,
    Errors,
    File,
    List,
    Need,
    Protocol,
    Query,
    QueryMany,
    Reply,
)
from service.sandbox.template import fill

_PAGE: Final = 100
"""Jobs of a page, where a request names no number."""
SHARED_ERRORS: Final[Mapping[str, Provider]] = {"new-api": GATEWAY}
"""Errors that several protocols share, by the name that a file uses in `errors`."""


def routes(desk: Desk, protocol: Protocol) -> LazyRoutes:
    """Return the routes of a protocol."""
    return LazyRoutes(starts_of(protocol.prefix, protocol.paths), lambda: _Player(desk, protocol).routes())


@dataclass(frozen=True, slots=True)
class _Moment:
    """A job at one moment. The slots of a message are filled from it."""

    protocol: Protocol
    job: Job
    state: State
    at: float

    def message(self, name: str) -> Any:
        """Return a message of the protocol, filled in for this state."""
        return fill(self._template(self.protocol.messages[name]), self.resolve)

    def _template(self, states: Mapping[str, Any]) -> Any:
        variants = [f"{self.state}/{self.job.order.media}", self.state]
        if self.job.faults.moderate:
            variants.insert(0, f"{self.state}/moderate")
        own = next((states[each] for each in variants if each in states), None)
        shared = states.get(ALWAYS)
        if own is None:
            return shared
        return {**shared, **own} if isinstance(shared, Mapping) and isinstance(own, Mapping) else own

    def resolve(self, name: str, detail: str) -> Any:
        """Return the value of a slot."""
        job = self.job
        detailed: Mapping[str, Callable[[], Any]] = {
            "message": lambda: self.message(detail),
            "file": lambda: job.file(detail) if detail else job.file_url,
            "order": lambda: find(job.order.document, detail),
            "fact": lambda: job.order.facts.get(detail),
            "progress": lambda: round(job.life.progress_at(self.at), 2),
            "created_at": lambda: self._reached(job.life.created_at),
            "started_at": lambda: self._reached(job.life.started_at),
            "finished_at": lambda: self._reached(job.life.ended_at),
            "changed_at": lambda: job.life.changed_at(self.at),
        }
        return detailed[name]() if name in detailed else getattr(job, name)

    def _reached(self, moment: float) -> float | None:
        return moment if moment <= max(self.at, self.job.created_at) else None


class _Player:
    """The routes of one protocol at one desk."""

    def __init__(self, desk: Desk, protocol: Protocol) -> None:
        self._desk = desk
        self._protocol = protocol
        self._provider = _provider(protocol)

    def routes(self) -> list[Route]:
        protocol = self._protocol
        return [
            *(self._desk.creation(self._provider, self._creation(each)) for each in protocol.creations),
            *(self._route(each.method, each.path, each.headers, self._query(each)) for each in protocol.queries),
            *(
                self._route(each.method, each.path, each.headers, self._query_many(each))
                for each in protocol.queries_of_many
            ),
            *(self._route(each.method, each.path, each.headers, self._list(each)) for each in protocol.lists),
            *(self._route(each.method, each.path, each.headers, self._cancel(each)) for each in protocol.cancels),
            *(
                self._route(each.method, each.path, each.headers, self._account(each.body))
                for each in protocol.accounts
            ),
            *(self._route(each.method, each.path, each.headers, self._file(each)) for each in protocol.files),
        ]

    def _route(self, method: str, path: str, headers: Mapping[str, str], serve: Serve) -> Route:
        async def checked(request: Request) -> Response:
            wrong = self._wrong_header(request, headers)
            return await serve(request) if wrong is None else wrong.response()

        return self._desk.route(self._provider, method, self._protocol.prefix + path, checked)

    def _wrong_header(self, request: Request, headers: Mapping[str, str]) -> Answer | None:
        reply = self._protocol.wrong_header
        for name, wanted in {**self._protocol.headers, **headers}.items():
            given = request.headers.get(name)
            if given != wanted and reply is not None:
                return answer(reply, {"header": name, "wanted": wanted, "given": given})
        return None

    def _creation(self, creation: Creation) -> desks.Creation:
        def read(request: Request, document: Mapping[str, Any]) -> Order | Answer:
            if request.path_params:
                document = {**document, "path": dict(request.path_params)}
            if request.query_params:
                document = {**document, "query": dict(request.query_params)}
            return (
                self._wrong_header(request, creation.headers)
                or self._incomplete(creation, document)
                or _order(creation, document)
            )

        def taken(job: Job) -> Any:
            if creation.file:
                return desks.FileAnswer(creation.file)
            return fill(creation.reply, _Moment(self._protocol, job, "queued", job.created_at).resolve)

        callback = self._show(creation.callback) if creation.callback else None
        path, stages = self._protocol.prefix + creation.path, tuple(creation.stages)
        return desks.Creation(path, read, taken=taken, callback=callback, stages=stages)

    def _incomplete(self, creation: Creation, document: Mapping[str, Any]) -> Answer | None:
        """Return the refusal of an order that lacks a field, or None."""
        missing: list[str] = []
        issues: list[Any] = []
        described = self._protocol.issues
        for each in creation.needs:
            need = Need(field=each) if isinstance(each, str) else each
            if any(str(find(document, name)) != value for name, value in need.when.items()):
                continue
            value = next((found for name in need.field.split("|") if (found := find(document, name))), None)
            too_long = need.longest is not None and isinstance(value, str) and _utf16(value) > need.longest
            if (value is None and need.longest is None) or too_long:
                if need.reply is not None and not missing:
                    return answer(need.reply, {"field": need.field})
                missing.append(need.field)
                if described is not None:
                    slot = {"field": need.field.split("|")[0], "limit": need.longest}
                    issues.append(fill(described.too_long if too_long else described.missing, _lookup(slot)))
        if not missing:
            return None
        values = {"missing": ", ".join(missing), "issues": issues}
        if self._protocol.incomplete is None:
            return self._provider.invalid(f"{values['missing']} is required")
        return answer(self._protocol.incomplete, values)

    def _show(self, message: str) -> desks.Show:
        return lambda job, state, at: _Moment(self._protocol, job, state, at).message(message)

    def _query(self, query: Query) -> Serve:
        def show(job: Job) -> desks.Show:
            return self._show(query.shapes.get(job.faults.feed_shape or "", query.message))

        async def serve(request: Request) -> Response:
            return self._desk.poll(self._named(await _job_id(request, query), query.reference), self._provider, show)

        return serve

    def _named(self, name: str, reference: str) -> str:
        """Return the id of the job that a name means: its own, or the client's reference in a field of the order."""
        jobs = self._desk.ledger.jobs if reference else []
        return next((job.id for job in jobs if find(job.order.document, reference) == name), name)

    def _query_many(self, query: QueryMany) -> Serve:
        async def serve(request: Request) -> Response:
            ids = await _argument(request, query.ids)
            wanted = ids.split(",") if isinstance(ids, str) else ids or ()
            return self._desk.poll_many(
                map(str, wanted),
                self._provider,
                lambda _job: self._show(query.message),
                wrap=lambda shown: fill(query.body, _lookup({"jobs": shown})),
            )

        return serve

    def _list(self, listing: List) -> Serve:
        async def serve(request: Request) -> Response:
            now, account = self._desk.clock(), self._provider.account
            jobs = [job for job in self._desk.ledger.jobs if job.account == account and not job.gone]
            jobs.sort(key=lambda job: job.created_at, reverse=True)
            size = _whole(await _argument(request, listing.size), _PAGE)
            skipped = _whole(await _argument(request, listing.skipped), 0)
            page = jobs[skipped : skipped + size]
            values = {
                "jobs": [self._show(listing.message)(job, job.state_at(now), now) for job in page],
                "more": skipped + size < len(jobs),
                "total": len(jobs),
                "size": size,
                "skipped": skipped,
            }
            return Answer(200, fill(listing.body, _lookup(values))).response()

        return serve

    def _cancel(self, cancel: Cancel) -> Serve:
        """Cancel a running job. Delete a finished one, unless the protocol refuses that as too late."""

        async def serve(request: Request) -> Response:
            job = self._desk.ledger.find(await _job_id(request, cancel), self._provider.account)
            if job is None or job.gone:
                return self._provider.unknown.response()
            now = self._desk.clock()
            finished = now >= job.life.ended_at
            if finished and cancel.too_late is not None:
                body = fill(cancel.too_late.body, _Moment(self._protocol, job, job.state_at(now), now).resolve)
                return Answer(cancel.too_late.status, body, cancel.too_late.headers).response()
            after = replace(job, deleted_at=now) if finished else replace(job, cancelled_at=now, kept=cancel.keeps)
            self._desk.ledger.put(after)
            if cancel.reply.body is None:
                return Response(status_code=cancel.reply.status)
            body = fill(cancel.reply.body, _Moment(self._protocol, job, "cancelled", now).resolve)
            return Answer(cancel.reply.status, body).response()

        return serve

    def _file(self, file: File) -> Serve:
        async def serve(request: Request) -> Response:
            job = self._desk.ledger.find(await _job_id(request, file), self._provider.account)
            if job is None or job.gone or job.state_at(self._desk.clock()) != "succeeded":
                return self._provider.unknown.response()
            return self._desk.files.answer(request, job, file.ending)

        return serve

    def _account(self, body: Any) -> Serve:
        async def serve(_request: Request) -> Response:
            return Answer(200, fill(body, self._resolve_account)).response()

        return serve

    def _resolve_account(self, name: str, detail: str) -> Any:
        account = self._provider.account
        if name == "credits_left":
            return self._protocol.credits - self._desk.ledger.spent(account)
        jobs = [job for job in self._desk.ledger.jobs if job.account == account]
        return dict(Counter(str(find(job.order.document, detail)) for job in jobs))


def answer(reply: Reply, values: Mapping[str, Any]) -> Answer:
    """Return an answer with its slots filled."""
    return Answer(reply.status, fill(reply.body, _lookup(values)), reply.headers)


def find(document: Any, path: str) -> Any:
    """Return the value at a dotted path of a document, or None. A number is an index of a list."""
    for name in path.split("."):
        if isinstance(document, list):
            document = document[int(name)] if name.isdecimal() and int(name) < len(document) else None
        else:
            document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _lookup(values: Mapping[str, Any]) -> Callable[[str, str], Any]:
    return lambda name, _detail: values.get(name)


def _provider(protocol: Protocol) -> Provider:
    if isinstance(protocol.errors, str):
        return replace(SHARED_ERRORS[protocol.errors], account=protocol.account)
    errors: Errors = protocol.errors
    by_word = errors.model_dump(by_alias=True)
    return Provider(
        account=protocol.account,
        invalid=lambda why: answer(errors.invalid, {"why": why}),
        unauthorized=answer(errors.unauthorized, {}),
        unknown=answer(errors.unknown, {}),
        unknown200=None if errors.unknown200 is None else answer(errors.unknown200, {}),
        errors={word: answer(Reply(**reply), {}) for word, reply in by_word.items() if reply is not None},
        key_header=protocol.key_header,
        key_prefix=protocol.key_prefix,
    )


def _order(creation: Creation, document: Mapping[str, Any]) -> Order:
    prompts = (find(document, path) for path in creation.prompt)
    number = find(document, creation.points.field) if creation.points.field else None
    media, by = creation.media, creation.media_by
    if by is not None:
        text = str(find(document, by.field))
        media = next((made for word, made in by.words.items() if word in text), media)
    facts = dict(creation.facts)
    for field, more in creation.facts_with.items():
        facts |= more if find(document, field) else {}
    url = find(document, creation.callback_url) if creation.callback_url else None
    return Order(
        document=document,
        prompt=next((text for text in prompts if isinstance(text, str)), ""),
        points=creation.points.each * (number if isinstance(number, int) else creation.points.otherwise),
        media=media,
        callback_url=url if isinstance(url, str) and url else None,
        facts=facts,
    )


async def _argument(request: Request, where: str) -> Any:
    """Return an argument of a request: `path:NAME`, `query:NAME` or `body:PATH`."""
    kind, _, name = where.partition(":")
    if kind == "path":
        return request.path_params[name]
    if kind == "query":
        return ",".join(request.query_params.getlist(name))
    return find(await read_object(request), name)


def _whole(stated: Any, otherwise: int) -> int:
    """Return the whole number that an argument states."""
    return int(stated) if str(stated).isdecimal() else otherwise


async def _job_id(request: Request, about: Query | Cancel | File) -> str:
    found = re.fullmatch(about.id_pattern, str(await _argument(request, about.id)))
    return "" if found is None else found[1]


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
