"""``dovecote endpoints``: register, list, change, test and delete the endpoints that get webhooks."""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.table import Table

from dovecote import Endpoint
from service.cli.api_client import open_client
from service.cli.layout import Document, add_last_column, age, one_line, plain_table, sheet, shown
from service.cli.messages import print_message
from service.cli.options import server_options
from service.cli.printing import print_json, print_out, say

_ID: Final = click.argument("endpoint_id", metavar="ID", type=click.UUID)
_EVENT: Final = click.option(
    "--event",
    "events",
    multiple=True,
    metavar="TYPE",
    help="An event type that it gets; may be repeated.",
)
_DESCRIPTION: Final = click.option("--description", metavar="TEXT", help="A text of your own.")
_FORMAT: Final = click.option(
    "--format", "body_format", type=click.Choice(["standard", "cloudevents"]), help="The format of the body."
)
_CALLBACK_FORMAT: Final = click.option(
    "--callback-format",
    metavar="API",
    help="The form of the messages about tasks: dovecote, or that of another API, such as replicate or openai.",
)


@click.group("endpoints")
def command() -> None:
    """Register, list, change, test and delete webhook endpoints."""


@command.command("list")
@server_options
def list_endpoints(*, url: str, as_json: bool) -> None:
    """List the endpoints, oldest first."""
    with open_client(url) as client:
        found = [each.document for each in client.endpoints.list()]
    if as_json:
        print_json({"endpoints": found})
    elif found:
        print_out(_table(found))
    else:
        say("No endpoints found. Register one: dovecote endpoints create URL")


@command.command()
@click.argument("endpoint_url", metavar="URL")
@_EVENT
@_DESCRIPTION
@_FORMAT
@_CALLBACK_FORMAT
@click.option(
    "--scope",
    type=click.Choice(["client", "admin"]),
    help="admin: it gets messages to operators; needs an API key with the scope admin.",
)
@server_options
def create(
    endpoint_url: str,
    *,
    events: tuple[str, ...],
    description: str | None,
    body_format: str | None,
    callback_format: str | None,
    scope: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Register an endpoint, and print it with its signing secret. The secret is not shown again.

    Without --event it gets every event but task.progress.
    """
    with open_client(url) as client:
        made = client.endpoints.create(
            endpoint_url,
            events=list(events) or None,
            description=description,
            format=body_format,
            callback_format=callback_format,
            scope=scope,
        )
    _print(made, as_json=as_json)


@command.command()
@_ID
@server_options
def show(endpoint_id: uuid.UUID, *, url: str, as_json: bool) -> None:
    """Show an endpoint."""
    with open_client(url) as client:
        found = client.endpoints.get(endpoint_id)
    _print(found, as_json=as_json)


@command.command()
@_ID
@click.option("--to", "endpoint_url", metavar="URL", help="The new URL.")
@_EVENT
@click.option("--all-events", is_flag=True, help="Get all events but task.progress again.")
@_DESCRIPTION
@_FORMAT
@_CALLBACK_FORMAT
@click.option("--enable/--disable", "enabled", default=None, help="Resume or stop the deliveries to it.")
@server_options
def update(
    endpoint_id: uuid.UUID,
    *,
    endpoint_url: str | None,
    events: tuple[str, ...],
    all_events: bool,
    description: str | None,
    body_format: str | None,
    callback_format: str | None,
    enabled: bool | None,
    url: str,
    as_json: bool,
) -> None:
    """Change an endpoint. What is not named stays as it is."""
    if events and all_events:
        raise click.UsageError("give either --event or --all-events")
    changes: dict[str, Any] = {
        "url": endpoint_url,
        "events": [] if all_events else list(events) or None,
        "description": description,
        "format": body_format,
        "callback_format": callback_format,
        "enabled": enabled,
    }
    if all(value is None for value in changes.values()):
        raise click.UsageError("name a change, such as --disable or --to URL")
    with open_client(url) as client:
        changed = client.endpoints.update(endpoint_id, **changes)
    _print(changed, as_json=as_json)


@command.command()
@_ID
@server_options
def delete(endpoint_id: uuid.UUID, *, url: str, as_json: bool) -> None:
    """Delete an endpoint. Its pending messages are discarded."""
    with open_client(url) as client:
        deleted = client.endpoints.delete(endpoint_id)
    if as_json:
        print_json(deleted.document)
    else:
        say(f"Deleted the endpoint {deleted.url}")


@command.command()
@_ID
@server_options
def rotate(endpoint_id: uuid.UUID, *, url: str, as_json: bool) -> None:
    """Rotate the secret of an endpoint, and print the new one. The old secret stays valid for a day."""
    with open_client(url) as client:
        rotated = client.endpoints.rotate_secret(endpoint_id)
    _print(rotated, as_json=as_json)


@command.command()
@_ID
@server_options
def test(endpoint_id: uuid.UUID, *, url: str, as_json: bool) -> None:
    """Send a test message to an endpoint, and show its delivery."""
    with open_client(url) as client:
        message = client.endpoints.test(endpoint_id).document
    print_message(message, as_json=as_json)
    if message["state"] == "pending" and not as_json:
        say(f"The message waits for a free slot. See later: dovecote messages show {message['id']}")


def _table(endpoints: Sequence[Document]) -> Table:
    table = plain_table("id", "age", "state", "events")
    add_last_column(table, "url")
    for each in endpoints:
        table.add_row(
            shown(each["id"]),
            age(each["created_at"], now=_now()),
            _state(each),
            one_line(_events(each)),
            one_line(" ".join(part for part in (each["url"], each["description"]) if part)),
        )
    return table


def _events(endpoint: Document) -> str:
    every = "all of operators" if endpoint["scope"] == "admin" else "all but task.progress"
    if endpoint.get("callback_format", "dovecote") != "dovecote":
        every = "the end"
    return ", ".join(endpoint["events"]) or every


def _state(endpoint: Document) -> str:
    if not endpoint["enabled"]:
        return f"disabled ({endpoint['disabled_reason']})"
    return "enabled" if endpoint["failing_since"] is None else "failing"


def _print(endpoint: Endpoint, *, as_json: bool) -> None:
    if as_json:
        print_json(endpoint.document)
        return
    document = endpoint.document
    rows = [
        ("endpoint", document["id"]),
        ("url", document["url"]),
        ("description", document["description"]),
        ("state", _state(document)),
        ("failing since", document["failing_since"]),
        ("events", _events(document)),
        ("format", document["format"]),
        ("scope", document["scope"]),
        ("callback format", document.get("callback_format")),
        ("secret", endpoint.secret),
        ("old secret until", document["previous_secret_until"]),
    ]
    print_out(sheet(rows))
    if endpoint.secret is not None:
        say("The secret is shown this once. Store it now: the receiver verifies the webhooks with it.")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
