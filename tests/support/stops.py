"""How long a stop of Dovecote may take."""

from service.http.client import CONNECT_TIMEOUT, WRITE_TIMEOUT
from service.providers.registry import DIALECTS


def slowest_stop() -> float:
    """Return the seconds that a stop may take: those of the slowest submit."""
    slowest = max(each.facts.read_timeout(name) for each in DIALECTS.values() for name in each.facts.operations)
    return slowest + CONNECT_TIMEOUT + WRITE_TIMEOUT
