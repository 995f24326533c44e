"""Load Dovecote for minutes, and watch what it holds: ``python -m bench soak --minutes 60``.

Whole journeys run all the time, as in ``python -m bench journeys``. Every few seconds the memory and the descriptors of the servers, the size of
the database and that of its log are read. The table shows them at the beginning, in the middle and at the end; ``--svg FILE`` draws them. The tables grow for an
hour; then retention removes as many tasks as come.
"""

import argparse
import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import asyncpg
import psutil

from bench import databases, journeys, upstream
from bench.requests import Contestant, serving
from bench.servers import Server

EVERY: Final = 5.0
WARM_UP: Final = 0.2
"""The part of the time after which numbers must be flat: caches and pools have filled."""
KEPT: Final = {f"DOVECOTE_RETENTION__{name}": "1h" for name in ("TASKS", "IDEMPOTENCY_KEYS")}


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


def watch(minutes: float, kind: databases.Kind) -> tuple[list[Sample], journeys.Seen]:
    """Run the load, and return the samples and what the load saw."""
    contestant = Contestant("dovecote", kind, "all" if kind == "sqlite" else "web+worker")
    samples: list[Sample] = []
    with databases.opened((kind,)) as opened, upstream.running() as port:
        url = f"http://127.0.0.1:{port}{upstream.CALLING_BACK}"
        with serving(contestant, opened, url, KEPT) as (servers, database):
            plan = journeys.plan_of(contestant, servers, minutes * 60)
            load = subprocess.Popen(
                [sys.executable, "-m", "bench.journeys"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert load.stdin is not None
            load.stdin.write(json.dumps(dataclasses.asdict(plan)))
            load.stdin.close()
            began = time.monotonic()
            while load.poll() is None:
                samples.append(_sample(time.monotonic() - began, servers, database, opened))
                time.sleep(EVERY)
            if load.returncode:
                raise RuntimeError(f"the load generator ended with {load.returncode}; its output is above")
            assert load.stdout is not None
            return samples, journeys.Seen(**json.loads(load.stdout.read()))


def _sample(at: float, servers: Sequence[Server], url: str, opened: databases.Databases) -> Sample:
    processes = [psutil.Process(each.pid) for each in servers]
    if url.startswith("sqlite"):
        file = url.removeprefix("sqlite:///")
        size, log = (Path(name).stat().st_size if Path(name).exists() else 0 for name in (file, f"{file}-wal"))
    else:
        size, log = asyncio.run(_sizes(url))
    return Sample(
        at=at,
        memory_mb=sum(each.memory_info().rss for each in processes) / 1e6,
        descriptors=sum(each.num_fds() for each in processes),
        database_mb=size / 1e6,
        log_mb=log / 1e6,
        tasks=opened.count(url, "SELECT count(*) FROM tasks"),
    )


async def _sizes(url: str) -> tuple[int, int]:
    connection = await asyncpg.connect(url)
    try:
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
        log = await connection.fetchval("SELECT coalesce(sum(size), 0) FROM pg_ls_waldir()")
    finally:
        await connection.close()
    return int(size), int(log)


def table_of(samples: Sequence[Sample], seen: journeys.Seen) -> str:
    """Return the numbers after the warm-up, in the middle and at the end, as Markdown."""
    chosen = [samples[int(len(samples) * WARM_UP)], samples[len(samples) // 2], samples[-1]]
    lines = [f"| after s | {' | '.join(f'{each.at:.0f}' for each in chosen)} |", "|---" * (len(chosen) + 1) + "|"]
    names = ("memory_mb", "descriptors", "database_mb", "log_mb", "tasks")
    rows = {name.replace("_mb", " MB"): [f"{getattr(each, name):,.0f}" for each in chosen] for name in names}
    rows["database kB a task"] = [f"{each.database_mb * 1000 / max(each.tasks, 1):.1f}" for each in chosen]
    lines.extend(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())
    ended = f"{seen.per_second:.0f} journeys a second, {seen.errors} errors"
    return "\n".join([*lines, "", ended])


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


def main(arguments: Sequence[str]) -> None:
    """Run the load, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--database", choices=get_args(databases.Kind), default="sqlite")
    parser.add_argument("--svg", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    samples, seen = watch(given.minutes, given.database)
    print(table_of(samples, seen))
    if given.svg:
        given.svg.write_text(chart_of(samples), encoding="utf-8")
