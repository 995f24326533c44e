"""Lists of models: the exchange that reads one, in OpenAI's form or page by page."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from service.domain.errors import AccountProblem
from service.providers.newapi.errors import refusal_in
from service.providers.read import fields, items, word
from service.providers.wire import Call, ModelList, ModelsExchange, Reply

MAX_MODELS: Final = 5000
MAX_NAME: Final = 200
MAX_PAGES: Final = 10
"""Pages that are read of a list. One that goes on is not complete."""
_LISTS: Final = ("data", "models", "results", "items")
_NAMES: Final = ("id", "name", "model")


def listed_at(path: str) -> ModelsExchange:
    """Request a list in OpenAI's form: objects with an ``id`` under ``data``. Sellers vary the names."""
    reply = yield Call(method="GET", path=path)
    found = rows_in(reply)
    if found is None:
        raise _refusal(reply)
    return model_list(_name(row) for row in found)


def listed_in_pages(
    path: str, name: Callable[[Any], str | None], following: Callable[[Any], str | None]
) -> ModelsExchange:
    """Request a list that comes in pages.

    :param name: returns the name of a model in a row
    :param following: returns the path of the next page from a page; None on the last one
    """
    names: list[str | None] = []
    asked = path
    for _ in range(MAX_PAGES):
        reply = yield Call(method="GET", path=asked)
        found = rows_in(reply)
        if found is None:
            raise _refusal(reply)
        names += map(name, found)
        after = following(reply.document)
        if after is None:
            return model_list(names)
        asked = after
    return model_list(names, complete=False)


def rows_in(reply: Reply) -> list[Any] | None:
    """Return the rows of a list; None where the answer is none."""
    document = reply.document
    if not reply.ok:
        return None
    if isinstance(document, list):
        return items(document)
    named = (fields(document).get(name) for name in _LISTS)
    found = next((each for each in named if isinstance(each, list | dict)), None)
    if isinstance(found, dict):  # rows one level below: ``{"data": {"models": [...]}}``
        found = next((each for name in _LISTS if isinstance(each := found.get(name), list)), None)
    return None if found is None else list(found[:MAX_MODELS])


def model_list(names: Iterable[str | None], *, complete: bool = True) -> ModelList:
    """Return a list of models without blanks and repetitions, in order."""
    known = dict.fromkeys(each for each in names if each is not None and len(each) <= MAX_NAME)
    kept = tuple(known)[:MAX_MODELS]
    return ModelList(kept, complete=complete and len(kept) == len(known))


def _name(row: Any) -> str | None:
    if isinstance(row, str):
        return word(row)
    said = fields(row)
    return next((found for name in _NAMES if (found := word(said.get(name))) is not None), None)


def _refusal(reply: Reply) -> Exception:
    said = fields(reply.document)
    if reply.ok and said.get("success") is False:  # what new-api says to a wrong key, with HTTP 200
        return AccountProblem("unauthorized", word(said.get("message")))
    return refusal_in(reply, creating=False)
