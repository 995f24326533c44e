"""Wait for the end of a task and show its progress meanwhile."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from dovecote import Client, Task
from service.cli import exits
from service.cli.layout import percent, result_lines
from service.cli.printing import clean, console, print_json, say
from service.cli.saving import save_results

Document = Mapping[str, Any]
Show = Callable[[Document], None]


def wait_for_end(client: Client, task: Task, *, as_json: bool, output: Path | None = None) -> None:
    """Wait, print the results, and end the command. The exit code shows whether the task succeeded.

    :param output: a folder into which the results are saved
    """
    try:
        with _showing() as show:
            show(task.document)
            for task in client.watch(task):  # noqa: B020, PLR1704 - the newest one is what counts
                show(task.document)
    except KeyboardInterrupt:
        say(f"The task goes on. To wait again: dovecote tasks show {task.id} --wait")
        raise
    print_end(task.document, as_json=as_json)
    if output is not None:
        save_results(client, task, output)
    click.get_current_context().exit(exits.OK if task.succeeded else exits.NOT_SUCCEEDED)


def print_end(task: Document, *, as_json: bool) -> None:
    """Print the results of a task to standard output, one a line."""
    if as_json:
        print_json(task)
        return
    screen = console()
    for line in result_lines(task, with_roles=screen.is_terminal):
        screen.out(line, highlight=False)


@contextlib.contextmanager
def _showing() -> Iterator[Show]:
    """Yield a function that shows a task on standard error: a moving bar on a terminal, else one line for each change."""
    screen = console(err=True)
    if not screen.is_terminal:
        yield _Lines()
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[share]:>5}", markup=False),
        TimeElapsedColumn(),
    )
    row = bar.add_task("", total=None, share="")
    latest: list[str] = []
    with Live(bar, console=screen, transient=True, refresh_per_second=8) as live:

        def show(task: Document) -> None:
            total = None if task["progress"] is None else 100
            bar.update(
                row, description=clean(task["state"]), total=total, completed=task["progress"] or 0, share=percent(task)
            )
            live.update(Group(bar, Text(clean(task["explanation"]), "dim")))
            latest.append(task["explanation"])

        yield show
    say(latest[-1])


class _Lines:
    """Writes a line whenever the state or the progress has changed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last: tuple[Any, ...] | None = None

    def __call__(self, task: Document) -> None:
        now = (task["state"], task["progress"])
        if now != self._last:
            self._last = now
            state = " ".join(part for part in (task["state"], percent(task)) if part)
            say(f"{time.monotonic() - self._began:6.1f} s  {state}: {task['explanation']}")
