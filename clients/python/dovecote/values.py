"""Build values from JSON objects."""

import dataclasses
import datetime as dt
import functools
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, slots=True)
class Page(Generic[Value]):
    """One page of a list."""

    items: Sequence[Value]
    next: str | None
    """The cursor of the following page; None on the last page."""


def every(load: Callable[[str | None], Page[Value]]) -> Iterator[Value]:
    """Yield the items of all pages. A page is loaded when its first item is needed.

    :param load: loads the page behind a cursor; None: the first page
    """
    following: str | None = None
    while True:
        page = load(following)
        yield from page.items
        following = page.next
        if following is None:
            return


async def every_async(load: Callable[[str | None], Awaitable[Page[Value]]]) -> AsyncIterator[Value]:
    """Yield the items of all pages, as :func:`every` does."""
    following: str | None = None
    while True:
        page = await load(following)
        for item in page.items:
            yield item
        following = page.next
        if following is None:
            return


def read(kind: type[Value], document: Any) -> Value:
    """Build a dataclass from the fields of a JSON object.

    A field that is missing or null gets its default. A field named ``document`` gets the whole object, so fields that
    this version does not know are not lost.

    :raises KeyError, TypeError, ValueError: when the object is not of this kind
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"a JSON object was expected, not {type(document).__name__}")
    given: dict[str, Any] = {}
    for name, hint, has_default in _fields(cast("Hashable", kind)):
        value = document if name == "document" else document.get(name)
        if value is not None:
            given[name] = _converted(hint, value)
        elif not has_default:
            raise KeyError(name)
    return kind(**given)


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Return the name, the type and whether there is a default, of each field that a document fills."""
    hints = get_type_hints(kind)
    return tuple(
        (
            field.name,
            _without_none(hints[field.name]),
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
        if not field.metadata.get("local")
    )


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in {Union, types.UnionType}:
        return next(each for each in get_args(hint) if each is not type(None))
    return hint


def _converted(hint: Any, value: Any) -> Any:
    if hint is dt.datetime:
        return dt.datetime.fromisoformat(value)
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return tuple(_converted(item, each) for each in value)
    if dataclasses.is_dataclass(hint):
        return read(cast("type[Any]", hint), value)
    if hint in (str, int, bool) and not isinstance(value, hint):
        raise TypeError(f"{hint.__name__} was expected, not {type(value).__name__}")
    return value
