"""``dovecote listen``: forward your messages to a server of this machine, signed as webhooks are."""

import datetime as dt
from typing import Any, Final

import click
import httpx
from standardwebhooks import Webhook

from dovecote import Event
from service.cli.api_client import open_client
from service.cli.options import server_options
from service.cli.printing import clean, json_text, say
from service.domain.webhook_events import TYPES

TIMEOUT: Final = 15.0
"""Seconds that the server gets to answer, as a webhook has."""


@click.command("listen", short_help="Forward your messages to a local server, signed.")
@click.option(
    "--forward-to", "target", metavar="URL", help="Where messages are posted. Without it they are only shown."
)
@click.option(
    "--event",
    "types",
    multiple=True,
    type=click.Choice(TYPES),
    metavar="TYPE",
    help="Only messages of this type, such as task.succeeded; may be repeated.",
)
@server_options
def command(*, target: str | None, types: tuple[str, ...], url: str, as_json: bool) -> None:
    """Forward the messages about your tasks to a server of this machine, from now on until Ctrl-C.

    So you can develop a receiver without a public address and without an endpoint. Each message is signed with your webhook secret, as
    Dovecote signs the messages to a callback_url. A message that the server does not accept is not repeated.

    dovecote listen --forward-to http://127.0.0.1:3000/webhooks
    """
    if target is not None and not target.startswith(("http://", "https://")):
        raise click.UsageError("--forward-to needs an http(s) URL, such as http://127.0.0.1:3000/webhooks")
    with open_client(url) as client, httpx.Client(timeout=TIMEOUT, trust_env=False) as receiver:
        secret = client.webhook_secret.get().secret
        say(f"Listening{'' if target is None else f' and forwarding to {target}'}. Ctrl-C ends it.")
        for event in client.stream(types=types):
            outcome = None if target is None else forward(receiver, target, event, secret)
            _show(event, outcome, as_json=as_json)


def forward(receiver: httpx.Client, target: str, event: Event, secret: str) -> str:
    """Post an event as a webhook, and return the outcome: a status, or why there was none."""
    body = json_text(message_of(event))
    now = dt.datetime.now(dt.UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Dovecote",
        "webhook-id": event.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(event.id, now, body),
    }
    try:
        return f"HTTP {receiver.post(target, content=body.encode(), headers=headers).status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__} {error}".strip()


def message_of(event: Event) -> dict[str, Any]:
    """Return an event of the feed as the body of a message."""
    at = None if event.timestamp is None else event.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": event.type, "timestamp": at, "sequence": event.sequence, "data": dict(event.data.document)}


def event_line(event: Event, outcome: str | None = None) -> str:
    """Return an event on one line: time, type, task and, where it was forwarded, the outcome."""
    at = "" if event.timestamp is None else event.timestamp.astimezone().strftime("%H:%M:%S")
    shown = (at, event.type, event.task_id or "", event.data.explanation if outcome is None else outcome)
    return " ".join(clean("  ".join(part for part in shown if part)).split("\n"))


def _show(event: Event, outcome: str | None, *, as_json: bool) -> None:
    """Print an event: one line, or one JSON object a line."""
    click.echo(json_text({**message_of(event), "forwarded": outcome}) if as_json else event_line(event, outcome))
