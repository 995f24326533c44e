"""Who is asking, and what may they do: API keys as Bearer tokens, one client each."""

import dataclasses
from collections.abc import Mapping

from starlette.requests import Request

from service.domain.api_key import ALL, OWN, ApiKey, Scope, allowed, hash_key, looks_like_one
from service.flows.context import Context
from service.settings.model import Settings
from service.settings.values import is_loopback
from service.web.auth.key_cache import KeyRing
from service.web.auth.rate_limit import Allowance, Rates
from service.web.problems import Problem

SOLE_CLIENT = "default"
"""Whom everything belongs to where there are no keys at all, which is allowed on loopback only."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    client: str
    scopes: frozenset[Scope]
    key: str
    """Names the key among all: what its requests are counted by."""

    @property
    def sees_only(self) -> str | None:
        """Whose rows alone may be seen; None: everybody's."""
        return None if Scope.ADMIN in self.scopes else self.client


class Access:
    """Tells who a request comes from, and whether it may go on."""

    def __init__(self, settings: Settings) -> None:
        """Keep hashes of the settings' keys: a look-up by hash takes as long for a near miss as for any other."""
        self._callers: Mapping[bytes, Caller] = {
            hash_key(key.get_secret_value()): Caller(
                client, ALL if client in settings.operators else OWN, f"settings {client}"
            )
            for client, key in settings.api_keys.items()
        }
        self._open_to_this_machine = not self._callers and is_loopback(settings.host)
        self._hosts = _LOOPBACK | {settings.host}
        self._rates = None if settings.rate_limit is None else Rates(settings.rate_limit)
        self._ring: KeyRing | None = None

    def ring(self, context: Context) -> KeyRing:
        """Give what is remembered of the database's keys."""
        if self._ring is None:
            self._ring = KeyRing(context)
        return self._ring

    async def admit(self, request: Request, scope: Scope) -> Caller:
        """Let a request go on, and say who asks.

        :raises Problem: 401 without a good key; 403 when the key does not have the scope; 429 when it asks too often;
            421 and 403 where a Dovecote without keys is asked in the name of a foreign page
        """
        caller = await self.caller_of(request)
        if self._rates is not None:
            self._count(self._rates, caller, request)
        if scope not in caller.scopes:
            held = ", ".join(f"`{each}`" for each in sorted(caller.scopes)) or "none"
            raise Problem(403, "forbidden", f"this needs a key with the scope `{scope}`; the scopes of yours: {held}")
        return caller

    async def caller_of(self, request: Request) -> Caller:
        """Say who asks.

        :raises Problem: 401, 421 or 403, as :meth:`admit`
        :raises StoreUnavailable: when only the database knows, and does not answer
        """
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = given.strip() if scheme.lower() == "bearer" else ""
        caller = self._callers.get(hash_key(key))
        if caller is not None:
            return caller
        ring = self.ring(request.app.state.context)
        if looks_like_one(key):
            return await self._by_database(ring, key, request)
        if self._open_to_this_machine and await ring.is_empty():
            self._refuse_foreign_page(request)
            return Caller(SOLE_CLIENT, ALL, "no key")
        raise _unauthorized("send Authorization: Bearer <key>, with a key that the operator of this Dovecote gave you")

    async def _by_database(self, ring: KeyRing, key: str, request: Request) -> Caller:
        context: Context = request.app.state.context
        found: ApiKey | None = await ring.find(hash_key(key))
        fault = "is not known here" if found is None else found.fault(now=context.now())
        if found is None or fault is not None:
            raise _unauthorized(f"this key {fault}: ask the operator of this Dovecote for another")
        ring.note_use(found)
        return Caller(found.client, allowed(found.scopes), str(found.id))

    def _count(self, rates: Rates, caller: Caller, request: Request) -> None:
        context: Context = request.app.state.context
        allowance: Allowance = rates.take(caller.key, at=context.now().timestamp())
        # The headers are written where every answer passes, a problem's as well: in the doorway.
        request.state.allowance = allowance
        if allowance.wait is not None:
            raise Problem(
                429,
                "rate_limited",
                f"{rates.limit} requests a minute are allowed with this key; try again in {allowance.wait} s",
                headers={"Retry-After": str(allowance.wait)},
            )

    def _refuse_foreign_page(self, request: Request) -> None:
        """Keep out web pages that reach loopback, under a name of their own or ours, and a proxy that passes all on."""
        host = request.headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() not in self._hosts:
            raise Problem(421, "misdirected", "without API keys only loopback names are served; set DOVECOTE_API_KEYS")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Problem(403, "forbidden", "without API keys no page of another origin may ask; set DOVECOTE_API_KEYS")


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
