"""Measure a start and an idle server: ``python -m bench start``.

``dovecote serve`` starts on an empty SQLite database, and then again and again on the migrated one. The table shows the CPU and
the wall time until ``/readyz`` answers 200, and the memory some seconds later. ``--help`` shows the time of a command that imports nothing.
Other work on the machine changes the wall time most, and the CPU time by up to a half.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

from bench.servers import free_port, running

IDLE_SECONDS: Final = 3.0
"""Seconds after which the memory of an idle server is read."""


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how many starts follow the first one (default 5)")
    rounds: int = parser.parse_args(arguments).rounds
    with tempfile.TemporaryDirectory(prefix="dovecote-start-") as folder:
        first = measured_start(Path(folder))
        later = [measured_start(Path(folder)) for _ in range(rounds)]
    helps = [measured_help() for _ in range(rounds)]
    print("| start | CPU s | wall s | MB |\n|---|---:|---:|---:|")
    _print("`serve`, empty database", [first])
    _print("`serve`, migrated database", later)
    _print("`--help`", helps)


def measured_start(folder: Path) -> tuple[float, float, float]:
    """Return the CPU and the wall seconds until a server is ready, and its memory in MB when it is idle."""
    port = free_port()
    environment = {
        "DOVECOTE_DATABASE_URL": f"sqlite:///{folder / 'dovecote.db'}",
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "DOVECOTE_API_KEYS": f"bench={'k' * 40}",
        "ELKAPI_KEY": "sk-bench",
    }
    command = [sys.executable, "-m", "service.cli", "serve"]
    began = time.perf_counter()
    with running(command, _with_bytecode(environment), port=port, ready="/readyz") as server:
        took, process = time.perf_counter() - began, psutil.Process(server.pid)
        cpu = sum(process.cpu_times()[:2])
        time.sleep(IDLE_SECONDS)
        return cpu, took, process.memory_info().rss / 2**20


def measured_help() -> tuple[float, float]:
    """Return the CPU and the wall seconds of ``dovecote --help``."""
    command = [sys.executable, "-m", "service.cli", "--help"]
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **_with_bytecode({})}, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began


def _with_bytecode(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which modules are compiled once, as those of an installed package are."""
    return {**environment, "PYTHONDONTWRITEBYTECODE": ""}


def _print(name: str, figures: Sequence[tuple[float, ...]]) -> None:
    cpu, wall, *memory = (statistics.median(column) for column in zip(*figures, strict=True))
    print(f"| {name} | {cpu:.2f} | {wall:.2f} | {''.join(f'{each:.0f}' for each in memory)} |")
