"""One round: a load, the faults of a schedule, then a time in which everything must end, and the verifier."""

import asyncio
import contextlib
import dataclasses
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, Select, Table, func, select

from service.cli.practice import SANDBOX_KEY
from service.sandbox import Sandbox, running
from service.store import tables
from service.store.database import Database, StoreUnavailable
from tests.chaos import verify
from tests.chaos.evidence import Accepted, Arrived, Called, Evidence, Fault, Reading
from tests.chaos.facts import read_facts
from tests.chaos.faults import SORTS, Inject, Place, missing, schedule
from tests.chaos.installation import HERE, Installation, Kind, prepared
from tests.chaos.load import Load
from tests.chaos.outside import Hooks, Postman, jobs_of
from tests.chaos.snapshot import write_snapshot
from tests.chaos.upgrade import BEGINS_AT, checked_out, migrate_with, replace_all
from tests.chaos.watch import watch
from tests.support.database_proxy import Proxy, socket_of, through

PROGRESS: Final = 30.0
"""Seconds, beside the deadline of the tasks, within which something must end after the last fault and the last end."""
_VALUE: Final = r"=[0-9a-f-]{8,}"


def count_of(table: Table, where: ColumnElement[bool]) -> Select[tuple[int]]:
    """Return the statement that counts some rows."""
    return select(func.count()).select_from(table).where(where)


_LEFT: Final = {
    "undecided callbacks": count_of(tables.callbacks, tables.callbacks.c.decision.is_(None)),
    "submissions under way": count_of(tables.submissions, tables.submissions.c.outcome == "sending"),
    "pending messages": count_of(tables.webhook_messages, tables.webhook_messages.c.state == "pending"),
    "pending copies": count_of(tables.assets, tables.assets.c.state.in_(["pending", "deleting"])),
}
_BAD_LINE: Final = re.compile(r"^\S+ ERROR |^Traceback|exception was never retrieved|was never awaited")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a round is."""

    seconds: float = 40.0
    """Length of the load."""
    every: float = 4.0
    """Seconds from one fault to the next."""
    rate: float = 3.0
    """Tasks a second."""
    deadline: int = 35
    """Seconds after which a task of the load expires."""
    plant: str = ""
    only: tuple[str, ...] = ()
    """The sorts of faults; none: all."""
    upgrade_from: str = ""
    """The commit whose processes are replaced during the load; then there are no other faults."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a round."""

    kind: Kind
    seed: int
    violations: list[str]
    notes: list[str]
    counts: dict[str, int]
    seconds: float


Say = Callable[[str], None]


async def run(kind: Kind, seed: int, folder: Path, options: Options, say: Say) -> Outcome:
    """Run a round in a folder, and return what the verifier found."""
    began = time.monotonic()
    evidence = Evidence(folder / "evidence.jsonl")
    with (
        contextlib.closing(evidence),
        _tree(options, folder) as tree,
        prepared(kind, folder, plant=options.plant) as installation,
    ):
        async with surroundings(installation, evidence, random.Random(seed), tree, options) as around:
            await migrate_with(tree, installation.direct_url, folder)
            await installation.start()
            watching = asyncio.create_task(watch(installation.direct_url, evidence))
            with contextlib.closing(Supervisor(installation, evidence, say)) as supervisor:
                await _load_and_faults(installation, around, seed, options, say)
                supervisor.faults_ended()
                settled = await settle(installation, around, options.deadline + PROGRESS, say)
                if not settled:
                    say(f"see {await write_snapshot(installation, folder)}, which --keep keeps")
                await around.read_all(evidence)
            watching.cancel()
            await asyncio.wait({watching})
        for name, sandbox in around.sandboxes.items():
            for job in jobs_of(name, sandbox):
                evidence.add(job)
        evidence.close()
        facts = await read_facts(installation.direct_url, evidence.file, installation.objects, settled=settled)
        found = [*installation.did_not_stop, *verify.violations(facts)]
    counts = {
        "tasks": len(facts.tasks),
        "accepted": len(facts.of(Accepted)),
        "callbacks": sum(200 <= each.status < 300 for each in facts.of(Called)),
        "messages": len(facts.of(Arrived)),
        "sentences": len(facts.of(Reading)),
        "faults": sum(each.event.startswith("begins") for each in facts.of(Fault)),
        **{
            f"tasks {state}": count
            for state, count in sorted(Counter(t["state"] for t in facts.tasks.values()).items())
        },
    }
    seconds = time.monotonic() - began
    return Outcome(kind=kind, seed=seed, violations=found, notes=_notes(folder), counts=counts, seconds=seconds)


@dataclasses.dataclass(slots=True)
class Around:
    """What surrounds an installation."""

    sandboxes: dict[str, Sandbox]
    hooks: Hooks
    proxy: Proxy | None
    load: Load

    async def read_all(self, evidence: Evidence) -> None:
        """Read every task once more at the end."""
        for each in evidence.of(Accepted):
            await self.load.read(each.client, each.task)


@contextlib.asynccontextmanager
async def surroundings(
    installation: Installation, evidence: Evidence, chance: random.Random, tree: Path, options: Options
) -> AsyncIterator[Around]:
    """Yield the providers, the receiver, the proxy and the load of an installation, which is prepared for them."""
    postman = Postman(evidence, random.Random(chance.random()), installation.addresses)
    hooks = Hooks(evidence, random.Random(chance.random()))
    sandboxes = {name: Sandbox(seconds=2.0, key=SANDBOX_KEY, send=postman) for name in ("elkapi", "cometapi")}
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(postman.aclose)
        urls = {name: await stack.enter_async_context(running(each)) for name, each in sandboxes.items()}
        hook = await stack.enter_async_context(running(hooks))
        proxy = None
        if installation.kind == "postgresql":
            proxy = await stack.enter_async_context(Proxy.running(socket_of(installation.url)))
            installation.url = through(installation.url, proxy.port)
        installation.build(urls, tree=tree)
        load = Load(
            evidence,
            random.Random(chance.random()),
            installation.addresses,
            hook=hook,
            postman=postman,
            deadline=options.deadline,
            clock_off=installation.clock_off,
        )
        stack.push_async_callback(load.aclose)
        yield Around(sandboxes, hooks, proxy, load)


def _tree(options: Options, folder: Path) -> contextlib.AbstractContextManager[Path]:
    """Return the checkout whose code runs first."""
    return checked_out(options.upgrade_from, folder) if options.upgrade_from else contextlib.nullcontext(HERE)


async def _load_and_faults(installation: Installation, around: Around, seed: int, options: Options, say: Say) -> None:
    if options.upgrade_from:
        async with asyncio.TaskGroup() as group:
            group.create_task(around.load.run(options.seconds, rate=options.rate))
            await asyncio.sleep(options.seconds * BEGINS_AT)
            await replace_all(installation, around.load.evidence, say)
        return
    chance = random.Random(f"faults {seed}")
    skip = missing(installation)
    for name, why in skip.items():
        say(f"left out: {name}: {why}")
    if options.only:
        skip |= {name: "not asked for" for name in SORTS if name not in options.only}
    planned = schedule(installation.kind, chance, options.seconds, every=options.every, skip=skip)
    place = Place(installation, around.hooks, around.proxy, chance)
    async with asyncio.TaskGroup() as group:
        group.create_task(around.load.run(options.seconds, rate=options.rate))
        group.create_task(Inject(place, around.load.evidence, say).run(planned))


class Supervisor:
    """Starts a process again that has ended by itself, as systemd does, and notes it."""

    def __init__(self, installation: Installation, evidence: Evidence, say: Say) -> None:
        self._installation, self._evidence, self._say = installation, evidence, say
        self._healthy = False
        self._task = asyncio.create_task(self._run())

    def faults_ended(self) -> None:
        """From now on no process has a reason to end."""
        self._healthy = True

    def close(self) -> None:
        """Stop starting ended processes again."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0.3)
            for each in self._installation.servers:
                if not each.down and not each.alive:
                    code = each.process.returncode if each.process is not None else None
                    event = f"ended by itself, exit {code}{' without a fault' if self._healthy else ''}"
                    self._evidence.add(Fault(name="exit", target=each.name, event=event))
                    self._say(f"{each.name} {event}; started again")
                    await asyncio.sleep(0.5)
                    if not each.down and not each.alive:  # a fault may have begun meanwhile that starts it itself
                        each.start()


async def settle(installation: Installation, around: Around, within: float, say: Say) -> bool:
    """Wait until nothing is left to do; return False when nothing has ended for too long. A busy machine is only slow."""
    end = time.monotonic() + within
    left: dict[str, int] = {}
    before: dict[str, int] = {}
    while time.monotonic() < end:
        await asyncio.sleep(1.0)
        left = await _left(installation)
        left["jobs"] = sum(
            not job.faults.stuck and job.state in {"queued", "running"}
            for sandbox in around.sandboxes.values()
            for job in sandbox.ledger.jobs
        )
        if len(left) == 1:
            continue  # the database does not answer yet
        if not any(left.values()):
            return True
        if left != before:
            before, end = left, time.monotonic() + within
    say(f"nothing has ended for {within:.0f} s: {left}")
    return False


async def _left(installation: Installation) -> dict[str, int]:
    database = Database(installation.direct_url)
    try:
        async with database.reading() as connection:
            counts = {name: int(await connection.scalar(statement) or 0) for name, statement in _LEFT.items()}
            open_tasks = await connection.execute(select(tables.tasks).where(tables.tasks.c.finished_at.is_(None)))
            waiting = [each for each in open_tasks if not verify.waits_for_its_deadline(each._mapping, time.time())]
            return {"open tasks": len(waiting), **counts}
    except StoreUnavailable:
        return {}
    finally:
        await database.close()


def _notes(folder: Path) -> list[str]:
    """Return the errors in the logs, without what differs from one to the next, and how often each came."""
    found: Counter[str] = Counter()
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if _BAD_LINE.search(line):
                last = next((each for each in lines[number + 1 :] if each[:1] not in {" ", ""}), "")
                last = last if line.startswith("Traceback") else ""
                found[f"{re.sub(_VALUE, '=…', line.partition('Z ')[2] or line)[:160]} {last[:200]}".strip()] += 1
    return [f"{count} × {line}" for line, count in found.most_common(12)]
