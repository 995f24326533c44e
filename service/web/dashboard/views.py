"""Saved views: filters of the list of tasks under a name, kept in a cookie of this browser."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from service.domain.validation import Mistake
from service.web.api.route import invalid
from service.web.dashboard.task_query import query_of
from service.web.dashboard.visit import Visit, base_of, is_secure

VIEWS_COOKIE: Final = "dovecote_views"
MAX_VIEWS: Final = 8
MAX_NAME: Final = 40
MAX_COOKIE: Final = 3500
"""Characters of the cookie. Browsers keep 4096 with its name and attributes."""
_YEAR: Final = 365 * 86_400


def saved_views(request: Request) -> dict[str, str]:
    """Return the address of each saved view by its name. What means nothing in an address is left out."""
    kept = request.cookies.get(VIEWS_COOKIE, "")[:MAX_COOKIE].strip('"')
    found = {name: query_of(parse_qsl(address)[:40]).address() for name, address in parse_qsl(kept)[:MAX_VIEWS]}
    return {name[:MAX_NAME]: address for name, address in found.items() if name.isprintable()}


async def keep_view(visit: Visit) -> Response:
    """Save the filters of a list under a name, or remove a saved view."""
    views = saved_views(visit.http)
    address = query_of(parse_qsl(visit.field("address").lstrip("?"))[:40]).address()
    removed = visit.field("remove")
    if removed:
        views.pop(removed, None)
    else:
        name = " ".join(visit.field("name").split())
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise invalid([Mistake("name", f"must have 1 to {MAX_NAME} characters")])
        if address == "?":
            raise invalid([Mistake("address", "has no filter: choose one first")])
        views = {**views, name: address}
        if len(views) > MAX_VIEWS:
            raise invalid([Mistake("name", f"{MAX_VIEWS} views are kept: remove one first")])
    answer = visit.redirect(f"/tasks{address.rstrip('?')}")
    value = _written(views)
    if len(value) > MAX_COOKIE:
        raise invalid([Mistake("name", "the saved views are too long for a cookie: remove one first")])
    answer.set_cookie(
        VIEWS_COOKIE,
        value,
        max_age=_YEAR,
        path=base_of(visit.context),
        secure=is_secure(visit.http),
        httponly=True,
        samesite="strict",
    )
    return answer


def _written(views: Mapping[str, str]) -> str:
    return urlencode({name: address.lstrip("?") for name, address in views.items()})
