"""Writers that a test intercepts: it sees every write, and may refuse it, undo it or fail after its commit."""

import copy
from collections.abc import Awaitable, Callable
from typing import Any

from service.store.writer import Batch, Submit, Writer, Writers

Around = Callable[[Submit, Batch[Any, Any], Any], Awaitable[Any]]
"""Receives the function that submits a write, and the write: its batch function and its item."""


def intercepted(writers: Writers, around: Around) -> Writers:
    """Return writers that pass every write through a function."""
    found = copy.copy(writers)
    found.requests = _through(writers.requests, around)
    found.journeys = _through(writers.journeys, around)
    return found


def _through(writer: Writer, around: Around) -> Writer:
    async def submit(function: Batch[Any, Any], item: Any) -> Any:
        return await around(writer.submit, function, item)

    return Writer(submit)


def arguments_of(item: Any) -> tuple[Any, ...]:
    """Return the arguments of a write that was made by ``Writer.run``."""
    arguments: tuple[Any, ...] = item[0]
    return arguments
