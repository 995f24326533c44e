"""The headers of doors: where clients put their key, how they mark a repeat, and which pages may call."""

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.domain.api_key import looks_like_one
from service.domain.repeats import Sender

_SCHEMES: Final = frozenset({"bearer", "token", "key"})
_KEY_HEADERS: Final = ("mj-api-secret", "x-api-key")
_PREFIX: Final = "sk-"
"""Some clients take only keys that begin so: one of ours is accepted with it in front."""
MARK: Final = "x-stainless-retry-count"
"""How often a client has sent a request before. Clients that have it send it always."""
_MAX_MARK: Final = 1000
_REPEAT_UNMARKED: Final = ("replicate-javascript/", "fal-client/", "@fal-ai/")
"""The beginnings of the names of clients that repeat a request at once, without a mark (measured)."""
_METHODS: Final = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_EXPOSED: Final = (
    "dovecote-task, idempotency-replayed, retry-after, x-should-retry, location, "
    "x-fal-request-id, x-fal-error-type, x-fal-request-timeout-type, "
    "x-request-id, openai-poll-after-ms, content-disposition, content-range"
)
_MAX_AGE: Final = "600"


def headers_of(http: Request) -> dict[str, str]:
    """Return the headers of a request by their names in lower case. Of several with one name the first counts."""
    listed = reversed(http.scope["headers"])
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in listed}


def key_of(headers: Mapping[str, str]) -> str:
    """Return the API key of a request: of ``Authorization`` with or without a scheme, or of another header; else empty."""
    stated = headers.get("authorization", "").strip()
    scheme, blank, credentials = stated.partition(" ")
    if not blank:
        found = "" if scheme.lower() in _SCHEMES else scheme
    else:
        found = credentials.strip() if scheme.lower() in _SCHEMES else ""
    if not found:
        found = next((key for name in _KEY_HEADERS if (key := headers.get(name, "").strip())), "")
    bare = found.removeprefix(_PREFIX)
    return bare if looks_like_one(bare) else found


def sender_of(headers: Mapping[str, str]) -> Sender:
    """Return how the sender of a request repeats it."""
    mark = headers.get(MARK, "0").strip()
    attempt = min(int(mark[:4]), _MAX_MARK) if mark.isascii() and mark.isdecimal() else 0
    agent = f"{headers.get('user-agent', '')} {headers.get('x-fal-client', '')}".lower()
    return Sender(attempt=attempt, repeats_unmarked=any(name in agent for name in _REPEAT_UNMARKED))


def complete(response: Response, origin: str, origins: Sequence[str]) -> None:
    """Add the headers that a page of another origin needs to read a response, where its origin may."""
    if not _may(origin, origins):
        return
    response.headers["access-control-allow-origin"] = origin
    response.headers["access-control-expose-headers"] = _EXPOSED
    response.headers["cross-origin-resource-policy"] = "cross-origin"
    response.headers.append("vary", "Origin")


def preflight(http: Request, origins: Sequence[str]) -> Response:
    """Answer the question of a browser whether a page may call."""
    origin = http.headers.get("origin", "")
    if not _may(origin, origins):
        return Response(status_code=403)
    asked = http.headers.get("access-control-request-headers", "authorization, content-type")
    allowed = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": asked[:2000],
        "access-control-max-age": _MAX_AGE,
        "vary": "Origin",
    }
    return Response(status_code=204, headers=allowed)


def _may(origin: str, origins: Sequence[str]) -> bool:
    return bool(origin) and ("*" in origins or origin.lower() in origins)
