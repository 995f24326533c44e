"""``dovecote ledger``: which submissions were paid for, read from the database."""

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli.arguments import read_moment
from service.cli.layout import plain_table, shown
from service.cli.options import AS_JSON, CONFIG
from service.cli.printing import print_json, print_out

if TYPE_CHECKING:
    from service.flows.money.ledger import Account
    from service.settings.model import Settings
    from service.store.ledger import Entry

_CHOICES: Final = ("upstream", "family", "day", "client")
_COLUMNS: Final = ("submissions", "paid", "perhaps paid", "refunded", "perhaps refunded", "unpaid", "adopted")


@click.command("ledger", short_help="Show what was paid for.")
@CONFIG
@click.option("--since", metavar="WHEN", help="Only submissions sent since then: 2h, 7d, or a time.")
@click.option("--until", metavar="WHEN", help="Only submissions sent before then.")
@click.option(
    "--by",
    "groups",
    metavar="GROUP,…",
    default="upstream",
    show_default=True,
    help=f"The groups, in this order: {', '.join(_CHOICES)}. Days are in UTC.",
)
@AS_JSON
def command(config: Path | None, since: str | None, until: str | None, groups: str, *, as_json: bool) -> None:
    """Show how many submissions were paid for, perhaps paid for, or refunded.

    Every submission counts in one column. "Perhaps paid" are submissions without a response, and duplicate jobs.
    "Perhaps refunded" are failed jobs whose refund follows only from the provider's documentation. "Adopted" are jobs that
    were bought elsewhere; their costs are not counted. The command only reads the database: the server may run meanwhile.
    """
    from service.cli.installation import read_settings
    from service.flows.money.ledger import summarize

    by = _groups(groups)
    now = dt.datetime.now(dt.UTC)
    span = [None if when is None else dt.datetime.fromisoformat(read_moment(when, now=now)) for when in (since, until)]
    accounts, total = summarize(_entries(read_settings(config), by, *span))
    if as_json:
        rows = [{**dict(zip(by, group, strict=True)), **each.as_json()} for group, each in accounts.items()]
        written = {
            name: None if at is None else at.isoformat() for name, at in zip(("since", "until"), span, strict=True)
        }
        print_json({**written, "by": by, "rows": rows, "total": total.as_json()})
        return
    _print(by, accounts, total)


def _groups(written: str) -> list[str]:
    names = [name.strip() for name in written.split(",") if name.strip()]
    unknown = [name for name in names if name not in _CHOICES]
    if unknown or not names or len(set(names)) < len(names):
        raise click.UsageError(f"--by takes one or more of {', '.join(_CHOICES)}, each at most once")
    return names


def _entries(
    settings: "Settings", by: Sequence[str], since: dt.datetime | None, until: dt.datetime | None
) -> list["Entry"]:
    """Return the entries of the database, or end the process with the reason where it cannot be read."""
    from service.cli.installation import give_up, read_connection
    from service.store import ledger

    async def read() -> list["Entry"]:
        async with read_connection(settings) as connection:
            await ledger.make_read_only(connection)
            return await ledger.entries(connection, by=by, since=since, until=until)

    try:
        return asyncio.run(read())
    except LookupError as error:
        give_up(str(error.args[0]))


def _print(by: Sequence[str], accounts: Mapping[tuple[str, ...], "Account"], total: "Account") -> None:
    table = plain_table(*by, *_COLUMNS, "cost")
    for group, account in accounts.items():
        table.add_row(*map(shown, group), *_cells(account))
    if accounts:
        table.add_section()
    table.add_row("total", *[""] * (len(by) - 1), *_cells(total), style="bold")
    print_out(table)


def _cells(account: "Account") -> list[str]:
    document: dict[str, Any] = account.as_json()
    counts = [
        document["submissions"],
        document["paid"]["known"],
        document["paid"]["probable"],
        document["refunded"]["known"],
        document["refunded"]["probable"],
        document["unpaid"],
        document["adopted"],
    ]
    cost = ", ".join(f"{amount:g} {unit}" for unit, amount in document["cost"].items())
    return [*map(str, counts), cost or "–"]
