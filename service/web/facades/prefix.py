"""The route of a door's prefix."""

from starlette.routing import BaseRoute, Match, Router
from starlette.types import Receive, Scope, Send


class PrefixRoute(BaseRoute):
    """Every path below a prefix. A path elsewhere costs one comparison, however many routes there are below."""

    def __init__(self, prefix: str, router: Router) -> None:
        """Serve the paths below a prefix by a router, whose routes have the whole path."""
        self.path = prefix
        self._begin = f"{prefix}/"
        self._router = router

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a request is for a path below the prefix."""
        path: str = scope.get("path", "")
        is_below = scope["type"] == "http" and (path.startswith(self._begin) or path == self.path)
        return (Match.FULL if is_below else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        await self._router(scope, receive, send)
