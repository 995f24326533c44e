"""The clock of an event loop, moved forward by a test: time-outs come due without waiting, however busy the machine is."""

import asyncio


class LoopClock:
    """The time of the running loop, plus what the test has added to it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._real = loop.time
        self._ahead = 0.0
        loop.time = self  # type: ignore[method-assign, assignment]

    def __call__(self) -> float:
        return self._real() + self._ahead

    def forward(self, seconds: float) -> None:
        """Advance the time at once."""
        self._ahead += seconds
