"""Care of pooled connections of PostgreSQL: idle ones are checked before use, unusable ones are discarded."""

import asyncio
import time
from typing import Any, Final

import asyncpg
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.util import await_only

CHECK_AFTER_IDLE: Final = 1.0
"""Seconds after which a connection is checked before it is used again."""
CHECK_TIMEOUT: Final = 2.0
_USELESS: Final = frozenset({"25006", "25P02", "25P03"})
"""This session cannot work: it is read-only (a standby after a failover), or its transaction was ended."""
_USELESS_CLASSES: Final = ("08", "57P", "58", "XX")
"""Connection errors, shutdowns and time-outs of the session, failures of the server."""


def watch(engine: Engine) -> None:
    """Check connections that have been idle, and throw the pool away when the server does not answer."""
    event.listen(engine.pool, "checkin", _note_idle)
    event.listen(engine.pool, "checkout", _check)
    event.listen(engine, "handle_error", _judge)


def _note_idle(_: Any, record: Any) -> None:
    record.info["idle_since"] = time.monotonic()


def _check(connection: Any, record: Any, _: Any) -> None:
    """Fail the whole pool when an idle connection does not answer: the others are as old."""
    session = connection.driver_connection
    if session.is_closed():
        raise InvalidatePoolError("the server closed the connection")
    idle_since = record.info.get("idle_since")
    if idle_since is None or time.monotonic() - idle_since <= CHECK_AFTER_IDLE:
        return
    try:
        await_only(asyncio.wait_for(session.execute("SELECT 1"), CHECK_TIMEOUT))
    except Exception as error:
        session.terminate()
        raise InvalidatePoolError("an idle connection does not answer") from error


def _judge(context: ExceptionContext) -> None:
    """Mark a connection as useless, so that it never returns to the pool."""
    error = context.original_exception
    state = str(getattr(error, "sqlstate", None) or "")
    # The driver is out of step with the server, for example because the server's last words have just arrived.
    confused = isinstance(error.__cause__, asyncpg.InternalClientError | asyncpg.InterfaceError)
    if confused or isinstance(error, TimeoutError) or state in _USELESS or state.startswith(_USELESS_CLASSES):
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = not state.startswith("25P")
        if isinstance(error, TimeoutError) and context.connection is not None:
            session = getattr(context.connection.connection.dbapi_connection, "driver_connection", None)
            if session is not None:
                session.terminate()  # a graceful end would wait for the same server
