"""An upstream that answers by script, over real sockets, for faults that the sandbox does not simulate.

A case is a list of answers for each of its routes. The last answer of a route is repeated. The upstream records every
request and can call back with any bytes.
"""

import asyncio
import contextlib
import dataclasses
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tests.support.breakage import Server, request_of


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One scripted answer. A body that is not bytes is sent as JSON."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def encoded(self) -> bytes:
        """Return the answer as it is sent over the wire."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body, ensure_ascii=False).encode()
        kind = {} if isinstance(self.body, bytes) else {"Content-Type": "application/json"}
        told = {**kind, **self.headers, "Content-Length": str(len(body)), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        return f"HTTP/1.1 {self.status} Scripted\r\n{head}\r\n".encode() + body


Script = Mapping[str, Sequence[Answer]]
"""Answers by ``METHOD /path`` below the case's base URL. The longest start of the request that is listed counts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Requested:
    """One received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """Return the body as JSON; None where it is empty."""
        return json.loads(self.body) if self.body else None


class ScriptedUpstream:
    """Answers each case by its script, and records the requests."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self._given: dict[tuple[str, str], int] = defaultdict(int)
        self.asked: dict[str, list[Requested]] = defaultdict(list)
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, scripts: Mapping[str, Script]) -> AsyncIterator["ScriptedUpstream"]:
        """Serve until the block ends."""
        upstream = cls(scripts)
        async with Server.running(upstream._serve) as server:
            upstream.url = server.url
            yield upstream

    def base_url(self, case: str) -> str:
        """Return the base URL of a case's upstream."""
        return f"{self.url}/{case}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, body = (await request_of(reader)).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        case, _, rest = target.removeprefix("/").partition("/")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.asked[case].append(Requested(method, f"/{rest}", headers, body))
        writer.write(self._answer(case, f"{method} /{rest}").encoded())
        await writer.drain()

    def _answer(self, case: str, endpoint: str) -> Answer:
        script = self._scripts.get(case, {})
        fitting = [route for route in script if endpoint.startswith(route)]
        if not fitting:
            return Answer({"error": {"message": f"no script for {endpoint}"}}, 404)
        route = max(fitting, key=len)
        answers, number = script[route], self._given[case, route]
        self._given[case, route] += 1
        return answers[min(number, len(answers) - 1)]
