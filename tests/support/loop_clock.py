"""The clock of an event loop, advanced by a test. Time-outs come due without waiting, at any load of the machine."""

import asyncio


class LoopClock:
    """The time of the running loop, plus the seconds that the test has added."""

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
