"""Measure acknowledged callbacks and accepted submits, of Dovecote and of the other contestants."""

import contextlib
import dataclasses
import functools
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench import load, raw, seeds, upstream
from bench.databases import Databases, Fill, Kind
from bench.servers import Server, free_port, running, uvicorn

RAW = "raw driver"
"""The contestant of ``bench/raw.py``."""
TASKS = 15_000
"""Tasks that wait for callbacks in a fresh database: enough for 45,000 callbacks that are news."""


@dataclasses.dataclass(frozen=True, slots=True)
class Contestant:
    """One of those that are measured."""

    name: str
    kind: Kind | None
    """Its database; None for the ceiling, which has none."""
    role: str = ""
    """Dovecote's role, or the roles of several processes, joined by a plus; empty for the others."""
    doors: bool = False
    """Whether the doors are switched on."""
    at_door: bool = False
    """Whether tasks are submitted at the door of Runway's API."""
    hands_over: bool = False
    """Whether tasks are also handed to the upstream, where they are submitted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """The result of one contestant in one round."""

    seen: load.Seen
    done: float | None
    """Work done meanwhile, per second: callbacks applied, or tasks handed to the upstream."""


def contestants(requests: str, kinds: tuple[Kind, ...]) -> list[Contestant]:
    """Return the contestants of ``callbacks`` or of ``submits``."""
    listed: list[Contestant] = []
    for kind in kinds:
        listed += [Contestant("dovecote", kind, "all", hands_over=True), Contestant("dovecote web", kind, "web")]
        listed.append(Contestant("obvious", kind))
        if requests == "submits":
            listed.append(Contestant("obvious, handing over", kind, hands_over=True))
            listed.append(Contestant("dovecote web, doors on", kind, "web", doors=True))
            listed.append(Contestant("dovecote web, at a door", kind, "web", doors=True, at_door=True))
    listed += [Contestant(RAW, kind) for kind in kinds]
    return listed if requests == "submits" else [*listed, Contestant("ceiling", None)]


def measure(
    contestant: Contestant, databases: Databases, upstream_port: int, *, requests: str, seconds: float
) -> Shown:
    """Start a server over a fresh database, load it, and stop it."""
    jobs_before = upstream.jobs_taken(upstream_port)
    with serving(contestant, databases, f"http://127.0.0.1:{upstream_port}") as (running, url):
        server = running[0]
        waiting = seeds.seeds(TASKS)
        plan = load.Plan(
            kind="door_submits" if contestant.at_door else requests,
            port=server.port,
            pid=server.pid,
            tokens=tuple(seed.token for seed in waiting),
            external_ids=tuple(seed.external_id for seed in waiting),
            api_key=seeds.API_KEY,
            seconds=seconds,
        )
        seen = load.measure(plan)
        if requests == "submits":
            done = upstream.jobs_taken(upstream_port) - jobs_before if contestant.hands_over else None
        else:
            done = databases.count(url, _TAKEN_IN) if contestant.role == "all" else None
        return Shown(seen, None if done is None else done / (plan.warm_up + plan.seconds))


_TAKEN_IN = "SELECT count(*) FROM callbacks WHERE decision IS NOT NULL"


@contextlib.contextmanager
def serving(
    contestant: Contestant, databases: Databases, upstream_url: str, more: Mapping[str, str] | None = None
) -> Iterator[tuple[list[Server], str]]:
    """Run the processes of a contestant over a fresh database, and yield them and its URL. The first takes requests."""
    port = free_port()
    if contestant.kind is None:
        with running(uvicorn("bench.ceiling:app", port), {}, port=port) as server:
            yield [server], ""
        return
    if contestant.name == RAW:
        with (
            databases.copy(contestant.kind, "empty", _fill_nothing) as url,
            running(uvicorn("bench.raw:app", port), {raw.DATABASE_URL: url}, port=port) as server,
        ):
            yield [server], url
        return
    name, fill = _filling(contestant)
    with databases.copy(contestant.kind, name, fill) as url:
        if not contestant.role:
            environment = {"OBVIOUS_DATABASE_URL": url, "OBVIOUS_API_KEY": seeds.API_KEY}
            environment["OBVIOUS_PUBLIC_URL"] = f"http://127.0.0.1:{port}"
            environment |= {"OBVIOUS_UPSTREAM": upstream_url} if contestant.hands_over else {}
            with running(uvicorn("bench.obvious:app", port), environment, port=port) as server:
                yield [server], url
            return
        with contextlib.ExitStack() as processes:
            servers: list[Server] = []
            for role in contestant.role.split("+"):
                command = [str(Path(sys.executable).with_name("dovecote")), "serve", "--role", role]
                environment = dovecote_settings(url, port, upstream_url)
                own = port if role != "worker" and not servers else free_port()
                environment |= {"DOVECOTE_PORT": str(own), **(more or {})}
                environment |= dict.fromkeys(DOORS, "true") if contestant.doors else {}
                servers.append(processes.enter_context(running(command, environment, port=own)))
            yield servers, url


async def _fill_nothing(url: str) -> None:
    """Make an empty database."""
    if url.startswith("sqlite"):
        sqlite3.connect(url.removeprefix("sqlite:///")).close()


DOORS = tuple(
    f"DOVECOTE_DOORS__{name}"
    for name in (
        "RUNWAYML",
        "OPENAI",
        "REPLICATE",
        "FAL",
        "ELKAPI",
        "NEWAPI_VIDEO",
        "MIDJOURNEY",
        "SUNO",
        "RUNWAY_GATEWAY",
    )
)


def _filling(contestant: Contestant) -> tuple[str, Fill]:
    if contestant.role:
        return "dovecote", functools.partial(seeds.fill_dovecote, count=TASKS)
    return "obvious", functools.partial(seeds.fill_obvious, count=TASKS)


def dovecote_settings(url: str, port: int, upstream_url: str) -> dict[str, str]:
    """Return the environment of a Dovecote that is measured."""
    return {
        "DOVECOTE_DATABASE_URL": url,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "DOVECOTE_CALLBACK_SECRET": seeds.CALLBACK_SECRET,
        "DOVECOTE_API_KEYS": f"bench={seeds.API_KEY}",
        "DOVECOTE_LOG_LEVEL": "warning",
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
        # The obvious version keeps no copies of results either.
        "DOVECOTE_RESULTS__KEEP": "none",
        "ELKAPI_KEY": "stand-in-key",
        "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": upstream_url,
        "DOVECOTE_UPSTREAMS__ELKAPI__CONCURRENCY": "64",
    }
