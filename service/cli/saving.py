"""Save the results of a task that has ended into a folder, with a message about each file."""

import os
from pathlib import Path

import click

from dovecote import Client, Task
from service.cli.printing import say


def check_folder(folder: Path | None) -> None:
    """Create the folder before anything is bought.

    :raises click.UsageError: when it cannot be created or written
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"{folder} cannot be created ({error.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"{folder} cannot be written")


def save_results(client: Client, task: Task, folder: Path) -> None:
    """Save every result, the kept copy or the original, and say where it is."""
    for file in client.results.save(task, folder):
        say(f"saved {file} ({file.stat().st_size:,} bytes)")
