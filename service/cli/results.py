"""``dovecote results``: save, link and delete the results of tasks."""

import uuid
from pathlib import Path
from typing import Any, Final

import click

from dovecote import Client, Task
from service.cli.api_client import open_client
from service.cli.options import server_options
from service.cli.printing import print_json, say

_ID: Final = click.argument("task_id", metavar="ID", type=click.UUID)
_NUMBER: Final = click.argument("number", metavar="[N]", type=click.IntRange(min=0), default=0)


@click.group("results", short_help="Save, link and delete the results of tasks.")
def command() -> None:
    """Save, link and delete the results of tasks.

    Dovecote keeps copies of results, because providers delete them. Results are counted from 0.
    """


@command.command()
@_ID
@click.option(
    "--to", "folder", metavar="FOLDER", default=".", type=click.Path(file_okay=False), help="Where to; default: here."
)
@server_options
def save(task_id: uuid.UUID, folder: str, url: str, *, as_json: bool) -> None:
    """Save the results of a task as files: the kept copies, else the provider's originals.

    Prints the name of each file, one a line.
    """
    with open_client(url) as client:
        save_results(client, client.get(task_id), Path(folder), as_json=as_json)


def save_results(client: Client, task: Task, folder: Path, *, as_json: bool) -> None:
    """Save the results of a task and print the names of the files."""
    files = [str(path) for path in client.results.save(task, folder)]
    if as_json:
        print_json({"files": files})
        return
    for each in files:
        click.echo(each)
    if not files:
        say("The task has no results.")


@command.command()
@_ID
@_NUMBER
@click.option("--seconds", type=click.IntRange(10, 7 * 86_400), help="For how long it is valid; default: an hour.")
@server_options
def link(task_id: uuid.UUID, number: int, seconds: int | None, url: str, *, as_json: bool) -> None:
    """Print a link with which anybody can read a kept copy for a limited time."""
    with open_client(url) as client:
        made = client.results.link(task_id, number, seconds=seconds)
    if as_json:
        print_json(made.document)
    else:
        click.echo(made.url)
        say(f"It is valid until {made.expires_at:%Y-%m-%d %H:%M:%S} UTC.")


@command.command()
@_ID
@_NUMBER
@server_options
def provenance(task_id: uuid.UUID, number: int, url: str, *, as_json: bool) -> None:
    """Print where a kept copy came from: model, upstream, times and hashes."""
    with open_client(url) as client:
        found: dict[str, Any] = dict(client.results.provenance(task_id, number))
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if value is not None:
            click.echo(f"{name}: {value}")


@command.command()
@_ID
@server_options
def delete(task_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Delete the kept copies of a task's results."""
    with open_client(url) as client:
        task = client.results.delete(task_id)
    if as_json:
        print_json(task.document)
    else:
        count = sum(each.kept == "deleted" for each in task.results)
        say(f"The copies of {count} result{'' if count == 1 else 's'} are deleted.")
