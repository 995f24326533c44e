"""A bare ASGI application whose answers never end: what an open connection costs before anybody does anything with it."""

from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer health checks at once, and no other request."""
    alive = scope["path"] == "/healthz"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b":\n\n", "more_body": not alive})
    while not alive and (await receive())["type"] != "http.disconnect":
        pass
