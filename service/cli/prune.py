"""``dovecote prune``: show or remove what is older than the settings of retention allow."""

import asyncio
import dataclasses
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.cli.layout import plain_table, shown
from service.cli.options import AS_JSON, CONFIG
from service.cli.printing import print_json, print_out, say

if TYPE_CHECKING:
    from service.flows.retention.sweep import Sweep
    from service.settings.model import Settings
    from service.store.retention_report import Report


@click.command("prune", short_help="Remove data that is older than the retention settings allow.")
@CONFIG
@click.option("--dry-run", is_flag=True, help="Only count what would be removed. The server may run meanwhile.")
@click.option(
    "--compact", is_flag=True, help="Rewrite the SQLite file or PostgreSQL's tables afterwards, without free space."
)
@AS_JSON
def command(config: Path | None, *, dry_run: bool, compact: bool, as_json: bool) -> None:
    """Remove what is older than the settings in [retention] allow.

    A running worker does this every minute by itself. The command does it at once. On SQLite the server must be stopped for
    it, except for --dry-run. With --compact, stop it on PostgreSQL, too: a table cannot be used while it is rewritten.
    """
    from service.cli.installation import give_up, read_settings
    from service.store.database import AlreadyRunning, StoreUnavailable
    from service.store.postgresql_space import TableInUse

    settings = read_settings(config)
    if dry_run and compact:
        raise click.UsageError("--dry-run changes nothing: leave out --compact")
    try:
        if dry_run:
            _print_report(settings, asyncio.run(_count(settings)), as_json=as_json)
        else:
            _print_sweep(asyncio.run(_prune(settings, compact=compact)), as_json=as_json)
    except LookupError as error:
        give_up(str(error.args[0]))
    except (AlreadyRunning, StoreUnavailable, TableInUse) as error:
        give_up(str(error))


async def _count(settings: "Settings") -> "dict[str, Report | None]":
    """Return a report for each kind; None where it is kept without an end."""
    from service.cli.installation import read_connection
    from service.flows.retention.limits import limits_at
    from service.store import ledger
    from service.store.retention import STEPS
    from service.store.retention_report import report

    now = dt.datetime.now(dt.UTC)
    found: dict[str, Report | None] = {}
    async with read_connection(settings, command_timeout=None) as connection:
        await ledger.make_read_only(connection)
        for kind in STEPS:
            limits = limits_at(settings.retention, kind, now)
            found[kind] = None if limits is None else await report(connection, kind, limits)
    return found


async def _prune(settings: "Settings", *, compact: bool) -> "Sweep":
    from service.app import opened
    from service.flows.retention.sweep import run_to_the_end
    from service.store import postgresql_space, sqlite_space

    async with opened(settings) as context:
        sweep = await run_to_the_end(context, alone=context.database.sqlite)
        if compact and context.database.sqlite:
            await sqlite_space.compact(context.database)
    if compact and not context.database.sqlite:
        await postgresql_space.compact(settings.database_url)
    return sweep


def _print_report(settings: "Settings", found: "dict[str, Report | None]", *, as_json: bool) -> None:
    if as_json:
        print_json({kind: _document(settings, kind, each) for kind, each in found.items()})
        return
    table = plain_table("data", "kept for", "would be removed", "content")
    for kind, each in found.items():
        rows, size = ("–", "–") if each is None else (str(each.rows), _size(each.size))
        table.add_row(kind, shown(getattr(settings.retention, kind)), rows, size)
    print_out(table)
    tasks = found["tasks"]
    for reason, count in ({} if tasks is None else tasks.kept).items():
        say(f"{count} old {'task is' if count == 1 else 'tasks are'} kept: {reason}")


def _document(settings: "Settings", kind: str, found: "Report | None") -> dict[str, Any]:
    kept_for = {"kept_for": getattr(settings.retention, kind)}
    return kept_for if found is None else {**kept_for, **dataclasses.asdict(found)}


def _print_sweep(sweep: "Sweep", *, as_json: bool) -> None:
    if as_json:
        print_json({"removed": dict(sweep.removed), "longest_step_seconds": round(sweep.longest, 4)})
        return
    if not sweep.removed:
        say("Nothing is older than the settings allow.")
    for kind, count in sweep.removed.items():
        say(f"{kind}: {count} removed")


def _size(size: int) -> str:
    units = ("B", "kB", "MB", "GB")
    number, unit = float(size), 0
    while number >= 1000 and unit < len(units) - 1:  # noqa: PLR2004 - units are decimal
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} {units[unit]}" if unit == 0 else f"{number:.1f} {units[unit]}"
