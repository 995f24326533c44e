"""``dovecote submit``: hand a task to a running Dovecote, exactly once."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import click

from service.cli.api import AGAIN, Api, Reply
from service.cli.arguments import read_input, read_options, read_seconds
from service.cli.options import asks_a_server
from service.cli.printing import print_json, say
from service.cli.watching import wait_for_end


@click.command("submit", short_help="Submit a task.")
@click.argument("family")
@click.argument("operation")
@click.argument("values", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="A field of the provider's own body, sent as it is."
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A name of your own, to find the task by.")
@click.option("--callback-url", metavar="URL", help="Where Dovecote posts a signed message when the task ends.")
@click.option("--upstream", metavar="NAME", help="The one upstream that may serve it.")
@click.option("--deadline", metavar="SPAN|TIME", help="When to stop waiting: 90, 15m, 2h, 1d, or a time.")
@click.option("--idempotency-key", metavar="KEY", help="Your own name for this request: with it, it can be repeated.")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the results.")
@asks_a_server
def command(
    *,
    family: str,
    operation: str,
    values: tuple[str, ...],
    options: tuple[str, ...],
    labels: tuple[str, ...],
    callback_url: str | None,
    upstream: str | None,
    deadline: str | None,
    idempotency_key: str | None,
    url: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit a task, such as: runway text_to_video prompt="a dove comes home" duration=5

    Values become numbers, lists or texts as the operation wants them (GET /v1/families). KEY=@FILE reads a text from a
    file, or from - for standard input; KEY:=JSON gives JSON; a list is a,b or KEY=a KEY=b. Options are texts unless
    they are written KEY:=JSON.

    Prints the task's id; with --wait its results, one a line.
    """
    with Api.at(url) as api:
        families = api.get("/v1/families", again=AGAIN)["families"]
        wish: dict[str, Any] = {
            "family": family,
            "operation": operation,
            "input": read_input(values, _schema(families, family, operation)),
            "options": read_options(options),
            "labels": read_options(labels),
            "callback_url": callback_url,
            "upstream": upstream,
            "deadline": _deadline(deadline),
        }
        # Without a key, a request whose answer was lost could not be repeated: it might make a second task.
        key = idempotency_key or str(uuid.uuid4())
        said = {name: value for name, value in wish.items() if value not in (None, {})}
        reply = api.ask(
            "POST", "/v1/tasks", document={"input": {}, **said}, headers={"Idempotency-Key": key}, again=AGAIN
        )
        if idempotency_key is not None and reply.headers.get("idempotency-replayed") == "true":
            say("This idempotency key was used before: it is the same task.")
        if wait:
            wait_for_end(api, reply.document, as_json=as_json)
        else:
            _print_accepted(reply, as_json=as_json)


def _schema(families: Iterable[Mapping[str, Any]], family: str, operation: str) -> Mapping[str, Any]:
    """Find an operation's input schema; where there is none the server will say what there is."""
    for each in families:
        for known in each["operations"]:
            if each["name"] == family and operation in (known["name"], *known["aliases"]):
                schema: Mapping[str, Any] = known["input"]
                return schema
    return {}


def _deadline(written: str | None) -> float | str | None:
    seconds = None if written is None else read_seconds(written)
    return written if seconds is None else seconds


def _print_accepted(reply: Reply, *, as_json: bool) -> None:
    task = reply.document
    if as_json:
        print_json(task)
        return
    click.echo(task["id"])
    say(task["explanation"])
    say(f"Wait for its end: dovecote tasks show {task['id']} --wait")
