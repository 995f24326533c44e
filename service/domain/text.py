"""Text from outside: made safe to store and to show, and cut to a length."""

import re

_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Marks that change the direction of writing: they can make a text read as another one."""
_INVISIBLE = "\u200b\u2060\ufeff"
_SURROGATE = "\ud800-\udfff"
_REMOVED = re.compile(f"[{_CONTROL}{_DIRECTION}{_INVISIBLE}]")
_LONE = re.compile(f"[{_SURROGATE}]")
_SUSPECT = re.compile(f"[{_CONTROL}{_DIRECTION}{_INVISIBLE}{_SURROGATE}\r]")
MARK = "…"
"""Stands where a text was cut."""


def storable(text: str) -> str:
    """Return a text without characters that a database refuses or that mislead a reader.

    Control characters, direction marks and invisible characters are removed. A lone surrogate becomes U+FFFD, and
    a carriage return a line feed.
    """
    # Most texts are printable, and the pattern takes ten times as long.
    if text.isprintable() or _SUSPECT.search(text) is None:
        return text
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _REMOVED.sub("", _LONE.sub("\ufffd", lines))


def one_line(text: str) -> str:
    """Return a text as one storable line: each run of white space becomes one space."""
    return " ".join(storable(text).split())


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, with a mark where it was cut."""
    return text if len(text) <= most else text[: max(most - len(MARK), 0)] + MARK
