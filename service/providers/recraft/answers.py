"""Reading of Recraft's answers, which are the results, and of its errors."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, Refused, UpstreamError
from service.domain.task import Result, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import fields, identifier, items, kind_of, link, number, prose, word
from service.providers.wire import Reply

_TYPES: tuple[tuple[str, str], ...] = (
    ("iVBORw0KGgo", "png"),
    ("UklGR", "webp"),
    ("/9j/", "jpeg"),
    ("PHN2Zy", "svg+xml"),
    ("PD94bWw", "svg+xml"),
)
"""The beginnings of files in base64: PNG, RIFF, JPEG, ``<svg`` and ``<?xml``."""
_STYLES = "/styles"


def read(reply: Reply) -> Update | None:
    """Read an answer with status 2xx; None where there is no result in it."""
    document = fields(reply.document)
    results = _pictures(document) or _texts(document, of_style=_STYLES in reply.endpoint)
    if not results:
        return None
    return Update(state=State.SUCCEEDED, results=results, cost=number(document.get("credits")))


def _pictures(document: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the pictures: of ``data``, else of ``image``, which is one object or a list; else one at the top."""
    for name in ("data", "image"):
        found = [made for each in items(document.get(name)) if (made := _picture(each)) is not None]
        if found:
            return tuple(found)
    alone = _picture({"url": document.get("url")})
    return () if alone is None else (alone,)


def _picture(value: Any) -> Result | None:
    """Return a picture by its URL, or its bytes as a ``data:`` URL of the type that they begin with."""
    held = fields(value)
    url = link(held, relative=False)
    encoded = held.get("b64_json")
    if url is None and isinstance(encoded, str) and encoded.strip():
        plain = encoded.strip()
        kind = next((kind for start, kind in _TYPES if plain.startswith(start)), "png")
        url = link(f"data:image/{kind};base64,{plain}")
    return None if url is None else Result(kind_of(url, "image"), url, item=identifier(held.get("image_id")))


def _texts(document: Mapping[str, Any], *, of_style: bool) -> tuple[Result, ...]:
    """Return the ids of styles, or a prompt that was written anew."""
    listed = document.get("styles")
    ids = [identifier(fields(each).get("id")) for each in items(listed)] if isinstance(listed, list) else []
    if of_style and listed is None:
        ids = [identifier(document.get("id"))]
    texts = [*ids, prose(document.get("enhanced_prompt"))]
    return tuple(Result("text", text=text) for text in texts if text is not None)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the meaning of an error. Its code may be clearer than its text: ``nsfw_content``, ``not_enough_credits``."""
    found = newapi_errors.refusal_in(reply, creating=creating)
    named = failure_from_text(word(fields(reply.document).get("code"))).code
    if isinstance(found, Refused) and found.code == "invalid_input":
        if named == "content_policy":
            return Refused(named, found.message)
        if named == "insufficient_credit":
            return AccountProblem(named, found.message)
    return found
