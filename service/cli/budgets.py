"""``dovecote budgets``: what may be spent, what is held and left."""

from collections.abc import Sequence

import click

from dovecote import BudgetRow
from service.cli.api_client import open_client
from service.cli.layout import add_last_column, plain_table, shown
from service.cli.options import server_options
from service.cli.printing import print_json, print_out, say


@click.group("budgets", short_help="List, set and remove budgets.")
def command() -> None:
    """List, set and remove budgets.

    Budgets of the settings (money.budgets) are listed, too, and can be changed there only.
    """


@command.command("list", short_help="List budgets: spent, held, left.")
@server_options
def list_budgets(*, url: str, as_json: bool) -> None:
    """List your budgets in the present period. A key with the scope admin sees all."""
    with open_client(url) as api:
        _print(api.budgets(), as_json=as_json)


@command.command("set", short_help="Set a budget, or change it.")
@click.argument("name")
@click.option("--limit", required=True, metavar="NUMBER", help="The most that may be spent in a period.")
@click.option("--unit", metavar="UNIT", help="USD, or an upstream's own unit.  [default: USD]")
@click.option("--period", type=click.Choice(["day", "month"]), help="When it renews, in UTC.  [default: month]")
@click.option("--client", metavar="NAME", help="Only of this client; * for each client by itself.")
@click.option("--label", metavar="NAME[=VALUE]", help="Only tasks with this label; without a value, each by itself.")
@click.option("--upstream", metavar="NAME", help="Only submissions to this upstream.")
@click.option("--soft", metavar="NUMBER", help="Above this, operators get a message.")
@click.option(
    "--over", type=click.Choice(["refuse", "wait"]), help="What happens when it has no room.  [default: refuse]"
)
@click.option(
    "--unpriced", type=click.Choice(["refuse", "allow"]), help="Upstreams without a price.  [default: refuse]"
)
@server_options
def set_budget(*, name: str, limit: str, url: str, as_json: bool, **fields: str | None) -> None:
    """Set a budget, or change it. All its fields are replaced. It needs a key with the scope admin.

    For example: dovecote budgets set shop-month --client shop --limit 100 --soft 80
    """
    with open_client(url) as api:
        _print(api.set_budget(name, limit, **fields), as_json=as_json)


@command.command("remove", short_help="Remove a budget.")
@click.argument("name")
@server_options
def remove_budget(*, name: str, url: str, as_json: bool) -> None:
    """Remove a budget. It needs a key with the scope admin."""
    with open_client(url) as api:
        rows = api.remove_budget(name)
    _print(rows, as_json=True) if as_json else say(f"{name} is removed")


def _print(rows: Sequence[BudgetRow], *, as_json: bool) -> None:
    if as_json:
        print_json({"budgets": [row.document for row in rows]})
        return
    if not rows:
        say("There is no budget.")
        return
    table = plain_table("budget", "part", "limit", "spent", "held", "left", "unit")
    add_last_column(table, "renews")
    for row in rows:
        renews = "" if row.renews_at is None else f"{row.renews_at:%Y-%m-%d %H:%M}"
        cells = (row.budget, row.scope or "–", row.limit, row.spent, row.held, row.left, row.unit, renews)
        table.add_row(*map(shown, cells))
    print_out(table)
