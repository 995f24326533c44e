"""Dovecote in one process, with the sandbox as its upstream, a receiver as its client, and a held clock."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import math
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from starlette.applications import Starlette
from starlette.datastructures import State

from service.app import application
from service.domain.callback_token import Tokens
from service.domain.events import Event
from service.domain.task import Task
from service.domain.webhook_secret import derive_secret
from service.flows import polling
from service.flows.assets import keep
from service.flows.callbacks import process
from service.flows.concurrency import TaskPool
from service.flows.context import Context, upstreams_of
from service.flows.retention import erase
from service.flows.signals.handoff import Handoff
from service.flows.submission import duplicates
from service.flows.submission import run as submission_run
from service.flows.submission.accept import accept
from service.flows.webhooks import dispatch
from service.http.client import Http
from service.http.target import SECRET_QUERY, on_the_wire
from service.objects import Objects, open_objects
from service.sandbox import Faults, InProcessTransport, Receiver, Sandbox
from service.settings.load import load
from service.settings.model import Settings
from service.store import callbacks as callback_store
from service.store import events, queue
from service.store import submissions as submission_store
from service.store import tasks as task_store
from service.store.database import Database
from service.store.webhooks import messages as message_store
from service.store.writer import Writers
from tests.support.due import Due, read_due
from tests.support.engines import cheap
from tests.support.waiting import LIMIT

INSTALLATION_SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cy1zZWNyZXQ="
WEBHOOK_SECRET = derive_secret(INSTALLATION_SECRET, "default", 1)
"""Signs the messages to the ``callback_url`` of the client of a world without keys."""
PUBLIC_URL = "http://dovecote.test"
RECEIVER_URL = "http://receiver.test/done"
JOB_SECONDS = 10.0
TASK_REQUEST = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "[drop] a dove"}}
"""The document of a task that nobody calls back about."""


class Clock:
    """A clock that only the test moves. It starts now, because signatures are checked against the real time."""

    def __init__(self) -> None:
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)

    def __call__(self) -> dt.datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def forward(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


_JOURNEYS: Mapping[str, Callable[[Context, TaskPool], Awaitable[int]]] = {
    "submit": submission_run.run_due,
    "poll": polling.run_due,
    "webhooks": dispatch.run_due,
    "duplicates": duplicates.run_due,
    "erasures": erase.run_due,
    "results": keep.run_due,
    "callbacks": lambda context, _: process.run_due(context),
}


class Hasty(httpx.AsyncBaseTransport):
    """Sends a request to the application, and disconnects from a stream soon after it began. httpx's own transport waits for its end."""

    def __init__(self, app: Any, *, stream_seconds: float = 0.05) -> None:
        self._app, self._stream_seconds = app, stream_seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        hasty = request.url.path.endswith("/stream")
        asked = httpx.ASGITransport(self._hang_up if hasty else self._app, raise_app_exceptions=False)
        return await asked.handle_async_request(request)

    async def _hang_up(self, scope: Any, receive: Any, send: Any) -> None:
        begun, ended = asyncio.Event(), False

        async def sent(message: Any) -> None:
            nonlocal ended
            begun.set()
            ended = ended or (message["type"] == "http.response.body" and not message.get("more_body", False))
            await send(message)

        asking = asyncio.create_task(self._app(scope, receive, sent))
        beginning = asyncio.create_task(begun.wait())
        await asyncio.wait({asking, beginning}, return_when=asyncio.FIRST_COMPLETED, timeout=LIMIT)
        await asyncio.wait({asking}, timeout=self._stream_seconds)
        beginning.cancel()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        if begun.is_set() and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class Edge(httpx.AsyncBaseTransport):
    """The network: requests reach applications in this process by their host name. A host can be cut off."""

    def __init__(self, hosts: Mapping[str, httpx.AsyncBaseTransport]) -> None:
        self.hosts = dict(hosts)
        self.down: set[str] = set()
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host in self.down or request.url.host not in self.hosts:
            raise httpx.ConnectError("connection refused", request=request)
        sent = request
        if SECRET_QUERY in request.extensions:
            sent = httpx.Request(request.method, on_the_wire(request), headers=request.headers)
            sent.extensions = request.extensions
        return await self.hosts[request.url.host].handle_async_request(sent)


def settings_for(database_url: str, **more: str) -> Settings:
    """Return settings as the server reads them. The sandbox replaces elkapi by its base URL."""
    environment = {
        "DOVECOTE_DATABASE_URL": database_url,
        "DOVECOTE_PUBLIC_URL": PUBLIC_URL,
        "DOVECOTE_WEBHOOK_SECRET": INSTALLATION_SECRET,
        "DOVECOTE_CALLBACK_SECRET": "callback-secret-of-the-tests",
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
        "DOVECOTE_RESULTS__KEEP": "none",
        "ELKAPI_KEY": "sandbox-key",
        "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "http://sandbox.test",
        "DOVECOTE_UPSTREAMS__ELKAPI__TYPICAL_SECONDS": str(JOB_SECONDS * 1.5),
        **more,
    }
    return load({name: value for name, value in environment.items() if value}, None)


@dataclasses.dataclass(slots=True)
class World:
    """Dovecote and its surroundings in one test."""

    context: Context
    clock: Clock
    sandbox: Sandbox
    receiver: Receiver
    edge: Edge
    client: httpx.AsyncClient
    """Speaks to Dovecote's web application."""
    check_alive: Callable[[], None] = lambda: None
    """Raises where the process of this world has crashed: it looks for no more work then."""

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, database_url: str, *, faults: Faults | None = None, **settings: str
    ) -> AsyncIterator["World"]:
        """Open a world over a migrated database."""
        clock = Clock()
        edge = Edge({})
        outside = httpx.AsyncClient(transport=edge, follow_redirects=False)
        sandbox = Sandbox(
            seconds=JOB_SECONDS,
            clock=clock.seconds,
            faults=faults or Faults(),
            send=lambda url, body: _post(outside, url, body),
            fetch=lambda method, url, headers: _fetch(outside, method, url, headers),
        )
        receiver = Receiver(WEBHOOK_SECRET)
        configured = settings_for(database_url, **settings)
        database = cheap(Database(configured.database_url))
        writers = Writers(database)
        async with outside, _closing(database), writers.running(), _stored_files() as objects:
            context = Context(
                settings=configured,
                database=database,
                writers=writers,
                http=Http(purchases=outside, questions=outside, messages=outside, files=outside),
                tokens=Tokens("callback-secret-of-the-tests"),
                webhook_secret=INSTALLATION_SECRET,
                upstreams=upstreams_of(configured),
                objects=objects,
                clock=clock,
                chance=random.Random(7).random,
            )
            app = application(context)
            edge.hosts = {
                "sandbox.test": InProcessTransport(sandbox.app),
                "receiver.test": httpx.ASGITransport(receiver.app),
                "dovecote.test": httpx.ASGITransport(app, raise_app_exceptions=False),
            }
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                yield cls(context, clock, sandbox, receiver, edge, client)

    @property
    def app(self) -> Any:
        """Return the web application, with its middleware."""
        return self.client._transport.app  # type: ignore[attr-defined]

    @property
    def state(self) -> State:
        """Return the state of the web application, behind any middleware."""
        app = self.app
        while not isinstance(app, Starlette):
            app = app.app
        return app.state

    async def submit(self, prompt: str = "a dove", **fields: Any) -> Task:
        """Accept a Runway task."""
        return await self.submit_as("default", prompt, **fields)

    async def submit_as(self, client: str, prompt: str = "a dove", **fields: Any) -> Task:
        """Accept a Runway task of a client."""
        document = {
            "family": "runway",
            "operation": "text_to_video",
            "input": {"prompt": prompt},
            "callback_url": RECEIVER_URL,
            **fields,
        }
        given = {name: value for name, value in document.items() if value is not None}
        return (await accept(self.context, given, client=client)).task

    async def work(self) -> None:
        """Run the journeys until nothing is due at this moment."""
        while names := list(dict.fromkeys([*(handed := self._handed()), *(await self._due()).journeys(self.clock())])):
            if not await self._round(names) and not handed:
                break

    def hand_over(self) -> None:
        """Make the process hand rows to its own journeys, as its worker does. No time passes on its monotonic clock."""
        context = self.context
        journeys, now = context.signals.journeys, context.monotonic()
        context.monotonic = lambda: now
        context.handed_tasks = Handoff(10, journeys["submit"], monotonic=context.monotonic)
        context.handed_callbacks = Handoff(10, journeys["callbacks"], monotonic=context.monotonic)
        context.handed_messages = Handoff(10, journeys["webhooks"], monotonic=context.monotonic)
        for handoff in (context.handed_tasks, context.handed_callbacks, context.handed_messages):
            handoff.start()
            handoff.claimed(all_due=True)

    def _handed(self) -> list[str]:
        """Return the journeys for which rows wait in memory."""
        context = self.context
        handoffs = {
            "submit": context.handed_tasks,
            "callbacks": context.handed_callbacks,
            "webhooks": context.handed_messages,
        }
        return [name for name, handoff in handoffs.items() if handoff.waiting()]

    async def _round(self, names: Sequence[str]) -> int:
        """Run these journeys once, and wait for what they started; return how much they found."""
        done = 0
        for name in names:
            pool = TaskPool(100)
            done += await _JOURNEYS[name](self.context, pool)
            await pool.finish()
        return done

    async def _due(self) -> Due:
        self.check_alive()
        async with self.context.database.reading() as connection:
            return await read_due(connection)

    async def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        """Advance the time in steps. The sandbox calls back, and the journeys run."""
        for _ in range(round(seconds / step)):
            self.clock.forward(step)
            await self.sandbox.deliver_due()
            await self.work()

    async def until(self, seconds: float) -> None:
        """Move the clock from one due time to the next, for a number of seconds."""
        end = self.clock.now + dt.timedelta(seconds=seconds)
        for _ in range(2000):
            await self.sandbox.deliver_due()
            await self.work()
            following = min([*(await self._due()).moments(), *self._callbacks_to_come()], default=end)
            if following >= end:
                break
            self.clock.now = following
        else:
            raise AssertionError("there is no end of what is due")
        self.clock.now = end
        await self.sandbox.deliver_due()
        await self.work()

    def _callbacks_to_come(self) -> list[dt.datetime]:
        lives = [job.life for job in self.sandbox.ledger.jobs if not job.faults.drop]
        moments = [each for life in lives for each in (life.started_at, life.ended_at) if each > self.clock.seconds()]
        return [dt.datetime.fromtimestamp(each, dt.UTC) for each in moments if each < math.inf]

    async def task(self, task: Task | UUID) -> Task:
        """Read a task."""
        async with self.context.database.reading() as connection:
            found = await task_store.find(connection, task if isinstance(task, UUID) else task.id)
        assert found is not None
        return found

    async def events(self, task: Task) -> list[Event]:
        """Read a task's history."""
        async with self.context.database.reading() as connection:
            return await events.of_task(connection, task.id)

    async def submissions(self, task: Task) -> list[Any]:
        """Read a task's submissions."""
        async with self.context.database.reading() as connection:
            return (await submission_store.of_tasks(connection, [task.id]))[task.id]

    async def callbacks(self, task: Task) -> list[callback_store.Received]:
        """Read the callbacks that were stored for a task."""
        ids = [submission.id for submission in await self.submissions(task)]
        async with self.context.database.reading() as connection:
            return await callback_store.of_submissions(connection, ids)

    async def messages(self, task: Task) -> list[message_store.Message]:
        """Read the messages about a task."""
        async with self.context.database.reading() as connection:
            return await message_store.of_task(connection, task.id)

    async def release_leases(self) -> None:
        """Do the work of a starting process on SQLite: release the claims of a dead process."""
        async with self.context.database.writing() as connection:
            await queue.release_leases(connection, now=self.clock())


@contextlib.asynccontextmanager
async def _closing(database: Database) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def _stored_files() -> AsyncIterator[Objects]:
    """Open a storage of files in a new folder, and remove both."""
    with (
        tempfile.TemporaryDirectory(prefix="dovecote-objects-") as folder,
        contextlib.closing(open_objects(None, Path(folder), min_free=0)) as objects,
    ):
        yield objects


async def _fetch(client: httpx.AsyncClient, method: str, url: str, headers: Mapping[str, str]) -> Any:
    answer = await client.request(method, url, headers=headers)
    return answer.status_code, answer.headers, answer.content


async def _post(client: httpx.AsyncClient, url: str, body: bytes) -> int:
    try:
        return (await client.post(url, content=body, headers={"Content-Type": "application/json"})).status_code
    except httpx.TransportError:
        return 0
