"""``dovecote doctor``: everything that a new operator gets wrong, looked at in one go, each with what to do."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.cli import exits
from service.cli.options import AS_JSON, CONFIG
from service.cli.printing import clean, print_json

if TYPE_CHECKING:
    from service.cli.doctor.finding import Finding


@click.command("doctor", short_help="Look for mistakes in this installation.")
@CONFIG
@AS_JSON
def command(config: Path | None, *, as_json: bool) -> None:
    """Look for what is wrong with this installation, and say what to do.

    Settings, keys, database, disk, public address, and every upstream: host, key, credit, callbacks, clock. Nothing is
    bought or changed, and the server may run meanwhile. Ends with 1 when there is a mistake (✗); a warning (!) is none.
    """
    found = asyncio.run(examine(os.environ, config))
    well = all(each.verdict != "mistake" for each in found)
    if as_json:
        print_json({"well": well, "findings": [each.as_json() for each in found]})
    else:
        _print(found)
    click.get_current_context().exit(exits.OK if well else exits.NOT_SUCCEEDED)


async def examine(environment: Mapping[str, str], config: Path | None) -> list["Finding"]:
    """Look at everything; where the settings have mistakes, at nothing else."""
    from service.cli.doctor import address, house
    from service.cli.doctor.finding import mistake, ok, secrets_of, without
    from service.cli.doctor.upstreams import upstreams
    from service.settings.load import SettingsError, load

    try:
        settings = load(environment, config)
    except SettingsError as error:
        return [mistake("settings", said) for said in error.mistakes]
    found = [ok("settings", "no mistakes"), *house.keys(settings), *house.routes(settings)]
    of_database, database = await house.database(settings)
    found += of_database
    try:
        webhook_secret, callback_secret = [
            await house.kept_secret(settings, database, name) for name in ("webhook_secret", "callback_secret")
        ]
        found += [house.webhook_secret(settings, webhook_secret), await house.server(settings)]
        found += await address.public_url(settings, callback_secret)
        found += await upstreams(settings, database)
    finally:
        if database is not None:
            await database.close()
    kept = [secret for secret in (webhook_secret, callback_secret) if secret is not None]
    return without(found, [*secrets_of(settings), *kept])


def _print(found: Sequence["Finding"]) -> None:
    from service.cli.doctor.finding import SIGNS

    width = max(len(each.topic) for each in found)
    for each in found:
        sign, colour = SIGNS[each.verdict]
        click.echo(f"{click.style(sign, fg=colour)} {clean(each.topic):<{width}}  {_one_line(each.says)}")
        if each.advice is not None:
            click.echo(f"  {'':<{width}}  → {_one_line(each.advice)}")


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())
