"""The secrets that sign messages to a client's ``callback_url``: derived for each client from the installation's secret. Pure."""

import base64
import dataclasses
import datetime as dt
import functools
import hashlib
import hmac
from typing import Final

DEFAULT_OVERLAP: Final = 24 * 3600
"""Seconds for which the previous secret still signs after a rotation, unless the client chooses otherwise."""
MAX_OVERLAP: Final = 30 * 24 * 3600


@dataclasses.dataclass(frozen=True, slots=True)
class SecretVersion:
    """Which of a client's secrets signs."""

    client: str
    version: int = 1
    """Grows with every rotation."""
    previous_until: dt.datetime | None = None
    """Until when the secret of the version before signs, too."""


@functools.lru_cache(maxsize=1024)
def derive_secret(installation: str, client: str, version: int) -> str:
    """Return a client's secret: ``whsec_`` and 32 bytes in base64. No client can derive the secret of another.

    :param installation: the secret of the installation, which is never sent to a client
    """
    message = b"dovecote webhook %d %b" % (version, client.encode("utf-8", "surrogatepass"))
    return "whsec_" + base64.b64encode(hmac.digest(installation.encode(), message, hashlib.sha256)).decode()


def valid_secrets(installation: str, version: SecretVersion, *, now: dt.datetime) -> list[str]:
    """Return the secrets that sign now, the current one first."""
    secrets = [derive_secret(installation, version.client, version.version)]
    if version.previous_until is not None and version.previous_until > now:
        secrets.append(derive_secret(installation, version.client, version.version - 1))
    return secrets
