"""SQL for kept copies of results: add, find, remove. ``queue.py`` claims and settles them."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, bindparam, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.rows import row_of_value
from service.store.tables import assets

AssetState = Literal["pending", "kept", "lost", "deleting"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """The copy of one result."""

    id: UUID
    task_id: UUID
    state: AssetState = "pending"
    object: str | None = None
    """The name of the file in the storage."""
    size: int | None = None
    sha256: str | None = None
    media_type: str | None = None
    marked: bool = False
    """Whether there is also a file with the mark "made by AI"."""
    expires_at: dt.datetime | None = None
    """When the provider deletes the original, where that is known."""
    created_at: dt.datetime
    settled_at: dt.datetime | None = None
    gone_since: dt.datetime | None = None
    """Since when the provider has answered without a break that it has no such file."""
    last_error: str | None = None
    due_at: dt.datetime | None = None
    attempts: int = 0


def asset_of(row: Row[Any]) -> Asset:
    """Return the copy of a row."""
    return Asset(**row._mapping)  # noqa: SLF001 - the documented way to a row's names


_ADD = insert(assets)
_FIND = select(assets).where(assets.c.id == bindparam("of_id"))
_OF_TASK = select(assets).where(assets.c.task_id == bindparam("of_task")).order_by(assets.c.id)
_SIZE = select(func.coalesce(func.sum(assets.c.size), 0)).where(
    assets.c.task_id == bindparam("of_task"), assets.c.state == "kept"
)
_REMOVE = delete(assets).where(assets.c.id == bindparam("of_id"), assets.c.attempts == bindparam("of_attempt"))


async def add(connection: AsyncConnection, added: Sequence[Asset]) -> None:
    """Write copies that are to be made."""
    if added:
        await connection.execute(_ADD, [row_of_value(each) for each in added])


async def find(connection: AsyncConnection, asset_id: UUID) -> Asset | None:
    """Return a copy."""
    row = (await connection.execute(_FIND, {"of_id": asset_id})).first()
    return None if row is None else asset_of(row)


async def of_task(connection: AsyncConnection, task_id: UUID) -> list[Asset]:
    """Return the copies of a task's results."""
    return [asset_of(row) for row in await connection.execute(_OF_TASK, {"of_task": task_id})]


async def size_of_task(connection: AsyncConnection, task_id: UUID) -> int:
    """Return the bytes of the copies of a task's results."""
    return int(await connection.scalar(_SIZE, {"of_task": task_id}) or 0)


async def remove(connection: AsyncConnection, asset_id: UUID, attempt: int) -> None:
    """Remove the row of a copy whose file is deleted, unless another claim has been made since."""
    await connection.execute(_REMOVE, {"of_id": asset_id, "of_attempt": attempt})
