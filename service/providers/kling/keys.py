"""Kling's key pairs: a call is authorized by a JSON Web Token that they sign.

The token is made here, not by a library: it has one fixed header, three claims and one HMAC.
"""

import base64
import dataclasses
import hashlib
import hmac
import json
from typing import Any

from service.providers.wire import Call

_LIFETIME = 1800
_LEEWAY = 5
"""Seconds that a token is valid before it is made: Kling's clock may be behind."""
_SEPARATOR = ":"


def with_key_pair(call: Call, key: str, *, now: float) -> Call | None:
    """Return the call with a token, where the key is a pair ``ACCESS_KEY:SECRET_KEY``; None where it is a single key.

    A token is made for each call, so that none is ever old.
    """
    access, _, secret = key.partition(_SEPARATOR)
    if not access or not secret:
        return None
    token = _token({"iss": access, "exp": int(now) + _LIFETIME, "nbf": int(now) - _LEEWAY}, secret)
    return dataclasses.replace(call, headers={**call.headers, "Authorization": f"Bearer {token}"})


def _token(claims: dict[str, Any], secret: str) -> str:
    """Return a JSON Web Token by HMAC-SHA256 (RFC 7519)."""
    signed = b".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return b".".join((signed, _encoded(hmac.digest(secret.encode(), signed, hashlib.sha256)))).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
