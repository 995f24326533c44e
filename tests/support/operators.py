"""An endpoint of operators, and the messages to it."""

from typing import Any

import orjson
from sqlalchemy import select

from service.store.tables import webhook_messages
from service.store.webhooks import endpoints
from service.store.webhooks.endpoints import Endpoint
from tests.support.values import NOW, new_id
from tests.support.world import World

ON_CALL = "http://receiver.test/on-call"


async def listen(world: World, **more: Any) -> Endpoint:
    """Register an endpoint of an operator."""
    plain = {"id": new_id(), "client": "default", "url": ON_CALL, "secret": "whsec_c2VjcmV0", "scope": "admin"}
    endpoint = Endpoint(**{**plain, "created_at": NOW, "updated_at": NOW, **more})
    async with world.context.database.writing() as connection:
        await endpoints.register(connection, endpoint, most=9)
    return endpoint


async def reported(world: World, url: str = ON_CALL) -> list[dict[str, Any]]:
    """Return the bodies of the messages to operators, oldest first."""
    statement = select(webhook_messages.c.body).where(webhook_messages.c.url == url).order_by(webhook_messages.c.id)
    async with world.context.database.reading() as connection:
        bodies = (await connection.scalars(statement)).all()
    return [orjson.loads(body) for body in bodies]


async def types(world: World) -> list[str]:
    return [each["type"] for each in await reported(world)]
