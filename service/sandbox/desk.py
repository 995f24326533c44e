"""The handling of requests that all protocols share: check the key, refuse, take the order, answer, misbehave."""

import asyncio
import math
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from service.sandbox import form
from service.sandbox.callbacks import Courier, Render
from service.sandbox.connections import CutAnswer, HalfAnswer, NoAnswer
from service.sandbox.faults import Faults
from service.sandbox.files import FILES
from service.sandbox.inputs import Fetch, fetch_all
from service.sandbox.jobs import Job, Ledger, Life, Order, State
from service.sandbox.served_files import ServedFiles

_PAGE: Final = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer, as a value."""

    status: int
    document: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        body = orjson.dumps(self.document)
        return Response(body, self.status, dict(self.headers), media_type="application/json")


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An answer that is the file itself, as a value."""

    ending: str

    def response(self) -> Response:
        media_type, content = FILES[self.ending]
        return Response(content, media_type=media_type)


@dataclass(frozen=True, slots=True)
class Provider:
    """An account, and the answers that every provider has: errors, unknown jobs."""

    account: str
    invalid: Callable[[str], Answer]  # a request that makes no sense, and why
    unauthorized: Answer
    unknown: Answer  # a job that does not exist (yet, or any more)
    errors: Mapping[str, Answer]  # by the words of faults.py, and `moderate` for a refusal of the content
    unknown200: Answer | None = None  # the same as `unknown` with HTTP 200, where that was seen
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "


@dataclass(frozen=True, slots=True)
class Creation:
    """A route that creates jobs: how it reads an order, confirms it, and calls back."""

    path: str
    read: Callable[[Request, Mapping[str, Any]], Order | Answer]
    taken: Callable[[Job], Any]
    callback: Render | None = None
    has_modal: bool = False  # whether its jobs can be made to wait for input
    stages: tuple[float, ...] = ()  # shares of the running time at which it also calls back with progress


Show = Callable[[Job, State, float], Any]
"""Renders the answer to a poll of a job in this state at this moment: the JSON document."""

Serve = Callable[[Request], Awaitable[Response]]


class _RouteOfQuery(Route):
    """A route that also needs a query, where several share a path."""

    def __init__(self, path: str, endpoint: Serve, *, methods: list[str], query: str) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.query = query

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match the path, and the start of the query."""
        asked = scope.get("query_string", b"").decode("latin-1")
        return super().matches(scope) if asked.startswith(self.query) else (Match.NONE, {})


class Desk:
    """Takes orders and answers polls, for any provider."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        courier: Courier,
        clock: Callable[[], float],
        seconds: float,
        key: str,
        faults: Faults,
        fetch: Fetch,
    ) -> None:
        self.ledger = ledger
        self.courier = courier
        self.seconds = seconds
        self.key = key
        self.faults = faults
        self.clock = clock
        self.files = ServedFiles(clock)
        self._fetch = fetch
        self._refusals: Counter[tuple[str, str]] = Counter()

    def clear(self) -> None:
        """Remove all jobs with their callbacks, all recorded requests, and the counted refusals."""
        self.ledger.clear()
        self._refusals.clear()

    def route(
        self, provider: Provider, method: str, path: str, serve: Serve, admits: Callable[[Request], bool] | None = None
    ) -> Route:
        """Return a route that counts its requests and checks the key, or runs the check ``admits``."""

        async def admit(request: Request) -> Response:
            self.ledger.requests[f"{method} {path}"] += 1
            if not (self._shows_key(request, provider) if admits is None else admits(request)):
                return provider.unauthorized.response()
            return await serve(request)

        plain, _, query = path.partition("?")
        return (
            _RouteOfQuery(plain, admit, methods=[method], query=query)
            if query
            else Route(path, admit, methods=[method])
        )

    def _shows_key(self, request: Request, provider: Provider) -> bool:
        return request.headers.get(provider.key_header) == f"{provider.key_prefix}{self.key}"

    def creation(self, provider: Provider, creation: Creation) -> Route:
        async def serve(request: Request) -> Response:
            return await self._submit(request, provider, creation)

        return self.route(provider, "POST", creation.path, serve)

    async def _submit(self, request: Request, provider: Provider, creation: Creation) -> Response:
        document = await read_object(request)
        if document is None:
            return provider.invalid("the body is not a JSON object").response()
        order = creation.read(request, document)
        if isinstance(order, Answer):
            return order.response()
        words = " ".join(_texts(document, leave_out=order.callback_url))
        try:
            faults = self.faults | Faults.in_text(words)
        except ValueError as mistake:
            return provider.invalid(str(mistake)).response()
        refusal = self._refusal(faults, order.prompt or words)
        if refusal is not None:
            return provider.errors[refusal].response()
        if faults.fetch and (answer := await self._fetch_inputs(provider, document, order)) is not None:
            return answer.response()
        job = self._take(request, provider, creation, order, faults)
        if faults.early:
            await self.courier.deliver_due(only=job.id)
        await asyncio.sleep(faults.slow or 0)
        taken = creation.taken(job)
        return _spoilt(taken if isinstance(taken, FileAnswer) else Answer(200, taken), provider, faults)

    async def _fetch_inputs(self, provider: Provider, document: Mapping[str, Any], order: Order) -> Answer | None:
        """Fetch the files of an order; return the refusal where one cannot be had."""
        words = (word.strip('"<>()') for text in _texts(document, order.callback_url) for word in text.split())
        urls = dict.fromkeys(
            word for word in words if word.startswith(("http://", "https://")) and word != order.callback_url
        )
        fetched = await fetch_all(self._fetch, urls)
        self.ledger.fetched += fetched
        missing = next((each for each in fetched if not each.ok), None)
        return None if missing is None else provider.invalid(f"the file cannot be fetched: HTTP {missing.status}")

    def _refusal(self, faults: Faults, prompt: str) -> str | None:
        """Return the word by which the order is refused, or None."""
        if faults.refuse:
            return "moderate" if faults.moderate else "refuse"
        for word, wanted in {"refuse200": faults.refuse200, "nocredit": faults.nocredit}.items():
            if wanted:
                return word
        for word, times in {"429": faults.too_many, "503": faults.unavailable}.items():
            if self._refusals[word, prompt] < (times or 0):
                self._refusals[word, prompt] += 1
                return word
        return None

    def _take(self, request: Request, provider: Provider, creation: Creation, order: Order, faults: Faults) -> Job:
        before = None if order.resumes is None else self.ledger.find(order.resumes)
        if before is not None:
            job = self.ledger.put(self._go_on(before, order, before.faults | faults))
        else:
            awaits_input = creation.has_modal and (order.awaits_input or faults.modal or faults.hidemodal)
            job = self.ledger.put(
                Job(
                    id=provider.new_id(),
                    account=provider.account,
                    route=f"POST {creation.path}",
                    order=order,
                    life=Life.planned(self.clock(), math.inf if awaits_input else self._seconds(faults), faults),
                    faults=faults,
                    base_url=str(request.base_url).rstrip("/"),
                    awaits_input=awaits_input,
                )
            )
        if creation.callback is not None and not job.awaits_input:
            self.courier.plan(job, creation.callback, creation.stages)
        return job

    def _go_on(self, job: Job, order: Order, faults: Faults) -> Job:
        """Start a job that waited for input."""
        now = self.clock()
        life = replace(Life.planned(now, self._seconds(faults), faults), created_at=job.created_at)
        order = replace(job.order, prompt=order.prompt or job.prompt)
        return replace(job, order=order, life=life, faults=faults, awaits_input=False, answered_at=now)

    def _seconds(self, faults: Faults) -> float:
        return self.seconds if faults.seconds is None else faults.seconds

    def poll(self, job_id: str, provider: Provider, show: Callable[[Job], Show]) -> Response:
        """Answer a poll of a job; `show` chooses the message by the job."""
        job = next(iter(self._asked_about([job_id], provider)), None)
        if job is None:
            return provider.unknown.response()
        age, faults = self.clock() - job.created_at, job.faults
        if (page := _instead_of_news(job)) is not None:
            return page
        if age < (faults.ghost200 or 0):
            return (provider.unknown200 or provider.unknown).response()
        if age < (faults.ghost or 0):
            return provider.unknown.response()
        return Answer(200, self._shown(job, show)).response()

    def poll_many(
        self,
        job_ids: Iterable[str],
        provider: Provider,
        show: Callable[[Job], Show],
        wrap: Callable[[list[Any]], Any] = lambda shown: shown,
    ) -> Response:
        """Answer a poll of several jobs, in another order than asked; unknown jobs are left out."""
        jobs = self._asked_about(job_ids, provider)
        if (page := next(filter(None, map(_instead_of_news, jobs)), None)) is not None:
            return page
        now = self.clock()
        seen = [job for job in jobs if now - job.created_at >= max(job.faults.ghost or 0, job.faults.ghost200 or 0)]
        return Answer(200, wrap([self._shown(job, show) for job in reversed(seen)])).response()

    def _asked_about(self, job_ids: Iterable[str], provider: Provider) -> list[Job]:
        """Return the jobs that exist, and count the poll of each."""
        found = (self.ledger.find(job_id, provider.account) for job_id in dict.fromkeys(job_ids))
        return [self.ledger.put(replace(job, polls=job.polls + 1)) for job in found if job is not None and not job.gone]

    def _shown(self, job: Job, show: Callable[[Job], Show]) -> Any:
        at = self.clock() - (job.faults.lag or 0)
        return show(job)(job, job.state_at(at), at)


def _spoilt(answer: Answer | FileAnswer, provider: Provider, faults: Faults) -> Response:
    """Return the answer to a submit that was taken, as the faults of the job change it."""
    if faults.hang:
        return NoAnswer()
    if faults.cut:
        return CutAnswer()
    if faults.server_error:
        return provider.errors["500"].response()
    if faults.htmlsubmit:
        return html_page("Welcome", 200)
    whole = answer.response()
    return HalfAnswer(whole.body, whole.status_code, media_type=whole.media_type) if faults.cutbody else whole


def _instead_of_news(job: Job) -> Response | None:
    """Return the page that answers a poll, if the job's faults require one."""
    if job.faults.flaky and job.polls % 3 == 1:
        return html_page("502 Bad Gateway", 502)
    return html_page("Welcome", 200) if job.faults.html else None


def html_page(title: str, status: int) -> Response:
    return HTMLResponse(_PAGE.format(title), status)


async def read_object(request: Request) -> Mapping[str, Any] | None:
    """Read the fields of a form, or the JSON object of a body with any other content type; None for any other body."""
    content_type = request.headers.get("content-type", "")
    if content_type.startswith(form.CONTENT_TYPE):
        return form.read_form(content_type, await request.body())
    try:
        document = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _texts(document: Any, leave_out: str | None) -> Iterator[str]:
    """Yield all texts of a document except the callback's URL, which differs from submit to submit."""
    if isinstance(document, str) and document != leave_out:
        yield document
    elif isinstance(document, Mapping):
        for value in document.values():
            yield from _texts(value, leave_out)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value, leave_out)
