"""Check API keys, what clients may do, the secrets, and the routes."""

import datetime as dt
from collections.abc import AsyncIterator, Iterator
from typing import Final

from service.cli.doctor.finding import Finding, error, ok, warning
from service.providers.registry import PROVIDERS
from service.settings.model import Settings
from service.settings.values import is_loopback
from service.store import api_keys, secrets
from service.store.database import Database

MIN_DISTINCT_CHARACTERS: Final = 8
"""A random key has more different characters than this."""
_OBVIOUS: Final = ("changeme", "change-me", "secret", "password", "example", "dovecote", "test", "1234")


async def check_api_keys(settings: Settings, opened: Database | None) -> list[Finding]:
    """Check the keys in the settings and in the database, and what clients may reach.

    :param opened: the database, where it can be read
    """
    return [finding async for finding in _api_keys(settings, opened)]


async def _api_keys(settings: Settings, opened: Database | None) -> AsyncIterator[Finding]:
    kept = await _usable_keys(opened)
    weak = [name for name, key in settings.api_keys.items() if _is_weak(key.get_secret_value())]
    if weak:
        yield warning("API keys", f"easily guessed: {', '.join(weak)}", "make random keys: openssl rand -hex 24")
    elif settings.api_keys or kept:
        counts = [(len(settings.api_keys), "in the settings"), (kept or 0, "in the database")]
        yield ok("API keys", ", ".join(f"{count} {where}" for count, where in counts if count))
    elif kept is not None and await _any_key(opened):
        advice = "make one: dovecote keys create"
        yield error("API keys", "every key in the database is revoked or expired, so every request is refused", advice)
    else:
        yield _no_key(settings)
    if settings.allow_private_webhooks:
        yield warning(
            "webhooks",
            "may go to loopback and private addresses: clients can reach every host that this machine reaches",
            "unset DOVECOTE_ALLOW_PRIVATE_WEBHOOKS unless every client is trusted",
        )


def _no_key(settings: Settings) -> Finding:
    advice = 'set DOVECOTE_API_KEYS="app=$(openssl rand -hex 24)", or run dovecote keys create'
    if is_loopback(settings.host):
        return warning("API keys", "none: every program on this machine is the client 'default'", advice)
    return error("API keys", f"none, and host = {settings.host} can be reached by others: serve does not start", advice)


def _is_weak(key: str) -> bool:
    return len(set(key)) < MIN_DISTINCT_CHARACTERS or any(word in key.lower() for word in _OBVIOUS)


async def _usable_keys(opened: Database | None) -> int | None:
    """Return the number of keys in the database that are accepted now; None where it cannot be read."""
    if opened is None:
        return None
    now = dt.datetime.now(dt.UTC)
    async with opened.reading() as connection:
        keys = await api_keys.every(connection)
    return sum(key.revoked_at is None and (key.expires_at is None or key.expires_at > now) for key in keys)


async def _any_key(opened: Database | None) -> bool:
    if opened is None:
        return False
    async with opened.reading() as connection:
        return await api_keys.any_created(connection)


async def kept_secret(settings: Settings, opened: Database | None, name: str) -> str | None:
    """Return a secret from the settings, or from the database; None where neither has it."""
    given = getattr(settings, name)
    if given is not None:
        value: str = given.get_secret_value()
        return value
    if opened is None:
        return None
    async with opened.reading() as connection:
        return await secrets.find(connection, name)


def check_webhook_secret(settings: Settings, kept: str | None) -> Finding:
    """Report where the secret that signs completion webhooks is kept."""
    if kept is None:
        return warning("webhook secret", "none yet", "the first start of `dovecote serve` makes it")
    place = "in the settings" if settings.webhook_secret is not None else "in the database"
    return ok("webhook secret", f"kept {place}; `dovecote secret webhook` prints it")


def check_routes(settings: Settings) -> Iterator[Finding]:
    """Check that an upstream is configured, and that routes name only upstreams with a key."""
    if not settings.upstreams:
        variables = ", ".join(provider.key_variable for provider in PROVIDERS.values())
        yield error("upstreams", "none is configured: no task can be served", f"set one of {variables}")
    for family, names in settings.routes.items():
        missing = [name for name in names if name not in settings.upstreams]
        if missing:
            known = ", ".join(PROVIDERS[name].key_variable for name in missing if name in PROVIDERS)
            yield warning("routes", f"{family} names {', '.join(missing)}, which has no key", f"set its key: {known}")
