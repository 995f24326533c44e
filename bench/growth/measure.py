"""Measure the hot statements at several sizes: ``python -m bench growth``.

Each statement runs many times in a transaction that is rolled back. The table shows the CPU time of both sides in milliseconds, with
SQLAlchemy's part: on average, and that of the slowest of a hundred runs. Other work on the machine lengthens the time that passes, and not
this one. It also shows the pages that PostgreSQL reads (its buffers), or the thousands of instructions of
SQLite's virtual machine. ``--plans FILE`` writes the plans at the largest size.
"""

import argparse
import asyncio
import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from bench import databases
from bench.growth.filling import fill, make_schema
from bench.growth.plans import plans_of, statements_of
from bench.growth.statements import CLAIMS, IDLE, LISTS, Act
from service.store.database import Database

NARROW: Final = 2_000_000
"""Rows above which only tasks are filled, and only the claims on them are measured."""
WARM_UP: Final = 3
"""Runs that fill caches and prepare the statement."""
STEP: Final = 1_000
"""Instructions of SQLite between two counts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one statement at one size."""

    cpu: float
    """Milliseconds of CPU for one run, of this process and of PostgreSQL's, on average."""
    p99: float
    """That of the slowest of a hundred runs."""
    elapsed: float
    """Milliseconds that one run takes, as the median."""
    work: int
    """Pages on PostgreSQL, thousands of instructions on SQLite."""
    plan: str


async def measure(url: str, count: int, *, times: int) -> dict[str, Cost]:
    """Fill a database, and measure every statement."""
    whole = count <= NARROW
    began = time.monotonic()
    await fill(url, count, whole=whole)
    print(f"filled with {count} tasks in {time.monotonic() - began:.0f} s", flush=True)
    acts = {**CLAIMS, **(IDLE | LISTS if whole else {})}
    database = Database(url, command_timeout=None)
    try:
        return {name: await _cost(database, act, times) for name, act in acts.items()}
    finally:
        await database.close()


async def _cost(database: Database, act: Act, times: int) -> Cost:
    elapsed: list[float] = []
    used: list[float] = []
    async with database.writing() as connection:
        backend = None if database.sqlite else int(await connection.scalar(text("SELECT pg_backend_pid()")))
    for _ in range(times + WARM_UP):
        async with database.writing() as connection:
            began, before = time.perf_counter(), _cpu(backend)
            await act(connection)
            used.append((_cpu(backend) - before) * 1000)
            elapsed.append((time.perf_counter() - began) * 1000)
            await connection.rollback()
    async with database.writing() as connection:
        ran = await statements_of(connection, act)
        await connection.rollback()
    async with database.writing() as connection:
        if database.sqlite:
            plan, work = await plans_of(connection, ran), await _instructions(connection, act)
        else:
            plan, work = await plans_of(connection, ran), await _pages(connection, ran)
        await connection.rollback()
    used = sorted(used[WARM_UP:])
    return Cost(statistics.fmean(used), used[int(len(used) * 0.99)], statistics.median(elapsed[WARM_UP:]), work, plan)


def _cpu(backend: int | None) -> float:
    """Return the CPU seconds of this process, and of the process of PostgreSQL that serves it, to the nanosecond."""
    own = time.process_time()
    if backend is None:
        return own
    return own + int(Path(f"/proc/{backend}/schedstat").read_text().split()[0]) / 1e9


async def _pages(connection: AsyncConnection, ran: Sequence[tuple[str, Any]]) -> int:
    """Return the pages that PostgreSQL reads for some statements."""
    pages = 0
    for statement, parameters in ran:
        rows = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        found = rows.scalar_one()
        [document] = json.loads(found) if isinstance(found, str) else found
        pages += document["Plan"]["Shared Hit Blocks"] + document["Plan"]["Shared Read Blocks"]
    return pages


async def _instructions(connection: AsyncConnection, act: Act) -> int:
    """Return the thousands of instructions that SQLite runs for an act."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.set_progress_handler(count, STEP)
    try:
        await act(connection)
    finally:
        await driver.set_progress_handler(None, 0)
    return steps


def table_of(found: dict[int, dict[str, Cost]], kind: databases.Kind) -> str:
    """Return the costs as a table in Markdown."""
    unit = "k instructions" if kind == "sqlite" else "pages"
    sizes = sorted(found)
    head = " | ".join(f"{size:,}: CPU ms | p99 | {unit}" for size in sizes)
    lines = [f"| {kind} | {head} |", "|---" * (3 * len(sizes) + 1) + "|"]
    for name in found[sizes[0]]:
        cells = [found[size].get(name) for size in sizes]
        shown = ["– | – | –" if cell is None else f"{cell.cpu:.2f} | {cell.p99:.2f} | {cell.work}" for cell in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Run the requested measurements, and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m bench growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", choices=get_args(databases.Kind), default="postgresql")
    parser.add_argument("--rows", default="10000,1000000", help="numbers of tasks (default 10000,1000000)")
    parser.add_argument("--times", type=int, default=200, help="how often each statement runs (default 200)")
    parser.add_argument("--plans", type=Path, metavar="FILE", help="write the plans of the largest whole size there")
    given = parser.parse_args(arguments)
    sizes = [int(size) for size in given.rows.split(",")]
    found: dict[int, dict[str, Cost]] = {}
    with databases.opened((given.database,)) as opened:
        for size in sizes:
            with opened.copy(given.database, f"rows_{size}", make_schema) as url:
                found[size] = asyncio.run(measure(url, size, times=given.times))
            print(table_of(found, given.database), flush=True)
    whole = [size for size in sizes if size <= NARROW]
    if given.plans and whole:
        plans = "\n\n".join(f"-- {name}\n{cost.plan}" for name, cost in found[max(whole)].items())
        given.plans.write_text(plans + "\n", encoding="utf-8")
