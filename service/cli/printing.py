"""Print for people and for programs: results to standard output, everything else to standard error.

Texts of servers, providers and other people reach a terminal only with every invisible character escaped: control and
escape sequences, bidirectional overrides, zero-width characters, and unassigned or private ones.
"""

import functools
import json
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

_WIDE: Final = 250
"""Columns of a table that no terminal shows: one line a row, for whatever reads it."""
_KEPT: Final = "\n\t"
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_INVISIBLE_RANGES: Final = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x2800, 0x2800),  # blank Braille pattern
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
    (0xE0000, 0xE0FFF),  # tags and further variation selectors
)
"""Characters that Unicode defines as ignorable, or that are blank, outside of the categories above."""


def console(*, err: bool = False) -> Console:
    """Return the console of a stream: as wide as its terminal, or as wide as necessary where there is none."""
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
    """Print a document as JSON."""
    click.echo(json_text(document, indent=2), err=err)


def json_text(document: Any, *, indent: int | None = None) -> str:
    """Return a document as JSON, with every invisible character escaped. Parsing it returns the same document."""
    return _escaped(json.dumps(document, indent=indent, ensure_ascii=False), _json_escape)


def say(sentence: str) -> None:
    """Print something that is not the result to standard error."""
    click.echo(clean(sentence), err=True)


def clean(text: str) -> str:
    r"""Return a text with every invisible character escaped, such as ``\u202e``; lines and tabs stay."""
    return _escaped(text.replace("\r\n", "\n"), _text_escape)


@functools.lru_cache(maxsize=4096)
def is_invisible(character: str) -> bool:
    """Return whether a character has no visible form of its own, or commands a terminal."""
    if character in _KEPT:
        return False
    code = ord(character)
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or any(
        first <= code <= last for first, last in _INVISIBLE_RANGES
    )


def print_out(renderable: RenderableType) -> None:
    """Print to standard output; where that is no terminal, without the blanks that fill the lines of a screen."""
    screen = console()
    if screen.is_terminal:
        screen.print(_Visible(renderable))
        return
    with screen.capture() as captured:
        screen.print(_Visible(renderable))
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def print_page(
    name: str,
    found: Sequence[Any],
    cursor: str | None,
    *,
    table: Callable[[Sequence[Any]], RenderableType],
    fewer: str,
    as_json: bool,
) -> None:
    """Print what a list command found.

    :param name: what it lists, in the plural
    :param cursor: of the next page; None at the end
    :param table: makes the table of what was found
    :param fewer: the options that make the list shorter
    """
    if as_json:
        print_json({name: found, "next": cursor})
    elif found:
        print_out(table(found))
        if cursor is not None:
            say(f"There are more than {len(found)} {name}. Show more with --limit, or fewer with {fewer}.")
    else:
        say(f"No {name} found.")


class _Visible:
    """Escapes invisible characters in a renderable. The last line of defence: cells are escaped when they are made."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        for segment in screen.render(self._renderable, options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)


def _escaped(text: str, escape: Any) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(escape(each) if is_invisible(each) else each for each in text)


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 0x7F else f"\\u{ord(character):04x}"  # noqa: PLR2004 - ASCII


def _text_escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the Basic Multilingual Plane
