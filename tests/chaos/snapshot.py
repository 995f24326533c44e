"""Write down what an installation does at this moment, for a round in which nothing ends any more."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import psutil

from tests.chaos.installation import Installation

WITHIN: Final = 10.0
"""Seconds for each question."""
_SESSIONS: Final = """
    SELECT pid, state, wait_event_type, wait_event, now() - xact_start AS transaction, now() - state_change AS unchanged,
           pg_blocking_pids(pid)::text AS blocked_by, application_name, left(query, 300) AS query
    FROM pg_stat_activity WHERE datname IS NOT NULL OR backend_type <> 'client backend' ORDER BY xact_start"""
_LOCKS: Final = "SELECT pid, locktype, relation::regclass::text, mode, granted FROM pg_locks ORDER BY granted, pid"


async def write_snapshot(installation: Installation, folder: Path) -> Path:
    """Write the state of the servers and of the database into a file of a folder, and return its path."""
    parts = [f"disk: {_disk(installation)}", *_processes(installation)]
    for each in installation.servers:
        parts += [f"{each.name} /readyz: {await _ready(each.url)}"]
        if each.process is not None:
            parts += [f"{each.name} stacks:\n{await _stacks(each.process.pid)}"]
        parts += [f"{each.name} log:\n{each.tail()}"]
    if installation.cluster is not None:
        parts += [f"log of PostgreSQL:\n{installation.cluster.tail()}"]
        parts += [f"{await _rows(installation.direct_url, statement)}" for statement in (_SESSIONS, _LOCKS)]
    file = folder / "snapshot.txt"
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return file


def _disk(installation: Installation) -> str:
    if installation.disk is None:
        return "not a small one"
    usage = shutil.disk_usage(installation.disk.folder)
    return f"{usage.free / 1e6:.0f} of {usage.total / 1e6:.0f} MB are free"


def _processes(installation: Installation) -> Iterator[str]:
    pids = [each.process.pid for each in installation.servers if each.process is not None]
    if installation.cluster is not None:
        try:
            pids.append(installation.cluster.pid())
        except (OSError, IndexError):
            yield "PostgreSQL does not run"
    for pid in pids:
        try:
            process = psutil.Process(pid)
            for each in [process, *process.children()]:
                yield f"{each.pid} {each.status()} {each.cpu_times().user:.1f} s {' '.join(each.cmdline())[:120]}"
        except psutil.Error as error:
            yield f"{pid}: {error}"


async def _ready(url: str) -> str:
    try:
        async with httpx.AsyncClient(timeout=WITHIN) as client:
            answer = await client.get(f"{url}/readyz")
            return f"{answer.status_code} {answer.text}"
    except httpx.HTTPError as error:
        return repr(error)


async def _stacks(pid: int) -> str:
    """Return the stacks of a Python process, where py-spy is installed."""
    program = shutil.which("py-spy")
    if program is None:
        return "py-spy is not installed"
    process = await asyncio.create_subprocess_exec(
        program, "dump", "--pid", str(pid), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    except TimeoutError:
        process.kill()
        return "py-spy did not answer"
    return output.decode(errors="replace")


async def _rows(url: str, statement: str) -> str:
    try:
        connection = await asyncpg.connect(url, timeout=WITHIN, command_timeout=WITHIN)
        try:
            return "\n".join(str(dict(row)) for row in await connection.fetch(statement))
        finally:
            connection.terminate()
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        return f"the database does not answer: {error!r}"
