"""Check that the public URL leads to this Dovecote: providers call back there."""

import hmac
import ipaddress
import secrets
from typing import Final
from urllib.parse import urlsplit

import httpx

from service.cli.doctor.finding import Finding, error, ok, warning
from service.domain.callback_token import Tokens
from service.settings.model import Settings
from service.settings.values import parts_of

TIMEOUT: Final = 10.0
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_DOCS: Final = "docs/callbacks.md has examples for proxies"


async def check_public_url(settings: Settings, callback_secret: str | None) -> list[Finding]:
    """Request at the public URL something that only this Dovecote can answer."""
    url = settings.public_url
    if url is None:
        advice = "for callbacks set DOVECOTE_PUBLIC_URL=https://…, where providers reach this Dovecote"
        return [warning("public_url", "not set: providers cannot call back, and Dovecote polls", advice)]
    found = list(filter(None, [_check_address(url)]))
    if callback_secret is None:
        advice = "start `dovecote serve`, and run this again"
        return [*found, warning("public_url", "cannot be checked before the database exists", advice)]
    return [*found, await _check_answer(url, Tokens(callback_secret))]


def _check_address(url: str) -> Finding | None:
    """Check a URL by itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        near = not ipaddress.ip_address(host).is_global
    except ValueError:
        near = host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".lan"))
    if near:
        return warning("public_url", f"{host} is not a public address: only programs in this network can call back")
    if parts.scheme == "http":
        return warning(
            "public_url", "is plain http: others on the way can read callbacks and their tokens", "use https"
        )
    return None


async def _check_answer(url: str, tokens: Tokens) -> Finding:
    nonce = secrets.token_hex(16)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT, follow_redirects=False) as client:
            answer = await client.get(f"{url}/callbacks/{nonce}")
    except httpx.HTTPError as problem:
        return error(
            "public_url",
            f"{url} cannot be reached from here: {type(problem).__name__} {problem}".strip()[:300],
            "is the server running, and does the name lead to it? Where this machine cannot reach its own public address, "
            f"request {url}/callbacks/ from outside: it must answer",
        )
    if answer.status_code in _REDIRECTS:
        there = parts_of(answer.headers.get("location", ""))
        target = f" ({there.scheme}://{there.hostname})" if there is not None and there.hostname else ""
        advice = f"providers may not follow it: set public_url to its target{target}"
        return error("public_url", f"{url} answers with a redirect", advice)
    proof = _proof_in(answer)
    if proof is None:
        message = f"{url} is not served by Dovecote (HTTP {answer.status_code})"
        return error("public_url", message, f"forward /callbacks/ to Dovecote's port; {_DOCS}")
    if not hmac.compare_digest(proof, tokens.prove(nonce).encode()):
        message = f"{url} is served by another Dovecote, with another database or callback_secret"
        return error("public_url", message, "point it here, or use the settings of that Dovecote")
    return ok("public_url", f"{url} is served by this Dovecote")


def _proof_in(answer: httpx.Response) -> bytes | None:
    try:
        proof = answer.json().get("dovecote") if answer.status_code == _OK else None
    except (ValueError, AttributeError):
        return None
    return proof.encode("utf-8", "replace") if isinstance(proof, str) else None
