"""``dovecote quote``: what a task is expected to cost at each upstream. Nothing is bought."""

import click

from dovecote import QuoteList
from service.cli.api_client import open_client
from service.cli.arguments import read_input, read_options
from service.cli.layout import add_last_column, one_line, plain_table, shown
from service.cli.options import server_options
from service.cli.printing import print_json, print_out, say
from service.cli.submit import input_schema


@click.command("quote", short_help="Show what a task is expected to cost.")
@click.argument("family")
@click.argument("operation")
@click.argument("values", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="A field of the provider's own; may be repeated."
)
@click.option("--upstream", metavar="NAME", help="The only upstream that may serve it.")
@server_options
def command(
    *,
    family: str,
    operation: str,
    values: tuple[str, ...],
    options: tuple[str, ...],
    upstream: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Show what each upstream is expected to charge for a task. Nothing is bought.

    For example: dovecote quote runway text_to_video prompt="a dove comes home" duration=5 model=gen4.5
    """
    with open_client(url) as client:
        quoted = client.quote(
            family,
            operation,
            input=read_input(values, input_schema(client.families(), family, operation)),
            options=read_options(options) or None,
            upstream=upstream,
        )
    if as_json:
        print_json(quoted.document)
    else:
        _print(quoted)


def _print(quoted: QuoteList) -> None:
    table = plain_table("upstream", "expected", "at most", "unit", "in USD", "read on")
    add_last_column(table, "why")
    for each in quoted.quotes:
        table.add_row(
            shown(each.upstream),
            each.expected or "unknown",
            each.max or "unknown",
            shown(each.unit or "–"),
            each.usd_max or "–",
            each.price_checked or "–",
            one_line("; ".join(each.why)),
        )
    print_out(table)
    for name, reason in quoted.skipped_upstreams.items():
        say(f"{name} is skipped: {reason}")
