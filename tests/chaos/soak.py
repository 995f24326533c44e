"""Load Dovecote for an hour under faults, and watch what it holds: ``python -m bench soak --minutes 60``.

The load, the providers and the faults are those of ``make chaos``, except wrong clocks and the faults that end a process: memory is
compared with that of the same process before. Every few seconds the memory and the descriptors of the servers, the size of the database, of its tables and of its log are
read. An hour of retention passes in ten minutes, so that the tables stop growing, too. The program ends with 1 when something was lost or
paid twice, or when a process ended by itself.
"""

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

import asyncpg
import psutil

from service.cli.processes import ended_by_signals
from tests.chaos.evidence import Accepted, Arrived, Evidence, Fault, Refused
from tests.chaos.faults import Inject, Place, missing, schedule
from tests.chaos.installation import HERE, Installation, Kind, isolate_environment, prepared
from tests.chaos.outside import jobs_of
from tests.chaos.rounds import PROGRESS, Around, Options, Supervisor, settle, surroundings
from tests.chaos.snapshot import write_snapshot
from tests.chaos.upgrade import migrate_with

EVERY: Final = 10.0
"""Seconds between two samples."""
HOUR: Final = 600
"""Seconds in which an hour of retention passes."""
KEPT: Final = {
    **{f"DOVECOTE_RETENTION__{name}": "1h" for name in ("TASKS", "IDEMPOTENCY_KEYS", "LEDGER")},
    "CHAOS_HOUR": str(HOUR),
}
LEFT_OUT: Final = {
    **dict.fromkeys(("kill-web", "kill-worker", "restart"), "it ends a process"),
    "clock": "retention removes by the clock, so that a wrong one removes tasks that the load still reads",
}
DISK: Final = {"sqlite": "300m", "postgresql": "900m"}
DEADLINE: Final = 35


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the processes and the database hold at one moment."""

    at: float
    memory_mb: float
    """Resident memory of all servers."""
    descriptors: int
    database_mb: float
    log_mb: float
    """The write-ahead log."""
    tasks: int
    tables_mb: Mapping[str, float]
    """The largest tables, with their indexes. On SQLite: used and free pages."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a soak showed."""

    samples: Sequence[Sample]
    wrong: Sequence[str]
    tasks: int
    """Tasks that were accepted."""
    faults: Mapping[str, int]


async def soak(
    kind: Kind, folder: Path, *, minutes: float, rate: float, every: float, seed: int, say: Callable[[str], None]
) -> Result:
    """Run the load and the faults, and return what was seen."""
    evidence = Evidence(folder / "evidence.jsonl")
    options = Options(seconds=minutes * 60, every=every, rate=rate, deadline=DEADLINE)
    samples: list[Sample] = []
    with (
        contextlib.closing(evidence),
        prepared(kind, folder, more=KEPT, disk_size=DISK[kind]) as installation,
    ):
        async with surroundings(installation, evidence, random.Random(seed), HERE, options) as around:
            await migrate_with(HERE, installation.direct_url, folder)
            await installation.start()
            sampling = asyncio.create_task(
                _sample_again_and_again(installation, samples, folder / "samples.jsonl", say)
            )
            with contextlib.closing(Supervisor(installation, evidence, say)) as supervisor:
                await _load_and_faults(installation, around, options, seed, say)
                supervisor.faults_ended()
                settled = await settle(installation, around, DEADLINE + PROGRESS, say)
                if not settled:
                    say(f"see {await write_snapshot(installation, folder)}")
            sampling.cancel()
            await asyncio.wait({sampling})
        wrong = list(_wrong(evidence, around, settled=settled))
    faults = collections.Counter(each.name for each in evidence.of(Fault) if each.event.startswith("begins"))
    return Result(samples=samples, wrong=wrong, tasks=len(evidence.of(Accepted)), faults=dict(faults))


async def _load_and_faults(
    installation: Installation, around: Around, options: Options, seed: int, say: Callable[[str], None]
) -> None:
    chance = random.Random(f"faults {seed}")
    skip = missing(installation) | LEFT_OUT
    planned = schedule(installation.kind, chance, options.seconds, every=options.every, skip=skip)
    place = Place(installation, around.hooks, around.proxy, chance)
    async with asyncio.TaskGroup() as group:
        group.create_task(around.load.run(options.seconds, rate=options.rate))
        group.create_task(Inject(place, around.load.evidence, say).run(planned))


def _wrong(evidence: Evidence, around: Around, *, settled: bool) -> Iterator[str]:
    """Yield what the outside alone can tell: most rows have been removed by then."""
    if not settled:
        yield "not everything ended in time"
    for refused in evidence.of(Refused):
        yield f"{refused.what} was answered {refused.status}: {refused.text}"
    for fault in evidence.of(Fault):
        if fault.name == "exit":
            yield f"{fault.target} {fault.event}"
    told = {each.task for each in evidence.of(Arrived) if 200 <= each.status < 300}
    accepted = {each.prompt: each for each in evidence.of(Accepted)}
    for each in accepted.values():
        if each.hook and each.task not in told:
            yield f"no message of task {each.task} arrived: {each.prompt}"
    bought = collections.Counter(
        job.prompt for name, sandbox in around.sandboxes.items() for job in jobs_of(name, sandbox)
    )
    for prompt, count in bought.items():
        if count > 1 and prompt in accepted and accepted[prompt].on_uncertain != "resubmit_once":
            yield f"{count} jobs were paid, and the policy allows no second one: {prompt}"


async def _sample_again_and_again(
    installation: Installation, samples: list[Sample], file: Path, say: Callable[[str], None]
) -> None:
    began = time.monotonic()
    while True:
        try:  # during a fault of the database there is nothing to read
            samples.append(await asyncio.wait_for(_sample(installation, time.monotonic() - began), 5))
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(dataclasses.asdict(samples[-1])) + "\n")
        except (OSError, TimeoutError, asyncpg.PostgresError, sqlite3.Error, psutil.Error) as error:
            say(f"no sample: {type(error).__name__}")
        await asyncio.sleep(EVERY)


async def _sample(installation: Installation, at: float) -> Sample:
    processes = [psutil.Process(each.process.pid) for each in installation.servers if each.process is not None]
    url = installation.direct_url
    sizes = await (_of_postgresql(url) if installation.kind == "postgresql" else asyncio.to_thread(_of_sqlite, url))
    size, log, tasks, tables = sizes
    return Sample(
        at=at,
        memory_mb=sum(each.memory_info().rss for each in processes) / 1e6,
        descriptors=sum(each.num_fds() for each in processes),
        database_mb=size / 1e6,
        log_mb=log / 1e6,
        tasks=tasks,
        tables_mb={name: round(count / 1e6, 2) for name, count in tables.items()},
    )


async def _of_postgresql(url: str) -> tuple[int, int, int, dict[str, int]]:
    connection = await asyncpg.connect(url, timeout=3, command_timeout=3)
    try:
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
        log = await connection.fetchval("SELECT coalesce(sum(size), 0) FROM pg_ls_waldir()")
        tasks = await connection.fetchval("SELECT count(*) FROM tasks")
        tables = await connection.fetch(
            "SELECT relname, pg_total_relation_size(oid) AS size FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC LIMIT 8"
        )
    finally:
        connection.terminate()
    return int(size), int(log), int(tasks), {row["relname"]: int(row["size"]) for row in tables}


def _of_sqlite(url: str) -> tuple[int, int, int, dict[str, int]]:
    file = Path(url.removeprefix("sqlite:///"))
    log = file.with_name(f"{file.name}-wal")
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=3)) as connection:
        tasks = connection.execute("SELECT count(*) FROM tasks").fetchone()[0]
        pages, free, page = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    tables = {"used pages": (pages - free) * page, "free pages": free * page}
    return file.stat().st_size, log.stat().st_size if log.exists() else 0, int(tasks), tables


def table_of(result: Result) -> str:
    """Return the numbers once the tables are full, in the middle and at the end, as Markdown."""
    full = [each for each in result.samples if each.at >= 2 * HOUR] or list(result.samples)
    chosen = [full[len(full) * part // 4] for part in range(4)] + [full[-1]]
    lines = [f"| after s | {' | '.join(f'{each.at:.0f}' for each in chosen)} |", "|---" * (len(chosen) + 1) + "|"]
    names = ("memory_mb", "descriptors", "database_mb", "log_mb", "tasks")
    rows = {name.replace("_mb", " MB"): [f"{getattr(each, name):,.0f}" for each in chosen] for name in names}
    for name in sorted(chosen[-1].tables_mb, key=lambda name: -chosen[-1].tables_mb[name]):
        rows[f"{name} MB"] = [f"{each.tables_mb.get(name, 0):.1f}" for each in chosen]
    lines.extend(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())
    faults = sum(result.faults.values())
    return "\n".join([*lines, "", f"{result.tasks:,} tasks, {faults} faults, {len(result.wrong)} wrong", *result.wrong])


def chart_of(samples: Sequence[Sample]) -> str:
    """Return a chart of the samples, each number as a part of its highest value."""
    names = ("memory_mb", "descriptors", "database_mb", "log_mb")
    colours = ("#1a73e8", "#d93025", "#188038", "#e37400")
    end = samples[-1].at or 1.0
    lines = []
    for row, (name, colour) in enumerate(zip(names, colours, strict=True)):
        most = max(getattr(each, name) for each in samples) or 1
        points = " ".join(
            f"{40 + 620 * each.at / end:.1f},{220 - 190 * getattr(each, name) / most:.1f}" for each in samples
        )
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        label = f"{name.replace('_mb', ' MB')}, at most {most:,.0f}"
        lines.append(f'<text x="{45 + 165 * row}" y="250" fill="{colour}">{label}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 265" font-family="sans-serif" font-size="12">'
        '<rect width="720" height="265" fill="#ffffff"/>'
        '<path d="M40 30V220H660" fill="none" stroke="#555555"/>'
        f'<text x="600" y="235" fill="#333333">{end:.0f} s</text>{"".join(lines)}</svg>\n'
    )


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="dovecote-soak-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def main(arguments: Sequence[str]) -> None:
    """Run the load and the faults, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--database", choices=get_args(Kind), default="sqlite")
    parser.add_argument("--rate", type=float, default=4.0, help="tasks a second (default 4)")
    parser.add_argument("--every", type=float, default=20.0, help="seconds from one fault to the next (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="decides the faults and the load (default 1)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the samples there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep logs, evidence and samples in this new folder"
    )
    given = parser.parse_args(arguments)
    isolate_environment()
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stderr.write(f"  {time.monotonic() - began:6.1f} {line}\n")

    with ended_by_signals(), _folder(given.keep) as name:
        result = asyncio.run(
            soak(
                given.database,
                name,
                minutes=given.minutes,
                rate=given.rate,
                every=given.every,
                seed=given.seed,
                say=say,
            )
        )
    sys.stdout.write(table_of(result) + "\n")
    if given.json:
        given.json.write_text(json.dumps(dataclasses.asdict(result), indent=1) + "\n", encoding="utf-8")
    if given.svg:
        given.svg.write_text(chart_of(result.samples), encoding="utf-8")
    sys.exit(1 if result.wrong else 0)
