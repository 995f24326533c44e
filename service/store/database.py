"""The one place that knows how to open a database: SQLite for one process, PostgreSQL for any number."""

import contextlib
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

POOL_SIZE = 20
COMMAND_TIMEOUT = 30.0
"""Seconds that PostgreSQL may take for one statement."""
BUSY_TIMEOUT = 5.0
"""Seconds that SQLite waits for another connection's lock."""


class StoreUnavailable(Exception):
    """The database cannot be reached or cannot answer now. A write may have been committed."""


class StoreBusy(StoreUnavailable):
    """More writes are waiting than may wait."""


class StoreContended(StoreUnavailable):
    """Another transaction stood in the way of this one, which has been undone as a whole: it may be tried again."""


class AlreadyRunning(Exception):
    """Another Dovecote process has this SQLite database open."""


def parse_url(url: str) -> URL:
    """Read a database URL in the usual spelling and choose the driver for it.

    :raises ValueError: for anything but SQLite and PostgreSQL
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # their words repeat parts of the URL, and so of the password
        raise ValueError(
            "not a database URL; try sqlite:///dovecote.db or postgresql://user@host/name, with a password's "
            "@ : / as %40 %3A %2F"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("SQLite needs a file: what must not be lost cannot live in memory only")
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+asyncpg")
    raise ValueError(f"{backend!r} is neither sqlite nor postgresql")


class Database:
    """Engines for reading and for writing.

    On SQLite there is one connection that writes and several that read beside it (WAL); on PostgreSQL both are one pool.
    """

    def __init__(self, url: str) -> None:
        """Prepare to connect; nothing is opened yet."""
        self.url = parse_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            Path(self.url.database or "").resolve().parent.mkdir(parents=True, exist_ok=True)
            self.writer = self._open_sqlite(begin="BEGIN IMMEDIATE", size=1)
            self.reader = self._open_sqlite(begin="BEGIN", size=4)
        else:
            self.writer = self.reader = create_async_engine(
                self.url,
                pool_size=POOL_SIZE,
                max_overflow=0,
                pool_timeout=10,
                pool_pre_ping=False,
                connect_args={"timeout": 10, "command_timeout": COMMAND_TIMEOUT},
                **_common(),
            )

    def _open_sqlite(self, *, begin: str, size: int) -> AsyncEngine:
        engine = create_async_engine(
            self.url,
            pool_size=size,
            max_overflow=0,
            pool_timeout=10,
            connect_args={"timeout": BUSY_TIMEOUT},
            **_common(),
        )

        @event.listens_for(engine.sync_engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves; the driver's own comes too late for reads
            cursor = connection.cursor()
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def start(connection: Any) -> None:
            connection.exec_driver_sql(begin)

        return engine

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for reads.

        :raises StoreUnavailable: when the database is out of reach
        """
        async with _translated(), self.reader.connect() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a transaction that commits at the end.

        :raises StoreUnavailable: when the database is out of reach
        """
        async with _translated(), self.writer.begin() as connection:
            yield connection

    async def ping(self) -> None:
        """Run any query.

        :raises StoreUnavailable: when there is no answer
        """
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other Dovecote processes off a SQLite database; on PostgreSQL there is nothing to keep off.

        :raises AlreadyRunning: when another process holds it
        """
        if not self.sqlite:
            yield
            return
        path = Path(f"{self.url.database}.lock")
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(
                    f"another Dovecote process has {self.url.database} open (it holds {path}). SQLite is for one process: "
                    "stop the other one, or use PostgreSQL (DOVECOTE_DATABASE_URL=postgresql://…) for several."
                ) from None
            yield


def _common() -> dict[str, Any]:
    # Parameters are prompts and secrets: neither an error nor a log repeats them.
    return {
        "hide_parameters": True,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
    }


def out_of_reach(error: BaseException) -> bool:
    """Whether an error means the database is away or overloaded, rather than that a statement is wrong."""
    if isinstance(error, OSError | TimeoutError | PoolTimeout | StoreUnavailable):
        return True
    if isinstance(error, DBAPIError):
        away = isinstance(error, OperationalError | InterfaceError) and not _mistaken(error.orig)
        return error.connection_invalidated or away or _no_service(error)
    return isinstance(error, sqlite3.OperationalError) and not _mistaken(error)


def _mistaken(error: BaseException | None) -> bool:
    # SQLite calls a wrong statement an operational error, too; its code is the general one.
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


_AWAY = frozenset({"08", "53", "57"})
"""PostgreSQL's classes: connection, resources, operator intervention (shutdown, crash, cancel)."""
_CONTENDED = frozenset({"40001", "40P01"})
"""A serialization failure, a deadlock."""
_NOT_NOW = _CONTENDED | {"25006", "55P03"}
"""Or a standby after a failover, a lock that is not to be had."""


def _no_service(error: DBAPIError) -> bool:
    state = _sqlstate(error)
    return state[:2] in _AWAY or state in _NOT_NOW


class _Said(Exception):
    """What a database said of a statement, without a value in it, and its codes for it."""

    def __init__(self, words: str, said: BaseException | None) -> None:
        super().__init__(words)
        self.sqlstate: str | None = getattr(said, "sqlstate", None)
        self.sqlite_errorcode: int | None = getattr(said, "sqlite_errorcode", None)


def _without_values(error: StatementError) -> StatementError:
    """Say what is wrong with a statement and not with what: PostgreSQL quotes whole rows, and logs are no place for them."""
    said = str(error.orig).partition("\n")[0]
    breaks_a_rule = isinstance(error, IntegrityError)  # which is named, and the row comes in a line of its own
    if not breaks_a_rule and not isinstance(error.orig, sqlite3.Error):
        said = f"{type(error.orig).__name__} {getattr(error.orig, 'sqlstate', '')}".strip()
    orig = _Said(said, error.orig)
    if isinstance(error, DBAPIError):
        return type(error)(None, None, orig, hide_parameters=True)
    return StatementError(f"({type(error.orig).__name__}) {said}", None, None, orig, hide_parameters=True)


def _sqlstate(error: BaseException) -> str:
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


@contextlib.asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:
        if not out_of_reach(error):
            if isinstance(error, StatementError):
                raise _without_values(error).with_traceback(error.__traceback__) from None
            raise
        if _sqlstate(error) in _CONTENDED:
            raise StoreContended("another transaction stood in the way") from error
        raise StoreUnavailable(f"the database does not answer: {type(error).__name__}") from error
