"""The flows of the worker: the names by which a process chooses its work, and what each does. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal, get_args

from service.domain.validation import nearest

Flow = Literal[
    "submit", "poll", "callbacks", "webhooks", "results", "duplicates", "erasures", "money", "credit", "retention"
]
ALL: Final = "all"
"""The word for every flow."""
DESCRIPTIONS: Final[Mapping[Flow, str]] = {
    "submit": "submits queued tasks to upstreams",
    "poll": "polls submitted tasks, and ends tasks at their deadline",
    "callbacks": "applies stored callbacks",
    "webhooks": "delivers messages to clients and operators",
    "results": "keeps copies of results, and deletes files that no task needs",
    "duplicates": "watches duplicate jobs, and cancels them",
    "erasures": "erases content on request",
    "money": "settles charges, and reads the charges and balances of accounts",
    "credit": "reads the credit of accounts",
    "retention": "removes what is too old",
}
FLOWS: Final[tuple[Flow, ...]] = get_args(Flow)


def parse_flows(text: str) -> frozenset[Flow]:
    """Parse a list such as ``submit,poll``; ``all`` is every flow.

    :raises ValueError: with a sentence that names the unknown flow and the nearest known one
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"name at least one flow; there are {', '.join(sorted(FLOWS))}")
    chosen: set[Flow] = set()
    for name in names:
        known = next((flow for flow in FLOWS if flow == name), None)
        if known is None and name != ALL:
            raise ValueError(f"unknown flow {name[:80]!r}{nearest(name, [*FLOWS, ALL])}")
        chosen |= set(FLOWS) if known is None else {known}
    return frozenset(chosen)


def stored(flows: Iterable[Flow]) -> str:
    """Return the text of a process's flows, as the database keeps it."""
    return ",".join(sorted(flows))


def last_seen(workers: Iterable[tuple[str | None, datetime]]) -> dict[Flow, datetime]:
    """Return when a worker of each flow was last alive; a flow without any worker is missing.

    :param workers: the stored flows of workers, with their last heartbeat. None: every flow, of a process whose version has no choice
    """
    seen: dict[Flow, datetime] = {}
    for text, at in workers:
        names = FLOWS if text is None else text.split(",")
        for flow in FLOWS:
            if flow in names:
                seen[flow] = max(at, seen.get(flow, at))
    return seen
