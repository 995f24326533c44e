"""Waits for a task's end and shows how it is doing meanwhile."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from service.cli import exits
from service.cli.api import Api
from service.cli.layout import percent, result_lines
from service.cli.printing import clean, console, print_json, say
from service.domain.task import ENDED

LOOK_EVERY: Final = 1
"""Seconds that each question waits for the end: as often there is news to show."""
PATIENCE: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Seconds between tries while the server is away: long enough for it to be started again."""

Task = Mapping[str, Any]
Show = Callable[[Task], None]


def follow(api: Api, task: Task) -> Task:
    """Wait until a task has ended, and give it as it is then.

    :raises ApiProblem: when the server stays away
    """
    with _showing() as show:
        show(task)
        while task["state"] not in ENDED:
            task = api.get(f"/v1/tasks/{task['id']}", {"wait": LOOK_EVERY}, again=PATIENCE)
            show(task)
    return task


def wait_for_end(api: Api, task: Task, *, as_json: bool) -> None:
    """Wait, print what came out, and end the command: its exit code tells whether the task succeeded."""
    try:
        task = follow(api, task)
    except KeyboardInterrupt:
        say(f"The task goes on without you; wait again with: dovecote tasks show {task['id']} --wait")
        raise
    print_end(task, as_json=as_json)
    click.get_current_context().exit(exits.OK if task["state"] == "succeeded" else exits.NOT_SUCCEEDED)


def print_end(task: Task, *, as_json: bool) -> None:
    """Write a task's results, one a line, to standard output; what else there is to say goes beside it."""
    if as_json:
        print_json(task)
        return
    screen = console()
    for line in result_lines(task, with_roles=screen.is_terminal):
        screen.out(line, highlight=False)


@contextlib.contextmanager
def _showing() -> Iterator[Show]:
    """Lend a way to show a task: a bar that moves on a terminal, else a line for each change; both on standard error."""
    screen = console(err=True)
    if not screen.is_terminal:
        yield _Lines()
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[share]:>5}"),
        TimeElapsedColumn(),
    )
    row = bar.add_task("", total=None, share="")
    latest: list[str] = []
    with Live(bar, console=screen, transient=True, refresh_per_second=8) as live:

        def show(task: Task) -> None:
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

    def __call__(self, task: Task) -> None:
        now = (task["state"], task["progress"])
        if now != self._last:
            self._last = now
            words = " ".join(part for part in (task["state"], percent(task)) if part)
            say(f"{time.monotonic() - self._began:6.1f} s  {words}: {task['explanation']}")
