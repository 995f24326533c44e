"""Run Dovecote under faults, and verify that nothing was lost, doubled or untrue: ``make chaos``.

Each round has a fresh database, real processes, a load and a schedule of faults that its seed decides. A verifier then compares what the
load, the providers and the receivers saw with the database. The program prints the seed of each round, and how to run it again. It ends
with 1 when a round was not clean.
"""

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from service.cli.processes import ended_by_signals
from tests.chaos.faults import SORTS
from tests.chaos.installation import isolate_environment
from tests.chaos.plants import PLANTS
from tests.chaos.rounds import Options, Outcome, run
from tests.chaos.upgrade import NoSuchCommit

_ROUND: Final = 60.0
_KINDS: Final = ("postgresql", "sqlite")


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2, help="how many rounds (default 2)")
    parser.add_argument("--minutes", type=float, default=1.0, help="length of the load of a round (default 1)")
    parser.add_argument("--database", choices=_KINDS, help="only this one; default: both in turn")
    parser.add_argument("--seed", type=int, help="the seed of the first round; the next ones count up")
    parser.add_argument("--every", type=float, default=4.0, help="seconds from one fault to the next (default 4)")
    parser.add_argument("--rate", type=float, default=3.0, help="tasks a second (default 3)")
    parser.add_argument("--deadline", type=int, default=35, help="seconds after which a task expires (default 35)")
    parser.add_argument("--fault", action="append", choices=sorted(SORTS), help="only this sort; may be repeated")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="plant a bug, which must be found")
    parser.add_argument(
        "--upgrade-from", metavar="REV", default="", help="replace the processes of this commit, one by one"
    )
    parser.add_argument("--keep", type=Path, help="keep logs and evidence in this folder")
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run the rounds, and return the exit code."""
    given = _arguments(arguments)
    isolate_environment()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    options = Options(
        seconds=given.minutes * _ROUND,
        every=given.every,
        rate=given.rate,
        deadline=given.deadline,
        plant=given.plant,
        only=tuple(given.fault or ()),
        upgrade_from=given.upgrade_from,
    )
    outcomes: list[Outcome] = []
    try:
        for number in range(given.rounds):
            kind: Any = given.database or ("postgresql" if given.upgrade_from else _KINDS[number % 2])
            outcomes.append(_round(kind, seed + number, given, options))
    except NoSuchCommit as error:
        _say(f"SKIPPED: there is no commit {given.upgrade_from} in this clone: {error}")
        return 0
    dirty = [each for each in outcomes if each.violations]
    _say(f"{len(outcomes)} rounds, {len(outcomes) - len(dirty)} clean")
    return 1 if dirty else 0


def _round(kind: Any, seed: int, given: argparse.Namespace, options: Options) -> Outcome:
    again = f"python -m tests.chaos --rounds 1 --minutes {given.minutes:g} --database {kind} --seed {seed}"
    again += f" --every {given.every:g} --rate {given.rate:g} --deadline {given.deadline}" + "".join(
        f" --fault {name}" for name in options.only
    )
    again += f" --upgrade-from {given.upgrade_from}" if given.upgrade_from else ""
    _say(f"round on {kind}, seed {seed}. Again: {again}{f' --plant {given.plant}' if given.plant else ''}")
    folder = Path(tempfile.mkdtemp(prefix=f"dovecote-chaos-{kind}-{seed}-", dir=given.keep))
    began = time.monotonic()

    def say(line: str) -> None:
        _say(f"  {time.monotonic() - began:6.1f} {line}")

    try:
        outcome = asyncio.run(run(kind, seed, folder, options, say))
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    _say(f"  {', '.join(f'{count} {name}' for name, count in outcome.counts.items())}; {outcome.seconds:.0f} s")
    for line in outcome.notes:
        _say(f"  log: {line}")
    for line in outcome.violations[:40]:
        _say(f"  VIOLATION {line}")
    _say(f"  {'clean' if not outcome.violations else f'{len(outcome.violations)} violations'}")
    return outcome


if __name__ == "__main__":
    with ended_by_signals():
        try:
            sys.exit(main(sys.argv[1:]))
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
