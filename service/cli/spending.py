"""``dovecote usage`` and ``dovecote claims``: what was spent, and what was charged and not delivered."""

import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from dovecote import Claim
from service.cli.api_client import open_client
from service.cli.arguments import read_moment
from service.cli.layout import add_last_column, one_line, plain_table, shown
from service.cli.options import server_options
from service.cli.printing import print_json, print_out, say
from service.web.spreadsheet import line

_SUMS: Final = ("charged", "probably_charged", "returned", "probably_returned", "undelivered", "usd", "submissions")


@click.command("usage", short_help="Show what was spent.")
@click.option(
    "--by",
    "group",
    metavar="GROUP,…",
    default="upstream",
    show_default=True,
    help="client, family, operation, model, upstream, day, label:NAME.",
)
@click.option("--since", metavar="WHEN", help="Only purchases since then: 2h, 7d, or a time.")
@click.option("--until", metavar="WHEN", help="Only purchases before then.")
@click.option("--client", metavar="NAME", help="Only of this client; needs a key with the scope admin.")
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV.")
@server_options
def usage(
    *, group: str, since: str | None, until: str | None, client: str | None, as_csv: bool, url: str, as_json: bool
) -> None:
    """Show what was spent, from the ledger. Amounts of different units are never added.

    For example: dovecote usage --by model,day --since 7d
    """
    now = dt.datetime.now(dt.UTC)
    span = [None if when is None else read_moment(when, now=now) for when in (since, until)]
    with open_client(url) as api:
        rows = api.usage(group=group, since=span[0], until=span[1], client=client)
    by = [name for name in group.split(",") if name]
    if as_json:
        print_json({"group": by, "rows": rows})
    elif as_csv:
        _write_csv(rows, [*by, "unit", *_SUMS])
    else:
        _print_usage(rows, by)


def _write_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    for cells in (columns, *([row.get(name) for name in columns] for row in rows)):
        sys.stdout.write(line(cells))


def _print_usage(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> None:
    table = plain_table(*by, "unit", *(name.replace("_", " ") for name in _SUMS))
    for row in rows:
        sums = [str(row[name]) if row[name] is not None else "unknown" for name in _SUMS]
        table.add_row(*(shown(str(row[name])) for name in by), shown(row["unit"] or "–"), *sums)
    print_out(table)


@click.command("claims", short_help="List what was charged and not delivered.")
@click.option("--upstream", metavar="NAME", help="Only of this upstream.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also show closed claims, and jobs that the upstream charges by its rules.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV for the upstream's support.")
@click.option("--mark", metavar="SUBMISSION", type=click.UUID, help="Note what became of the claim of a submission.")
@click.option("--state", type=click.Choice(["open", "filed", "paid", "denied"]), help="With --mark: its state.")
@click.option("--note", metavar="TEXT", help="With --mark: a note, such as the number of a ticket.")
@server_options
def claims(
    *,
    upstream: str | None,
    everything: bool,
    as_csv: bool,
    mark: Any,
    state: str | None,
    note: str | None,
    url: str,
    as_json: bool,
) -> None:
    """List the jobs that were charged and not delivered, with the evidence for the upstream's support.

    A claim can be marked: dovecote claims --mark SUBMISSION --state filed --note "ticket 4711". "paid" books a refund.
    """
    if (mark is None) != (state is None):
        raise click.UsageError("--mark and --state belong together")
    with open_client(url) as api:
        if mark is not None and state is not None:
            marked = api.mark_claim(mark, state, note=note)
            print_json(marked.document) if as_json else say(f"{marked.submission}: {marked.state}")
            return
        found = [each for each in api.claims(upstream=upstream) if everything or _is_open(each)]
    if as_json:
        print_json({"claims": [each.document for each in found]})
    elif as_csv:
        _write_csv([each.document for each in found], _CLAIM)
    else:
        _print_claims(found)


_CLAIM: Final = (
    "upstream",
    "external_id",
    "purchased_at",
    "amount",
    "unit",
    "operation",
    "model",
    "verdict",
    "confidence",
    "reason",
    "state",
    "submission",
    "task",
    "deadline_at",
)


def _is_open(claim: Claim) -> bool:
    return claim.state in {"open", "filed"} and not claim.lost_by_policy


def _print_claims(found: Sequence[Claim]) -> None:
    if not found:
        say("There is nothing to claim.")
        return
    table = plain_table("submission", "upstream", "job", "amount", "verdict", "confidence", "state")
    add_last_column(table, "reason")
    for each in found:
        amount = "unknown" if each.amount is None else f"{each.amount} {each.unit or ''}"
        table.add_row(
            each.submission,
            shown(each.upstream),
            shown(each.external_id or "–"),
            amount,
            each.verdict,
            each.confidence,
            each.state,
            one_line(each.reason or ""),
        )
    print_out(table)
