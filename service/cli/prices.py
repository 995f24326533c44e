"""``dovecote prices``: the price book, and the prices that gateways publish."""

import asyncio
import datetime as dt
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from service.cli import exits
from service.cli.layout import add_last_column, one_line, plain_table, shown
from service.cli.options import AS_JSON, CONFIG
from service.cli.printing import print_json, print_out, say

if TYPE_CHECKING:
    from service.domain.money.refresh import Difference, Row
    from service.domain.money.rules import Rule
    from service.settings.model import Settings

_SHOWN: Final = frozenset({"new", "changed", "held", "vanished"})


@click.group("prices", short_help="Show prices, and read those of gateways.")
def command() -> None:
    """Show the price book, and read the prices that gateways publish for machines."""


@command.command("list", short_help="Show the price book.")
@CONFIG
@AS_JSON
def list_prices(config: Path | None, *, as_json: bool) -> None:
    """Show every row of the price book: those that come with Dovecote, and your own."""
    rules = _rules(_settings(config))
    if as_json:
        print_json({"prices": [_document(rule) for rule in rules]})
        return
    table = plain_table("id", "upstream", "model", "rate", "unit", "per", "read on")
    add_last_column(table, "conditions")
    for rule in rules:
        when = ", ".join(f"{name} = {' or '.join(filter(None, values))}" for name, values in rule.when.items())
        cells = (rule.id, rule.upstream, rule.model or "every", str(rule.rate.normalize()), rule.unit, rule.per)
        table.add_row(*map(shown, cells), str(rule.checked), one_line(when))
    print_out(table)


@command.command("refresh", short_help="Read the prices of a gateway.")
@click.argument("upstream")
@CONFIG
@click.option("--group", metavar="NAME", help="The group of your key at the gateway; default: the most expensive.")
@click.option(
    "--write",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the prices into a file.",
)
@click.option("--accept", is_flag=True, help="Also take jumps above a factor of 3, prices of 0 and vanished models.")
@AS_JSON
def refresh(
    upstream: str, config: Path | None, group: str | None, file: Path | None, *, accept: bool, as_json: bool
) -> None:
    """Read the prices of a new-api gateway (GET /api/pricing), and show the differences from those of FILE.

    Nothing is written without --write. Name the file in the setting money.prices_file. Other rows of the file stay. Jumps above
    a factor of 3, prices in another unit, prices of 0 and models that have vanished are held: the old row stays until you pass
    --accept.
    """
    from service.domain.money.refresh import as_toml, compare

    settings = _settings(config)
    known, others = _rules_of_file(file), _others_of_file(file, upstream)
    rows, unusable = _read(settings, upstream, group)
    found = compare(upstream, known, rows, accept=accept)
    if as_json:
        print_json({"upstream": upstream, "differences": [_difference(each) for each in found], "unusable": unusable})
    else:
        _print(found, unusable)
    if file is not None:
        kept = [each.row for each in found if each.row is not None]
        today = dt.datetime.now(dt.UTC).date()
        _write(file, as_toml(upstream, kept, on=today, source="/api/pricing", others=others))
        say(f"{file}: {len(kept)} prices written.")


def _settings(config: Path | None) -> "Settings":
    from service.cli.installation import read_settings

    return read_settings(config)


def _rules(settings: "Settings") -> "Sequence[Rule]":
    from service.settings.prices import load_prices

    return load_prices(settings.money.prices_file, shipped=settings.money.shipped_prices).rules


def _rules_of_file(file: Path | None) -> "Sequence[Rule]":
    from service.cli.installation import give_up
    from service.settings.prices import PriceError, load_prices

    if file is None or not file.exists():
        return ()
    try:
        return load_prices(file, shipped=False).rules
    except PriceError as error:
        give_up(str(error))


def _others_of_file(file: Path | None, upstream: str) -> str:
    """Return the text of the rows that a refresh does not replace."""
    from service.domain.money.refresh import others_of

    if file is None or not file.exists():
        return ""
    found = others_of(upstream, file.read_text(encoding="utf-8-sig"))
    if found is None:
        raise click.UsageError(f"{file} has other rows that cannot be kept apart: write into a file of its own")
    return found


def _write(file: Path, text: str) -> None:
    """Write a price file that is sound; else leave it as it is, and end the process with the reasons."""
    from service.cli.installation import give_up
    from service.domain.money.book import read_book

    _, mistakes = read_book(tomllib.loads(text))
    if mistakes:
        told = "; ".join(f"{each.path}: {each.message}" for each in mistakes)
        give_up(f"nothing is written, because {file} would have mistakes: {told}", exits.SETTINGS)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be written ({error.strerror})") from None


def _read(settings: "Settings", name: str, group: str | None) -> "tuple[list[Row], int]":
    """Return the prices of an upstream, or end the process with the reason where it shows none."""
    from service.cli.installation import give_up
    from service.domain.errors import UpstreamError

    try:
        return asyncio.run(_ask(settings, name, group))
    except KeyError:
        give_up(f"no upstream {name[:80]!r} is configured")
    except UpstreamError as error:
        give_up(f"{name} does not show its prices: {error}")


async def _ask(settings: "Settings", name: str, group: str | None) -> "tuple[list[Row], int]":
    from service.domain.callback_token import Tokens
    from service.flows.context import Context, upstreams_of
    from service.flows.money.prices import listed
    from service.http.client import Http
    from service.http.ssrf.guard import Guard
    from service.store.database import Database
    from service.store.writer import Writers

    http, store = Http.real(Guard(settings.webhook_rules)), Database("sqlite:///unused.db")
    context = Context(
        settings=settings,
        database=store,
        writers=Writers(store),
        http=http,
        tokens=Tokens(""),
        webhook_secret="",
        upstreams=upstreams_of(settings),
    )
    try:
        return await listed(context, context.upstreams[name], group=group)
    finally:
        await http.close()


def _document(rule: "Rule") -> dict[str, object]:
    return {
        "id": rule.id,
        "upstream": rule.upstream,
        "family": rule.family,
        "operation": rule.operation,
        "model": rule.model,
        "when": {name: list(values) for name, values in rule.when.items()},
        "rate": str(rule.rate.normalize()),
        "unit": rule.unit,
        "per": rule.per,
        "checked": str(rule.checked),
        "url": rule.url or None,
    }


def _difference(each: "Difference") -> dict[str, object]:
    old, new = (None if rate is None else f"{rate.normalize():f}" for rate in (each.old, each.new))
    return {"model": each.model, "kind": each.kind, "old": old, "new": new}


def _print(found: "Sequence[Difference]", unusable: int) -> None:
    table = plain_table("model", "difference", "before", "now")
    for each in found:
        if each.kind in _SHOWN:
            shape = _difference(each)
            table.add_row(shown(each.model), each.kind, str(shape["old"] or "–"), str(shape["new"] or "–"))
    if any(each.kind in _SHOWN for each in found):
        print_out(table)
    counts = Counter(each.kind for each in found)
    say(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "no prices")
    if unusable:
        say(f"{unusable} prices are by tokens or expressions, and are left out.")
