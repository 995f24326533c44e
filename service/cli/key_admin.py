"""Create, list and revoke the API keys of an installation, in its database, while a server may have it open.

On SQLite this does not take Dovecote's lock file: that keeps a second server away, which would execute the same work.
SQLite's own locks suffice for a single row: the second writer waits for a few seconds at most.
"""

import asyncio
import dataclasses
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import uuid_utils.compat as uuid_utils
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.installation import database_fault, give_up, has_database
from service.domain.api_key import PREFIX_BYTES, SECRET_BYTES, ApiKey, Scope, hash_key, prefix_of, write_key
from service.settings.model import Settings
from service.store import api_keys
from service.store.database import Database, StoreUnavailable
from service.store.migrate import named, newest, read_revision

Outcome = TypeVar("Outcome")

_FIRST = "run `dovecote migrate` first"


@dataclasses.dataclass(frozen=True, slots=True)
class CreatedKey:
    """A key that was just created."""

    text: str = dataclasses.field(repr=False)
    stored: ApiKey
    is_first: bool
    """Whether this installation had no key before, so that it was open to its own machine without one."""


def make_key(
    settings: Settings,
    *,
    client: str,
    name: str,
    scopes: frozenset[Scope],
    expires_at: datetime | None,
    now: datetime,
) -> CreatedKey:
    """Create a key and store its hash. The key itself is not stored."""
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

    async def add(connection: AsyncConnection) -> bool:
        is_first = not await api_keys.any_created(connection)
        await api_keys.add(connection, key)
        return is_first

    is_first = _in_database(settings, add) and not settings.api_keys
    return CreatedKey(text, key, is_first)


def every_key(settings: Settings) -> list[ApiKey]:
    """Return all keys, newest first."""
    return _in_database(settings, api_keys.every)


def revoke_key(settings: Settings, prefix: str, *, now: datetime) -> ApiKey | None:
    """Revoke the key with this prefix and return it; None where there is none."""
    return _in_database(settings, lambda connection: api_keys.revoke(connection, prefix, now=now))


def _in_database(settings: Settings, work: Callable[[AsyncConnection], Awaitable[Outcome]]) -> Outcome:
    """Run a function in a transaction; end the process with the reason where the database cannot be used."""
    if not has_database(settings):
        give_up(f"there is no database yet: {_FIRST}")
    try:
        return asyncio.run(_transacted(settings.database_url, work))
    except StoreUnavailable as error:
        give_up(database_fault(settings, error), error.fault.exit_code)


async def _transacted(url: str, work: Callable[[AsyncConnection], Awaitable[Outcome]]) -> Outcome:
    database = Database(url)
    try:
        async with database.writing() as connection:
            found = await connection.run_sync(read_revision)
            if found != newest():
                give_up(f"the database has {named(found)}, this version needs schema {newest()}: {_FIRST}")
            return await work(connection)
    finally:
        await database.close()
