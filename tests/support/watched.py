"""Run the `dovecote` command with a watch on its event loop: ``python -m tests.support.watched FILE serve …``.

The watch measures for how long the loop stands still, by the CPU time of the process: a busy machine adds nothing to it,
and a thread that holds the interpreter's lock is counted as a callback is. The longest times are written to a file.
"""

import asyncio
import heapq
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

TICK: Final = 0.005
"""Seconds between two looks at the clock."""
KEPT: Final = 8


class Watch:
    """Keeps the longest standstills of a loop."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._longest: list[tuple[float, str]] = []

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a loop from now on."""
        self._note_callbacks()
        loop.add_signal_handler(signal.SIGUSR1, self._forget)
        self._tick(loop, time.process_time())

    def _forget(self) -> None:
        """Reset the measurement: the signal announces another attack."""
        self._longest.clear()
        self._file.write_text("[]", encoding="utf-8")

    def _tick(self, loop: asyncio.AbstractEventLoop, before: float) -> None:
        now = time.process_time()
        self._keep(now - before, "loop")
        loop.call_later(TICK, self._tick, loop, time.process_time())

    def _note_callbacks(self) -> None:
        run: Callable[[asyncio.Handle], None] = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began = time.thread_time()
            run(handle)
            self._keep(time.thread_time() - began, _name_of(handle))

        asyncio.Handle._run = timed  # type: ignore[method-assign]

    def _keep(self, seconds: float, name: str) -> None:
        entry = (seconds, name)
        if len(self._longest) < KEPT:
            heapq.heappush(self._longest, entry)
        elif entry > self._longest[0]:
            heapq.heapreplace(self._longest, entry)
        else:
            return
        if seconds > TICK:
            self._file.write_text(json.dumps(sorted(self._longest, reverse=True)), encoding="utf-8")


def _name_of(handle: asyncio.Handle) -> str:
    """Return the name of a handle's coroutine or function."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
    return f"callback {getattr(coroutine or callback, '__qualname__', callback.__class__.__name__)}"


def main() -> None:
    """Run the command on asyncio's own loop, with the watch."""
    from service.cli import main as command
    from service.cli import serve

    watch = Watch(Path(sys.argv.pop(1)))
    run: Any = serve._serve

    async def watched(*arguments: Any) -> None:
        watch.start(asyncio.get_running_loop())
        coroutine: Coroutine[Any, Any, None] = run(*arguments)
        await coroutine

    serve._serve = watched
    serve._loop_factory = lambda: None
    command(prog_name="dovecote")


if __name__ == "__main__":
    main()
