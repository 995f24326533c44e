"""What an installation has been set up with: its settings and its secrets, read without getting in a server's way."""

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
from service.settings.load import SettingsError, load
from service.settings.model import Settings
from service.store import secrets
from service.store.database import Database, StoreUnavailable, parse_url
from service.store.health import reason_of
from service.store.migrate import newest, revision

_NONE_YET = "this database has no webhook secret yet: it is made when `dovecote serve` starts for the first time"


def read_settings(config: Path | None, **given: Any) -> Settings:
    """Read the settings or end the process with every mistake in them.

    :param given: settings from the command line; None is not set
    """
    try:
        return load(os.environ, config, given=given)
    except SettingsError as error:
        print(
            "The settings have mistakes:", *(f"  - {mistake}" for mistake in error.mistakes), sep="\n", file=sys.stderr
        )
        sys.exit(exits.SETTINGS)


def shown_settings(settings: Settings) -> Mapping[str, Any]:
    """Give the settings by their dotted names, with stars for secrets."""
    return dict(_flat(settings.model_dump(mode="json") | {"database_url": shown_database(settings)}))


def shown_database(settings: Settings) -> str:
    """Give the database's URL without a password, wherever in it one may stand."""
    url = parse_url(settings.database_url)
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string()


def read_webhook_secret(settings: Settings) -> str:
    """Find out what messages are signed with, or end the process with the reason why nobody knows yet."""
    if settings.webhook_secret is not None:
        return settings.webhook_secret.get_secret_value()
    try:
        kept = asyncio.run(_kept(settings)) if has_database(settings) else None
    except StoreUnavailable as error:
        give_up(str(error))
    return give_up(_NONE_YET) if kept is None else kept


def give_up(reason: str, code: int = exits.UNAVAILABLE) -> NoReturn:
    """End the process, by default because something that it needs is not available."""
    print(f"dovecote: {reason}", file=sys.stderr)
    sys.exit(code)


def has_database(settings: Settings) -> bool:
    """Whether there is a database to ask: to open a SQLite file that is not there would make it."""
    url = parse_url(settings.database_url)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


async def _kept(settings: Settings) -> str | None:
    """Read the secret that the database keeps. It takes no lock: on SQLite the server's is for those who write."""
    database = Database(settings.database_url)
    try:
        if await revision(database) is None:
            return None
        async with database.reading() as connection:
            return await secrets.find(connection, "webhook_secret")
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def looking(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """Lend a connection for reads, beside a server that may be running.

    :raises LookupError: with the reason, when there is no database of this version to look at
    """
    if not has_database(settings):
        raise LookupError("there is no database yet: it is made when `dovecote serve` starts for the first time")
    database = Database(settings.database_url)
    try:
        found = await revision(database)
        if found != newest():
            raise LookupError(
                f"the database has schema {found or 'none'}, this version reads {newest()}: run `dovecote migrate`"
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
