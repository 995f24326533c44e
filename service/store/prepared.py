"""Statements of the journeys, compiled once and given to the driver itself.

SQLAlchemy builds a statement's SQL, and knows how values are written and read. To execute a short statement through it takes
several times as long as the database needs: greenlets, cursors, contexts and rows. A prepared statement keeps the compiled SQL and
the conversions, and calls the driver inside the transaction that SQLAlchemy began.

On SQLite it runs in the event loop, because a step into the connection's thread and back costs more than the statement. So it must
be short: it finds its rows by a key, or a bounded number of them by an index. BEGIN and COMMIT, which wait for locks and for the
disk, stay in the thread.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from sqlalchemy import Connection, Dialect, Float
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import sqlite_connection

_Convert = Callable[[Any], Any]
_FLOAT8: Final = 701
"""PostgreSQL's number of the type of ``double precision``."""
MAX_LIST: Final = 256
"""Values of a list for which there is a prepared statement. SQLAlchemy executes it for longer lists."""


class Prepared:
    """A short statement, compiled for each database at its first use."""

    def __init__(self, statement: Any) -> None:
        """Keep the statement.

        :param statement: of SQLAlchemy, or one for each database by the name of its dialect. An INSERT writes the columns of its
            first row; a list of values is an expanding parameter
        """
        self._statement = statement
        self._plans: dict[tuple[str, int, tuple[str, ...]], _Plan] = {}
        first = next(iter(statement.values())) if isinstance(statement, dict) else statement
        self._inserts: bool = first.is_insert
        self._lists = [] if self._inserts else _lists(first)

    async def rows(self, connection: AsyncConnection, values: Mapping[str, Any]) -> list[Any]:
        """Execute the statement and return its rows."""
        plan = self._plan(connection.sync_connection, values)
        if plan is None:
            return list((await connection.execute(self._of(connection.dialect), values)).all())
        return plan.read(await _call(connection, _fetch, plan.sql, plan.arguments(values)))

    async def many(self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute a statement that returns nothing for each row of values."""
        plan = self._plan(connection.sync_connection, rows[0])
        if plan is None:
            await connection.execute(self._of(connection.dialect), list(rows))
        else:
            await _call(connection, _execute_many, plan.sql, [plan.arguments(row) for row in rows])

    async def rows_of_many(self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Execute the statement for each row of values, and return the rows of all."""
        plan = self._plan(connection.sync_connection, rows[0])
        if plan is None:
            return list((await connection.execute(self._of(connection.dialect), list(rows))).all())
        return plan.read(await _call(connection, _fetch_many, plan.sql, [plan.arguments(row) for row in rows]))

    def _of(self, dialect: Dialect) -> Any:
        return self._statement[dialect.name] if isinstance(self._statement, dict) else self._statement

    def _plan(self, connection: Connection | None, values: Mapping[str, Any]) -> "_Plan | None":
        """Return the plan for values; None where SQLAlchemy is to execute the statement.

        It does so outside of a transaction, which it would begin, and where somebody listens to its events.
        """
        if connection is None or not connection.in_transaction() or connection.engine.dispatch.before_cursor_execute:
            return None
        size = max((_padded(len(values[name])) for name in self._lists), default=0)
        if size > MAX_LIST or (self._lists and not size):
            return None
        key = connection.dialect.name, size, tuple(values) if self._inserts else ()
        plan = self._plans.get(key)
        if plan is None:
            lists = {name: [None] * size for name in self._lists}
            plan = self._plans[key] = _Plan(self._of(connection.dialect), connection.dialect, key[2], lists)
        return plan


def _lists(statement: Any) -> list[str]:
    """Return the names of the parameters that take a list."""
    binds: dict[str, Any] = statement.compile().binds
    return [name for name, bind in binds.items() if bind.expanding and bind.required]


def _padded(length: int) -> int:
    """Return the next power of two, so that lists of all lengths need few statements. The last value is repeated."""
    return 1 << (length - 1).bit_length() if length else 0


class _Plan:
    """The SQL of a statement, and the conversions of its values and columns."""

    def __init__(
        self, statement: Any, dialect: Dialect, columns: Sequence[str], lists: Mapping[str, Sequence[None]]
    ) -> None:
        if statement.is_insert and not statement.exported_columns:
            statement = statement.inline()  # otherwise it may return the generated key
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) or None)
        state = compiled.construct_expanded_state({**compiled.params, **lists})
        self.sql: str = state.statement
        places = {
            each: (name, place)
            for name, expanded in state.parameter_expansion.items()
            for place, each in enumerate(expanded)
        }
        names = [places.get(each, (each, -1)) for each in state.positiontup]
        binds = [compiled.binds[name] for name, _ in names]
        self._values = [
            (name, place, _writer(bind.type, dialect), not bind.required, bind.effective_value)
            for (name, place), bind in zip(names, binds, strict=True)
        ]
        found = list(statement.exported_columns)
        base: Any = NamedTuple("Row", [(column.key, Any) for column in found])  # type: ignore[misc]  # the columns vary
        self._row: Any = type("Row", (base,), {"__slots__": (), "_mapping": property(base._asdict)})
        readers = [_reader(column.type, dialect) for column in found]
        self._readers = [(place, convert) for place, convert in enumerate(readers) if convert is not None]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return values in the order of the statement, as the driver takes them."""
        given = []
        for name, place, convert, is_constant, constant in self._values:
            value: Any = constant if is_constant else values[name]
            if place >= 0:
                value = value[min(place, len(value) - 1)]
            given.append(value if convert is None else convert(value))
        return given

    def read(self, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """Return the driver's rows as named tuples."""
        found = []
        for row in rows:
            values = list(row)
            for place, convert in self._readers:
                if values[place] is not None:  # every type reads NULL as None, and most columns of a row are NULL
                    values[place] = convert(values[place])
            found.append(self._row._make(values))
        return found


def _writer(kind: Any, dialect: Dialect) -> _Convert | None:
    """Return the function that converts a value for a parameter of a type; None where the driver takes the value itself."""
    write: _Convert | None = kind.dialect_impl(dialect).bind_processor(dialect)
    return write


def _reader(kind: Any, dialect: Dialect) -> _Convert | None:
    """Return the function that converts a value of a column's type; None where the driver's value is right."""
    read: _Convert | None = kind.dialect_impl(dialect).result_processor(
        dialect, _FLOAT8 if isinstance(kind, Float) else None
    )
    return read


async def _call(
    connection: AsyncConnection, how: Callable[..., Awaitable[Any]], sql: str, arguments: Sequence[Any]
) -> Any:
    """Call the driver in the transaction of a connection. Errors are reported as if SQLAlchemy had called it."""
    adapted: Any = connection.sync_connection.connection.dbapi_connection  # type: ignore[union-attr]  # it is in a transaction
    try:
        return await how(adapted, sql, arguments)
    except BaseException as error:
        await connection.run_sync(_report, adapted, error)
        raise


def _report(connection: Connection, adapted: Any, error: BaseException) -> NoReturn:
    """Raise the error of a driver as SQLAlchemy does: in its own words, and with the connection thrown away where it is broken."""
    try:
        if isinstance(error, Exception):
            adapted._handle_exception(error)  # noqa: SLF001 - the dialect's own translation
        raise error  # noqa: TRY301 - a cancellation
    except BaseException as translated:  # noqa: BLE001 - SQLAlchemy raises it again
        connection._handle_dbapi_exception(translated, None, None, None, None)  # noqa: SLF001 - as its own execution does


async def _fetch(adapted: Any, sql: str, arguments: Sequence[Any]) -> Any:
    driver = adapted.driver_connection
    if isinstance(driver, sqlite_connection.Connection):
        return driver.fetch(sql, [arguments])
    await _begin(adapted)
    return await driver.fetch(sql, *arguments)


async def _fetch_many(adapted: Any, sql: str, arguments: Sequence[Sequence[Any]]) -> Any:
    driver = adapted.driver_connection
    if isinstance(driver, sqlite_connection.Connection):
        return driver.fetch(sql, arguments)
    await _begin(adapted)
    return await driver.fetchmany(sql, arguments)


async def _execute_many(adapted: Any, sql: str, arguments: Sequence[Sequence[Any]]) -> None:
    driver = adapted.driver_connection
    if isinstance(driver, sqlite_connection.Connection):
        driver.execute_each(sql, arguments)
    else:
        await _begin(adapted)
        await driver.executemany(sql, arguments)


async def _begin(adapted: Any) -> None:
    """Begin the transaction on PostgreSQL, which SQLAlchemy leaves to the first statement."""
    if adapted._transaction is None:  # noqa: SLF001 - as the adapter's cursor does
        await adapted._start_transaction()  # noqa: SLF001
