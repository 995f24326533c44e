"""Statements on webhook_secrets: which version of its derived secret each client uses."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.webhook_secret import SecretVersion
from service.store.prepared import Prepared
from service.store.tables import insert_for, webhook_secrets

_OF_CLIENTS = Prepared(
    select(webhook_secrets.c.client, webhook_secrets.c.version, webhook_secrets.c.previous_until).where(
        webhook_secrets.c.client.in_(bindparam("clients", expanding=True))
    )
)
_ROTATE = insert_for(
    lambda insert: (
        insert(webhook_secrets)
        .on_conflict_do_update(
            index_elements=["client"],
            set_={
                "version": webhook_secrets.c.version + 1,
                "previous_until": bindparam("until", type_=webhook_secrets.c.previous_until.type),
                "rotated_at": bindparam("now", type_=webhook_secrets.c.rotated_at.type),
            },
        )
        .returning(webhook_secrets.c.version)
    )
)


async def of_clients(connection: AsyncConnection, clients: Collection[str]) -> dict[str, SecretVersion]:
    """Read the versions of some clients. A client that has never rotated its secret has the first."""
    versions = {client: SecretVersion(client) for client in clients}
    if clients:
        rows = await _OF_CLIENTS.rows(connection, {"clients": sorted(clients)})
        versions |= {row.client: SecretVersion(row.client, row.version, row.previous_until) for row in rows}
    return versions


async def rotate(connection: AsyncConnection, client: str, *, until: datetime, now: datetime) -> SecretVersion:
    """Start the next version of a client's secret. The one before signs until a time, too."""
    row = {"client": client, "version": 2, "previous_until": until, "rotated_at": now, "until": until, "now": now}
    version = (await connection.execute(_ROTATE[connection.dialect.name], row)).scalar_one()
    return SecretVersion(client, version, until)
