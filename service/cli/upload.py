"""``dovecote upload``: upload files that tasks take as their media."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from dovecote import Client, Upload
from service.cli.api_client import open_client
from service.cli.options import server_options
from service.cli.printing import print_json


@click.command("upload", short_help="Upload files that tasks take as their media.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False))
@server_options
def command(*, files: tuple[str, ...], url: str, as_json: bool) -> None:
    """Upload files. A task takes one as KEY:='{"upload": "ID"}'; `dovecote submit --file KEY=PATH` does both.

    Prints the id of each upload, one a line.
    """
    with open_client(url) as client:
        for file in files:
            upload = client.upload(Path(file))
            if as_json:
                print_json(upload.document)
            else:
                click.echo(upload.id)


MAX_SEARCHED: Final = 100
"""Uploads among which a file is searched that an earlier request has uploaded."""


def read_files(written: Sequence[str]) -> list[tuple[str, Path]]:
    """Parse the arguments ``KEY=PATH``. Every file is looked for before the first one is uploaded.

    :raises click.UsageError: for anything else, and for a file that does not exist
    """
    read = []
    for each in written:
        name, equals, path = each.partition("=")
        if not (name and equals and path):
            raise click.UsageError(f"--file {each[:80]!r} is not of the form key=path")
        if not Path(path).expanduser().is_file():
            raise click.UsageError(f"--file {name}: there is no file {path[:200]}")
        read.append((name, Path(path).expanduser()))
    return read


def with_files(
    client: Client,
    given: Mapping[str, Any],
    files: Sequence[tuple[str, Path]],
    schema: Mapping[str, Any],
    *,
    again: bool,
) -> dict[str, Any]:
    """Return an input with files in it, which are uploaded. A field that takes a list gets all that are given for it.

    :param again: whether an earlier request may have uploaded the same files: then they are searched, so that the input is
        the same
    """
    document = dict(given)
    for name, path in files:
        upload = (_known(client, path) if again else None) or client.upload(path)
        reference = {"upload": upload.id}
        takes_list = "array" in str(schema.get("properties", {}).get(name, {}).get("type", ""))
        document[name] = [*document.get(name, []), reference] if takes_list else reference
    return document


def _known(client: Client, path: Path) -> Upload | None:
    """Return the upload of a file with the same content and name; None where there is none."""
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    recent = client.uploads.page(limit=MAX_SEARCHED).items
    return next((each for each in reversed(recent) if (each.sha256, each.name) == (digest, path.name)), None)
