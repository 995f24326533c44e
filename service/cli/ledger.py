"""``dovecote ledger``: what was bought, and what for, read from the database itself."""

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
    from service.flows.ledger import Account
    from service.settings.model import Settings
    from service.store.ledger import Entry

_CHOICES: Final = ("upstream", "family", "day", "client")
_COLUMNS: Final = ("submissions", "paid", "perhaps", "refunded", "perhaps", "unpaid")


@click.command("ledger", short_help="Show what was paid for.")
@CONFIG
@click.option("--since", metavar="WHEN", help="Only what was sent since then: 2h, 7d, or a time.")
@click.option("--until", metavar="WHEN", help="Only what was sent before then.")
@click.option(
    "--by",
    "groups",
    metavar="GROUP,…",
    default="upstream",
    show_default=True,
    help=f"What to group by, in this order: {', '.join(_CHOICES)}. Days are in UTC.",
)
@AS_JSON
def command(config: Path | None, since: str | None, until: str | None, groups: str, *, as_json: bool) -> None:
    """Show the books: submissions, and which of them were paid for, perhaps paid for, or given back.

    Every submission counts in one column. "Perhaps" after "paid" are submissions whose answer got lost, and jobs made
    besides the one that serves their task; after "refunded" jobs that failed, where only the provider's pages say that
    the price is given back. The database is only read: the server may run meanwhile.
    """
    from service.cli.installation import read_settings
    from service.flows.ledger import books

    by = _groups(groups)
    now = dt.datetime.now(dt.UTC)
    span = [None if when is None else dt.datetime.fromisoformat(read_moment(when, now=now)) for when in (since, until)]
    accounts, total = books(_entries(read_settings(config), by, *span))
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
        raise click.UsageError(f"--by takes each of {', '.join(_CHOICES)} at most once, and one of them at least")
    return names


def _entries(
    settings: "Settings", by: Sequence[str], since: dt.datetime | None, until: dt.datetime | None
) -> list["Entry"]:
    """Read the database, or end the process with the reason why it cannot be."""
    from service.cli.installation import give_up, looking
    from service.store import ledger

    async def read() -> list["Entry"]:
        async with looking(settings) as connection:
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
    told: dict[str, Any] = account.as_json()
    counts = [
        told["submissions"],
        told["paid"]["known"],
        told["paid"]["probable"],
        told["refunded"]["known"],
        told["refunded"]["probable"],
        told["unpaid"],
    ]
    cost = ", ".join(f"{amount:g} {unit}" for unit, amount in told["cost"].items())
    return [*map(str, counts), cost or "–"]
