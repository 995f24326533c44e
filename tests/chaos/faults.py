"""The faults, and the seeded schedule by which they come and go."""

import asyncio
import contextlib
import dataclasses
import random
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import asyncpg

from tests.chaos.evidence import Evidence, Fault
from tests.chaos.installation import STOPPED_WITHIN, Installation, Kind, Server
from tests.chaos.launch import LEASE
from tests.chaos.outside import Hooks
from tests.support.database_proxy import Proxy

PAST_LEASE: Final = (LEASE + 2.0, LEASE + 10.0)
"""So long that another process claims the rows, and completes its work, before the frozen one goes on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """What faults can hit."""

    installation: Installation
    hooks: Hooks
    proxy: Proxy | None
    chance: random.Random

    def choose(self, servers: list[Server]) -> Server:
        return self.chance.choice(servers)


Act = Callable[[Place, Server | None, float], contextlib.AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def killed(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Kill a process with -9, and start it again at the end."""
    assert server is not None
    server.down = True
    await asyncio.to_thread(server.kill)
    try:
        yield
    finally:
        server.start()
        server.down = False


@contextlib.asynccontextmanager
async def restarted(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Stop a process in order, and start it again once it has ended."""
    assert server is not None
    assert server.process is not None
    server.down = True
    server.process.terminate()
    try:
        yield
    finally:
        try:
            await asyncio.to_thread(server.process.wait, STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            place.installation.did_not_stop.append(f"{server.name} did not stop within {STOPPED_WITHIN:.0f} s")
        finally:
            if server.alive:
                server.kill()
            server.start()
            server.down = False


@contextlib.asynccontextmanager
async def frozen(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Freeze a process past its leases, and resume it."""
    assert server is not None
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextlib.asynccontextmanager
async def clock_wrong(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Set the clock of a process forward or back, and right again."""
    assert server is not None
    server.set_clock(place.chance.choice([-3600, -90, -20, 20, 90, 3600, 86_400]))
    try:
        yield
    finally:
        server.set_clock(0)


@contextlib.asynccontextmanager
async def database_crashed(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Stop PostgreSQL without a checkpoint, and start it."""
    cluster = place.installation.cluster
    assert cluster is not None
    await asyncio.to_thread(cluster.crash)
    try:
        yield
    finally:
        await asyncio.to_thread(cluster.start)


@contextlib.asynccontextmanager
async def database_frozen(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Freeze every process of PostgreSQL."""
    assert place.installation.cluster is not None
    with place.installation.cluster.frozen():
        yield


@contextlib.asynccontextmanager
async def backend_killed(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Kill one session of PostgreSQL with -9: it ends all others, and recovers."""
    assert place.installation.cluster is not None
    with contextlib.suppress(Exception):  # nothing is connected
        await asyncio.to_thread(place.installation.cluster.kill_one_connection)
    yield


@contextlib.asynccontextmanager
async def connections_cut(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Reset all connections to the database, again and again."""
    assert place.proxy is not None

    async def cut() -> None:
        while True:
            place.proxy.cut()
            await asyncio.sleep(0.7)

    cutting = asyncio.create_task(cut())
    try:
        yield
    finally:
        cutting.cancel()


@contextlib.asynccontextmanager
async def connections_swallowed(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Let nothing pass to and from the database; connections from before stay dead."""
    assert place.proxy is not None
    place.proxy.silence()
    try:
        yield
    finally:
        place.proxy.heal()


@contextlib.asynccontextmanager
async def notifications_lost(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Drop every notification of PostgreSQL."""
    assert place.proxy is not None
    place.proxy.drop_notifications = True
    try:
        yield
    finally:
        place.proxy.drop_notifications = False


@contextlib.asynccontextmanager
async def rows_locked(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Lock rows from outside: some tasks, or an upstream; on SQLite the whole database."""
    if place.installation.kind == "sqlite":
        async with _sqlite_locked(place.installation.direct_url.removeprefix("sqlite:///")):
            yield
        return
    tables = ["tasks ORDER BY id DESC LIMIT 20", "upstreams", "webhook_messages ORDER BY id DESC LIMIT 20"]
    connection = await asyncpg.connect(place.installation.direct_url)
    try:
        with contextlib.suppress(asyncpg.PostgresError, OSError):  # they are locked already, or it restarts
            await connection.execute("SET lock_timeout = '2s'")
            await connection.execute("BEGIN")
            await connection.execute(f"SELECT * FROM {place.chance.choice(tables)} FOR UPDATE")  # noqa: S608 - ours
        yield
    finally:
        with contextlib.suppress(Exception):  # the database may have ended the session
            await asyncio.wait_for(connection.execute("ROLLBACK"), 5)
        connection.terminate()


@contextlib.asynccontextmanager
async def _sqlite_locked(path: str) -> AsyncIterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)) as other:
        locked = False
        with contextlib.suppress(sqlite3.OperationalError):  # it is busy, or the disk is full
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            locked = True
        try:
            yield
        finally:
            if locked:
                other.execute("ROLLBACK")


@contextlib.asynccontextmanager
async def disk_full(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Fill the disk of the database."""
    disk = place.installation.disk
    assert disk is not None
    await asyncio.to_thread(disk.fill)
    try:
        yield
    finally:
        disk.free()
        if place.installation.cluster is not None:  # it may have stopped for want of space
            await asyncio.to_thread(place.installation.cluster.start)


@contextlib.asynccontextmanager
async def receivers_hang(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Let receivers accept messages and answer nothing."""
    place.hooks.set("hang")
    try:
        yield
    finally:
        place.hooks.set("well")


@contextlib.asynccontextmanager
async def receivers_fail(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Make the receivers answer 500."""
    place.hooks.set("fail")
    try:
        yield
    finally:
        place.hooks.set("well")


@contextlib.asynccontextmanager
async def storage_stopped(place: Place, server: Server | None, seconds: float) -> AsyncIterator[None]:
    """Take the storage of kept results away, and bring it back."""
    folder = place.installation.objects
    away = folder.with_suffix(".away")
    folder.rename(away)
    folder.write_text("no folder")
    try:
        yield
    finally:
        folder.unlink()
        away.rename(folder)


@dataclasses.dataclass(frozen=True, slots=True)
class Sort:
    """A sort of fault."""

    act: Act
    seconds: tuple[float, float]
    """How long it lasts."""
    target: str = ""
    """Which processes it hits: web, workers or servers."""
    only: Kind | None = None
    often: int = 1
    """How often it comes before every other sort has come once."""
    group: str = ""
    """Two faults of one group never come at once: each needs what the other takes away."""


SORTS: Final[Mapping[str, Sort]] = {
    "kill-web": Sort(killed, (0.2, 2.0), "web", "postgresql"),
    "kill-worker": Sort(killed, (0.2, 4.0), "workers"),
    "restart": Sort(restarted, (0.0, 1.0), "servers"),
    "freeze-web": Sort(frozen, (2.0, 9.0), "web", "postgresql"),
    "freeze-worker": Sort(frozen, PAST_LEASE, "workers", often=2),
    "clock": Sort(clock_wrong, (4.0, 10.0), "servers"),
    "crash-database": Sort(database_crashed, (0.5, 4.0), only="postgresql", group="database"),
    "freeze-database": Sort(database_frozen, (3.0, 8.0), only="postgresql", group="database"),
    "kill-session": Sort(backend_killed, (0.5, 1.0), only="postgresql", group="database"),
    "cut-connections": Sort(connections_cut, (1.0, 4.0), only="postgresql", group="proxy"),
    "swallow-connections": Sort(connections_swallowed, (3.0, 9.0), only="postgresql", group="proxy"),
    "lose-notifications": Sort(notifications_lost, (5.0, 15.0), only="postgresql", group="proxy"),
    "lock-rows": Sort(rows_locked, (2.0, 9.0), group="database"),
    "fill-disk": Sort(disk_full, (1.0, 5.0), group="database"),
    "receivers-hang": Sort(receivers_hang, (4.0, 12.0), group="hooks"),
    "receivers-fail": Sort(receivers_fail, (4.0, 12.0), group="hooks"),
    "stop-storage": Sort(storage_stopped, (3.0, 10.0), group="storage"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """A fault of the schedule."""

    name: str
    at: float
    seconds: float
    number: int
    """Chooses the process that it hits."""


def missing(installation: Installation) -> dict[str, str]:
    """Return the faults that cannot be made here, and why."""
    found: dict[str, str] = {}
    if installation.disk is None:
        found["fill-disk"] = "a small file system cannot be mounted: that needs root"
    return found


def schedule(kind: Kind, chance: random.Random, seconds: float, *, every: float, skip: Mapping[str, str]) -> list[Planned]:  # fmt: skip
    """Plan the faults of a round: each sort has come before one comes again.

    :param seconds: the length of the load
    :param every: seconds from one fault to the next, on average
    :param skip: the sorts that cannot be made
    """
    usable = [name for name, sort in SORTS.items() if sort.only in (None, kind) and name not in skip]
    usable = [name for name in usable for _ in range(SORTS[name].often)]
    planned: list[Planned] = []
    at, deck = chance.uniform(1.0, 3.0), []
    while at < seconds:
        if not deck:
            deck = chance.sample(usable, len(usable))
        name = deck.pop()
        low, high = SORTS[name].seconds
        planned.append(Planned(name, at, chance.uniform(low, high), chance.randrange(1000)))
        at += chance.uniform(0.5, 1.5) * every
    return planned


class Inject:
    """Makes the faults of a schedule."""

    def __init__(self, place: Place, evidence: Evidence, say: Callable[[str], None]) -> None:
        """Prepare.

        :param say: writes a line for the person who watches
        """
        self._place, self._evidence, self._say = place, evidence, say
        self._busy: set[Any] = set()

    async def run(self, planned: list[Planned]) -> None:
        """Make every fault at its time. What cannot be hit twice at once waits."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as faults:
            for each in planned:
                await asyncio.sleep(began + each.at - asyncio.get_running_loop().time())
                faults.create_task(self._make(each))

    async def _make(self, planned: Planned) -> None:
        sort = SORTS[planned.name]
        server = self._target(sort, planned)
        busy = {sort.group, server.name if server else ""} - {""}
        if self._busy & busy or (sort.target and server is None):
            self._note(planned.name, "", "left out: another fault needs the same")
            return
        self._busy |= busy
        target = server.name if server else ""
        try:
            self._note(planned.name, target, f"begins, for {planned.seconds:.1f} s")
            async with sort.act(self._place, server, planned.seconds):
                await asyncio.sleep(planned.seconds)
            self._note(planned.name, target, "ended")
        finally:
            self._busy -= busy

    def _target(self, sort: Sort, planned: Planned) -> Server | None:
        if not sort.target:
            return None
        free = [each for each in getattr(self._place.installation, sort.target) if each.name not in self._busy]
        return free[planned.number % len(free)] if free else None

    def _note(self, name: str, target: str, event: str) -> None:
        self._evidence.add(Fault(name=name, target=target, event=event))
        self._say(f"{name} {target} {event}".replace("  ", " "))
