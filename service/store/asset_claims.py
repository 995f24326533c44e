"""Claims of kept copies: of results that are to be fetched, and of copies that are to be deleted.

Each kind has an index of its own, so that a claim reads no row of another one, however many wait.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import DELETING, EXPIRING, LASTING, assets


def _claim_assets(which: Any, order: Any) -> Any:
    due = (
        select(assets.c.id)
        .where(which, assets.c.due_at <= bindparam("now"))
        .order_by(order)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        update(assets)
        .where(assets.c.id.in_(select(due.c.id)))
        .values(due_at=bindparam("until"), attempts=assets.c.attempts + 1)
        .returning(*assets.c)
    )


_CLAIM_EXPIRING = _claim_assets(EXPIRING, assets.c.expires_at)
_CLAIM_LASTING = _claim_assets(LASTING, assets.c.due_at)
_CLAIM_DELETIONS = _claim_assets(DELETING, assets.c.due_at)


async def claim_assets(connection: AsyncConnection, *, now: datetime, until: datetime, most: int) -> Sequence[Row[Any]]:
    """Claim results that are to be fetched until a time: those first whose original is deleted first."""
    rows: list[Row[Any]] = []
    for statement in (_CLAIM_EXPIRING, _CLAIM_LASTING):
        if left := most - len(rows):
            rows += (await connection.execute(statement, {"now": now, "until": until, "most": left})).all()
    return rows


async def claim_deletions(
    connection: AsyncConnection, *, now: datetime, until: datetime, most: int
) -> Sequence[Row[Any]]:
    """Claim copies that are to be deleted until a time, the longest due first."""
    return (await connection.execute(_CLAIM_DELETIONS, {"now": now, "until": until, "most": most})).all()
