"""Measure how quickly stored callbacks are applied: ``python -m bench backlog``.

A database is filled with callbacks that were received while no worker ran: for each task one about its progress and one about its
success. Then a worker starts. Its rate counts from the first callback that is applied to the last.
"""

import argparse
import datetime as dt
import functools
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import psutil  # type: ignore[import-untyped]
import uuid_utils.compat as uuid_utils

from bench import databases, load, requests, seeds
from bench.servers import free_port, running
from service.store import callbacks
from service.store.database import Database

PORTION: Final = 500
"""Callbacks that are stored in one transaction."""
MAX_SECONDS: Final = 240.0
_LEFT: Final = "SELECT count(*) FROM callbacks WHERE decision IS NULL"


def main(arguments: Sequence[str]) -> None:
    """Measure each database, and print the rates."""
    parser = argparse.ArgumentParser(prog="python -m bench backlog", description=__doc__)
    parser.add_argument("--callbacks", type=int, default=20_000, help="how many are stored (default 20,000)")
    parser.add_argument("--database", choices=get_args(databases.Kind), action="append", help="only this one")
    given = parser.parse_args(arguments)
    kinds = tuple(kind for kind in databases.KINDS if not given.database or kind in given.database)
    with databases.opened(kinds) as opened:
        for kind in kinds:
            per_second, cpu = measure(kind, opened, given.callbacks)
            print(f"{kind}: {per_second:,.0f} callbacks applied a second, {cpu:,.0f} µs of CPU time each", flush=True)


def measure(kind: databases.Kind, opened: databases.Databases, count: int) -> tuple[float, float]:
    """Return the callbacks that are applied a second, and the microseconds of CPU time for each."""
    port = free_port()
    with opened.copy(kind, f"backlog_{count}", functools.partial(_fill, count=count)) as url:
        command = [str(Path(sys.executable).with_name("dovecote")), "serve", "--role", "worker"]
        environment = requests.dovecote_settings(url, port, f"http://127.0.0.1:{free_port()}")
        with running(command, environment, port=port) as server:
            process = psutil.Process(server.pid)
            began, first, before = time.monotonic(), opened.count(url, _LEFT), _cpu(process)
            left = first
            while left and time.monotonic() - began < MAX_SECONDS:
                time.sleep(0.1)
                left = opened.count(url, _LEFT)
            seconds, cpu = time.monotonic() - began, _cpu(process) - before
    done = first - left
    if not done:
        raise RuntimeError("all callbacks were applied before the measurement began: store more of them")
    return done / seconds, cpu / done * 1e6


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _fill(url: str, count: int) -> None:
    """Make tasks, and store two callbacks for each."""
    tasks = count // 2
    await seeds.fill_dovecote(url, tasks)
    now = dt.datetime.now(dt.UTC)
    database = Database(url)
    made = [_received(seed, step, number, now) for step in (0, 2) for number, seed in enumerate(seeds.seeds(tasks))]
    for start in range(0, len(made), PORTION):
        async with database.writing() as connection:
            await callbacks.receive(connection, made[start : start + PORTION])
    await database.close()


def _received(seed: seeds.Seed, step: int, number: int, now: dt.datetime) -> callbacks.Received:
    body = load.callback_body(seed.external_id, step, number, "a dove comes home; " * 12)
    return callbacks.Received(
        id=uuid_utils.uuid7(),
        submission_id=seed.submission_id,
        headers={"content-type": "application/json"},
        body=body,
        dedupe_key=hashlib.sha256(body).digest(),
        received_at=now,
        due_at=now,
    )
