"""Show the demo: a live table on a terminal, lines elsewhere, and the summary at the end."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.cli.demo.money import bill
from service.cli.demo.seen import Document, Seen
from service.cli.demo.story import SCENES, Scene
from service.cli.demo.verdict import Check
from service.cli.layout import WIDE_ENOUGH, add_last_column, one_line, percent, plain_table, state_text
from service.cli.printing import clean, console, print_out

Show = Callable[[Seen], None]


@contextlib.contextmanager
def showing(*, err: bool) -> Iterator[Show]:
    """Yield a function that shows an observation.

    :param err: write to standard error, because standard output is for JSON
    """
    screen = console(err=err)
    if not screen.is_terminal:
        yield _Lines(err=err)
        return
    with Live(console=screen, auto_refresh=False, transient=True) as live:
        table = Moving(screen)

        def show(seen: Seen) -> None:
            live.update(table(seen), refresh=True)

        yield show


def print_summary(seen: Seen, checks: Sequence[Check]) -> None:
    """Print the events, the outcome source and the money of every task, and whether each guarantee held."""
    print_out(Group(Text(), _fates(seen), Text(), _bills(seen), Text()))
    for check in checks:
        sign = Text("✓ ", "green") if check.held else Text("✗ ", "bold red")
        print_out(sign.append(clean(check.sentence), ""))
        for reason in check.broken:
            print_out(Text(f"    {clean(reason)}", "red"))


class _Lines:
    """Writes a line for every change of a state, and for every event of Dovecote itself."""

    def __init__(self, *, err: bool) -> None:
        self._err = err
        self._states: dict[str, str] = {}
        self._happened: set[str] = set()

    def __call__(self, seen: Seen) -> None:
        for sentence in _happenings(seen):
            if sentence not in self._happened:
                self._happened.add(sentence)
                self._write(seen, sentence)
        for scene in SCENES:
            state = seen.state(scene)
            if state and self._states.get(scene.name) != state:
                self._states[scene.name] = state
                self._write(seen, f"{scene.title}: {state}. {seen.tasks[scene.name]['explanation']}")

    def _write(self, seen: Seen, sentence: str) -> None:
        click.echo(f"{seen.at:5.1f} s  {clean(sentence)}", err=self._err)


class Moving:
    """The live table of all tasks, below the last event of Dovecote itself."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._latest = ""
        self._known: dict[str, Any] = {}

    def __call__(self, seen: Seen) -> RenderableType:
        wide = self._screen.width >= WIDE_ENOUGH
        table = plain_table("scenario", "state", "%", "reported by")
        if wide:
            add_last_column(table, "explanation")
        for scene in SCENES:
            task = seen.tasks.get(scene.name)
            self._notice(scene, task)
            table.add_row(scene.title, *_row(task, wide=wide))
        happening = Text(_happenings(seen)[-1], "dim" if seen.up else "bold red")
        shown: list[RenderableType] = [Text(f"{seen.at:4.1f} s  ", "bold").append_text(happening), Text(), table]
        return Group(*shown) if wide else Group(*shown, Text(), Text(self._latest, "dim"))

    def _notice(self, scene: Scene, task: Document | None) -> None:
        state = None if task is None else task["state"]
        if task is not None and self._known.get(scene.name) != state:
            self._latest = clean(f"{scene.title}: {task['explanation']}")
        self._known[scene.name] = state


def _row(task: Document | None, *, wide: bool) -> list[RenderableType]:
    if task is None:
        return [""] * (4 if wide else 3)
    row: list[RenderableType] = [state_text(task["state"]), percent(task), task["outcome_source"] or ""]
    return [*row, one_line(task["explanation"], "dim")] if wide else row


def _happenings(seen: Seen) -> list[str]:
    """Return the events of Dovecote itself so far."""
    events = ["Dovecote runs, on SQLite"]
    if seen.killed_at is not None:
        events.append(
            f"Dovecote was killed (kill -9) at {seen.killed_at:.1f} s, with a purchase in flight; it restarts"
        )
    if seen.back_at is not None:
        events.append(f"Dovecote is back, after {seen.back_at - (seen.killed_at or 0):.1f} s")
    return events


def _fates(seen: Seen) -> Table:
    table = plain_table("scenario", "result", "reported by")
    for scene in SCENES:
        task = seen.tasks.get(scene.name)
        fate = Text(" → ").join([_step(step, len(list(times))) for step, times in itertools.groupby(seen.fate(scene))])
        table.add_row(scene.title, fate, (task or {}).get("outcome_source") or "")
    return table


def _bills(seen: Seen) -> Table:
    """Return the table of money: the quote of each task, and what is paid, refunded and owed."""
    table = plain_table("scenario", "quote", "paid", "refunded", "owed")
    for scene in SCENES:
        found = bill(seen.tasks.get(scene.name) or {})
        table.add_row(scene.title, found.quote, found.paid, found.refunded, found.owed)
    return table


def _step(step: str, times: int) -> Text:
    """Return an event, and how often it came in a row."""
    return state_text(step) if times == 1 else state_text(step) + f" ×{times}"
