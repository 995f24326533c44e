"""Who is asking: API keys as Bearer tokens, one client each."""

import hashlib

from starlette.requests import Request

from service.settings import Settings
from service.web.problems import Problem

SOLE_CLIENT = "default"
"""Whom everything belongs to where no keys are configured, which is allowed on loopback only."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Access:
    """Tells which client a request comes from."""

    def __init__(self, settings: Settings) -> None:
        """Keep hashes of the keys: a look-up by hash takes as long for a near miss as for any other."""
        self._clients = {_hash(key.get_secret_value()): client for client, key in settings.api_keys.items()}
        self._hosts = _LOOPBACK | {settings.host}

    def client_of(self, request: Request) -> str:
        """Name the client.

        :raises Problem: 401 without a valid key; 421 where a keyless Dovecote is addressed by a foreign name
        """
        if not self._clients:
            self._refuse_foreign_host(request)
            return SOLE_CLIENT
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        client = self._clients.get(_hash(key.strip())) if scheme.lower() == "bearer" else None
        if client is None:
            raise Problem(
                401,
                "unauthorized",
                "send Authorization: Bearer <key>, with one of the keys in DOVECOTE_API_KEYS",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return client

    def _refuse_foreign_host(self, request: Request) -> None:
        """Keep out web pages that reach loopback under a name of their own, and a proxy that passes everything on."""
        host = request.headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() not in self._hosts:
            raise Problem(421, "misdirected", "without API keys only loopback names are served; set DOVECOTE_API_KEYS")


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
