"""SQL for API keys. Only hashes of the keys are stored."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.api_key import ApiKey, Scope
from service.store.tables import api_keys


def _key_of(row: Row[Any]) -> ApiKey:
    kept = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    # A newer version may have stored scopes that this one does not know: they permit nothing here.
    known = (Scope(each) for each in kept["scopes"] if each in set(Scope))
    return ApiKey(**{**kept, "scopes": frozenset(known)})


async def add(connection: AsyncConnection, key: ApiKey) -> None:
    """Insert a new key."""
    row = {field.name: getattr(key, field.name) for field in dataclasses.fields(ApiKey)}
    await connection.execute(api_keys.insert(), {**row, "scopes": sorted(key.scopes)})


_BY_HASH = select(api_keys).where(api_keys.c.hash.in_(bindparam("hashes", expanding=True)))


async def by_hash(connection: AsyncConnection, hashes: Sequence[bytes]) -> dict[bytes, ApiKey]:
    """Read keys by hash, valid or not; unknown hashes are left out."""
    rows = await connection.execute(_BY_HASH, {"hashes": list(hashes)})
    return {row.hash: _key_of(row) for row in rows}


_NEWEST_FIRST = select(api_keys).order_by(api_keys.c.id.desc())


async def every(connection: AsyncConnection) -> list[ApiKey]:
    """Read all keys, newest first."""
    return [_key_of(row) for row in await connection.execute(_NEWEST_FIRST)]


_ANY = select(exists().select_from(api_keys))


async def any_created(connection: AsyncConnection) -> bool:
    """Return whether a key was ever created, valid or not."""
    return bool((await connection.execute(_ANY)).scalar_one())


_GOOD = select(
    exists()
    .select_from(api_keys)
    .where(
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > bindparam("now")),
    )
)


async def any_valid(connection: AsyncConnection, *, now: datetime) -> bool:
    """Return whether any key is valid now."""
    return bool((await connection.execute(_GOOD, {"now": now})).scalar_one())


_REVOKE = (
    update(api_keys)
    .where(api_keys.c.prefix == bindparam("of_prefix"), api_keys.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)
_BY_PREFIX = select(api_keys).where(api_keys.c.prefix == bindparam("of_prefix"))


async def revoke(connection: AsyncConnection, prefix: str, *, now: datetime) -> ApiKey | None:
    """Revoke a key by its prefix and return it; None if there is none. A key that was revoked before keeps its time."""
    await connection.execute(_REVOKE, {"of_prefix": prefix, "now": now})
    row = (await connection.execute(_BY_PREFIX, {"of_prefix": prefix})).first()
    return None if row is None else _key_of(row)


_TOUCH = (
    update(api_keys)
    .where(
        api_keys.c.id == bindparam("of_key"),
        or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < bindparam("used_at")),
    )
    .values(last_used_at=bindparam("used_at"))
)


async def touch(connection: AsyncConnection, used: Sequence[tuple[UUID, datetime]]) -> list[None]:
    """Write when keys were last used. A batch function; in id order, so that two processes cannot deadlock."""
    latest: dict[UUID, datetime] = {}
    for key_id, at in used:
        latest[key_id] = max(at, latest.get(key_id, at))
    await connection.execute(_TOUCH, [{"of_key": key_id, "used_at": latest[key_id]} for key_id in sorted(latest)])
    return [None] * len(used)
