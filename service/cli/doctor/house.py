"""What is on this machine: keys and secrets, the database and its disk, and whether a server runs."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
from sqlalchemy.exc import DBAPIError

from service.cli.doctor.finding import Finding, mistake, ok, warning
from service.cli.installation import shown_database
from service.providers.registry import PROVIDERS
from service.settings.model import Settings
from service.store import secrets
from service.store.database import Database, StoreUnavailable, parse_url
from service.store.health import reason_of, why_not_writable
from service.store.migrate import newest, revision

PATIENCE: Final = 5.0
LITTLE_SPACE: Final = 1 << 30
NO_SPACE: Final = 100 << 20
FEWEST_CHARACTERS: Final = 8
"""A key of fewer different characters than this was not made by chance."""
_OBVIOUS: Final = ("changeme", "change-me", "secret", "password", "example", "dovecote", "test", "1234")
_MIB: Final = 1 << 20
_GOOD, _UNREADY = 200, 503


def keys(settings: Settings) -> Iterator[Finding]:
    """Look at the clients' keys, and at what clients may have done."""
    if not settings.api_keys:
        advice = 'to tell clients apart, or to be reached by others: DOVECOTE_API_KEYS="app=$(openssl rand -hex 24)"'
        yield warning("API keys", "none: whoever is on this machine is the client 'default'", advice)
    else:
        weak = [name for name, key in settings.api_keys.items() if _weak(key.get_secret_value())]
        if weak:
            yield warning(
                "API keys", f"easily guessed: that of {', '.join(weak)}", "make one by chance: openssl rand -hex 24"
            )
        else:
            yield ok("API keys", f"{len(settings.api_keys)}, each long enough")
    if settings.allow_private_webhooks:
        yield warning(
            "webhooks",
            "may go to loopback and private addresses: clients can reach what this machine can",
            "unset DOVECOTE_ALLOW_PRIVATE_WEBHOOKS where clients are not all yours",
        )


def _weak(key: str) -> bool:
    return len(set(key)) < FEWEST_CHARACTERS or any(word in key.lower() for word in _OBVIOUS)


def routes(settings: Settings) -> Iterator[Finding]:
    """Look whether somebody serves, and whether routes name only those that do."""
    if not settings.upstreams:
        variables = ", ".join(provider.key_variable for provider in PROVIDERS.values())
        yield mistake("upstreams", "none is configured: no task can be served", f"set one of {variables}")
    for family, names in settings.routes.items():
        missing = [name for name in names if name not in settings.upstreams]
        if missing:
            known = ", ".join(PROVIDERS[name].key_variable for name in missing if name in PROVIDERS)
            yield warning(
                "routes", f"{family} names {', '.join(missing)}, which is switched off", f"set its key: {known}"
            )


async def database(settings: Settings) -> tuple[list[Finding], Database | None]:
    """Look at the database; give it where it can be read."""
    url = parse_url(settings.database_url)
    sqlite = url.get_backend_name() == "sqlite"
    file = Path(url.database or "")
    if sqlite and not _is_there(file):
        return list(_no_file(file)), None
    opened = Database(settings.database_url)
    try:
        found = await revision(opened)
    except (StoreUnavailable, DBAPIError) as error:
        await opened.close()
        advice = (
            "is it running, and are host, user and password right?" if not sqlite else "may this user read the file?"
        )
        return [mistake("database", f"{shown_database(settings)}: {reason_of(error)}", advice)], None
    findings = [_schema(found, sqlite=sqlite), *(_disk(file) if sqlite else ())]
    if found != newest():
        await opened.close()
        return findings, None
    reason = await why_not_writable(opened)
    if reason is not None:
        advice = "the user of the server needs to own the file and its folder" if sqlite else "is it a standby?"
        findings.append(mistake("database", f"cannot be written: {reason}", advice))
    return findings, opened


def _is_there(file: Path) -> bool:
    return file.exists()


def _no_file(file: Path) -> Iterator[Finding]:
    folder = next(path for path in file.absolute().parents if path.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        yield warning("database", f"{file} is not there yet", "`dovecote serve` makes it")
    else:
        yield mistake("database", f"{file} is not there, and {folder} cannot be written", "choose another folder")
    yield from _disk(folder / "-")


def _schema(found: str | None, *, sqlite: bool) -> Finding:
    if found == newest():
        return ok("database", f"answers, schema {found}")
    says = f"has schema {found or 'none'}, and this version needs {newest()}"
    if sqlite:
        return warning("database", says, "`dovecote serve` migrates it when it starts")
    return mistake("database", says, "run `dovecote migrate`")


def _disk(file: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(file.absolute().parent).free
    says = f"{free // _MIB} MiB free beside the database"
    if free < NO_SPACE:
        yield mistake("disk", says, "make room: without any, callbacks are turned away and nothing is submitted")
    elif free < LITTLE_SPACE:
        yield warning("disk", says, "make room")
    else:
        yield ok("disk", says)


async def kept_secret(settings: Settings, opened: Database | None, name: str) -> str | None:
    """Find a secret: in the settings, else the one that the database keeps."""
    given = getattr(settings, name)
    if given is not None:
        value: str = given.get_secret_value()
        return value
    if opened is None:
        return None
    async with opened.reading() as connection:
        return await secrets.find(connection, name)


def webhook_secret(settings: Settings, kept: str | None) -> Finding:
    """Say where the secret that signs completion webhooks is."""
    if kept is None:
        return warning("webhook secret", "none yet", "it is made when `dovecote serve` starts for the first time")
    place = "in the settings" if settings.webhook_secret is not None else "kept in the database"
    return ok("webhook secret", f"{place}; `dovecote secret webhook` prints it")


async def server(settings: Settings) -> Finding:
    """See whether a server answers where the settings say that one listens."""
    if settings.port == 0:
        return warning("server", "takes any free port, so it cannot be looked for")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - read, not bound
    place = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            answer = await client.get(f"{place}/readyz")
        said = answer.json() if answer.status_code in {_GOOD, _UNREADY} else None
    except httpx.HTTPError:
        return warning(
            "server", f"none answers at {place}", "start it here with `dovecote serve`, unless it runs elsewhere"
        )
    except ValueError:
        said = None
    if not isinstance(said, dict) or "status" not in said:
        return mistake("server", f"something else than Dovecote answers at {place}", "choose another DOVECOTE_PORT")
    if answer.status_code == _UNREADY:
        return mistake("server", f"cannot work: {str(said.get('detail'))[:200]}")
    return ok("server", f"answers at {place}")
