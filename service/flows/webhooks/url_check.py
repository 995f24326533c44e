"""Check the URLs that clients register for webhooks, before anything is sent to them."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.domain.validation import Mistake
from service.http.ssrf.policy import Rules
from service.http.ssrf.url import Unreadable, read_url


def url_mistakes(rules: Rules, url: Any, *, field: str) -> list[Mistake]:
    """Return every reason why messages cannot be sent to a URL; none when they can, or when it is no text.

    :param field: the field of the request that holds the URL
    """
    if not isinstance(url, str):
        return []
    try:
        objections = rules.objections(read_url(url))
    except Unreadable as error:
        return [Mistake(field, str(error))]
    mistakes = []
    for each in objections:
        settings = " or ".join(f"DOVECOTE_{name.upper()}" for name in each.settings)
        hint = f"; an operator can allow it with {settings}" if settings else ""
        mistakes.append(Mistake(field, f"{each.reason}{hint}"))
    return mistakes


def callback_mistakes(rules: Rules, request: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what is wrong with the messages that a request for a task orders."""
    yield from url_mistakes(rules, request.get("callback_url"), field="callback_url")
    if "callback_url" in request:
        return
    for name in ("callback_events", "callback_when", "callback_format"):
        if name in request and request[name] != "ended":  # which is the default of callback_when
            yield Mistake(name, "has no effect without a callback_url")
