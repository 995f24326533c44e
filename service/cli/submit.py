"""``dovecote submit``: submit a task to a running Dovecote, exactly once."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from dovecote import Client, Family, Task
from service.cli.api_client import open_client
from service.cli.arguments import read_input, read_options, read_seconds
from service.cli.options import OUTPUT, server_options
from service.cli.printing import print_json, say
from service.cli.saving import check_folder
from service.cli.upload import read_files, with_files
from service.cli.watching import wait_for_end


@click.command("submit", short_help="Submit a task.")
@click.argument("family")
@click.argument("operation")
@click.argument("values", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="KEY=PATH",
    help="A file that is uploaded and given as this field; may be repeated.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="A field that goes to the provider unchanged; may be repeated.",
)
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label to find the task by; may be repeated."
)
@click.option("--callback-url", metavar="URL", help="The URL that gets a signed webhook when the task ends.")
@click.option("--parent", "parent_id", metavar="ID", type=click.UUID, help="The task that this one continues.")
@click.option("--upstream", metavar="NAME", help="The only upstream that may serve it.")
@click.option("--deadline", metavar="SPAN|TIME", help="When to stop waiting: 90, 15m, 2h, 1d, or a time.")
@click.option("--idempotency-key", metavar="KEY", help="Your own id of this request: with it, repeating it is safe.")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the results.")
@OUTPUT
@server_options
def command(
    *,
    family: str,
    operation: str,
    values: tuple[str, ...],
    files: tuple[str, ...],
    options: tuple[str, ...],
    labels: tuple[str, ...],
    callback_url: str | None,
    parent_id: uuid.UUID | None,
    upstream: str | None,
    deadline: str | None,
    idempotency_key: str | None,
    url: str,
    wait: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Submit a task, for example: runway text_to_video prompt="a dove comes home" duration=5

    `dovecote families FAMILY OPERATION` lists the fields of an operation. A value becomes a number, a list or a text as
    the operation requires. KEY=@FILE reads a text from a file, or from standard input for -. KEY:=JSON passes JSON. A
    list is a,b or KEY=a KEY=b. Options are texts unless they are written KEY:=JSON. --file image=cat.png uploads a file.

    Prints the id of the task. With --wait, prints the id to standard error and the results to standard output, one a line.
    With --output, also saves the results into a folder.
    """
    check_folder(output)
    paths = read_files(files)
    with open_client(url) as client:
        schema = input_schema(client.families(), family, operation)
        given = read_input(values, schema)
        task = client.submit(
            family,
            operation,
            input=with_files(client, given, paths, schema, again=idempotency_key is not None),
            options=read_options(options) or None,
            labels=read_options(labels) or None,
            deadline=read_deadline(deadline),
            idempotency_key=idempotency_key,
            callback_url=callback_url,
            parent_id=parent_id,
            upstream=upstream,
        )
        if idempotency_key is not None and task.replayed:
            say("This idempotency key was used before: the task is that of the earlier request.")
        if wait or output is not None:
            _wait(client, task, output, as_json=as_json)
        else:
            _print_accepted(task, as_json=as_json)


def _wait(client: Client, task: Task, output: Path | None, *, as_json: bool) -> None:
    if not as_json:
        say(task.id)
    wait_for_end(client, task, as_json=as_json, output=output)


def input_schema(families: Sequence[Family], family: str, operation: str) -> Mapping[str, Any]:
    """Return the input schema of an operation; an empty one where there is none, so that the server reports it."""
    found = next((each.operation(operation) for each in families if each.name == family), None)
    return {} if found is None else found.input


def read_deadline(written: str | None) -> float | str | None:
    """Return a deadline as seconds, or as a time."""
    seconds = None if written is None else read_seconds(written)
    return written if seconds is None else seconds


def _print_accepted(task: Task, *, as_json: bool) -> None:
    if as_json:
        print_json(task.document)
        return
    click.echo(task.id)
    say(task.explanation)
    say(f"Wait for its end: dovecote tasks show {task.id} --wait")
