"""Whether the public address leads to this Dovecote: providers call back there."""

import hmac
import ipaddress
import secrets
from typing import Final
from urllib.parse import urlsplit

import httpx

from service.cli.doctor.finding import Finding, mistake, ok, warning
from service.domain.callback_token import Tokens
from service.settings.model import Settings

PATIENCE: Final = 10.0
_GOOD: Final = 200
_REDIRECTS: Final = range(300, 400)
_PAGE: Final = "docs/callbacks.md has examples for proxies"


async def public_url(settings: Settings, callback_secret: str | None) -> list[Finding]:
    """Ask at the public address something that only this Dovecote can answer."""
    url = settings.public_url
    if url is None:
        advice = "to have callbacks: DOVECOTE_PUBLIC_URL=https://…, where providers reach this Dovecote"
        return [warning("public_url", "not set: providers cannot call back, and Dovecote polls", advice)]
    found = list(filter(None, [_reach(url)]))
    if callback_secret is None:
        advice = "start `dovecote serve`, and run this again"
        return [*found, warning("public_url", "cannot be looked at before there is a database", advice)]
    return [*found, await _who_answers(url, Tokens(callback_secret))]


def _reach(url: str) -> Finding | None:
    """Say what is wrong with an address before anybody goes there."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        near = not ipaddress.ip_address(host).is_global
    except ValueError:
        near = host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".lan"))
    if near:
        return warning("public_url", f"{host} is not an address of the internet: only what runs near can call back")
    if parts.scheme == "http":
        return warning(
            "public_url", "is plain http: whoever is on the way reads callbacks, and their tokens", "use https"
        )
    return None


async def _who_answers(url: str, tokens: Tokens) -> Finding:
    nonce = secrets.token_hex(16)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, follow_redirects=False) as client:
            answer = await client.get(f"{url}/callbacks/{nonce}")
    except httpx.HTTPError as error:
        return mistake(
            "public_url",
            f"{url} cannot be reached from here: {type(error).__name__} {error}".strip()[:300],
            "is the server running, and does the name lead to it? Where only this machine cannot reach its own address, "
            f"look from outside: {url}/callbacks/ must answer",
        )
    if answer.status_code in _REDIRECTS:
        there = urlsplit(answer.headers.get("location", ""))
        advice = f"providers may not follow: set public_url to where it leads{f' ({there.scheme}://{there.hostname})' if there.hostname else ''}"
        return mistake("public_url", f"{url} answers with a redirect", advice)
    proof = _proof_in(answer)
    if proof is None:
        says = f"{url} leads to something else than Dovecote (HTTP {answer.status_code})"
        return mistake("public_url", says, f"pass /callbacks/ on to Dovecote's port; {_PAGE}")
    if not hmac.compare_digest(proof, tokens.prove(nonce).encode()):
        says = f"{url} leads to another Dovecote, with another database or callback_secret"
        return mistake("public_url", says, "point it here, or use the settings of that one")
    return ok("public_url", f"{url} leads to this Dovecote")


def _proof_in(answer: httpx.Response) -> bytes | None:
    try:
        proof = answer.json().get("dovecote") if answer.status_code == _GOOD else None
    except (ValueError, AttributeError):
        return None
    return proof.encode("utf-8", "replace") if isinstance(proof, str) else None
