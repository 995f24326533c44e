"""Run the ``dovecote`` command with shorter waits: ``python launch.py serve …``.

A round has a minute where an installation has hours. The code is the same, and only these constants differ. This file imports nothing
of the tests, so that it also runs an older commit. CHAOS_PLANT names a planted bug of :mod:`tests.chaos.plants`, and CHAOS_HOUR the
seconds of an hour in the settings of retention.
"""

import dataclasses
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEASE = 6.0
"""Seconds of a lease in chaos. A process that is frozen for longer loses its rows."""
SUBMIT_READ = 4.0
"""Seconds to wait for the answer to a submit."""

SHORTER: list[tuple[str, str, Any]] = [
    ("service.domain.schedules", "LEASE", LEASE),
    ("service.domain.schedules", "SUBMIT_LEASE_MARGIN", 4.0),
    ("service.domain.schedules", "UNKNOWN_ID_GRACE", 8.0),
    ("service.domain.schedules", "UNKNOWN_ID_CONFIRMED", 4.0),
    ("service.domain.schedules", "SUBMIT_BACKOFF_LATER", 3.0),
    ("service.domain.schedules", "RETRY_AFTER_CAP", 3.0),
    ("service.domain.schedules", "UNCONFIRMED_FIRST_LOOK", 2.0),
    ("service.domain.schedules", "UNCONFIRMED_SHORTEST", 8.0),
    ("service.domain.schedules", "MESSAGE_SCHEDULE", (0.0, 0.5, 1.0, 2.0, *[3.0] * 60)),
    ("service.domain.schedules", "RECEIVER_MAY_ASK", 5.0),
    ("service.domain.schedules", "INBOX_BACKOFF", (0.5, 1.0, 2.0, *[3.0] * 20)),
    ("service.domain.circuit_breaker", "OPEN_FOR", 3.0),
    ("service.domain.kept", "FETCH_BACKOFF", (0.5, 1.0, 2.0, 3.0)),
    ("service.domain.kept", "GONE_FOR", 10.0),
    ("service.http.client", "CONNECT_TIMEOUT", 2.0),
    ("service.http.client", "WRITE_TIMEOUT", 2.0),
    ("service.flows.webhooks.dispatch", "ATTEMPT_TIMEOUT", 3.0),
    ("service.flows.submission.duplicates", "FIRST_WAIT", 1.0),
    ("service.flows.submission.duplicates", "MAX_WAIT", 5.0),
]
"""Module, constant and value; modules that others import come first."""


def shorten() -> None:
    """Set the constants. One that an older commit does not have is left out."""
    for module, name, value in SHORTER:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        if hasattr(found, name):
            setattr(found, name, value)
            if module == "service.domain.schedules" and name == "LEASE":
                found.EXPECTING = dataclasses.replace(found.EXPECTING, shortest=2.0, longest=6.0)
                found.POLLING = dataclasses.replace(found.POLLING, shortest=1.0, longest=4.0)
    hour = os.environ.pop("CHAOS_HOUR", "")
    if hour:
        values: Any = importlib.import_module("service.settings.values")
        values._HOURS = {unit: hours * float(hour) / 3600 for unit, hours in values._HOURS.items()}
    dialect: Any = importlib.import_module("service.providers.dialect")
    whole = dialect.Facts.read_timeout
    dialect.Facts.read_timeout = lambda self, operation: min(whole(self, operation), SUBMIT_READ)


def clock_of(file: Path) -> Callable[[], float]:
    """Return a clock that is wrong by the seconds in a file, which is read five times a second."""
    right, monotonic = time.time, time.monotonic
    known: dict[str, float] = {"until": 0.0, "ahead": 0.0}

    def wrong() -> float:
        if monotonic() >= known["until"]:
            known.update(until=monotonic() + 0.2, ahead=float(file.read_text()))
        return right() + known["ahead"]

    return wrong


def main() -> None:
    """Run the command."""
    here = str(Path(__file__).parent)
    sys.path[:] = [each for each in sys.path if each != here]
    clock = os.environ.pop("CHAOS_CLOCK", "")
    if clock:
        time.time = clock_of(Path(clock))  # before anything of Dovecote is imported, which keeps a reference
    shorten()
    planted = os.environ.pop("CHAOS_PLANT", "")
    if planted:
        importlib.import_module("tests.chaos.plants").plant(planted)
    from service.cli import main as command

    command(prog_name="dovecote")


if __name__ == "__main__":
    main()
