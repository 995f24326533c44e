"""The log of a server: what happened and where, never with what. Prompts, keys and tokens stay out of it."""

import copy
import logging
import traceback
from collections.abc import Iterator
from typing import Any

_FORM = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_OURS = ("dovecote", "uvicorn")


def log_to_standard_error(level: str) -> logging.Handler:
    """Write the log: of Dovecote and its web server at a level, of everything else warnings only.

    Libraries write down what passes through them: addresses with tokens in them, statements, rows. None is let in by name.

    :param level: as in the settings
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Discreet(_FORM))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for ours in _OURS:
        logging.getLogger(ours).setLevel(level.upper())
    return handler


class Discreet(logging.Formatter):
    """Writes tracebacks without what the exceptions say: a message quotes the value that something is wrong with."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record. What another handler has made of its exception stays with that."""
        if record.exc_text:
            record = copy.copy(record)
            record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        """Tell where it broke, and on what kind of error."""
        return "\n".join(_told(ei[1]))


def _told(error: BaseException | None) -> Iterator[str]:
    if error is None:
        return
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before)
        yield "and then:"
    yield "Traceback (most recent call last):"
    yield from (line.rstrip("\n") for line in traceback.format_tb(error.__traceback__))
    yield _named(error)
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield "one of several:"
        yield from _told(inner)


def _named(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    # Those of the store are made of our own words.
    return f"{name}: {error}" if kind.__module__ == "service.store.database" else name
