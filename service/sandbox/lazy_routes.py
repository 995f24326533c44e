"""Routes that are made at the first request for which they may be meant. A sandbox has hundreds, and a test needs a few."""

import functools
from collections.abc import Callable, Sequence
from typing import Final

from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import Receive, Scope, Send

_CHOSEN: Final = "sandbox.route"


class LazyRoutes(BaseRoute):
    """The routes of a provider."""

    def __init__(self, starts: Sequence[str], make: Callable[[], Sequence[Route]]) -> None:
        """Prepare; no route is made yet.

        :param starts: every path of the routes starts with one of these
        :param make: makes the routes
        """
        self._starts = tuple(starts)
        self._make = make

    @functools.cached_property
    def routes(self) -> Sequence[Route]:
        """The routes, in the order in which they are tried."""
        return self._make()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return the first full match of the routes, or else the first one of another method."""
        found: tuple[Match, Scope] = (Match.NONE, {})
        if not scope.get("path", "").startswith(self._starts):
            return found
        for route in self.routes:
            match, child = route.matches(scope)
            if match is Match.FULL or (match is Match.PARTIAL and found[0] is Match.NONE):
                found = match, {**child, _CHOSEN: route}
            if match is Match.FULL:
                break
        return found

    def url_path_for(self, name: str, /, **path_params: object) -> NoMatchFound:  # type: ignore[override]
        """Refuse: no route has a name."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request by the route that matched it."""
        await scope[_CHOSEN].handle(scope, receive, send)


def starts_of(prefix: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Return starts that all paths of a provider have: the prefix, or the first segment of each path."""
    if prefix:
        return (prefix,)
    return tuple(dict.fromkeys("/" + path.lstrip("/").partition("/")[0].partition("{")[0] for path in paths))
