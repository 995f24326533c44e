"""``dovecote doctor``: check an installation and report what is wrong and what to do."""

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


@click.command("doctor", short_help="Check this installation.")
@CONFIG
@AS_JSON
def command(config: Path | None, *, as_json: bool) -> None:
    """Check this installation and report what is wrong and what to do.

    Checks settings, keys, database, disk, worker, queues, server, public address, storage, and every upstream: host, key, credit,
    callbacks, results, clock. It buys nothing and leaves nothing behind, and the server may run meanwhile. The exit code is 1 when there is an error (✗);
    a warning (!) does not count.
    """
    findings = asyncio.run(examine(os.environ, config))
    well = all(each.status != "error" for each in findings)
    if as_json:
        print_json({"ok": well, "findings": [each.as_json() for each in findings]})
    else:
        _print(findings)
    click.get_current_context().exit(exits.OK if well else exits.NOT_SUCCEEDED)


async def examine(environment: Mapping[str, str], config: Path | None) -> list["Finding"]:
    """Run every check. Where the settings have mistakes, report these alone."""
    from service.cli.doctor import database, keys, server
    from service.cli.doctor.clock import check_database_clock
    from service.cli.doctor.finding import error, ok, redacted, secrets_of
    from service.cli.doctor.public_url import check_public_url
    from service.cli.doctor.storage import check_storage
    from service.cli.doctor.upstreams import check_upstreams
    from service.cli.doctor.work import check_work
    from service.settings.load import SettingsError, load

    try:
        settings = load(environment, config)
    except SettingsError as mistakes:
        return [error("settings", mistake) for mistake in mistakes.mistakes]
    findings = [ok("settings", "no mistakes"), *keys.check_routes(settings)]
    about_database, opened = await database.check_database(settings)
    try:
        findings += [*await keys.check_api_keys(settings, opened), *about_database]
        findings += [*await check_database_clock(opened), *await check_work(opened, stores_files=settings.stores_files)]
        webhook_secret, callback_secret = [
            await keys.kept_secret(settings, opened, name) for name in ("webhook_secret", "callback_secret")
        ]
        findings += [keys.check_webhook_secret(settings, webhook_secret), await server.check_server(settings)]
        findings += await check_public_url(settings, callback_secret)
        findings += await check_storage(settings)
        findings += await check_upstreams(settings, opened)
    finally:
        if opened is not None:
            await opened.close()
    kept = [secret for secret in (webhook_secret, callback_secret) if secret is not None]
    return redacted(findings, [*secrets_of(settings), *kept])


def _print(findings: Sequence["Finding"]) -> None:
    from service.cli.doctor.finding import SIGNS

    width = max(len(each.check) for each in findings)
    for each in findings:
        sign, colour = SIGNS[each.status]
        click.echo(f"{click.style(sign, fg=colour)} {clean(each.check):<{width}}  {_one_line(each.message)}")
        if each.advice is not None:
            click.echo(f"  {'':<{width}}  → {_one_line(each.advice)}")


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())
