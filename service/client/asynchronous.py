"""The client for asyncio."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx

from service.client import conversation
from service.client.connection import TIMEOUT, Connection, head_of, reply_of
from service.client.conversation import LONGEST_POLL, Ask, Pause, Reply, Talk, TaskOrId
from service.client.errors import Unreachable
from service.client.following import Following
from service.client.values import Event, Message, Task
from service.client.webhooks import verify_webhook

Given = TypeVar("Given")


class AsyncClient:
    """Speaks to one Dovecote. Close it, or use it in an ``async with``.

    What may be repeated is tried again while the server is away or busy; every submit has an idempotency key.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        :param url: default ``DOVECOTE_URL``, else this machine's port 8080
        :param api_key: default ``DOVECOTE_API_KEY``
        :param timeout: seconds to wait for an answer
        :param transport: another way to the server, such as in tests
        """
        self._connection = Connection.chosen(url, api_key, timeout)
        self._http = httpx.AsyncClient(transport=transport, **self._connection.settings())

    async def __aenter__(self) -> Self:
        """Use it for the length of an ``async with``."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def submit(
        self,
        family: str,
        operation: str,
        *,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        options: Mapping[str, Any] | None = None,
        callback_url: str | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Task:
        """Submit a task: it is one task and one purchase, however often this has to be tried.

        :param input: see ``GET /v1/families``
        :param options: fields of the provider's own body
        :param callback_url: where a signed webhook is to go when it ends
        :param idempotency_key: your own name for this wish, if you may repeat it yourself; default: one is made
        :param more: other fields of the API, such as ``parent_id``, ``upstream``, ``deadline``
        :raises Problem: when it is refused; ``errors`` has every mistake
        """
        wish = {"family": family, "operation": operation, "input": input, "options": options}
        wish |= {"callback_url": callback_url, "labels": labels, **more}
        return await self._run(conversation.submit(time.monotonic, wish, idempotency_key))

    async def get(self, task: TaskOrId) -> Task:
        """Get a task as it is now."""
        return await self._run(conversation.get(time.monotonic, task))

    async def wait(self, task: TaskOrId, *, timeout: float | None = None) -> Task:  # noqa: ASYNC109 - as the other client
        """Wait for a task's end, also over restarts of the server.

        :param timeout: seconds; default: as long as it takes
        :raises StillOpen: when it has not ended by then
        """
        return await self._run(conversation.wait(time.monotonic, task, timeout))

    async def cancel(self, task: TaskOrId) -> Task:
        """Ask for a task to be cancelled, and get it as it is then: perhaps it ends a little later, perhaps it has ended."""
        return await self._run(conversation.cancel(time.monotonic, task))

    async def list(
        self,
        *,
        state: str | Sequence[str] | None = None,
        family: str | None = None,
        labels: Mapping[str, str] | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
    ) -> AsyncIterator[Task]:
        """List tasks, newest first, page by page as you go on.

        :param created_after: RFC 3339, as ``created_before``
        """
        filters = {"state": state, "family": family, "labels": labels}
        filters |= {"created_after": created_after, "created_before": created_before}
        cursor = None
        while True:
            page = await self._run(conversation.page_of_tasks(time.monotonic, filters, cursor))
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def events(
        self, after: str = "0", *, types: Sequence[str] = (), follow: bool = False
    ) -> AsyncIterator[Event]:
        """Go through what happened to all tasks, oldest first, each event once.

        :param after: the ``id`` of the last event that you have dealt with; default: from the beginning
        :param types: only these
        :param follow: whether to wait for more at the end, and never to stop
        """
        seconds = LONGEST_POLL if follow else 0
        while True:
            page = await self._run(
                conversation.page_of_events(time.monotonic, after, types=types, limit=100, seconds=seconds)
            )
            for item in page.items:
                yield item
            after = str(page.next)
            if not page.items and not follow:
                return

    async def stream(
        self, task: TaskOrId | None = None, *, after: str | None = None, types: Sequence[str] = ()
    ) -> AsyncIterator[Event]:
        """Go through what happens, as it happens: of a task from its beginning to its end, else of all tasks from now on.

        A connection that is lost is made again, and nothing is lost or repeated.

        :param after: the ``id`` of an event to go on after
        :param types: only these, where it is of all tasks
        """
        following = Following(time.monotonic, task, after, types)
        while not following.over:
            pause: float | None = None
            try:
                async with self._http.stream(**self._connection.request(following.connect())) as response:
                    pause = following.opened(await self._opened(response))
                    if pause is None:
                        async for piece in response.aiter_bytes():
                            for event in following.take(piece):
                                yield event
                            if following.over:
                                return
                        pause = following.broke(None)
            except httpx.TransportError as error:
                pause = following.broke(self._connection.lost(error))
            await asyncio.sleep(pause)

    def verify_webhook(self, headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str]) -> Message:
        """Read a webhook: see :func:`service.client.verify_webhook`."""
        return verify_webhook(headers, body, secret)

    async def _opened(self, response: httpx.Response) -> Reply:
        head = head_of(response)
        if head.headers.get("content-type", "").startswith("text/event-stream"):
            return head
        await response.aread()
        return reply_of(response)

    async def _run(self, talk: Talk[Given]) -> Given:
        """Carry out a conversation."""
        answer: Reply | Unreachable | None = None
        while True:
            try:
                step = talk.send(answer)
            except StopIteration as end:
                given: Given = end.value
                return given
            answer = await self._do(step)

    async def _do(self, step: Ask | Pause) -> Reply | Unreachable | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return reply_of(await self._http.request(**self._connection.request(step)))
        except httpx.TransportError as error:
            return self._connection.lost(error)
