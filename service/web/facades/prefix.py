"""Where a door's routes stand among all routes: a request finds its own without asking the others, however many there are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Receive, Scope, Send

_PARTS: Final = 2
"""Literal parts of a path by which a route at the root is found."""


class AnyMethod:
    """An ASGI application that answers requests of every method, also of those that HTTP gets later."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        """Answer by a function."""
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        await self._answer(Request(scope, receive))(scope, receive, send)


class PrefixRoute(BaseRoute):
    """Serves every path below a prefix. Any other path costs one comparison."""

    def __init__(self, prefix: str, router: Router) -> None:
        """Serve the paths below a prefix by a router, whose routes have the whole path."""
        self.path = prefix
        self._begin = f"{prefix}/"
        self._router = router
        self._by_path = _by_path(router.routes)
        self._by_method = _by_method(router.routes)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a request is for a path below the prefix."""
        path: str = scope.get("path", "")
        is_below = scope["type"] == "http" and (path.startswith(self._begin) or path == self.path)
        return (Match.FULL if is_below else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        route = self._by_path.get((scope["method"], scope["path"]))
        if route is not None:
            found: Mapping[str, Any] = {"endpoint": route.endpoint, "path_params": {}}
        else:
            route, found = self._with_parameters(scope)
        if route is None:
            await self._router(scope, receive, send)
            return
        scope.update(found, route=route)
        await route.handle(scope, receive, send)

    def _with_parameters(self, scope: Scope) -> tuple[Route | None, Mapping[str, Any]]:
        """Return the first route of a request, with what it adds to the scope: the one that the router would choose."""
        for route in self._by_method.get(scope["method"], ()):
            match, found = route.matches(scope)
            if match is Match.FULL:
                return route, found
        return None, {}


def _by_path(routes: Iterable[BaseRoute]) -> Mapping[tuple[str, str], Route]:
    """Return the first route of each method and path without parameters, where none with parameters comes before."""
    found: dict[tuple[str, str], Route] = {}
    before: list[Route] = []
    for route in routes:
        if not isinstance(route, Route):
            continue
        if "{" in route.path:
            before.append(route)
        elif not any(each.path_regex.match(route.path) for each in before):
            for method in route.methods or ():
                found.setdefault((method, route.path), route)
    return found


def _by_method(routes: Iterable[BaseRoute]) -> Mapping[str, Sequence[Route]]:
    """Return the routes of each method, in their order, up to the first that takes any method."""
    found: dict[str, list[Route]] = {}
    for route in routes:
        if not isinstance(route, Route) or route.methods is None:
            break
        for method in route.methods:
            found.setdefault(method, []).append(route)
    return found


class RootRoute(BaseRoute):
    """The routes of doors at the root that no other route can have, found by the beginning of their path."""

    def __init__(self, routes: Sequence[Route], others: Iterable[BaseRoute]) -> None:
        """Take those routes that begin as none of the others does.

        :param routes: the routes of doors, in their order
        :param others: the routes that come before them
        """
        self.path = ""
        taken = [str(getattr(each, "path", "")).partition("{")[0] for each in others]
        self._by_beginning: dict[str, list[Route]] = {}
        for route in routes:
            beginning = _beginning(route.path)
            if beginning and not any(_may_have(each, beginning) for each in taken):
                self._by_beginning.setdefault(beginning, []).append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return the route of a request, within what it adds to the scope."""
        path: str = scope["path"] if scope["type"] == "http" else ""
        for route in self._by_beginning.get(_first_parts(path), ()):
            match, found = route.matches(scope)
            if match is Match.FULL:
                return match, {**found, "route_of_door": route}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        route: Route = scope.pop("route_of_door")
        scope["route"] = route
        await route.handle(scope, receive, send)


def _first_parts(path: str) -> str:
    """Return the first parts of a path; empty where it has fewer."""
    parts = path.split("/", _PARTS + 1)
    return "/".join(parts[: _PARTS + 1]) if len(parts) > _PARTS else ""


def _beginning(path: str) -> str:
    """Return the first parts of a route's path; empty where one of them is a parameter."""
    found = _first_parts(path)
    return "" if "{" in found else found


def _may_have(literal: str, beginning: str) -> bool:
    """Return whether a route whose path begins with a text may match a path with a beginning."""
    return len(literal) > 1 and (_first_parts(literal) == beginning or beginning.startswith(literal))
