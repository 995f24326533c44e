"""The client for asyncio."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Unpack

import httpx

from dovecote import calls
from dovecote.async_resources import AsyncCallbacks, AsyncEndpoints, AsyncMessages, AsyncUploads, AsyncWebhookSecrets
from dovecote.calls import LONGEST_POLL, TaskOrId
from dovecote.catalogue import Family, ModelList, Upstream
from dovecote.erasures import Erasure
from dovecote.errors import DovecoteError, Unreachable
from dovecote.fields import AdoptFields, SubmitFields, TaskFilters
from dovecote.money import QuoteList
from dovecote.money_calls import AsyncMoney
from dovecote.protocol import RETRY_FOR, Call, Pause, Request, Response, Session
from dovecote.results import AsyncResults
from dovecote.settings import TIMEOUT, Settings, response_of
from dovecote.streaming import EventStream
from dovecote.tasks import Event, Task, TaskEvent
from dovecote.uploads import Upload, async_blocks
from dovecote.values import Page, every_async
from dovecote.webhooks import Webhook, verify_webhook

Result = TypeVar("Result")


class AsyncClient(AsyncMoney):
    """A client of one Dovecote for asyncio. Close it, or use it in an ``async with`` statement.

    A request that is safe to repeat is repeated while the server is away or busy. Every submit has an idempotency key.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retry_for: float = RETRY_FOR,
        on_retry: Callable[[DovecoteError, float], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Create a client. Nothing is sent yet.

        :param url: default: ``DOVECOTE_URL``, else ``http://127.0.0.1:8080``
        :param api_key: default: ``DOVECOTE_API_KEY``; an empty text for none
        :param timeout: seconds to wait for a response
        :param retry_for: seconds for which a request is repeated; 0 for a single attempt
        :param on_retry: called before each repetition with the error and the seconds until then
        :param transport: an httpx transport, for tests
        :raises ConfigurationError: when the URL or the API key is not usable
        """
        self._settings = Settings.resolve(url, api_key, timeout)
        self._session = Session(time.monotonic, retry_for)
        self._on_retry = on_retry
        self._http = httpx.AsyncClient(transport=transport, **self._settings.client_arguments())
        self.endpoints = AsyncEndpoints(self._session, self._run)
        """The webhook endpoints."""
        self.callbacks = AsyncCallbacks(self._session, self._run)
        """The stored callbacks of providers: what was understood, and what was not."""
        self.messages = AsyncMessages(self._session, self._run)
        """The messages to clients: what was delivered, and what was not."""
        self.results = AsyncResults(self._session, self._run, self._settings, self._http)
        """The kept results of tasks: downloads, links, provenance."""
        self.uploads = AsyncUploads(self._session, self._run)
        """The files that tasks take as their media."""
        self.webhook_secret = AsyncWebhookSecrets(self._session, self._run)
        """The secret that signs the messages to your ``callback_url``."""

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # ── tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(
        self,
        family: str,
        operation: str,
        *,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        idempotency_key: str | None = None,
        **fields: Unpack[SubmitFields],
    ) -> Task:
        """Submit a task. It is one task and one purchase, even when the request must be repeated.

        :param input: the fields of the operation; :meth:`families` describes them
        :param idempotency_key: your own id of this request, if your program may repeat it; default: a new one
        :param fields: see :class:`SubmitFields`: ``callback_url``, ``labels``, ``options``, ``parent_id``, ``deadline`` …
        :raises Problem: when the server refuses the request; ``errors`` has every mistake
        """
        document = {"family": family, "operation": operation, "input": input or {}, **fields}
        return await self._run(calls.submit(self._session, document, idempotency_key))

    async def quote(
        self,
        family: str,
        operation: str,
        *,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        **fields: Unpack[SubmitFields],
    ) -> QuoteList:
        """Return what each upstream is expected to charge for a task. Nothing is bought.

        :param input: the fields of the operation
        :param fields: as :meth:`submit` has them
        """
        document = {"family": family, "operation": operation, "input": input or {}, **fields}
        return await self._run(calls.quote_task(self._session, document))

    async def adopt(
        self, family: str, operation: str, *, upstream: str, external_id: str, **fields: Unpack[AdoptFields]
    ) -> Task:
        """Follow a job that was bought elsewhere to its end. Dovecote never submits it.

        A job that the client follows already returns the same task.

        :param upstream: the upstream that has the job
        :param external_id: the provider's id of the job
        :param fields: see :class:`AdoptFields`: ``callback_url``, ``labels``, ``deadline``, ``dialect``, ``input`` …
        :raises Problem: ``job_taken`` when another client follows the job
        """
        document = {"family": family, "operation": operation, "upstream": upstream, "external_id": external_id}
        return await self._run(calls.submit(self._session, {**document, **fields}, None))

    async def upload(self, file: str | Path | bytes, *, name: str | None = None) -> Upload:
        """Upload a file. A task takes it as ``{"upload": upload.id}`` in place of a URL.

        :param file: the path of a file, or its bytes
        :param name: a name for your own use; default: that of the file
        :raises OSError: when the file cannot be read
        """
        return await self.uploads.create(file, name=name)

    async def get(self, task: TaskOrId, *, wait: int = 0) -> Task:
        """Get a task.

        :param wait: seconds (up to 60) to wait for its end before the server responds
        """
        return await self._run(calls.get(self._session, task, wait))

    async def wait(self, task: TaskOrId, *, timeout: float | None = None) -> Task:  # noqa: ASYNC109 - as the other client
        """Wait until a task has ended, across restarts of the server.

        :param timeout: seconds; default: no limit
        :raises WaitTimeout: when the task has not ended by then
        """
        return await self._run(calls.wait(self._session, task, timeout))

    async def watch(self, task: TaskOrId, *, interval: int = 1) -> AsyncIterator[Task]:
        """Yield a task now and after every change of its state, progress or explanation, until it has ended.

        :param interval: seconds after which a change is noticed at the latest
        """
        seen: Task | None = None
        while seen is None or not seen.ended:
            now = await self._run(calls.get(self._session, task, interval if seen else 0))
            if calls.differs(now, seen):
                yield now
            seen = now

    async def cancel(self, task: TaskOrId) -> Task:
        """Cancel a task and return it. It may end a little later, or may have ended already."""
        return await self._run(calls.cancel(self._session, task))

    async def refresh(self, task: TaskOrId) -> Task:
        """Query the provider about a task now, outside the schedule, and return the task."""
        return await self._run(calls.refresh(self._session, task))

    async def send_input(self, task: TaskOrId, input: Mapping[str, Any]) -> Task:  # noqa: A002 - the API's word
        """Send the input that a task in ``awaiting_input`` waits for.

        :param input: as the schema in ``task.awaits["input"]`` describes it
        """
        return await self._run(calls.send_input(self._session, task, input))

    async def retry(self, task: TaskOrId, *, confirm_double_payment: bool) -> Task:
        """Submit an ``unconfirmed`` task again.

        :param confirm_double_payment: that you accept that the task may be paid for twice
        """
        return await self._run(calls.retry(self._session, task, confirm_double_payment=confirm_double_payment))

    async def erase(self, task: TaskOrId, *, cancel: bool = False) -> Erasure:
        """Erase the content of a task, also at its provider where that can delete jobs.

        :param cancel: whether to cancel the task if it is open; else it is erased when it has ended
        """
        return await self._run(calls.erase(self._session, task, cancel=cancel))

    async def erase_labelled(
        self, labels: Mapping[str, str], *, client: str | None = None, cancel: bool = False, dry_run: bool = False
    ) -> Erasure:
        """Erase the content of all tasks that have all of some labels, such as those of a person.

        :param client: only tasks of this client; needs a key with the scope ``admin`` for another one than its own
        :param cancel: whether to cancel tasks that are open
        :param dry_run: whether to count the tasks only
        """
        document = {"labels": labels, "client": client, "cancel": cancel, "dry_run": dry_run}
        return await self._run(calls.erase_labelled(self._session, document))

    async def erasure(self, erasure_id: str) -> Erasure:
        """Get the progress of an erasure."""
        return await self._run(calls.erasure(self._session, erasure_id))

    async def history(self, task: TaskOrId, *, after: int = 0) -> Sequence[TaskEvent]:
        """List the events of a task, oldest first, at most 1000.

        :param after: only events with a higher sequence
        """
        return (await self._run(calls.history(self._session, task, after))).items

    def list(self, *, limit: int | None = None, **filters: Unpack[TaskFilters]) -> AsyncIterator[Task]:
        """Yield tasks, newest first. Further pages are loaded as needed.

        :param limit: size of a page, at most 100
        :param filters: see :class:`TaskFilters`: ``state``, ``family``, ``labels``, ``created_after`` …
        """
        return every_async(lambda cursor: self.page(limit=limit, cursor=cursor, **filters))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[TaskFilters]
    ) -> Page[Task]:
        """List one page of tasks, newest first.

        :param limit: size of the page, at most 100
        :param cursor: ``next`` of the page before
        :param filters: see :class:`TaskFilters`
        """
        return await self._run(calls.list_tasks(self._session, {**filters, "limit": limit}, cursor))

    # ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def events(
        self, after: str = "0", *, types: Sequence[str] = (), follow: bool = False
    ) -> AsyncIterator[Event]:
        """Yield the events of all tasks, oldest first, each once.

        :param after: the ``id`` of the last event that you have processed; default: from the beginning
        :param types: only events of these types
        :param follow: whether to wait for further events at the end, without ever stopping
        """
        wait = LONGEST_POLL if follow else 0
        while True:
            page = await self._run(calls.list_events(self._session, after, types=types, limit=100, wait=wait))
            for item in page.items:
                yield item
            after = page.next or after
            if not page.items and not follow:
                return

    async def stream(
        self, task: TaskOrId | None = None, *, after: str | None = None, types: Sequence[str] = ()
    ) -> AsyncIterator[Event]:
        """Yield events as they happen: of one task from its beginning to its end, else of all tasks from now on.

        A lost connection is made again. No event is lost or repeated.

        :param after: the ``id`` of the event to continue after
        :param types: only events of these types; for all tasks only
        """
        stream = EventStream(self._session, task, after, types)
        while not stream.ended:
            pause: float | None = None
            error: Unreachable | None = None
            try:
                async with self._http.stream(**self._settings.request_arguments(stream.request())) as response:
                    pause = stream.opened(await self._head(response))
                    if pause is None:
                        async for piece in response.aiter_bytes():
                            for event in stream.feed(piece):
                                yield event
                            if stream.ended:
                                return
            except httpx.TransportError as failure:
                error, pause = self._settings.unreachable(failure), None
            if pause is None:
                pause = stream.closed(error)
            if self._on_retry is not None and stream.error is not None:
                self._on_retry(stream.error, pause)
            await asyncio.sleep(pause)

    # ── the catalogue ──────────────────────────────────────────────────────────────────────────────────────────────

    async def families(self) -> Sequence[Family]:
        """List the families, their operations, and the JSON Schema of each operation's input."""
        return await self._run(calls.families(self._session))

    async def upstreams(self) -> Sequence[Upstream]:
        """List the configured upstreams with their health, load and credit."""
        return await self._run(calls.upstreams(self._session))

    async def hold(self, upstream: Upstream | str, act: Literal["pause", "drain"] = "pause") -> Upstream:
        """Stop submitting to an upstream: tasks wait for it (``pause``), or go to the next of their route (``drain``)."""
        return await self._run(calls.act_on_upstream(self._session, upstream, act))

    async def resume(self, upstream: Upstream | str) -> Upstream:
        """Submit tasks to an upstream again."""
        return await self._run(calls.act_on_upstream(self._session, upstream, "resume"))

    async def models(self, upstream: Upstream | str) -> ModelList:
        """List the models that an upstream offers now, at most ten minutes old.

        :raises Problem: when there is no such upstream, or when it has no list
        """
        return await self._run(calls.models(self._session, upstream))

    # ── webhooks ───────────────────────────────────────────────────────────────────────────────────────────────────

    def verify_webhook(self, headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str]) -> Webhook:
        """Verify a webhook: see :func:`dovecote.verify_webhook`."""
        return verify_webhook(headers, body, secret)

    async def _head(self, response: httpx.Response) -> Response:
        """Return the response to a stream's request, with its body where it is not a stream."""
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return response_of(response, with_body=False)
        await response.aread()
        return response_of(response)

    async def _run(self, call: Call[Result]) -> Result:
        """Execute a call and return its result."""
        outcome: Response | Unreachable | None = None
        while True:
            try:
                step = call.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            outcome = await self._do(step)

    async def _do(self, step: Request | Pause) -> Response | Unreachable | None:
        if isinstance(step, Pause):
            if step.reason is not None and self._on_retry is not None:
                self._on_retry(step.reason, step.seconds)
            await asyncio.sleep(step.seconds)
            return None
        try:
            content = None if step.file is None else async_blocks(step.file)
            return response_of(await self._http.request(**self._settings.request_arguments(step, content)))
        except httpx.TransportError as error:
            return self._settings.unreachable(error)
