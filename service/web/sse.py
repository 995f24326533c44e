"""Server-sent events at the cost of little more than an open connection.

A stream that waits is one suspended call and an entry in a table. One clock sends the heartbeats of all streams, and only a
stream that a signal has woken queries the database. A stream reads a few events after its cursor, and the next ones only
when those are sent: a slow reader occupies no more memory than that.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.flows.context import Context, log
from service.flows.feed import HELD_BACK, CursorExpired, Page, render_item
from service.flows.signals.local import Topic
from service.store.database import StoreUnavailable
from service.web.connections import RESERVED_DESCRIPTORS
from service.web.problems import RETRY_AFTER, Problem

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT: Final = 15.0
"""Seconds without an event after which a stream sends a comment."""
RETRY: Final = 1.0
"""Seconds that a client waits before it reconnects."""
MAX_PAGE: Final = 10
"""Events that a stream holds in memory."""
_GROUPS: Final = 15
"""Groups of streams. Their heartbeats are spread over the interval."""
_MAX_READS: Final = {"sqlite": 2, "postgresql": 6}
"""Streams of a process that query the database at once. The other connections are for requests."""
_HEADERS: Final = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would buffer the events
]

ReadPage = Callable[[int], Awaitable[Page | None]]
"""Reads the events after a position; None when they are no longer visible."""
IsValid = Callable[[], Awaitable[bool]]
"""Returns whether the stream's key is still valid."""


def stream_limit(wanted: int) -> int:
    """Return how many streams the process can hold: half of its descriptors after the reserve, at most."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return max(min(wanted, descriptors - RESERVED_DESCRIPTORS, descriptors // 2), min(wanted, 1))


class Streams:
    """The open streams of a process."""

    def __init__(self, context: Context, *, heartbeat: float = HEARTBEAT) -> None:
        """Start without streams.

        :param heartbeat: seconds
        """
        self.context = context
        self.limit = stream_limit(context.settings.max_streams)
        self.client_limit = max(self.limit - self.limit // 2, 1)
        """Streams of one client: no client occupies all of them."""
        self.reads = asyncio.Semaphore(_MAX_READS["sqlite" if context.database.sqlite else "postgresql"])
        self._heartbeat = heartbeat
        self._groups: tuple[set[Stream], ...] = tuple(set() for _ in range(_GROUPS))
        self._group = 0
        self._clock: asyncio.Task[None] | None = None
        self._by_client: Counter[str | None] = Counter()
        self._reported = False
        self.open = 0
        """Number of open streams."""
        if self.limit < context.settings.max_streams:
            log.warning(
                "stream limit lowered; raise the process's limit of open files limit=%d max_streams=%d",
                self.limit,
                context.settings.max_streams,
            )

    @contextmanager
    def holding(self, stream: "Stream") -> Iterator[None]:
        """Count a stream, and wake it for its heartbeats."""
        group = self._groups[self._group - 1]  # this group's next heartbeat is a whole interval away
        group.add(stream)
        self.open += 1
        self._by_client[stream.client] += 1
        if self._clock is None:
            self._clock = asyncio.create_task(self._beat(), name="heartbeats")
        self.context.signals.watch(stream.topic, stream.wake)
        try:
            yield
        finally:
            self.context.signals.unwatch(stream.topic, stream.wake)
            group.discard(stream)
            self.open -= 1
            self._by_client[stream.client] -= 1
            if not self._by_client[stream.client]:
                del self._by_client[stream.client]
            if self.open < self.limit:
                self._reported = False
            if not self.open:
                self._clock.cancel()
                self._clock = None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat / _GROUPS)
            for stream in tuple(self._groups[self._group]):
                stream.beat()
            self._group = (self._group + 1) % _GROUPS

    def refusal(self, client: str | None) -> Problem | None:
        """Return the error for another stream of a client; None when there is room.

        :param client: None for the only client, which may use all of them
        """
        if self.context.signals.closed:
            return Problem(503, "unavailable", "the server is stopping", headers={"Retry-After": RETRY_AFTER})
        if self.open >= self.limit:
            scope, limit = "this process", self.limit
        elif client is not None and self._by_client[client] >= self.client_limit:
            scope, limit = "this client", self.client_limit
        else:
            return None
        if not self._reported:
            log.warning("stream refused client=%s open=%d limit=%d scope=%s", client, self.open, limit, scope)
            self._reported = True
        detail = (
            f"{limit} streams are open, the limit of {scope} (max_streams): use GET /v1/events?wait=50 or "
            "GET /v1/tasks/{id}?wait=50 instead, or connect later"
        )
        return Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER})


class Stream(Response):
    """One client's open stream."""

    def __init__(
        self,
        streams: Streams,
        topic: Topic,
        read: ReadPage,
        *,
        client: str | None,
        is_valid: IsValid,
        after: int,
        announce: str | None = None,
    ) -> None:
        """Prepare a stream. It opens when it is called.

        :param after: the position to start after
        :param announce: the cursor of that position, to send first: the client can resume before any event arrived
        """
        self.background = None
        self.status_code = 200
        self.raw_headers = list(_HEADERS)
        self.topic = topic
        self.client = client
        self._streams = streams
        self._read = read
        self._is_valid = is_valid
        self._after = after
        self._announce = announce
        self._send: Send
        self._worker: asyncio.Task[None] | None = None
        """Sends events or a heartbeat; None while there is nothing to send."""
        self._woken = False
        self._heartbeat_due = False
        self._stale = False
        """Whether the last read failed, so that the next heartbeat reads again."""
        self._over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream until either side ends it."""
        refusal = self._streams.refusal(self.client)
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        with self._streams.holding(self):
            self._send = send
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._write(self._opening())
            self.wake()
            try:
                # After the end of the stream as well: only a disconnect can follow.
                while (await receive())["type"] != "http.disconnect":
                    pass
            finally:
                self._over = True
                if self._worker is not None:
                    self._worker.cancel()

    def _opening(self) -> bytes:
        cursor = b"" if self._announce is None else b"id: %b\n" % self._announce.encode()
        return b"retry: %d\n%b\n" % (RETRY * 1000, cursor)

    def wake(self) -> None:
        """Read new events."""
        self._woken = True
        self._start()

    def beat(self) -> None:
        """Send a heartbeat. A stream that is sending needs none."""
        if self._worker is None:
            self._heartbeat_due, self._woken = not self._stale, self._stale
            self._start()

    def _start(self) -> None:
        if self._worker is None and not self._over:
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while (self._woken or self._heartbeat_due) and not self._over:
                if not await self._may_continue():
                    await self._end(b"")
                elif self._heartbeat_due:
                    self._heartbeat_due = False
                    await self._write(b":\n\n")
                else:
                    self._woken = False
                    await self._send_events()
        except StoreUnavailable as error:
            self._stale = True
            log.debug("stream waits for the database error=%s", error)
        except OSError as error:  # the reader is gone: its disconnect follows
            log.debug("stream broken error=%s", error)
        except Exception:  # noqa: BLE001 - the stream stays open, and reads again at its next heartbeat
            self._stale = True
            log.exception("stream failed")
        finally:
            self._worker = None

    async def _may_continue(self) -> bool:
        """Return whether the process serves on and the key is still valid. A heartbeat does not wait for the database."""
        if self._streams.context.signals.closed:
            return False
        try:
            return await self._is_valid()
        except StoreUnavailable:
            if self._woken:
                raise
            return True

    async def _send_events(self) -> None:
        """Send the events after the position."""
        try:
            async with self._streams.reads:
                page = await self._read(self._after)
        except CursorExpired:  # the client's next connection is told so
            await self._end(b"")
            return
        self._stale = False
        if page is None:
            await self._end(b"")
            return
        for item in page.items:
            shown = render_item(self._streams.context, item, page.history)
            cursor, document = shown["id"].encode(), orjson.dumps(shown)
            await self._write(b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor, item.type.encode(), document))
            self._after = item.id
        self._after = page.next
        if page.state is not None:
            await self._end(b'event: end\ndata: {"state":"%b"}\n\n' % str(page.state).encode())
        elif page.held_back:
            await asyncio.sleep(HELD_BACK)
            self._woken = True
        elif page.more:
            self._woken = True

    async def _write(self, text: bytes) -> None:
        """Send some text; wait while the connection's buffer is full."""
        await self._send({"type": "http.response.body", "body": text, "more_body": True})

    async def _end(self, last: bytes) -> None:
        self._over = True
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
