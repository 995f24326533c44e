"""The routes of doors are found by their path, and every request reaches the route that the order of all routes gives it."""

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Scope

from service.web.facades.prefix import AnyMethod, PrefixRoute, RootRoute


def route(path: str, name: str, method: str = "GET") -> Route:
    async def answer(request: Request) -> Response:
        return PlainTextResponse(f"{name} {dict(request.path_params)}")

    return Route(path, answer, methods=[method])


OWN = [route("/v1/tasks", "own"), route("/v1/tasks/{id}", "own"), route("/files/{id}", "own"), route("/", "own")]
DOOR = [
    route("/v1/videos/edits", "edits"),
    route("/v1/videos/{id}", "video"),
    route("/v1/videos/late", "late"),
    route("/v1/videos", "create", "POST"),
    route("/v1/videos", "list"),
    route("/v1/tasks/more", "never"),
    route("/files/more/parts", "parts"),
    route("/{app}/{rest:path}", "any"),
]
PATHS = [
    *(
        "/v1/videos/edits",
        "/v1/videos/1",
        "/v1/videos/late",
        "/v1/videos",
        "/v1/tasks/more",
        "/v1/tasks",
        "/v1/tasks/1",
    ),
    *(
        "/files/more/parts",
        "/files/1",
        "/files",
        "/a/b",
        "/a",
        "/",
        "/v1",
        "/v1/",
        "/v1/videos/1/2",
        "//",
        "/v1/videos/ü",
    ),
]


def client_of(*routes: BaseRoute) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Router(routes, redirect_slashes=False))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def answers(*routes: BaseRoute, below: str = "") -> list[tuple[str, str, int, str]]:
    found = []
    async with client_of(*routes) as client:
        for path in PATHS:
            for method in ("GET", "HEAD", "POST", "PUT"):
                answer = await client.request(method, f"http://localhost{below}{path}")
                found.append((method, path, answer.status_code, answer.text))
    return found


async def test_routes_at_the_root_are_those_of_the_plain_order() -> None:
    assert await answers(RootRoute(DOOR, OWN), *OWN, *DOOR) == await answers(*OWN, *DOOR)


@pytest.mark.parametrize("first", [0, 1, 2, 3])
async def test_routes_below_a_prefix_are_those_of_the_plain_order(first: int) -> None:
    turned = [*DOOR[first:], *DOOR[:first]]
    below = [Route(f"/door{each.path}", each.endpoint, methods=list(each.methods or ())) for each in turned]
    plain = Router([*below], redirect_slashes=False)
    assert await answers(PrefixRoute("/door", plain), below="/door") == await answers(*below, below="/door")


@pytest.mark.parametrize("place", [0, 3, 8])
async def test_route_of_any_method_keeps_its_place_below_a_prefix(place: int) -> None:
    below: list[Route] = [Route(f"/door{each.path}", each.endpoint, methods=list(each.methods or ())) for each in DOOR]
    any_method = AnyMethod(lambda request: PlainTextResponse(f"any method {dict(request.path_params)}"))
    below.insert(place, Route("/door/{app}/videos/{rest:path}", any_method))
    plain = Router([*below], redirect_slashes=False)
    assert await answers(PrefixRoute("/door", plain), below="/door") == await answers(*below, below="/door")


async def test_request_of_a_door_asks_no_other_route() -> None:
    class NeverMatched(Route):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            del scope
            raise AssertionError("it was asked")

    others = [NeverMatched(each.path, each.endpoint) for each in OWN]
    async with client_of(RootRoute(DOOR, others), *others) as client:
        assert (await client.get("/v1/videos/edits")).text == "edits {}"
        assert (await client.get("/v1/videos/1")).text == "video {'id': '1'}"
