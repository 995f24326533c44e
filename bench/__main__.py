"""Measure Dovecote against the obvious version, side by side in one run: ``make bench``.

``callbacks``  callbacks acknowledged a second, their p99 and the server's CPU time for each, at 64 connections: valid
               tokens, bodies of about 1 kB of which no two are equal
``submits``    tasks accepted a second with an API key and an idempotency key, and handed over to an upstream that
               takes 20 ms
``journeys``   whole journeys a second and CPU time for each: submitted, handed over, called back, applied, and the
               completion webhook received; 128 are open at any time
``outgoing``   requests a second from one process to a server that takes 20 ms, 100 at once
``streams``    memory of the server for each stream that is open and waits; in the first two rounds only

``python -m bench compare REV`` measures another version of Dovecote and this one in turn (``--help`` shows its options).
``python -m bench doors`` measures a submit at every door against the same submit at the native route.
``python -m bench backlog`` measures how quickly stored callbacks are applied.
``python -m bench retention`` measures how old data is removed from a full database.
``python -m bench growth`` measures the claims and the lists on tables of 10,000 to 10,000,000 rows.
``python -m bench polling`` simulates the poll plan.
``python -m bench soak`` loads Dovecote for an hour under faults, and shows that what it holds stays flat.
``python -m bench start`` measures the start of a server, and the memory of an idle one.
``python -m bench sizing`` calculates the processes and the storage of a load.

Everyone is measured once in each round, the rounds follow each other, and the table shows medians over the rounds and
ratios of those medians: on a machine that others use, too, a single figure means little and a figure of another day
means nothing. Every measurement has a fresh database, a server process of its own and a load generator of its own, all
on loopback, and all of them are ended by their pid.

*dovecote* is ``dovecote serve``, with its worker at work in the same process; *dovecote web* leaves the work to another
process; *obvious* is ``bench/obvious.py``: FastAPI and an SQLAlchemy session, one transaction for each request;
*raw driver* is ``bench/raw.py``: raw ASGI that commits all waiting requests with the raw driver, and checks nothing;
*ceiling* is a Starlette application that parses JSON and keeps nothing; *bare ASGI* holds connections open and does nothing.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import get_args

from bench import (
    backlog,
    chart,
    compare,
    databases,
    doors,
    journeys,
    outgoing,
    polling,
    requests,
    retention,
    sizing,
    slow_disk,
    start,
    streams,
    upstream,
)
from bench.growth import measure as growth
from bench.report import Figures, Run, show_calls, show_doors, show_streams
from tests.chaos import soak

NAMES = ("callbacks", "submits", "journeys", "outgoing", "streams")
OTHERS = {
    "backlog": backlog.main,
    "compare": compare.main,
    "doors": doors.main,
    "retention": retention.main,
    "growth": growth.main,
    "polling": polling.main,
    "sizing": sizing.main,
    "soak": soak.main,
    "start": start.main,
}
"""Measurements with arguments of their own."""
STEADY = 2
"""Rounds after which memory is not measured again: it is the same to a percent."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"what to measure: {', '.join(NAMES)}; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="how often everyone takes a turn (default 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement (default 1.5)")
    parser.add_argument(
        "--minutes", type=float, default=6.0, help="begin no round that would end later than this (default 6)"
    )
    parser.add_argument(
        "--streams", type=int, default=streams.STREAMS, help=f"how many streams are opened (default {streams.STREAMS})"
    )
    parser.add_argument("--database", choices=get_args(databases.Kind), action="append", help="only this one")
    parser.add_argument(
        "--fsync-ms", type=float, default=0.0, help="milliseconds by which every fsync is slower (needs a C compiler)"
    )
    parser.add_argument(
        "--upstream-ms", type=float, default=upstream.ANSWER_MS, help="milliseconds until the upstream answers"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the medians there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single figure there")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in NAMES]
    if unknown or given.rounds < 1 or given.seconds <= 0 or given.streams < 1:
        parser.error(f"there are {', '.join(NAMES)}, not {', '.join(unknown)}" if unknown else "nothing to measure")
    return given


def main() -> None:
    """Run the requested measurements, and print them."""
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        OTHERS[sys.argv[1]](sys.argv[2:])
        return
    given = _arguments()
    names = given.names or NAMES
    kinds = tuple(kind for kind in databases.KINDS if not given.database or kind in given.database)
    run = Run(given.seconds)
    with (
        upstream.running(given.upstream_ms) as upstream_port,
        slow_disk.slowed(given.fsync_ms) as is_slower,
        databases.opened(kinds) as opened,
    ):
        run.notes += _conditions(given, is_slower=is_slower)
        _measure_rounds(run, given, kinds, opened, upstream_port)
    print("\n".join(run.conditions()), end="\n\n")
    for name in names:
        print(SHOW[name](run) if name in SHOW else show_doors(run, name), flush=True)
    if given.svg:
        given.svg.write_text(chart.draw(run), encoding="utf-8")
    if given.json:
        given.json.write_text(json.dumps(run.as_json(), indent=1) + "\n", encoding="utf-8")


def _conditions(given: argparse.Namespace, *, is_slower: bool) -> list[str]:
    """Return the conditions that were asked for."""
    notes = [f"every fsync takes {given.fsync_ms:g} ms more"] if is_slower else []
    if given.upstream_ms != upstream.ANSWER_MS:
        notes.append(f"the upstream answers after {given.upstream_ms:g} ms")
    return notes


def _measure_rounds(
    run: Run,
    given: argparse.Namespace,
    kinds: tuple[databases.Kind, ...],
    opened: databases.Databases,
    upstream_port: int,
) -> None:
    names, began = given.names or NAMES, time.monotonic()
    while run.rounds < given.rounds and _time_for_another(run, time.monotonic() - began, given.minutes * 60):
        for name in names:
            print(f"round {run.rounds + 1} of {given.rounds}: {name}", file=sys.stderr, flush=True)
            if name == "journeys":
                _measure_journeys(run, kinds, opened, upstream_port)
            elif name == "outgoing":
                _measure_outgoing(run, upstream_port)
            elif name == "streams":
                _measure_streams(run, opened, upstream_port, streams.possible(given.streams))
            else:
                _measure_requests(run, name, kinds, opened, upstream_port)
        run.rounds += 1


def _time_for_another(run: Run, took: float, most: float) -> bool:
    """Return whether another round ends in time, by the rounds before. The first always may."""
    return run.rounds == 0 or took * (run.rounds + 1) / run.rounds <= most


def _measure_requests(
    run: Run, name: str, kinds: tuple[databases.Kind, ...], opened: databases.Databases, upstream_port: int
) -> None:
    for contestant in requests.contestants(name, kinds):
        shown = requests.measure(contestant, opened, upstream_port, requests=name, seconds=run.seconds)
        figures = Figures(
            per_second=shown.seen.per_second,
            p99=shown.seen.p99,
            cpu=shown.seen.cpu,
            done=shown.done,
            errors=shown.seen.errors,
        )
        run.add(name, contestant.kind or "none", contestant.name, figures)


def _measure_journeys(
    run: Run, kinds: tuple[databases.Kind, ...], opened: databases.Databases, upstream_port: int
) -> None:
    for contestant in journeys.contestants(kinds):
        seen = journeys.measure(contestant, opened, upstream_port, seconds=2 * run.seconds)
        figures = Figures(per_second=seen.per_second, p99=seen.p99, cpu=seen.cpu, errors=seen.errors)
        run.add("journeys", contestant.kind or "none", contestant.name, figures)


def _measure_outgoing(run: Run, upstream_port: int) -> None:
    for client, at_once in outgoing.MEASURED:
        per_second = outgoing.measure(client, at_once, upstream_port, seconds=run.seconds)
        run.add("outgoing", "none", f"{client}, {at_once} at once", Figures(per_second=per_second))


def _measure_streams(run: Run, opened: databases.Databases, upstream_port: int, count: int) -> None:
    if run.rounds >= STEADY:
        return
    for contestant in streams.MEASURED:
        each = streams.measure(contestant, opened, upstream_port, streams=count)
        run.add("streams", "none", f"{contestant}, {count:,} open", Figures(memory=each / 1000))


SHOW = {"outgoing": show_calls, "streams": show_streams}
"""Renderers of the tables that are not about requests."""

if __name__ == "__main__":
    main()
