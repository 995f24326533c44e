"""Find the row that a path names, and read a list by pages."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

from starlette.responses import Response

from service.web.api.route import ApiRequest, json_response
from service.web.problems import Problem


class HasId(Protocol):
    """A row of a list."""

    @property
    def id(self) -> UUID:
        """The row's id: the cursor behind it."""


Found = TypeVar("Found")
Row = TypeVar("Row", bound=HasId)


def path_id(request: ApiRequest, kind: str) -> UUID:
    """Return the id in the path.

    :param kind: the kind of object that has the id, for the error
    :raises Problem: 404 where it is not a UUID
    """
    try:
        return UUID(request.http.path_params["id"])
    except ValueError:
        raise _not_found(kind) from None


def optional_id(stated: str | None) -> UUID | None:
    """Return an id that a request may name, whose form its schema has checked."""
    return None if stated is None else UUID(stated)


def existing(found: Found | None, kind: str) -> Found:
    """Return the object.

    :raises Problem: 404 where nothing was
    """
    if found is None:
        raise _not_found(kind)
    return found


def _not_found(kind: str) -> Problem:
    return Problem(404, "not_found", f"no {kind} has this id")


def page_size(request: ApiRequest) -> int:
    """Return the requested number of items."""
    return int(request.query.get("limit", 50))


def page(name: str, found: Sequence[Row], size: int, render: Callable[[Row], Any]) -> Response:
    """Return a page of a list, and the cursor of the next page.

    :param name: the field that holds the items
    :param found: up to ``size + 1`` rows; there is a next page where there is one more than a page has
    """
    shown = found[:size]
    following = str(shown[-1].id) if len(found) > size else None
    return json_response({name: [render(each) for each in shown], "next": following})
