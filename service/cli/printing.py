"""Writes for people and for programs: results to standard output, everything else to standard error."""

import json
import re
import sys
from typing import Any, Final

import click
from rich.console import Console, RenderableType

_WIDE: Final = 250
"""Columns of a table that no terminal shows: a line a row, for whatever reads it."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def console(*, err: bool = False) -> Console:
    """Open the screen: as wide as it is, or as wide as it takes where there is none."""
    stream = sys.stderr if err else sys.stdout
    return Console(
        stderr=err,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if stream.isatty() else _WIDE,
        soft_wrap=False,
    )


def print_json(document: Any, *, err: bool = False) -> None:
    """Write a document as JSON, with escapes for what would command a terminal."""
    text = _storable(json.dumps(document, indent=2, ensure_ascii=False))
    click.echo(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text), err=err)


def say(sentence: str) -> None:
    """Tell the person at the keyboard something that is not the result: on standard error."""
    click.echo(clean(sentence), err=True)


def clean(text: str) -> str:
    """Take out what would command a terminal: some of the texts come from far away."""
    return _CONTROL.sub("�", _storable(text.replace("\r\n", "\n")))


def print_out(renderable: RenderableType) -> None:
    """Write to standard output; where that is no terminal, without the blanks that fill a screen's lines."""
    screen = console()
    if screen.is_terminal:
        screen.print(renderable)
        return
    with screen.capture() as captured:
        screen.print(renderable)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _storable(text: str) -> str:
    """Replace halves of characters, which JSON can name and no output can take."""
    return text.encode("utf-8", "replace").decode()
