"""Server-sent events: what clients are told, as it happens, at the price of little more than an open connection.

A stream that waits is one suspended call and a line in a table: one clock beats for all of them, and the database is asked
only by those that a bell has woken. What is to be sent is read from the stream's cursor, a few at a time and not before
the ones before are on their way: so a slow reader holds no more than these.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.flows.context import Context, log
from service.flows.feed import HELD_BACK, Page, render_item
from service.flows.signals import Topic
from service.store.database import StoreUnavailable
from service.web.problems import RETRY_AFTER, Problem

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT: Final = 15.0
"""Seconds after which a stream that has nothing to say shows that it is alive."""
RETRY: Final = 1.0
"""Seconds that a client is asked to wait before it connects again."""
PORTION: Final = 10
"""How many pieces of news a stream has in hand at most."""

_BEATS: Final = 15
"""Turns into which the streams are divided, so that their heartbeats do not all come at once."""
_LOOKS_AT_ONCE: Final = {"sqlite": 2, "postgresql": 6}
"""Streams of a process that may ask the database at once; the others of its connections are for requests."""
_HEADERS: Final = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep news back until it has enough of them
]

Look = Callable[[int], Awaitable[Page | None]]
"""Reads what follows a cursor; None where there is nothing to be seen any more."""


class Streams:
    """The open streams of a process."""

    def __init__(self, context: Context, *, heartbeat: float = HEARTBEAT) -> None:
        """Begin with none.

        :param heartbeat: seconds
        """
        self.context = context
        self.most = context.settings.max_streams
        self.looks = asyncio.Semaphore(_LOOKS_AT_ONCE["sqlite" if context.database.sqlite else "postgresql"])
        self._heartbeat = heartbeat
        self._turns: tuple[set[Stream], ...] = tuple(set() for _ in range(_BEATS))
        self._turn = 0
        self._clock: asyncio.Task[None] | None = None
        self.open = 0
        """How many there are."""

    @contextmanager
    def holding(self, stream: "Stream") -> Iterator[None]:
        """Count a stream, and wake it at its turns."""
        turn = self._turns[self._turn - 1]  # the turn that is over just now: its next one is a whole round away
        turn.add(stream)
        self.open += 1
        if self._clock is None:
            self._clock = asyncio.create_task(self._beat(), name="heartbeats")
        self.context.signals.watch(stream.topic, stream.wake)
        try:
            yield
        finally:
            self.context.signals.unwatch(stream.topic, stream.wake)
            turn.discard(stream)
            self.open -= 1
            if not self.open:
                self._clock.cancel()
                self._clock = None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat / _BEATS)
            for stream in tuple(self._turns[self._turn]):
                stream.beat()
            self._turn = (self._turn + 1) % _BEATS

    def full(self) -> Problem | None:
        """Say why there is no place for another stream."""
        if self.context.signals.closed:
            return Problem(503, "unavailable", "shutting down", headers={"Retry-After": RETRY_AFTER})
        if self.open >= self.most:
            detail = (
                f"{self.open} streams are open and this process holds no more (max_streams): ask "
                "GET /v1/events?wait=60 or GET /v1/tasks/{id}?wait=60 instead, or come again"
            )
            return Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER})
        return None


class Stream(Response):
    """One client's open stream."""

    def __init__(self, streams: Streams, topic: Topic, look: Look, *, after: int, announce: bool = False) -> None:
        """Prepare; it opens when it is called.

        :param after: the cursor to begin at
        :param announce: whether to tell the client that cursor, so that it can go on from there before any news came
        """
        self.background = None
        self.status_code = 200
        self.raw_headers = list(_HEADERS)
        self.topic = topic
        self._streams = streams
        self._look = look
        self._after = after
        self._announce = announce
        self._send: Send
        self._pump: asyncio.Task[None] | None = None
        """Sends what is to be sent; there is none while there is nothing."""
        self._woken = False
        self._beating = False
        self._stale = False
        """Whether the last look failed, so that the next heartbeat is a look."""
        self._over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream until either side ends it."""
        full = self._streams.full()
        if full is not None:
            await full.response()(scope, receive, send)
            return
        with self._streams.holding(self):
            self._send = send
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._say(self._opening())
            self.wake()
            try:
                # Also when we have ended it: nothing but a disconnect can come after that.
                while (await receive())["type"] != "http.disconnect":
                    pass
            finally:
                self._over = True
                if self._pump is not None:
                    self._pump.cancel()

    def _opening(self) -> bytes:
        cursor = b"id: %d\n" % self._after if self._announce else b""
        return b"retry: %d\n%b\n" % (RETRY * 1000, cursor)

    def wake(self) -> None:
        """Say that there may be news."""
        self._woken = True
        self._start()

    def beat(self) -> None:
        """Show that the stream is alive; one that is sending, or has a reader that does not read, needs no sign of life."""
        if self._pump is None:
            self._beating, self._woken = not self._stale, self._stale
            self._start()

    def _start(self) -> None:
        if self._pump is None and not self._over:
            self._pump = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while (self._woken or self._beating) and not self._over:
                if self._beating:
                    self._beating = False
                    await self._say(b":\n\n")
                else:
                    self._woken = False
                    await self._tell()
        except StoreUnavailable as error:
            self._stale = True
            log.debug("a stream waits for the database: %s", error)
        except OSError as error:  # the reader is gone: its disconnect is on the way
            log.debug("a stream broke: %s", error)
        except Exception:  # noqa: BLE001 - the stream goes on, and looks again at its next heartbeat
            self._stale = True
            log.exception("a stream could not be served")
        finally:
            self._pump = None

    async def _tell(self) -> None:
        """Send what there is, from the cursor on."""
        if self._streams.context.signals.closed:
            await self._end(b"")
            return
        async with self._streams.looks:
            page = await self._look(self._after)
        self._stale = False
        if page is None:
            await self._end(b"")
            return
        for item in page.items:
            document = orjson.dumps(render_item(self._streams.context, item))
            await self._say(b"id: %d\nevent: %b\ndata: %b\n\n" % (item.id, item.type.encode(), document))
            self._after = item.id
        self._after = page.next
        if page.state is not None:
            await self._end(b'event: end\ndata: {"state":"%b"}\n\n' % str(page.state).encode())
        elif page.held_back:
            await asyncio.sleep(HELD_BACK)
            self._woken = True
        elif page.more:
            self._woken = True

    async def _say(self, text: bytes) -> None:
        """Send some text; waits while the connection is full."""
        await self._send({"type": "http.response.body", "body": text, "more_body": True})

    async def _end(self, last: bytes) -> None:
        self._over = True
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
