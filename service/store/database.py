"""Opening a database: SQLite for one process, PostgreSQL for any number."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from service.store import connections, faults, postgresql, sqlite_connection, sqlite_file

POOL_SIZE = 20
POOL_TIMEOUT = 4.0
"""Seconds that a caller waits for a connection to PostgreSQL."""
ACQUIRE_TIMEOUT = 4.0
"""Seconds in which a caller has a connection to PostgreSQL: waiting, checking and connecting anew together."""
COMMAND_TIMEOUT = 4.5
"""Seconds for one statement of a server on PostgreSQL. Callers get 503 soon after, and try again."""
REPEAT_WITHIN = 1.0
"""Seconds within which a connection to PostgreSQL must be lost for its statement to run once more. Later, the caller gets 503."""
BUSY_TIMEOUT = 5.0
"""Seconds that SQLite waits for another connection's lock."""
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")
"""Settings of each connection to SQLite. ``secure_delete`` overwrites removed content with zeros."""
WRITER_PRAGMAS = (*PRAGMAS, "wal_autocheckpoint=4000", "cache_size=-16384")
"""Settings of the connection that writes. Every task changes the same pages of the indexes.

They are written into the file once in 4,000 pages of the log (16 MiB), not in 1,000, and 16 MiB of pages stay in memory.
"""
CLOSE_TIMEOUT = 3.0
"""Seconds for closing all connections."""


class StoreUnavailable(Exception):
    """The database cannot be reached or cannot answer now. A write may have been committed all the same."""

    def __init__(self, sentence: str, fault: faults.Fault | None = None) -> None:
        """Keep what is known of the fault."""
        super().__init__(sentence)
        self.fault = fault or faults.Fault(sentence, "try again", faults.UNAVAILABLE)


class StoreBusy(StoreUnavailable):
    """More writes are waiting than may wait."""


class StoreContended(StoreUnavailable):
    """The transaction conflicted with another one and was rolled back: it may be tried again."""


class StoreLocked(StoreUnavailable):
    """A row stayed locked by another transaction. This transaction was rolled back."""


class AlreadyRunning(Exception):
    """Another Dovecote process has this SQLite database open."""


def parse_url(url: str) -> URL:
    """Parse a database URL and choose the driver for it.

    :raises ValueError: for anything but SQLite and PostgreSQL
    """
    scheme = url.partition("://")[0].partition("+")[0]
    if "://" not in url:
        raise ValueError(_NO_URL)
    if scheme in {"postgresql", "postgres"}:
        return _parse_postgresql(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # their messages repeat parts of the URL, and so of the password
        raise ValueError(_NO_URL) from None
    if parsed.get_backend_name() != "sqlite":
        raise ValueError(f"{parsed.get_backend_name()[:80]!r} is neither sqlite nor postgresql")
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError("SQLite needs a file: a database in memory would be lost at every stop")
    return parsed.set(drivername="sqlite+aiosqlite")


_NO_URL = "not a database URL; try sqlite:///dovecote.db or postgresql://user@host/name, with a password's @ : / as %40 %3A %2F"


def _parse_postgresql(url: str) -> URL:
    try:
        target = postgresql.parse(url)
    except ValueError as error:
        known = str(error) if "database URL" in str(error) or "target_session" in str(error) else _NO_URL
        raise ValueError(known) from None
    (host, port), *others = target.hosts
    query: dict[str, str | tuple[str, ...]] = {**target.driver}
    if others or host.startswith("/"):
        query["host"] = tuple(f"{each}:{number}" for each, number in target.hosts)
    return URL.create(
        "postgresql+asyncpg",
        username=target.user,
        password=target.password,
        host=None if "host" in query else host,
        port=None if "host" in query else port,
        database=target.database,
        query=query,
    )


class _Reading(AsyncConnection):
    """A connection for reads. A statement whose connection is lost runs once more, on another one.

    In PostgreSQL's READ COMMITTED every statement has its own snapshot, so a read may continue on another connection.
    """

    _has_repeated = False

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        """Run a statement."""
        began = time.monotonic()
        try:
            return await super().execute(*arguments, **options)
        except DBAPIError as error:
            in_time = time.monotonic() - began < REPEAT_WITHIN
            if self._has_repeated or not error.connection_invalidated or not in_time:
                raise
        self._has_repeated = True
        await self.rollback()
        async with asyncio.timeout(ACQUIRE_TIMEOUT):
            return await super().execute(*arguments, **options)


class Database:
    """Engines for reading and for writing.

    On SQLite there is one connection that writes and several that read beside it (WAL); on PostgreSQL both are one pool.
    """

    def __init__(
        self, url: str, *, pool_size: int = POOL_SIZE, command_timeout: float | None = COMMAND_TIMEOUT
    ) -> None:
        """Prepare to connect; nothing is opened yet.

        :param pool_size: connections to PostgreSQL
        :param command_timeout: seconds for one statement on PostgreSQL; None: no limit
        """
        self.url = parse_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.pooled: bool | None = None
        """Whether a pooler such as PgBouncer stands before PostgreSQL; None: not known yet."""
        if self.sqlite:
            self.writer = self._open_sqlite(WRITER_PRAGMAS, begin="BEGIN IMMEDIATE", size=1)
            self.reader = self._open_sqlite(PRAGMAS, begin="BEGIN", size=4)
        else:
            self.writer = self.reader = self._open_postgresql(url, pool_size, command_timeout)

    @property
    def file(self) -> Path:
        """The file of a SQLite database."""
        return Path(self.url.database or "")

    def _open_postgresql(self, url: str, pool_size: int, command_timeout: float | None) -> AsyncEngine:
        target = postgresql.parse(url)

        async def connect() -> Any:
            return await postgresql.connect(target, command_timeout=command_timeout, cached_statements=not self.pooled)

        def create() -> Any:
            if self.pooled is None:
                self.pooled = await_only(postgresql.is_pooled(target, command_timeout=command_timeout))
            unnamed: dict[str, Any] = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}
            dbapi: Any = engine.dialect.dbapi
            try:
                return dbapi.connect(async_creator_fn=connect, **(unnamed if self.pooled else {}))
            except dbapi.Error as error:
                error.while_connecting = True
                raise

        engine = create_async_engine(
            self.url, pool_size=pool_size, max_overflow=0, pool_timeout=POOL_TIMEOUT, creator=create, **_common()
        )
        connections.watch(engine.sync_engine)
        return engine

    def _open_sqlite(self, pragmas: Sequence[str], *, begin: str, size: int) -> AsyncEngine:
        engine = create_async_engine(
            self.url,
            pool_size=size,
            max_overflow=0,
            pool_timeout=2 * BUSY_TIMEOUT,
            pool_reset_on_return=None,  # every transaction is ended by its connection; a ROLLBACK costs a step into the thread
            connect_args={"timeout": BUSY_TIMEOUT, "async_creator_fn": sqlite_connection.connect},
            **_common(),
        )

        @event.listens_for(engine.sync_engine, "do_connect")
        def create(*_: Any) -> None:
            sqlite_file.create(self.file)

        @event.listens_for(engine.sync_engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # BEGIN is sent below; the driver's own comes too late for reads
            cursor = connection.cursor()
            cursor.execute("PRAGMA page_count")
            if cursor.fetchone() == (0,):  # it counts in a new file only, and takes the write lock in any other
                cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")  # retention gives free pages back
            for pragma in pragmas:
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def start(connection: Any) -> None:
            connection.exec_driver_sql(begin)

        return engine

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reads.

        :raises StoreUnavailable: when the database is out of reach
        """
        kind = AsyncConnection if self.sqlite else _Reading
        async with _translated(), self._connection(kind(self.reader)) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def writing(self, *, lock_timeout: float | None = None) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that commits at the end.

        :param lock_timeout: seconds that it waits for a locked row of PostgreSQL, instead of the usual ones
        :raises StoreUnavailable: when the database is out of reach
        """
        async with _translated(), self._connection(self.writer.connect()) as connection, connection.begin():
            if lock_timeout is not None and not self.sqlite:
                await connection.execute(_LOCK_TIMEOUT, {"timeout": f"{lock_timeout * 1000:.0f}ms"})
            yield connection

    @contextlib.asynccontextmanager
    async def _connection(self, connection: AsyncConnection) -> AsyncIterator[AsyncConnection]:
        async with asyncio.timeout(None if self.sqlite else ACQUIRE_TIMEOUT):
            await connection.start()
        try:
            yield connection
        finally:
            await connection.close()

    async def ping(self) -> None:
        """Run a trivial query.

        :raises StoreUnavailable: when there is no answer
        """
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection; abandon those that cannot be closed in time."""
        engines = {self.writer, self.reader}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(*(engine.dispose() for engine in engines), return_exceptions=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other Dovecote processes off a SQLite database for the length of a ``with``; PostgreSQL needs no such lock.

        :raises AlreadyRunning: when another process holds it
        :raises StoreUnavailable: when the file cannot be opened or created
        """
        if not self.sqlite:
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(sqlite_file.locked(self.file))
            except OSError as error:
                raise unavailable(error) from error
            if lock is None:
                raise AlreadyRunning(
                    f"another Dovecote process has {self.file} open. SQLite is for one process: "
                    "stop the other one, or use PostgreSQL (DOVECOTE_DATABASE_URL=postgresql://…) for several."
                )
            yield


_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :timeout, true)")


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return the error for callers, with the database's report."""
    fault = faults.explain(error)
    return StoreUnavailable(fault.sentence, fault)


def _common() -> dict[str, Any]:
    # Parameters contain prompts and secrets: no error and no log repeats them.
    return {
        "hide_parameters": True,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
    }


def out_of_reach(error: BaseException) -> bool:
    """Return whether an error means that the database is away or overloaded, rather than that a statement is wrong."""
    if isinstance(error, OSError | TimeoutError | PoolTimeout | StoreUnavailable | asyncpg.InterfaceError):
        return True
    if isinstance(error, DBAPIError):
        away = isinstance(error, OperationalError | InterfaceError) and not _mistaken(error.orig)
        return error.connection_invalidated or away or _no_service(error) or _connecting(error)
    if isinstance(error, StatementError) and error.orig is not None:  # a statement could not connect anew
        return out_of_reach(error.orig)
    if isinstance(error, asyncpg.PostgresError):  # while connecting
        return True
    if isinstance(error, sqlite3.DatabaseError) and _sqlite_code(error) in _USELESS_FILE:
        return True
    return isinstance(error, sqlite3.OperationalError) and not _mistaken(error)


def _connecting(error: DBAPIError) -> bool:
    """Return whether PostgreSQL refused a connection, for whatever reason: a statement that needed a new one has not run."""
    return getattr(error.orig, "while_connecting", False)


def _mistaken(error: BaseException | None) -> bool:
    # SQLite reports a wrong statement as an operational error, too, with the general code.
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


_AWAY = frozenset({"08", "28", "3D", "53", "57", "58"})
"""PostgreSQL's classes: connection, login, database, resources, operator intervention (shutdown, cancel), system error."""
_USELESS_FILE = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
"""SQLite's codes for a file that cannot be used, whatever the statement."""
_CONTENDED = frozenset({"40001", "40P01"})
"""A serialization failure, a deadlock."""
_LOCKED = "55P03"
_NOT_NOW = _CONTENDED | {"25006", "25P03", "3F000", "42501", "42P01", "42P07", _LOCKED}
"""This includes a standby after a failover, a stalled transaction, a missing privilege, and a lock that was not granted; a
schema or tables that are missing, as while a backup is restored; and a table of another program."""


def _no_service(error: BaseException) -> bool:
    state = _sqlstate(error)
    return state[:2] in _AWAY or state in _NOT_NOW or _sqlite_code(error) in _USELESS_FILE


def _sqlite_code(error: BaseException) -> int:
    return (getattr(getattr(error, "orig", error), "sqlite_errorcode", None) or 0) & 0xFF


class _Reported(Exception):
    """The error that a database reported, without any value, and with its codes."""

    def __init__(self, words: str, said: BaseException | None) -> None:
        super().__init__(words)
        self.sqlstate: str | None = getattr(said, "sqlstate", None)
        self.sqlite_errorcode: int | None = getattr(said, "sqlite_errorcode", None)


def _without_values(error: StatementError) -> StatementError:
    """Return the error without the values of the statement: PostgreSQL quotes whole rows, which do not belong in logs."""
    said = str(error.orig).partition("\n")[0]
    is_violation = isinstance(error, IntegrityError)  # names the rule; the row comes in a line of its own
    if not is_violation and not isinstance(error.orig, sqlite3.Error):
        said = f"{type(error.orig).__name__} {getattr(error.orig, 'sqlstate', '')}".strip()
    orig = _Reported(said, error.orig)
    if isinstance(error, DBAPIError):
        return type(error)(None, None, orig, hide_parameters=True)
    return StatementError(f"({type(error.orig).__name__}) {said}", None, None, orig, hide_parameters=True)


def _sqlstate(error: BaseException) -> str:
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")


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
            raise StoreContended("the transaction conflicted with another one") from error
        if _sqlstate(error) == _LOCKED:
            raise StoreLocked("a row is locked by another transaction") from error
        raise unavailable(error) from error
