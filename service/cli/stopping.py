"""Signals that stop a server: the first one in order, the second one at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from service.cli import exits

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Handles SIGTERM and SIGINT from the start of the process on.

    A process with the id 1, as in a container, has no default action for them: without a handler they are lost.
    """

    def __init__(self) -> None:
        """Prepare; :meth:`install` begins to handle signals."""
        self.requested = False
        self._ask: Callable[[], None] | None = None

    def install(self) -> None:
        """Handle the signals. Until :meth:`when_requested` is called, the first one ends the process."""
        for number in _SIGNALS:
            signal.signal(number, self._received)

    def when_requested(self, ask: Callable[[], None]) -> None:
        """Call a function at the first signal. It runs between any two instructions of the main thread."""
        self._ask = ask
        if self.requested:
            ask()

    def _received(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            os.write(2, b"dovecote: second signal; leaving at once\n")
            os._exit(exits.INTERRUPTED - signal.SIGINT + number)
        self.requested = True
        if self._ask is None:
            raise SystemExit(exits.OK)
        self._ask()
