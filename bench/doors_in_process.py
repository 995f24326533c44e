"""A submit at a door and at the native route, in one process without sockets: ``python -m bench doors --in-process``.

On a machine that others use, what the sockets and the load generator cost hides the difference. Here one application over one SQLite
database answers both in turns, and the lowest CPU time of each counts.
"""

import asyncio
import gc
import itertools
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.app import application, opened
from service.settings.load import load

AT_ONCE: Final = 32
"""Requests that are under way: they share transactions, as behind a server."""
Template = tuple[str, str]
"""The head and the body of a request, each with the place of its number."""


class _Cycle(RequestResponseCycle):
    """A request as uvicorn holds it, by which a door sees that the client is still there."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._is_read = False
        self.disconnected = False

    async def receive(self) -> Any:
        """Return the body; later wait for a disconnect that never comes."""
        if self._is_read:
            await asyncio.Event().wait()
        self._is_read = True
        return {"type": "http.request", "body": self._body, "more_body": False}


def measure(
    entries: Mapping[str, tuple[Template, Template]],
    environment: Mapping[str, str],
    number: str,
    *,
    rounds: int,
    requests: int,
) -> dict[str, tuple[list[float], list[float]]]:
    """Return the microseconds for each request at the native route and at each door, by round.

    :param entries: the requests at the native route and at the door, by the name of the door
    :param environment: the settings, without a database
    :param number: stands in a template where the number of the request is to be
    :param requests: the requests of one round
    """
    with tempfile.TemporaryDirectory(prefix="dovecote-doors-") as folder:
        settings = {**environment, "DOVECOTE_DATABASE_URL": f"sqlite:///{Path(folder)}/doors.db"}
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(entries, settings, number, rounds, requests))


async def _measure(
    entries: Mapping[str, tuple[Template, Template]],
    environment: Mapping[str, str],
    number: str,
    rounds: int,
    requests: int,
) -> dict[str, tuple[list[float], list[float]]]:
    seen: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in entries}
    numbers = (f"{os.getpid()}-{each}" for each in itertools.count())
    async with opened(load(dict(environment), None)) as context:
        app = application(context, "web")

        async def burst(template: Template, count: int) -> float:
            made = [[part.replace(number, one) for part in template] for one in itertools.islice(numbers, count)]
            waiting = iter([(*_scope_of(head), body.encode()) for head, body in made])
            began = time.process_time()
            await asyncio.gather(*(_send(app, waiting) for _ in range(AT_ONCE)))
            return (time.process_time() - began) / count * 1e6

        for pair in entries.values():
            for template in pair:
                await burst(template, 2 * AT_ONCE)
        gc.collect()
        gc.freeze()
        for turn in range(rounds):
            for name, pair in entries.items():
                for at_door in (0, 1) if turn % 2 == 0 else (1, 0):
                    seen[name][at_door].append(await burst(pair[at_door], requests))
    return seen


def _scope_of(head: str) -> tuple[str, str, list[tuple[bytes, bytes]]]:
    """Return the method, the path and the headers of a request."""
    line, *rest = head.rstrip("\r\n").split("\r\n")
    method, path, _ = line.split(" ")
    pairs = (each.partition(": ") for each in rest)
    return method, path, [(name.lower().encode(), value.encode()) for name, _, value in pairs]


async def _send(app: Any, waiting: Any) -> None:
    """Send the requests that wait, one after the other."""
    for method, path, headers, body in waiting:
        answers: list[Any] = []

        async def keep(message: Any, kept: list[Any] = answers) -> None:
            kept.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "state": {},
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
        }
        await app(scope, _Cycle(body).receive, keep)
        if not 200 <= answers[0]["status"] < 300:
            raise RuntimeError(f"{path} answered {answers}")


def lowest(seen: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> list[list[str]]:
    """Return a row for each door: the lowest CPU time of both, and how much more the door takes."""
    rows = []
    for name, (native, door) in seen.items():
        less, more = min(native), min(door)
        rows.append([name, f"{less:,.0f}", f"{more:,.0f}", f"{(more / less - 1) * 100:+.0f} %"])
    return rows
