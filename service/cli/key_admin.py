"""The API keys of an installation: a short read or write in its database, which a server may have open meanwhile.

On SQLite that takes no lock of ours: the server's keeps a second *server* away, which would take up the same work. For
a row written beside it SQLite's own locks are enough: the writer that comes second waits, for some seconds at most.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import uuid_utils.compat as uuid_utils
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.installation import give_up, has_database
from service.domain.api_key import PREFIX_BYTES, SECRET_BYTES, ApiKey, Scope, hash_key, prefix_of, write_key
from service.settings.model import Settings
from service.store import api_keys
from service.store.database import Database, StoreUnavailable
from service.store.migrate import newest

Outcome = TypeVar("Outcome")

_FIRST = "run `dovecote migrate` first"


def make_key(
    settings: Settings,
    *,
    client: str,
    name: str,
    scopes: frozenset[Scope],
    expires_at: datetime | None,
    now: datetime,
) -> tuple[str, ApiKey]:
    """Make a key and keep its hash; give it with what is kept. It cannot be had again."""
    text = write_key(secrets.token_bytes(PREFIX_BYTES), secrets.token_bytes(SECRET_BYTES))
    key = ApiKey(
        id=uuid_utils.uuid7(),
        client=client,
        name=name,
        prefix=prefix_of(text),
        hash=hash_key(text),
        scopes=scopes,
        created_at=now,
        expires_at=expires_at,
    )
    _in_database(settings, lambda connection: api_keys.add(connection, key))
    return text, key


def every_key(settings: Settings) -> list[ApiKey]:
    """Read all keys, newest first."""
    return _in_database(settings, api_keys.every)


def revoke_key(settings: Settings, prefix: str, *, now: datetime) -> ApiKey | None:
    """Revoke a key; None when there is none with this visible part."""
    return _in_database(settings, lambda connection: api_keys.revoke(connection, prefix, now=now))


def _in_database(settings: Settings, work: Callable[[AsyncConnection], Awaitable[Outcome]]) -> Outcome:
    """Do something in a transaction, or end the process with the reason why that cannot be done."""
    if not has_database(settings):
        give_up(f"there is no database yet: {_FIRST}")
    try:
        return asyncio.run(_transacted(settings.database_url, work))
    except StoreUnavailable as error:
        give_up(str(error))


async def _transacted(url: str, work: Callable[[AsyncConnection], Awaitable[Outcome]]) -> Outcome:
    database = Database(url)
    try:
        async with database.writing() as connection:
            found = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
            if found != newest():
                give_up(f"the database has schema {found}, this version needs {newest()}: {_FIRST}")
            return await work(connection)
    finally:
        await database.close()
