"""Compare this machine's clock with the database's, which Dovecote uses on PostgreSQL."""

import time
from collections.abc import Iterator

from service.cli.doctor.finding import Finding, ok, warning
from service.clock import SKEW_WARNING
from service.store.clock import read_database_time
from service.store.database import Database


async def check_database_clock(opened: Database | None) -> list[Finding]:
    """Report a difference between the clocks.

    :param opened: the database, where it can be read
    """
    if opened is None or opened.sqlite:
        return []
    async with opened.reading() as connection:
        began = time.time()
        answer = await read_database_time(connection)
        ended = time.time()
    return list(_findings((began + ended) / 2 - answer))


def _findings(skew: float) -> Iterator[Finding]:
    if abs(skew) > SKEW_WARNING:
        side = "ahead of" if skew > 0 else "behind"
        message = f"this machine's is {abs(skew):.0f} s {side} the database's, which Dovecote uses"
        yield warning("clock", message, "synchronise both clocks (NTP): signatures contain the time")
    else:
        yield ok("clock", "agrees with the database's")
