"""SQL for uploads: the files of clients, and the media of inputs that Dovecote stores for a provider."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.uploads import Upload
from service.store.rows import row_of_value
from service.store.tables import insert_for, uploads

RETRY = timedelta(minutes=5)
"""After this time a deletion that was begun and not completed is begun again."""
_STORED = uploads.c.deleted_at.is_(None)
_USED = select(func.coalesce(func.sum(uploads.c.size), 0)).where(
    uploads.c.client == bindparam("of_client"), _STORED, uploads.c.task_id.is_(None)
)
_INSERT = insert_for(lambda insert: insert(uploads).on_conflict_do_nothing().returning(uploads.c.id))


def _upload_of(row: Row[Any]) -> Upload:
    return Upload(**row._mapping)  # noqa: SLF001 - the documented way to a row's names


async def used(connection: AsyncConnection, client: str) -> int:
    """Return the bytes of a client's uploads, with those that are arriving."""
    return int((await connection.execute(_USED, {"of_client": client})).scalar_one())


async def add(connection: AsyncConnection, upload: Upload, quota: int | None = None) -> bool:
    """Insert an upload; return False where it would exceed the client's quota, or where its id is taken."""
    if quota is not None and await used(connection, upload.client) + upload.size > quota:
        return False
    found = await connection.execute(_INSERT[connection.dialect.name], row_of_value(upload))
    return found.first() is not None


_FINISH = (
    update(uploads)
    .where(uploads.c.id == bindparam("of_upload"), _STORED)
    .values({name: bindparam(f"new_{name}") for name in ("content_type", "size", "sha256", "stored_at", "expires_at")})
    .returning(uploads.c.id)
)


async def finish(connection: AsyncConnection, upload: Upload) -> bool:
    """Write that the whole file is stored; return False where its deletion has begun meanwhile."""
    row = {
        f"new_{name}": getattr(upload, name) for name in ("content_type", "size", "sha256", "stored_at", "expires_at")
    }
    return (await connection.execute(_FINISH, {"of_upload": upload.id, **row})).first() is not None


_BY_ID = select(uploads).where(uploads.c.id.in_(bindparam("ids", expanding=True)))


async def by_id(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Upload]:
    """Read uploads by id, whether they can be used or not; unknown ids are left out."""
    if not ids:
        return {}
    rows = await connection.execute(_BY_ID, {"ids": sorted(ids)})
    return {row.id: _upload_of(row) for row in rows}


async def page(
    connection: AsyncConnection, client: str | None, *, before: UUID | None, now: datetime, most: int
) -> Sequence[Upload]:
    """Read uploads of clients, newest first, without those that have expired.

    :param client: None: of every client
    :param before: only ids below this one
    """
    wanted = select(uploads).where(
        _STORED, uploads.c.stored_at.is_not(None), uploads.c.task_id.is_(None), uploads.c.expires_at > now
    )
    if client is not None:
        wanted = wanted.where(uploads.c.client == client)
    if before is not None:
        wanted = wanted.where(uploads.c.id < before)
    return [_upload_of(row) for row in await connection.execute(wanted.order_by(uploads.c.id.desc()).limit(most))]


async def keep_until(
    connection: AsyncConnection, ids: Collection[UUID], client: str, *, until: datetime, now: datetime
) -> bool:
    """Keep uploads of a client at least until a time; return False where one is gone or is not the client's.

    The rows are locked in the order of their ids, so that two processes cannot deadlock.
    """
    for upload_id in sorted(ids):
        later = uploads.c.expires_at < until
        usable = and_(
            uploads.c.id == upload_id,
            uploads.c.client == client,
            _STORED,
            uploads.c.stored_at.is_not(None),
            uploads.c.expires_at > now,
        )
        await connection.execute(update(uploads).where(usable, later).values(expires_at=until))
        if (await connection.execute(select(uploads.c.id).where(usable))).first() is None:
            return False
    return True


def _deleting(wanted: Any) -> Any:
    """Return the statement that begins the deletion of some uploads."""
    return update(uploads).where(uploads.c.id.in_(wanted)).values(deleted_at=bindparam("begun_at")).returning(uploads)


async def claim_expired(connection: AsyncConnection, *, now: datetime, most: int) -> list[Upload]:
    """Begin to delete uploads that have expired, and those whose deletion was not completed. Return them."""
    due = or_(
        and_(_STORED, uploads.c.expires_at <= now),
        and_(uploads.c.deleted_at.is_not(None), uploads.c.deleted_at <= now - RETRY),
    )
    wanted = (
        select(uploads.c.id).where(due).order_by(uploads.c.expires_at).limit(most).with_for_update(skip_locked=True)
    )
    rows = await connection.execute(_deleting(wanted.scalar_subquery()), {"begun_at": now})
    return [_upload_of(row) for row in rows]


async def claim(connection: AsyncConnection, ids: Collection[UUID], *, now: datetime) -> list[Upload]:
    """Begin to delete uploads by id. Return them."""
    wanted = select(uploads.c.id).where(uploads.c.id.in_(sorted(ids)))
    return [_upload_of(row) for row in await connection.execute(_deleting(wanted.scalar_subquery()), {"begun_at": now})]


async def of_tasks(connection: AsyncConnection, task_ids: Collection[UUID]) -> list[UUID]:
    """Return the ids of the uploads that Dovecote made for tasks."""
    if not task_ids:
        return []
    found = select(uploads.c.id).where(uploads.c.task_id.in_(sorted(task_ids)))
    return list((await connection.scalars(found)).all())


async def remove(connection: AsyncConnection, ids: Collection[UUID]) -> None:
    """Remove the rows of uploads whose objects are deleted."""
    if ids:
        await connection.execute(delete(uploads).where(uploads.c.id.in_(sorted(ids))))


_PUT = insert_for(
    lambda insert: (statement := insert(uploads)).on_conflict_do_update(
        index_elements=["id"],
        set_={
            name: statement.excluded[name]
            for name in ("size", "sha256", "content_type", "stored_at", "expires_at", "deleted_at")
        },
    )
)


async def put(connection: AsyncConnection, upload: Upload) -> None:
    """Write an upload whose object is stored, over one of the same id that has expired."""
    await connection.execute(_PUT[connection.dialect.name], row_of_value(upload))
