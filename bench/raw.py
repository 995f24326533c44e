"""The bare ceiling: raw ASGI and the raw driver. It parses JSON, and commits all waiting requests as one row each.

It checks nothing: no token, no key, no schema, no copy of an earlier request. Nothing that keeps every request can be much faster.
"""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import orjson

DATABASE_URL = "RAW_DATABASE_URL"
_ANSWER = b'{"received":true}'
MAX_ROWS = 256
"""Rows of a transaction."""
Row = tuple[str, bytes]
Write = Callable[[Sequence[Row]], Awaitable[None]]

_TABLE = "CREATE TABLE IF NOT EXISTS requests (path TEXT NOT NULL, body {bytes} NOT NULL)"


async def _open_sqlite(path: str) -> Write:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", _TABLE.format(bytes="BLOB")):
        connection.execute(statement)

    def insert(rows: Sequence[Row]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO requests VALUES (?, ?)", rows)
        connection.execute("COMMIT")

    return lambda rows: asyncio.to_thread(insert, rows)


async def _open_postgresql(url: str) -> Write:
    connection = await asyncpg.connect(url)
    await connection.execute(_TABLE.format(bytes="BYTEA"))
    statement = await connection.prepare("INSERT INTO requests SELECT * FROM unnest($1::text[], $2::bytea[])")

    async def insert(rows: Sequence[Row]) -> None:
        paths, bodies = zip(*rows, strict=True)
        await statement.fetch(paths, bodies)

    return insert


class _Writer:
    """Commits what has arrived during the commit before."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._write: Write | None = None

    async def write(self, row: Row) -> None:
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, committed))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await committed

    async def _run(self) -> None:
        if self._write is None:
            url = os.environ[DATABASE_URL]
            is_sqlite = url.startswith("sqlite:///")
            self._write = await (_open_sqlite(url.removeprefix("sqlite:///")) if is_sqlite else _open_postgresql(url))
        while self._waiting:
            some, self._waiting = self._waiting[:MAX_ROWS], self._waiting[MAX_ROWS:]
            await self._write([row for row, _ in some])
            for _, committed in some:
                committed.set_result(None)
        self._task = None


_writer = _Writer()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer a request after its commit."""
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if body:
        orjson.loads(body)
        await _writer.write((scope["path"], body))
    status = 202 if scope["path"] == "/v1/tasks" else 200
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})
