"""Read the settings and secrets of an installation, beside a server that may be running."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli import exits
from service.cli.printing import clean
from service.domain.webhook_secret import SecretVersion, derive_secret
from service.settings.load import SettingsError, load
from service.settings.model import Settings
from service.store import secrets
from service.store.database import COMMAND_TIMEOUT, Database, StoreUnavailable, parse_url
from service.store.health import reason_of
from service.store.migrate import named, newest, revision
from service.store.webhooks import secrets as webhook_secrets

_NONE_YET = "this database has no webhook secret yet: the first start of `dovecote serve` creates it"


def read_settings(config: Path | None, **given: Any) -> Settings:
    """Return the settings, or end the process and list every mistake in them.

    :param given: settings from the command line; None is not set
    """
    try:
        return load(os.environ, config, given=given)
    except SettingsError as error:
        print(
            "The settings have mistakes:",
            *(clean(f"  - {mistake}") for mistake in error.mistakes),
            sep="\n",
            file=sys.stderr,
        )
        sys.exit(exits.SETTINGS)


def shown_settings(settings: Settings) -> Mapping[str, Any]:
    """Return the settings by their dotted names, with stars for secrets."""
    return dict(_flat(settings.model_dump(mode="json") | {"database_url": shown_database(settings)}))


def shown_database(settings: Settings) -> str:
    """Return the URL of the database without any password."""
    url = parse_url(settings.database_url)
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string()


def read_webhook_secret(settings: Settings, client: str) -> str:
    """Return the secret that signs a client's webhooks, or end the process with the reason where there is none."""
    try:
        kept, version = (
            asyncio.run(_kept(settings, client)) if has_database(settings) else (None, SecretVersion(client))
        )
    except StoreUnavailable as error:
        give_up(str(error))
    if settings.webhook_secret is not None:
        kept = settings.webhook_secret.get_secret_value()
    return give_up(_NONE_YET) if kept is None else derive_secret(kept, client, version.version)


def database_fault(settings: Settings, error: StoreUnavailable) -> str:
    """Return the fault of the database, its place, and the remedy; never its password."""
    return f"{shown_database(settings)}: {error.fault}"


def give_up(reason: str, code: int = exits.UNAVAILABLE) -> NoReturn:
    """End the process with a reason; by default with the exit code for something that is not available."""
    print(clean(f"dovecote: {reason}"), file=sys.stderr)
    sys.exit(code)


def has_database(settings: Settings) -> bool:
    """Return whether the database exists. Opening a missing SQLite file would create it."""
    url = parse_url(settings.database_url)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


async def _kept(settings: Settings, client: str) -> tuple[str | None, SecretVersion]:
    """Return the secret that the database stores, and which version a client uses. A read needs no lock file."""
    database = Database(settings.database_url)
    try:
        if await revision(database) is None:
            return None, SecretVersion(client)
        async with database.reading() as connection:
            version = (await webhook_secrets.of_clients(connection, [client]))[client]
            return await secrets.find(connection, "webhook_secret"), version
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def read_connection(
    settings: Settings, *, command_timeout: float | None = COMMAND_TIMEOUT
) -> AsyncIterator[AsyncConnection]:
    """Yield a connection for reads, beside a server that may be running.

    :param command_timeout: seconds for one statement on PostgreSQL; None: no limit
    :raises LookupError: with the reason, when there is no database of this version
    """
    if not has_database(settings):
        raise LookupError("there is no database yet: the first start of `dovecote serve` creates it")
    database = Database(settings.database_url, command_timeout=command_timeout)
    try:
        found = await revision(database)
        if found != newest():
            raise LookupError(
                f"the database has {named(found)}, this version reads schema {newest()}: run `dovecote migrate`"
            )
        async with database.reading() as connection:
            yield connection
    except (StoreUnavailable, DBAPIError) as error:
        raise LookupError(reason_of(error)) from error
    finally:
        await database.close()


def _flat(document: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
