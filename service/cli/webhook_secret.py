"""``dovecote webhook-secret``: show and rotate the secret that signs the messages to the client's ``callback_url``."""

import click

from dovecote import WebhookSecret
from service.cli.api_client import open_client
from service.cli.options import server_options
from service.cli.printing import clean, print_json, say


@click.group("webhook-secret")
def command() -> None:
    """Show and rotate your webhook secret.

    It signs the messages to the callback_url of your tasks. Every client has its own. Endpoints have theirs: see
    dovecote endpoints rotate.
    """


@command.command()
@server_options
def show(*, url: str, as_json: bool) -> None:
    """Print your webhook secret."""
    with open_client(url) as client:
        found = client.webhook_secret.get()
    _print(found, as_json=as_json)


@command.command()
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    metavar="SECONDS",
    help="How long the old secret signs as well, at most 30 days; 0 ends it at once.  [default: a day]",
)
@server_options
def rotate(*, overlap: int | None, url: str, as_json: bool) -> None:
    """Rotate your webhook secret, and print the new one."""
    with open_client(url) as client:
        rotated = client.webhook_secret.rotate(overlap=overlap)
    _print(rotated, as_json=as_json)


def _print(secret: WebhookSecret, *, as_json: bool) -> None:
    if as_json:
        print_json(secret.document)
        return
    click.echo(clean(secret.secret))
    until = secret.document["previous_secret_until"]
    if until is not None:
        say(f"The old secret signs as well until {until}")
