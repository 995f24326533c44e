"""A world with faults: upstreams that fail, callbacks that the test delivers, and a process that crashes.

Everything runs in sequence on a held clock, so the same actions always have the same outcome.
"""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx
import orjson
from sqlalchemy import Engine, Row, Select, create_engine, exists, literal, select, union_all

from service.domain.events import Event
from service.domain.task import Source, Submission
from service.flows import polling
from service.flows.callbacks import process
from service.flows.context import upstreams_of
from service.flows.submission import duplicates
from service.flows.submission import run as submission_run
from service.flows.webhooks import dispatch
from service.http.client import Http
from service.providers.wire import UNREACHABLE_CALLBACK
from service.sandbox import InProcessTransport, Receiver, Sandbox
from service.store import queue, tables
from service.store.callbacks import Received
from service.store.database import Database
from service.store.submissions import submission_of
from service.store.tasks import task_of
from service.store.webhooks.messages import Message
from tests.support.crashes import Crash, CrashingNetwork, CrashingServer, CrashPoint, crashing
from tests.support.replay import Kept
from tests.support.world import JOB_SECONDS, World

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
KEYS = {"ada": "ada-has-a-key-of-her-own", "ben": "ben-has-a-key-of-his-own"}
HOSTS = {"elkapi": "sandbox.test", "cometapi": "comet.test", "runwayml": "runwayml.test"}
SETTINGS = {
    "COMETAPI_KEY": "sandbox-key",
    "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://comet.test",
    "DOVECOTE_UPSTREAMS__COMETAPI__TYPICAL_SECONDS": str(JOB_SECONDS * 1.5),
    "RUNWAYML_API_SECRET": "sandbox-key",
    "DOVECOTE_UPSTREAMS__RUNWAYML__BASE_URL": "http://runwayml.test",
    "DOVECOTE_UPSTREAMS__RUNWAYML__TYPICAL_SECONDS": str(JOB_SECONDS * 1.5),
    "DOVECOTE_API_KEYS": ",".join(f"{client}={key}" for client, key in KEYS.items()),
}
FOREVER = 10**9
MAX_ROUNDS = 60
"""So often the journeys may find something to do at one moment. More is a loop without an end."""

PAGE = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
REASON = orjson.dumps({"error": {"message": "no channel is free", "type": "new_api_error", "code": "model_not_found"}})
JSON = {"Content-Type": "application/json"}

ARRIVES_NOT: Mapping[str, Callable[[], httpx.Response]] = {
    "busy": lambda: httpx.Response(429, headers={**JSON, "Retry-After": "30"}, content=REASON),
    "long busy": lambda: httpx.Response(429, headers={**JSON, "Retry-After": "500"}, content=REASON),
    "full": lambda: httpx.Response(503, headers=JSON, content=REASON),
    "keyless": lambda: httpx.Response(401, headers=JSON, content=REASON),
    "proxy": lambda: httpx.Response(502, content=PAGE),
}
ARRIVES: Mapping[str, Callable[[], httpx.Response]] = {
    "lie": lambda: httpx.Response(503, headers=JSON, content=REASON),
    "page": lambda: httpx.Response(200, content=PAGE),
    "error": lambda: httpx.Response(500, content=PAGE),
}
BREAKS: Mapping[str, type[httpx.TransportError]] = {"cut": httpx.ReadError, "silent": httpx.ReadTimeout}
UPSTREAM_FAULTS = ("well", "down", "lost", "hold", "detain", *BREAKS, *ARRIVES_NOT, *ARRIVES)


class FaultyUpstream(httpx.AsyncBaseTransport):
    """An upstream's host and its proxies, with a fault that the test sets."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._inner = InProcessTransport(sandbox.app)
        self.sandbox = sandbox
        self.fault = "well"
        self.holding: list[asyncio.Future[None]] = []
        self.holds = asyncio.Event()
        self.lies: Counter[str] = Counter()
        """By prompt: how often a job was made, and denied in the answer."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        fault = self.fault
        if fault == "down":
            raise httpx.ConnectError("connection refused", request=request)
        if fault == "lost":
            raise httpx.ReadTimeout("no answer", request=request)
        if fault in ARRIVES_NOT:
            return _copied(ARRIVES_NOT[fault]())
        if fault == "detain":
            await self._held()
        before = len(self.sandbox.ledger.jobs)
        response = await self._inner.handle_async_request(request)
        if fault == "hold":
            await self._held()
        if fault in BREAKS:
            raise BREAKS[fault]("the line broke", request=request)
        if fault == "lie" and len(self.sandbox.ledger.jobs) > before:
            self.lies[self.sandbox.ledger.jobs[-1].prompt] += 1
        return _copied(ARRIVES[fault]()) if fault in ARRIVES else response

    async def _held(self) -> None:
        let_go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.holding.append(let_go)
        self.holds.set()
        await let_go

    def let_go(self) -> None:
        for held in self.holding:
            held.set_result(None)
        self.holding.clear()


def _copied(response: httpx.Response) -> httpx.Response:
    """Return a copy of the response whose body has not been read yet, as on a network."""
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


@dataclasses.dataclass(frozen=True, slots=True)
class PendingCallback:
    """A callback that an upstream is about to deliver."""

    url: str
    body: bytes

    @property
    def token(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def document(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body))

    @property
    def tells_of_success(self) -> bool:
        return self.document["status"] == "3"


def forged(pending: PendingCallback) -> PendingCallback:
    other = "A" if pending.token[-2] != "A" else "B"
    return dataclasses.replace(pending, url=pending.url[:-2] + other + pending.url[-1])


def _saying(pending: PendingCallback, **changes: Any) -> PendingCallback:
    said = {name: value for name, value in (pending.document | changes).items() if value is not ...}
    return dataclasses.replace(pending, body=orjson.dumps(said))


TWISTS: Mapping[str, Callable[[PendingCallback], PendingCallback]] = {
    "forged": forged,
    "garbage": lambda pending: dataclasses.replace(pending, body=pending.body[: len(pending.body) // 2]),
    "a list": lambda pending: dataclasses.replace(pending, body=b"[" + pending.body + b"]"),
    "unknown word": lambda pending: _saying(pending, status="hatching", video_url=None),
    "nameless": lambda pending: _saying(pending, task_id=...),
}


class SequentialPool:
    """Runs the work of a journey in sequence. Work that waits for a held answer stays in the background."""

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage
        self._started: list[Coroutine[Any, Any, None]] = []

    @property
    def free(self) -> int:
        return 100

    def start(self, conversation: Coroutine[Any, Any, None]) -> None:
        self._started.append(conversation)

    async def finish(self) -> None:
        for conversation in self._started:
            await self._stage.carry(conversation)


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """The facts that a client knows about its task."""

    client: str
    prompt: str
    request: Mapping[str, Any]
    key: str


class Stage:
    """Dovecote, its upstreams and its database, with the actions of a test."""

    def __init__(self, world: World) -> None:
        self.world = world
        clock = world.clock.seconds
        self.upstreams = {
            name: FaultyUpstream(Sandbox(seconds=JOB_SECONDS, clock=clock, send=self._post))
            for name in world.context.settings.routes["runway"]
        }
        """Those of the route: nobody else is asked."""
        self.receiver = Receiver()
        self.mail: list[PendingCallback] = []
        """Every callback that an upstream has wanted delivered so far."""
        self.acknowledged: list[tuple[UUID, bytes, PendingCallback]] = []
        self.requests: list[Known] = []
        self.fate = CrashPoint(FOREVER)
        self._immortal = world.context
        self.reader = _plain_reader(world.context.database)
        self._background: set[asyncio.Task[Any]] = set()
        self._holds = asyncio.Event()
        for name, each in self.upstreams.items():
            each.holds = self._holds
            world.edge.hosts[HOSTS[name]] = each
        world.edge.hosts["receiver.test"] = httpx.ASGITransport(self.receiver.app)
        self._outside = httpx.AsyncClient(transport=world.edge)
        self.begin()

    @classmethod
    @contextlib.asynccontextmanager
    async def opened_on(cls, database_url: str, **settings: str) -> AsyncIterator["Stage"]:
        async with World.opened(database_url, **SETTINGS, **settings) as world:
            world.clock.now = START
            stage = cls(world)
            try:
                yield stage
            finally:
                stage.kill()
                await stage.let_go()
                if stage.reader is not None:
                    stage.reader.dispose()

    async def _post(self, url: str, body: bytes) -> int:
        if not url.startswith(UNREACHABLE_CALLBACK):
            self.mail.append(PendingCallback(url, body))
        return 200

    # ── the process ──

    @property
    def now(self) -> dt.datetime:
        return self.world.clock.now

    @property
    def dead(self) -> bool:
        return self.fate.dead

    def begin(self) -> None:
        """Start a process over the same database, network and clock."""
        last = self.world.context._last_id
        self.fate = CrashPoint(FOREVER)
        client = httpx.AsyncClient(transport=CrashingNetwork(self.world.edge, self.fate), follow_redirects=False)
        context = dataclasses.replace(
            self._immortal,
            writers=crashing(self._immortal.writers, self.fate),
            http=Http(client, client, client, client),
            upstreams=upstreams_of(self._immortal.settings),
            _last_id=last,
        )
        self.world.context = context
        self.world.edge.hosts["dovecote.test"] = CrashingServer(context, self.fate)

    async def restart(self) -> None:
        """Do the work of a starting process."""
        self.kill()
        await self.let_go()
        self.begin()
        if self._immortal.database.sqlite:
            await self.world.release_leases()
        async with self._immortal.database.writing() as connection:
            known = [each.key for each in self.world.context.waits]
            await queue.release_unknown_waits(connection, known, now=self.now)

    def kill(self) -> None:
        """Kill the process."""
        self.crash_after(0)

    def crash_after(self, steps: int) -> None:
        """Crash the process after this number of further steps."""
        self.fate._last = self.fate.steps + steps

    async def carry(self, act: Awaitable[Any]) -> Any:
        """Run a coroutine until it ends, crashes, or waits for a held answer. Return its result or None."""
        task = asyncio.ensure_future(act)
        self._background.add(task)
        await self._quiet()
        if not task.done():
            return None
        try:
            return task.result()
        except Crash:
            return None

    async def _quiet(self) -> None:
        """Wait until only work that waits for a held answer runs."""
        while True:
            running = {task for task in self._background if not task.done()}
            if len(running) <= sum(len(each.holding) for each in self.upstreams.values()):
                break
            self._holds.clear()
            noticed = asyncio.ensure_future(self._holds.wait())
            await asyncio.wait({*running, noticed}, return_when=asyncio.FIRST_COMPLETED)
            noticed.cancel()
        for task in [task for task in self._background if task.done()]:
            self._background.discard(task)
            if not isinstance(task.exception(), Crash | None):
                raise task.exception() or AssertionError

    async def let_go(self) -> None:
        """Release every held answer."""
        for each in self.upstreams.values():
            each.let_go()
        await self._quiet()

    async def journey(self, name: str) -> int:
        """Run a journey once."""
        done = 0
        if name == "callbacks":
            done = await self.carry(process.run_due(self.world.context)) or 0
        else:
            pool: Any = SequentialPool(self)
            done = await self.carry(JOURNEYS[name].run_due(self.world.context, pool)) or 0
            await pool.finish()
        return done

    async def work(self) -> None:
        """Run all journeys until none finds due work at this moment."""
        for _ in range(MAX_ROUNDS):
            if self.dead:
                return
            done = [await self.journey(name) for name in await self._with_work()]
            if not any(done):
                return
        raise AssertionError(f"the journeys find something to do for ever: {done}")

    # ── the client ──

    async def request(self, client: str, words: str, **more: Any) -> None:
        number = len(self.requests)
        prompt = f"{words} dove {number}"
        document = {"family": "runway", "operation": "text_to_video", "input": {"prompt": prompt}, **more}
        self.requests.append(Known(client, prompt, document, f"key {number}"))
        await self.insist(number)

    async def insist(self, number: int) -> None:
        """Send a request, and once more if it fails."""
        requested = self.requests[number]
        headers = {"Idempotency-Key": requested.key}
        await self.ask(requested.client, "/v1/tasks", requested.request, headers, expected={202})

    async def act(self, number: int, verb: str) -> None:
        """Cancel, refresh or retry a task."""
        kept = await self.of(number)
        if kept is not None:
            body = {"confirm_double_payment": True} if verb == "retry" else None
            path = f"/v1/tasks/{kept.task.id}/{verb}"
            await self.ask(kept.task.client, path, body, {}, expected={200, 202, 409, 503})

    async def ask(self, client: str, path: str, body: Any, headers: Mapping[str, str], *, expected: set[int]) -> None:
        bearer = {"Authorization": f"Bearer {KEYS[client]}", **headers}

        async def requests_of() -> int:
            try:
                return (await self._outside.post(f"http://dovecote.test{path}", json=body, headers=bearer)).status_code
            except httpx.TransportError:
                return 0

        status = await self.carry(requests_of())
        assert status in expected or status in {0, None}, (path, status)

    async def of(self, number: int) -> Kept | None:
        found = [
            kept for kept in (await self.read()).tasks if kept.task.input["prompt"] == self.requests[number].prompt
        ]
        return found[0] if found else None

    # ── the providers ──

    async def let_providers_call(self) -> None:
        for each in self.upstreams.values():
            await each.sandbox.deliver_due()

    async def deliver(self, pending: PendingCallback) -> int:
        """Deliver a callback, and record when it was accepted."""

        async def posted() -> int:
            try:
                return (await self._outside.post(pending.url, content=pending.body, headers=JSON)).status_code
            except httpx.TransportError:
                return 0

        status = await self.carry(posted()) or 0
        if status == httpx.codes.OK:
            submission = self.world.context.tokens.read(pending.token)
            assert submission is not None, "a forged callback was taken"
            key = hashlib.sha256(pending.body.replace(pending.token.encode(), b"[redacted]")).digest()
            self.acknowledged.append((submission, key, pending))
        return status

    def jobs(self, prompt: str) -> int:
        """Count the jobs of a prompt at all upstreams."""
        return sum(job.prompt == prompt for each in self.upstreams.values() for job in each.sandbox.ledger.jobs)

    def lies(self, prompt: str) -> int:
        return sum(each.lies[prompt] for each in self.upstreams.values())

    # ── the database ──

    async def rows(self, *statements: Select[Any]) -> list[Sequence[Row[Any]]]:
        """Read rows. A SQLite file is read without another thread, which would take most of the test's time."""
        if self.reader is not None:
            with self.reader.connect() as connection:
                return [connection.execute(statement).all() for statement in statements]
        async with self._immortal.database.reading() as connection:
            return [(await connection.execute(statement)).all() for statement in statements]

    async def read(self) -> "Everything":
        """Read the whole database."""
        tasks, told, begun, came, made = await self.rows(*map(select, EVERYTHING))
        events: dict[UUID, list[Event]] = defaultdict(list)
        for row in told:
            said = {**row._mapping, "source": Source(row.source)}
            del said["id"]
            events[row.task_id].append(Event(**said))
        submissions = [submission_of(row) for row in begun]
        messages = [Message(**row._mapping) for row in made]
        kept = [
            Kept(
                task_of(row),
                sorted(events[row.id], key=lambda each: each.sequence),
                sorted((each for each in submissions if each.task_id == row.id), key=lambda each: each.id),
                [each for each in messages if each.task_id == row.id],
            )
            for row in tasks
        ]
        return Everything(kept, [Received(**row._mapping) for row in came], messages, submissions)

    async def next_moment(self) -> dt.datetime | None:
        """Return the time when something is next due, or may go on."""
        [rows] = await self.rows(union_all(*(select(column).where(column > self.now) for column in MOMENTS)))
        lives = [job.life for each in self.upstreams.values() for job in each.sandbox.ledger.jobs]
        turns = [turn for life in lives for turn in (life.started_at, life.ended_at, life.reversed_at)]
        moments = [dt.datetime.fromtimestamp(turn, dt.UTC) for turn in turns if self.now.timestamp() < turn < math.inf]
        return min([*moments, *(row[0] for row in rows)], default=None)

    async def _with_work(self) -> list[str]:
        """Return the journeys that may find work. Running the others would only take time."""
        tasks = tables.tasks.c
        given = tasks.state.in_(["queued", "submitting"])
        which = {
            "submit": given & (tasks.due_at <= self.now) | tasks.waits_for.is_not(None),
            "poll": ~given & (tasks.due_at <= self.now),
            "callbacks": tables.callbacks.c.due_at <= self.now,
            "webhooks": tables.webhook_messages.c.due_at <= self.now,
            "duplicates": tables.submissions.c.due_at <= self.now,
        }
        [found] = await self.rows(
            union_all(*(select(literal(name)).where(exists().where(one)) for name, one in which.items()))
        )
        return [name for name in which if name in {row[0] for row in found}]


MOMENTS = (
    *(table.c.due_at for table in (tables.tasks, tables.callbacks, tables.webhook_messages, tables.submissions)),
    tables.circuits.c.open_until,
    tables.circuits.c.probe_until,
    tables.upstreams.c.submit_slot_at,
    tables.upstreams.c.poll_slot_at,
)
EVERYTHING = (tables.tasks, tables.events, tables.submissions, tables.callbacks, tables.webhook_messages)
JOURNEYS: Mapping[str, Any] = {
    "submit": submission_run,
    "poll": polling,
    "webhooks": dispatch,
    "duplicates": duplicates,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Everything:
    """The content of a whole database."""

    tasks: list[Kept]
    callbacks: list[Received]
    messages: list[Message]
    submissions: list[Submission]


def _plain_reader(database: Database) -> Engine | None:
    if not database.sqlite:
        return None
    url = database.url.set(drivername="sqlite")
    return create_engine(url, json_deserializer=orjson.loads)
