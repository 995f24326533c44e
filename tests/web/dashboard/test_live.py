"""Live updates: a bounded number of hints, however much changes and however many pages are open."""

import asyncio
from typing import Any

import pytest

from service.flows.signals.local import ANY_CHANGE
from service.web.dashboard.live import INTERVAL, MAX_HINTS, Pace
from tests.support.world import World


@pytest.mark.parametrize("pages", [0, 1, MAX_HINTS, 10 * MAX_HINTS, 1000])
def test_hints_of_a_process_stay_bounded_with_more_pages(pages: int) -> None:
    pace = Pace()
    pace.pages = pages
    assert pace.interval >= INTERVAL
    assert pages / pace.interval <= MAX_HINTS / INTERVAL


class Opened:
    """A page's stream without a browser."""

    def __init__(self, app: Any) -> None:
        self.sent: list[bytes] = []
        self._gone = asyncio.Event()
        self.begun, self.hinted = asyncio.Event(), asyncio.Event()
        headers = [(b"host", b"localhost"), (b"accept", b"text/event-stream")]
        scope = {
            "type": "http", "method": "GET", "path": "/ui/live", "raw_path": b"/ui/live", "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 80), "scheme": "http",
            "http_version": "1.1", "root_path": "", "state": {}, "app": app,
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, str]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message.get("body", b""))
        self.begun.set()
        if self.hints:
            self.hinted.set()

    @property
    def hints(self) -> int:
        return sum(b"event: changed" in each for each in self.sent)

    async def settle(self) -> None:
        """Let everything run that does not wait for a clock."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def close(self) -> None:
        self._gone.set()
        await self.task


async def test_changes_of_a_moment_share_one_hint(world: World) -> None:
    page = Opened(world.app)
    await page.begun.wait()
    await page.settle()
    for _ in range(5):
        for _ in range(200):
            world.context.signals.notify(ANY_CHANGE)
        await page.hinted.wait()
        await page.settle()
    assert page.hints == 1
    await page.close()
