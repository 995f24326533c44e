"""What every answer passes on its way out, whoever gave it: headers that keep browsers and caches from misusing it."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS: Final = (
    # Nothing that a browser is shown runs, frames, is framed or posts; the page at /docs allows its own style.
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # Answers are a client's own, and of this moment.
    (b"cache-control", b"no-store"),
)


class Doorway:
    """Plain ASGI around a whole application; a header that an answer sets itself stays as it is."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand around an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and complete its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                headers += [header for header in _ALWAYS if header[0] not in there]
                if "allowance" in state:
                    headers += state["allowance"].headers()
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, complete)
