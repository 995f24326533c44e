"""Debian's Chromium under Playwright's library, which brings no browser of its own here."""

import contextlib
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LIMIT = 30_000.0
"""Milliseconds after which a condition counts as failed. The processes of other tests may run beside."""
_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]  # it runs as root, in a container
_OWN = frozenset({"127.0.0.1", "localhost"})


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Yield a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page whose every complaint is collected: errors of its scripts and its policy, and requests to other hosts."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        context.set_default_timeout(LIMIT)
        self.base = base
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        context.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).hostname not in _OWN:
            self.complaints.append(f"request to {request.url}")

    def open(self, path: str) -> Page:
        """Open a page of the dashboard."""
        self.page.goto(self.base + path)
        return self.page
