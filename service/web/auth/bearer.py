"""Authenticate and authorize requests: API keys as Bearer tokens, each of one client."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.requests import Request

from service.domain.api_key import ALL, OWN, ApiKey, Scope, allowed, hash_key, looks_like_one
from service.domain.validation import quote
from service.flows.context import Context
from service.settings.model import Settings
from service.settings.values import is_loopback
from service.web.auth.key_cache import KeyCache
from service.web.auth.rate_limit import Allowance, RateLimiter
from service.web.problems import Problem

SOLE_CLIENT: Final = "default"
"""The client of every request where no key exists. This mode is for loopback only."""

_NO_KEY: Final = "no key"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_FORWARDING: Final = re.compile(
    r"forwarded|via|front-end-https|cdn-loop|x-(?:real-ip|host|scheme|proxyuser-ip|amzn-trace-id|cloud-trace-context)"
    r"|(?:x-(?:forwarded|original|envoy|azure|appengine|vercel|arr|amz-cf|nf)|cf|fly|fastly|do|akamai)(?:-.*)?"
    r"|.*(?:client|connecting|remote|source)-(?:ip|addr)"
)
"""Headers by which proxies, load balancers and content networks pass on a request."""

_ASK: Final = "ask the operator of this Dovecote for a new key"
_FAULTS: Final = {"expired": f"the API key has expired: {_ASK}", "revoked": f"the API key was revoked: {_ASK}"}


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request."""

    client: str
    scopes: frozenset[Scope]
    key: str
    """Identifies the key among all keys. Requests are counted by it."""
    digest: bytes | None = None
    """The hash of a key of the database; None for a key of the settings, which is valid until the process ends."""
    prefix: str = ""
    """The visible beginning of a key of the database."""

    @property
    def is_sole(self) -> bool:
        """Whether no key exists, and so no other client."""
        return self.key == _NO_KEY

    @property
    def sees_only(self) -> str | None:
        """The client whose rows alone are visible; None: every client's."""
        return None if Scope.ADMIN in self.scopes else self.client


class Authenticator:
    """Identifies the sender of a request and checks its scope."""

    def __init__(self, settings: Settings) -> None:
        """Store hashes of the settings' keys: a lookup by hash takes the same time for a near miss."""
        self._callers: Mapping[bytes, Caller] = {
            hash_key(key.get_secret_value()): Caller(
                client, ALL if client in settings.operators else OWN, f"settings {client}"
            )
            for client, key in settings.api_keys.items()
        }
        self._keyless = not self._callers and is_loopback(settings.host)
        self._hosts = _LOOPBACK | {settings.host.lower()}
        self._limiter = None if settings.rate_limit is None else RateLimiter(settings.rate_limit)
        self._cache: KeyCache | None = None

    def cache(self, context: Context) -> KeyCache:
        """Return the cache of the database's keys."""
        if self._cache is None:
            self._cache = KeyCache(context)
        return self._cache

    async def authorize(self, request: Request, scope: Scope, *, key: str | None = None) -> Caller:
        """Return the caller of a request that is allowed.

        :param key: the key that the request carries; default: its Bearer token
        :raises Problem: 401 without a valid key; 403 when the key lacks the scope; 429 above the rate limit; 421 and 403
            where no key exists and the request is not a direct one from this machine
        """
        caller = await self.authenticate(request, bearer_token(request) if key is None else key)
        if self._limiter is not None:
            self._count(self._limiter, caller, request)
        if scope not in caller.scopes:
            held = ", ".join(f"`{each}`" for each in sorted(caller.scopes)) or "none"
            raise Problem(403, "forbidden", f"a key with the scope `{scope}` is required; scopes of this key: {held}")
        return caller

    async def authenticate(self, request: Request, key: str) -> Caller:
        """Return the caller of a request.

        :raises Problem: 401, 421 or 403, as :meth:`authorize`
        :raises StoreUnavailable: when the database is needed and does not answer
        """
        caller = self._callers.get(hash_key(key))
        if caller is not None:
            return caller
        cache = self.cache(request.app.state.context)
        if looks_like_one(key):
            return await self._find_in_database(request.app.state.context, hash_key(key))
        if self._keyless and await cache.is_empty():
            self._refuse_indirect(request)
            return Caller(SOLE_CLIENT, ALL, _NO_KEY)
        if key:
            raise _unauthorized("unknown_key", f"the API key is unknown: check it, or {_ASK}")
        detail = "send the header Authorization: Bearer <key>, with a key from the operator of this Dovecote"
        raise _unauthorized("unauthorized", detail)

    async def caller_of(self, context: Context, digest: bytes) -> Caller:
        """Return the caller whose key has a hash; for a session, which was opened with that key.

        :raises Problem: 401 when the key is not valid any more
        :raises StoreUnavailable: when the database is needed and does not answer
        """
        configured = self._callers.get(digest)
        return configured if configured is not None else await self._find_in_database(context, digest)

    async def sole_caller(self, request: Request) -> Caller:
        """Return the only client of a Dovecote without keys.

        :raises Problem: 401 when there is a key; 421 and 403 when the request is not a direct one from this machine
        """
        if self._keyless and await self.cache(request.app.state.context).is_empty():
            self._refuse_indirect(request)
            return Caller(SOLE_CLIENT, ALL, _NO_KEY)
        raise _unauthorized("unauthorized", "sign in with an API key")

    async def is_valid(self, context: Context, caller: Caller) -> bool:
        """Return whether the key of an open stream is still valid.

        :raises StoreUnavailable: when the database is needed and does not answer
        """
        cache = self.cache(context)
        if caller.digest is None:
            return not self._keyless or await cache.is_empty()
        found = await cache.find(caller.digest)
        return found is not None and found.fault(now=context.now()) is None

    async def _find_in_database(self, context: Context, digest: bytes) -> Caller:
        cache = self.cache(context)
        found: ApiKey | None = await cache.find(digest)
        if found is None:
            raise _unauthorized("unknown_key", f"the API key is unknown: check it, or {_ASK}")
        fault = found.fault(now=context.now())
        if fault is not None:
            raise _unauthorized(f"{fault}_key", _FAULTS[fault])
        cache.note_use(found)
        return Caller(found.client, allowed(found.scopes), str(found.id), digest, found.prefix)

    def _count(self, limiter: RateLimiter, caller: Caller, request: Request) -> None:
        context: Context = request.app.state.context
        allowance: Allowance = limiter.take(caller.key, at=context.now().timestamp())
        # SecurityHeaders writes the header fields, so that an error response has them too.
        request.state.allowance = allowance
        if allowance.wait is not None:
            raise Problem(
                429,
                "rate_limited",
                f"this key allows {limiter.limit} requests a minute; repeat the request in {allowance.wait} s",
                headers={"Retry-After": str(allowance.wait)},
            )

    def _refuse_indirect(self, request: Request) -> None:
        """Refuse web pages and proxies where no key exists: then only programs on this machine are allowed.

        :raises Problem: 421 for another host name or a proxy, 403 for another origin
        """
        host = request.headers.get("host", "")
        form = _HOST.fullmatch(host)
        if form is None or form["name"].lower() not in self._hosts:
            detail = f"without API keys only loopback names are served (got {quote(host)}); set DOVECOTE_API_KEYS"
            raise Problem(421, "misdirected", detail)
        if passed_a_proxy(request.headers):
            detail = "the request passed a proxy, and without API keys only direct requests are served; set DOVECOTE_API_KEYS"
            raise Problem(421, "misdirected", detail)
        if request.scope.get("http_version") == "1.0":
            detail = "HTTP/1.0 is used by proxies, and without API keys only direct requests are served; set DOVECOTE_API_KEYS"
            raise Problem(421, "misdirected", detail)
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            detail = "without API keys no page of another origin is allowed; set DOVECOTE_API_KEYS"
            raise Problem(403, "forbidden", detail)


def passed_a_proxy(headers: Iterable[str]) -> bool:
    """Return whether a request has a header by which proxies pass requests on.

    :param headers: their names in lower case
    """
    return any(_FORWARDING.fullmatch(name) for name in headers)


def bearer_token(request: Request) -> str:
    """Return the Bearer token of a request; empty where it has none."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": "Bearer"})
