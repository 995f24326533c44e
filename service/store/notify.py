"""PostgreSQL's LISTEN and NOTIFY, on a connection of their own."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
from sqlalchemy.engine import URL

from service.store.database import COMMAND_TIMEOUT, StoreUnavailable

CHANNEL = "dovecote"


class Listener:
    """A connection that hears hints and sends them."""

    def __init__(self, url: URL) -> None:
        """Prepare; :meth:`connected` connects."""
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: Any = None

    @contextlib.asynccontextmanager
    async def connected(self, heard: Callable[[str], None]) -> AsyncIterator["Listener"]:
        """Connect, and call back with each hint that another connection sends.

        :raises StoreUnavailable: when the connection cannot be made or breaks
        """
        try:
            self._connection = await asyncpg.connect(self._url, timeout=10, command_timeout=COMMAND_TIMEOUT)
            own = self._connection.get_server_pid()

            def on_hint(_: Any, sender: int, __: str, hint: str) -> None:
                if sender != own:
                    heard(hint)

            await self._connection.add_listener(CHANNEL, on_hint)
            yield self
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StoreUnavailable(f"listening broke off: {type(error).__name__}") from error
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def notify(self, hints: Sequence[str]) -> None:
        """Send hints to every other listener."""
        await self._connection.execute(
            "SELECT pg_notify($1, hint) FROM unnest($2::text[]) AS hint", CHANNEL, list(hints)
        )
