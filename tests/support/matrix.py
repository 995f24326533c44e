"""The fault matrix: fault × moment × order of upstreams → the end of the task and the paid jobs.

``python -m tests.support.matrix`` writes docs/fault-matrix.md. tests/system/test_fault_matrix.py checks the product against it.
"""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import itertools
import math
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import delete

from service.domain.changes import Change, SubmissionFailed
from service.domain.task import ENDED, State, Submission, Task
from service.http.client import Http
from service.sandbox import Faults, InProcessTransport, Sandbox
from service.store.database import Database, StoreUnavailable
from service.store.migrate import migrate
from service.store.tables import metadata
from service.store.writer import Batch, Submit, Writers, name_of
from tests.support.due import read_due
from tests.support.world import JOB_SECONDS, World, _post
from tests.support.writers import arguments_of, intercepted

PAGE = Path(__file__).parents[2] / "docs" / "fault-matrix.md"
DEADLINE = 400
NAMES = ("elkapi", "cometapi", "runwayml")
HOSTS = {"sandbox.test": "elkapi", "comet.test": "cometapi", "runwayml.test": "runwayml"}
THREE_UPSTREAMS = {
    "COMETAPI_KEY": "comet-key",
    "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://comet.test",
    "RUNWAYML_API_SECRET": "runway-key",
    "DOVECOTE_UPSTREAMS__RUNWAYML__BASE_URL": "http://runwayml.test",
    "DOVECOTE_UPSTREAMS__COMETAPI__TYPICAL_SECONDS": str(JOB_SECONDS * 1.5),
    "DOVECOTE_UPSTREAMS__RUNWAYML__TYPICAL_SECONDS": str(JOB_SECONDS * 1.5),
}
CALLING = ("elkapi", "cometapi")
"""The upstreams that call back; Runway's own API does not."""
ORDERS: Mapping[str, tuple[str, ...]] = {
    "one upstream": ("elkapi",),
    "gateways first": ("elkapi", "cometapi", "runwayml"),
    "official first": ("runwayml", "elkapi"),
}

FAULTS: Mapping[str, str] = {
    "none": "nothing goes wrong",
    "slow": "the answer takes its time",
    "early": "the callbacks come before the answer",
    "refuse": "refused, HTTP 400",
    "refuse200": "refused, HTTP 200 and a code (Runway itself: 400)",
    "nocredit": "no credit on the account",
    "429": "too many requests, Retry-After: 1",
    "503": "unavailable, with a reason",
    "down": "no connection",
    "429 ×3": "too many requests, three times",
    "503 ×3": "unavailable, three times",
    "down ×3": "no connection, three times",
    "all down": "no upstream can be reached, for ever",
    "lost": "silence: the request never arrived",
    "reset": "the connection is reset: the request never arrived",
    "hang": "taken, and then silence",
    "cut": "taken, and the connection is reset before the answer",
    "cutbody": "taken, and the connection is closed in the middle of the answer",
    "500": "taken, and answered HTTP 500",
    "htmlsubmit": "taken, and answered by an HTML page with HTTP 200",
    "cut late": "taken, reset before the answer, and the callbacks come after it was bought again",
    "cut late, refuse": "the same, and the second purchase is refused",
    "cut late, 503": "the same, and the second purchase finds its upstream unavailable at first",
    "cut late, cut": "the same, and the second purchase is taken and reset, too",
    "dies unwritten": "Dovecote dies before it has written that it is about to send",
    "dies unsent": "Dovecote dies after that, before it sends",
    "dies asking": "Dovecote dies after the request has arrived",
    "dies answered": "Dovecote dies with the answer in hand, before it is written",
    "no database": "the database is away when the answer is to be written",
}
"""The descriptions of the faults."""

POINTS: Mapping[str, tuple[str, ...]] = {"first": (), "retry": ("503",), "fail-over": ("nocredit",)}
"""When: at the first submit; at the second, since the first was answered 503; at the next upstream, since the first has no
credit."""

HARMLESS = ("slow", "early")
CERTAIN = ("refuse", "refuse200", "nocredit", "429", "503", "down")
LASTING = ("429 ×3", "503 ×3", "down ×3", "all down")
UNCERTAIN = ("reset", "hang", "cutbody", "500", "htmlsubmit")
LATE = ("cut late", "cut late, refuse", "cut late, 503", "cut late, cut")
DEATHS = ("dies unwritten", "dies unsent", "dies asking", "dies answered", "no database")


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One case."""

    fault: str
    point: str
    policy: str
    callbacks: bool
    order: str

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Return its row of the page."""
        return self.fault, self.point, self.policy, "come" if self.callbacks else "blocked"


def cells() -> Iterator[Cell]:
    """Return every case."""
    both, orders, points = (True, False), tuple(ORDERS), tuple(POINTS)
    policies = ("hold", "fail", "resubmit_once")
    chosen = itertools.chain(
        itertools.product(["none"], ["first"], ["hold"], both, orders),
        itertools.product(HARMLESS, ["first"], ["hold"], [True], orders),
        itertools.product(CERTAIN, points, ["hold"], [True], orders),
        itertools.product(LASTING, ["first"], ["hold"], [True], orders),
        itertools.product(["cut", "lost"], points, policies, both, orders),
        itertools.product(UNCERTAIN, ["first"], ["hold"], both, orders),
        itertools.product(LATE, ["first"], ["resubmit_once"], [True], orders),
        itertools.product(DEATHS, ["first"], ["hold"], both, orders),
        itertools.product(DEATHS[1:4], ["first"], policies[1:], both, orders[:1]),
    )
    for fault, point, policy, callbacks, order in chosen:
        if point != "fail-over" or len(ORDERS[order]) > 1:
            yield Cell(fault, point, policy, callbacks, order)


# The surroundings ----------------------------------------------------------------------------------------------------


class Death(BaseException):
    """The process is dead. No handler of Dovecote catches it."""


_WORDS: Mapping[str, list[str]] = {
    "none": [],
    "dies asking": [],
    "slow": ["slow=0.02"],
    "429": ["429=9"],
    "503": ["503=9"],
    "cut late": ["cut", "late=150"],
}
"""The sandbox's words for a fault that has another name here."""


class Network(httpx.AsyncBaseTransport):
    """Applies the next fault to each purchase."""

    def __init__(self, stage: "Stage", sandbox: Sandbox) -> None:
        self._stage, self._sandbox = stage, sandbox
        self._inner = InProcessTransport(sandbox.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        fault = self._stage.next_fault() if request.method == "POST" else "none"
        if fault == "down":
            raise httpx.ConnectError("connection refused", request=request)
        if fault == "lost":
            raise httpx.ReadTimeout("no answer", request=request)
        if fault == "reset":
            raise httpx.ReadError("reset by peer", request=request)
        words = _WORDS.get(fault, [fault])
        self._sandbox.faults = Faults.named([*words, *self._stage.lasting])
        if fault == "hang":
            request.extensions["timeout"] = {"read": 0.02}
        response = await self._inner.handle_async_request(request)
        if fault == "dies asking":
            raise self._stage.death()
        return response


def staged(writers: Writers, stage: "Stage") -> Writers:
    """Return writers whose process may crash, or whose database may fail, at a moment that the stage chooses."""

    async def around(submit: Submit, function: Batch[Any, Any], item: Any) -> Any:
        name = name_of(function)
        planned = arguments_of(item)[1] if name == "_plan_and_write" else None
        planning, answered = planned is not None and bool(planned.claimed), name == "apply" and _is_answer(item)
        if (planning and stage.now("dies unwritten")) or (answered and stage.now("dies answered")):
            raise stage.death()
        if answered and stage.now("no database"):
            raise StoreUnavailable("away")
        answer = await submit(function, item)
        if planned is not None and planning and planned.handovers and stage.now("dies unsent"):
            raise stage.death()
        return answer

    return intercepted(writers, around)


def _is_answer(change: Change) -> bool:
    return change.evidence is not None or isinstance(change, SubmissionFailed)


_AT_DOVECOTE = frozenset({"dies unwritten", "dies unsent", "dies answered", "no database"})


class Stage:
    """Dovecote and three sandboxes. It plays one case after another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._script: list[str] = []
        self._fault = "none"
        self.lasting: list[str] = []
        self.died = False
        outside = world.context.http.questions
        self.sandboxes = {
            name: Sandbox(
                seconds=JOB_SECONDS, key=key, clock=world.clock.seconds, send=functools.partial(_post, outside)
            )
            for name, key in zip(NAMES, ("sandbox-key", "comet-key", "runway-key"), strict=True)
        }
        for host, name in HOSTS.items():
            world.edge.hosts[host] = Network(self, self.sandboxes[name])
        world.context = dataclasses.replace(
            world.context, writers=staged(world.context.writers, self), http=Http(outside, outside, outside, outside)
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, url: str, order: str) -> AsyncIterator["Stage"]:
        """Open a stage over a migrated database."""
        more = {**THREE_UPSTREAMS, "DOVECOTE_ROUTES__RUNWAY": ",".join(ORDERS[order])}
        async with World.opened(url, **more) as world:
            yield cls(world)

    def next_fault(self) -> str:
        """Return the fault of the next purchase."""
        if self._fault == "all down":
            return "down"
        return self._script.pop(0) if self._script else "none"

    def now(self, fault: str) -> bool:
        """Return whether this happens now. It happens once."""
        if self._fault != fault or self._script:
            return False
        self._fault = "none"
        return True

    def death(self) -> Death:
        """Kill the process."""
        self.died = True
        return Death()

    async def play(self, cell: Cell) -> "Ending":
        """Play a case from the submit to its deadline."""
        self._fault = cell.fault
        self._script = [*POINTS[cell.point]]
        if cell.fault not in _AT_DOVECOTE:
            fault, _, times = cell.fault.partition(" ×")
            self._script += fault.split(", ") * int(times or 1)
        self.lasting = [] if cell.callbacks else ["drop"]
        accepted = await self.world.submit(on_uncertain=cell.policy, deadline=DEADLINE)
        await self._until(accepted.deadline_at + dt.timedelta(seconds=1))
        ending = Ending(
            task=await self.world.task(accepted),
            jobs={name: len(each.ledger.jobs) for name, each in self.sandboxes.items()},
            submissions=await self.world.submissions(accepted),
            events=[(each.type, each.data) for each in await self.world.events(accepted)],
            told=[each.type for each in await self.world.messages(accepted)],
        )
        await self._clear()
        return ending

    async def _work(self) -> None:
        with contextlib.suppress(Death):
            await self.world.work()
        while self.died:  # another process takes over: on SQLite at once, elsewhere when the lease has run out
            self.died = False
            if self.world.context.database.sqlite:
                await self.world.release_leases()
            with contextlib.suppress(Death):
                await self.world.work()

    async def _until(self, end: dt.datetime) -> None:
        """Move the clock from one due time to the next."""
        for _ in range(1000):
            for sandbox in self.sandboxes.values():
                await sandbox.deliver_due()
            await self._work()
            async with self.world.context.database.reading() as connection:
                due = await read_due(connection)
            following = min([*due.moments(), *self._callbacks_to_come()], default=end)
            if following >= end and self.world.clock.now >= end:
                return
            self.world.clock.now = min(following, end) if following > self.world.clock.now else self.world.clock.now
        raise AssertionError("there is no end of what is due")

    def _callbacks_to_come(self) -> Iterator[dt.datetime]:
        for sandbox in self.sandboxes.values():
            for job in sandbox.ledger.jobs:
                for at in (job.life.started_at, job.life.ended_at):
                    if self.world.clock.seconds() < at < math.inf and not job.faults.drop:
                        yield dt.datetime.fromtimestamp(at, dt.UTC)

    async def _clear(self) -> None:
        """Remove the case, and the failures that circuits have counted."""
        async with self.world.context.database.writing() as connection:
            for table in reversed(metadata.sorted_tables):
                await connection.execute(delete(table))
        for host in HOSTS:
            await self.world.context.http.questions.delete(f"http://{host}/sandbox/ledger")


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """The outcome of a case."""

    task: Task
    jobs: Mapping[str, int]
    submissions: list[Submission]
    events: list[tuple[str, Mapping[str, Any]]]
    told: list[str]

    def __str__(self) -> str:
        return f"{self.task.state} {' '.join(map(str, self.jobs.values()))}"

    def contradictions(self, cell: Cell) -> Iterator[str]:
        """Return the violations of the guarantees."""
        paid, types = sum(self.jobs.values()), [kind for kind, _ in self.events]
        if paid > (2 if cell.policy == "resubmit_once" else 1) or (paid > 1 and "resubmitted" not in types):
            yield f"{paid} jobs were paid for"
        if self.task.finished_at is None or self.task.finished_at > self.task.deadline_at:
            yield "it has not ended by its deadline"
        if any(each.outcome == "sending" for each in self.submissions):
            yield "a submission is forgotten"
        known = any(each.outcome == "taken" for each in self.submissions)
        calls = cell.callbacks and any(self.jobs[name] for name in CALLING)
        if (known or calls) != (self.task.state is State.SUCCEEDED and bool(self.task.results)):
            yield "a paid result is not delivered" if known or calls else "there is a result that nobody paid for"
        ends = [data["state"] for _, data in self.events if data.get("state") in ENDED]
        owed = [f"task.{state}" for state in ends[:1]] + ["task.late_result"] * (len(ends) - 1)
        if self.told != owed or len(set(ends)) != len(ends) or not ends:
            yield f"the client was told {self.told} of {ends}"


# The page ------------------------------------------------------------------------------------------------------------

_HEAD = ("what goes wrong", "when", "policy", "callbacks", *ORDERS)
_BEGIN, _END = "<!-- played by tests.support.matrix -->", "<!-- end of the matrix -->"


def written(endings: Mapping[Cell, str]) -> str:
    """Return the table as text."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for cell, ending in endings.items():
        rows.setdefault(cell.row, {})[cell.order] = ending
    lines = [_HEAD, ("---",) * len(_HEAD)]
    lines += [(*row, *(found.get(order, "") for order in ORDERS)) for row, found in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read() -> dict[Cell, str]:
    """Return the table of the page."""
    table = PAGE.read_text(encoding="utf-8").partition(_BEGIN)[2].partition(_END)[0].strip().splitlines()[2:]
    endings: dict[Cell, str] = {}
    for line in table:
        fault, point, policy, callbacks, *found = (cell.strip() for cell in line.strip("|").split("|"))
        for order, ending in zip(ORDERS, found, strict=True):
            if ending:
                endings[Cell(fault, point, policy, callbacks == "come", order)] = ending
    return endings


def faults() -> str:
    """Return the descriptions of the faults as text."""
    return "\n".join(f"| {name} | {meaning} |" for name, meaning in FAULTS.items())


async def play_all(url: str, chosen: Iterable[Cell]) -> dict[Cell, Ending]:
    """Play cases. Those with the same order of upstreams share a world."""
    endings: dict[Cell, Ending] = {}
    cases = sorted(chosen, key=lambda cell: list(ORDERS).index(cell.order))
    for order, of_order in itertools.groupby(cases, key=lambda cell: cell.order):
        async with Stage.opened(url, order) as stage:
            for cell in of_order:
                endings[cell] = await stage.play(cell)
    return endings


async def main() -> None:
    """Write the page."""
    folder = Path(tempfile.mkdtemp(prefix="dovecote-matrix-"))
    try:
        url = f"sqlite:///{folder / 'dovecote.db'}"
        database = Database(url)
        await migrate(database)
        await database.close()
        endings = await play_all(url, cells())
    finally:
        shutil.rmtree(folder)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    table = written({cell: str(endings[cell]) for cell in cells()})
    PAGE.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
