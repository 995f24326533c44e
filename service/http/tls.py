"""The certificate authorities that are trusted."""

import ssl
from pathlib import Path
from typing import Final

import httpx

TLS: Final = "dovecote.tls"
"""Extension of a request: the TLS context with the authorities that are trusted for it."""


def trusting(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return a context that trusts the usual authorities, or those of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` when set.

    :param ca_file: a PEM file with authorities that are trusted besides
    :raises OSError: when the file cannot be read
    :raises ssl.SSLError: when it holds no certificate
    """
    context = httpx.create_ssl_context(trust_env=True)
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context
