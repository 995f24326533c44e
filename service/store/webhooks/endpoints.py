"""Statements on webhook_endpoints: the endpoints of clients and their health."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.prepared import Prepared
from service.store.rows import row_of_value
from service.store.tables import webhook_endpoints

Format = Literal["standard", "cloudevents"]
Scope = Literal["client", "admin"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A URL that a client has registered for messages."""

    id: UUID
    client: str
    url: str
    description: str = ""
    events: tuple[str, ...] = ()
    """Types of the messages that it receives. Empty: all types except progress."""
    format: str = "standard"
    """``standard``, or ``cloudevents`` for structured CloudEvents."""
    secret: str
    previous_secret: str | None = None
    previous_until: datetime | None = None
    """Until when the previous secret signs, too."""
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    """``client``, ``gone`` (it answered 410), ``failing`` (only failures for too long)."""
    failing_since: datetime | None = None
    """The first failure since the last success."""
    failed_at: datetime | None = None
    """The last failure, when no success followed."""
    scope: Scope = "client"
    """``client``: messages about the client's tasks; ``admin``: messages to operators."""
    callback_format: str = "dovecote"
    """The form of the messages about tasks: Dovecote's own, or that of another API."""
    created_at: datetime
    updated_at: datetime


def _endpoint_of(row: Row[Any]) -> Endpoint:
    kept = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    kept["events"] = tuple(kept["events"])
    return Endpoint(**kept)


_ENABLED = Prepared(
    select(webhook_endpoints).where(
        webhook_endpoints.c.client.in_(bindparam("clients", expanding=True)),
        webhook_endpoints.c.disabled_at.is_(None),
        webhook_endpoints.c.scope == "client",
    )
)
_OF_OPERATORS = (
    select(webhook_endpoints)
    .where(webhook_endpoints.c.scope == "admin", webhook_endpoints.c.disabled_at.is_(None))
    .order_by(webhook_endpoints.c.id)
)
_OF_IDS = select(webhook_endpoints).where(webhook_endpoints.c.id.in_(bindparam("ids", expanding=True)))
_OF_CLIENT = (
    select(webhook_endpoints).where(webhook_endpoints.c.client == bindparam("client")).order_by(webhook_endpoints.c.id)
)
_ONE = select(webhook_endpoints).where(
    webhook_endpoints.c.id == bindparam("id"), webhook_endpoints.c.client == bindparam("client")
)
_COUNT = select(func.count()).select_from(webhook_endpoints).where(webhook_endpoints.c.client == bindparam("client"))
_DELETE = (
    delete(webhook_endpoints)
    .where(webhook_endpoints.c.id == bindparam("id"), webhook_endpoints.c.client == bindparam("client"))
    .returning(*webhook_endpoints.c)
)


async def enabled_of(connection: AsyncConnection, clients: Collection[str]) -> list[Endpoint]:
    """Read the enabled endpoints of some clients that get messages about tasks."""
    rows = await _ENABLED.rows(connection, {"clients": sorted(clients)})
    return [_endpoint_of(row) for row in rows]


async def of_operators(connection: AsyncConnection) -> list[Endpoint]:
    """Read the enabled endpoints that get messages to operators."""
    return [_endpoint_of(row) for row in await connection.execute(_OF_OPERATORS)]


async def of_ids(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Endpoint]:
    """Read endpoints by their ids."""
    if not ids:
        return {}
    rows = await connection.execute(_OF_IDS, {"ids": sorted(ids)})
    return {row.id: _endpoint_of(row) for row in rows}


async def of_client(connection: AsyncConnection, client: str) -> list[Endpoint]:
    """Read a client's endpoints, oldest first."""
    return [_endpoint_of(row) for row in await connection.execute(_OF_CLIENT, {"client": client})]


async def find(connection: AsyncConnection, endpoint_id: UUID, client: str) -> Endpoint | None:
    """Read an endpoint of a client."""
    row = (await connection.execute(_ONE, {"id": endpoint_id, "client": client})).first()
    return None if row is None else _endpoint_of(row)


async def register(connection: AsyncConnection, endpoint: Endpoint, *, most: int) -> bool:
    """Insert an endpoint; return whether it was inserted: a client has at most ``most``."""
    if (await connection.scalar(_COUNT, {"client": endpoint.client}) or 0) >= most:
        return False
    row = {**row_of_value(endpoint), "events": list(endpoint.events)}
    await connection.execute(webhook_endpoints.insert(), row)
    return True


async def change(
    connection: AsyncConnection, endpoint_id: UUID, client: str, values: Mapping[str, Any]
) -> Endpoint | None:
    """Write columns of a client's endpoint and return the endpoint; None when there is none."""
    statement = (
        update(webhook_endpoints)
        .where(webhook_endpoints.c.id == endpoint_id, webhook_endpoints.c.client == client)
        .values(dict(values))
        .returning(*webhook_endpoints.c)
    )
    row = (await connection.execute(statement)).first()
    return None if row is None else _endpoint_of(row)


async def rotate(
    connection: AsyncConnection, endpoint_id: UUID, client: str, *, secret: str, until: datetime, now: datetime
) -> Endpoint | None:
    """Set a new secret of an endpoint. The previous one signs until a time, too."""
    values = {
        "previous_secret": webhook_endpoints.c.secret,
        "secret": secret,
        "previous_until": until,
        "updated_at": now,
    }
    return await change(connection, endpoint_id, client, values)


async def remove(connection: AsyncConnection, endpoint_id: UUID, client: str) -> Endpoint | None:
    """Delete a client's endpoint and return it; None when there is none."""
    row = (await connection.execute(_DELETE, {"id": endpoint_id, "client": client})).first()
    return None if row is None else _endpoint_of(row)


_AFFECTED = (
    select(webhook_endpoints.c.id)
    .where(
        or_(
            webhook_endpoints.c.id.in_(bindparam("others", expanding=True)),
            and_(
                webhook_endpoints.c.id.in_(bindparam("well", expanding=True)),
                webhook_endpoints.c.failing_since.is_not(None),
            ),
        )
    )
    .order_by(webhook_endpoints.c.id)
    .with_for_update()
)
"""The endpoints that attempts change, locked in one order, so that no two processes deadlock."""
_SUCCEEDED = (
    update(webhook_endpoints)
    .where(webhook_endpoints.c.id == bindparam("of_endpoint"), webhook_endpoints.c.failing_since.is_not(None))
    .values(failing_since=None, failed_at=None)
)
_FAILED = (
    update(webhook_endpoints)
    .where(webhook_endpoints.c.id == bindparam("of_endpoint"))
    .values(
        failing_since=case(
            (
                or_(
                    webhook_endpoints.c.failing_since.is_(None), webhook_endpoints.c.failed_at < bindparam("unwatched")
                ),
                bindparam("now", type_=webhook_endpoints.c.failed_at.type),
            ),
            else_=webhook_endpoints.c.failing_since,
        ),
        failed_at=bindparam("now", type_=webhook_endpoints.c.failed_at.type),
    )
)
_GIVEN_UP = (
    update(webhook_endpoints)
    .where(
        webhook_endpoints.c.id == bindparam("of_endpoint"),
        webhook_endpoints.c.disabled_at.is_(None),
        or_(webhook_endpoints.c.failing_since <= bindparam("too_long"), bindparam("reason") == "gone"),
    )
    .values(disabled_at=bindparam("now"), updated_at=bindparam("now"), disabled_reason=bindparam("reason"))
    .returning(webhook_endpoints.c.id)
)


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """The result of an attempt for the health of an endpoint."""

    endpoint_id: UUID
    succeeded: bool
    gone: bool = False
    """Whether it answered that it is gone permanently."""


async def record_health(
    connection: AsyncConnection, results: Sequence[Health], *, now: datetime, unwatched: datetime, too_long: datetime
) -> dict[UUID, str]:
    """Record the results of attempts. Return the endpoints that are disabled by them, with the reasons.

    :param unwatched: an endpoint whose last failure is before this time may have recovered in between
    :param too_long: an endpoint with only failures since this time or longer is disabled
    """
    well = {each.endpoint_id for each in results if each.succeeded}
    gone = {each.endpoint_id for each in results if each.gone}
    failed = {each.endpoint_id for each in results} - well
    given = {"well": sorted(well), "others": sorted(failed | gone)}
    affected = (await connection.scalars(_AFFECTED, given)).all() if results else []
    recovered = [{"of_endpoint": each} for each in affected if each in well]
    failing = [{"of_endpoint": each, "now": now, "unwatched": unwatched} for each in affected if each in failed]
    if recovered:
        await connection.execute(_SUCCEEDED, recovered)
    if failing:
        await connection.execute(_FAILED, failing)
    disabled = {}
    for each in affected:
        if each in well and each not in gone:
            continue
        reason = "gone" if each in gone else "failing"
        why = {"of_endpoint": each, "now": now, "too_long": too_long, "reason": reason}
        if (await connection.execute(_GIVEN_UP, why)).first() is not None:
            disabled[each] = reason
    return disabled
