"""LISTEN and NOTIFY of PostgreSQL, on a connection of their own."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg

from service.store import faults, postgresql
from service.store.database import COMMAND_TIMEOUT, StoreUnavailable

CHANNEL = "dovecote"


class Listener:
    """A connection that receives hints and sends them."""

    def __init__(self, url: str) -> None:
        """Prepare; :meth:`connected` connects."""
        self._target = postgresql.parse(url)
        self._connection: Any = None

    @contextlib.asynccontextmanager
    async def connected(self, received: Callable[[str], None], lost: Callable[[], None]) -> AsyncIterator["Listener"]:
        """Connect, and call back with each hint that another connection sends.

        :param received: called with each hint
        :param lost: called when the connection has ended: :meth:`notify` fails from then on
        :raises StoreUnavailable: when the connection cannot be made or breaks
        """
        try:
            self._connection = await postgresql.connect(
                self._target, command_timeout=COMMAND_TIMEOUT, cached_statements=False
            )
            own = self._connection.get_server_pid()

            def on_hint(_: Any, sender: int, __: str, hint: str) -> None:
                if sender != own:
                    received(hint)

            await self._connection.add_listener(CHANNEL, on_hint)
            self._connection.add_termination_listener(lambda _: lost())
            yield self
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise StoreUnavailable(faults.explain(error).sentence) from error
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def notify(self, hints: Sequence[str]) -> None:
        """Send hints to every other listener."""
        await self._connection.execute(
            "SELECT pg_notify($1, hint) FROM unnest($2::text[]) AS hint", CHANNEL, list(hints)
        )
