"""Measure two versions in turn: ``python -m bench compare REV``.

Each version runs its own benchmark, with the packages that are installed here. The two take turns, round by round, because
a figure of another minute means nothing on a machine that others use. CPU time is steadier than requests per second.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.report import table
from bench.servers import ROOT

Where = tuple[str, str, str]
"""The measurement, the database and the contestant."""
SHOWN = {"per_second": "per second", "cpu": "CPU µs each", "done": "done per second"}
"""Figures that are compared, and the heads of their columns."""
Rounds = dict[Where, list[Mapping[str, float | None]]]


def main(arguments: Sequence[str]) -> None:
    """Compare this version with another one, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("revision", help="a commit, branch or tag")
    parser.add_argument("--rounds", type=int, default=5, help="how often both take a turn (default 5)")
    given, options = parser.parse_known_args(arguments)
    before: Rounds = {}
    now: Rounds = {}
    with _checked_out(given.revision) as other:
        for number in range(given.rounds):
            turns = [(before, other), (now, ROOT)]
            for rounds, tree in turns if number % 2 == 0 else reversed(turns):
                print(f"round {number + 1} of {given.rounds}: {tree}", file=sys.stderr, flush=True)
                for where, figures in _measured(tree, options):
                    rounds.setdefault(where, []).append(figures)
    rows = [[f"{given.revision} → now", *SHOWN.values()]]
    rows += [
        [", ".join(where), *(_ratio(before[where], now[where], name) for name in SHOWN)]
        for where in sorted(before.keys() & now.keys())
        if where[2].startswith("dovecote")
    ]
    print(table(rows))


def _ratio(before: Sequence[Mapping[str, float | None]], now: Sequence[Mapping[str, float | None]], name: str) -> str:
    """Return the medians of a figure and their ratio; nothing where it was not measured."""
    old, new = ([value for each in rounds if (value := each.get(name))] for rounds in (before, now))
    if not old or not new:
        return ""
    first, second = statistics.median(old), statistics.median(new)
    return f"{first:,.0f} → {second:,.0f} ({second / first:.2f} ×)"


@contextlib.contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    """Check a revision out into a folder of its own for the length of a ``with``."""
    with tempfile.TemporaryDirectory(prefix="dovecote-compare-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)  # noqa: S603 - a commit that the caller names
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)  # noqa: S603 - our own folder


def _measured(tree: Path, options: Sequence[str]) -> Iterator[tuple[Where, Mapping[str, float | None]]]:
    """Run one round of a version's benchmark, and yield its figures."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run(  # noqa: S603 - the command is our own
            [sys.executable, "-m", "bench", *options, "--rounds", "1", "--json", file.name],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        for each in json.loads(Path(file.name).read_text())["figures"]:
            yield (each["name"], each["database"], each["contestant"]), each["rounds"][0]
