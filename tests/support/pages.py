"""A visitor of the dashboard without a browser: keeps cookies, reads pages, and sends their forms."""

import contextlib
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx

from tests.support.world import World

OPERATOR = "operator-key-that-is-long-enough"


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


class Page:
    """A page as a visitor sees it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        read = _Links()
        read.feed(response.text)
        self.tags = read.tags
        self.text = " ".join(" ".join(read.text).split()).replace("\N{NO-BREAK SPACE}", " ")

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]

    def has_button(self) -> bool:
        """Return whether the page offers to change something, besides the theme and the session."""
        targets = [each.get("action") or "" for each in self.attributes("form") if each.get("method") == "post"]
        return any(not each.endswith(("/theme", "/sign-out", "/views")) for each in targets)


class Visitor:
    """A visitor with a session, or without one."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, **headers: str) -> Page:
        """Read a page, and follow where it leads."""
        return Page(await self.client.get(path, headers=headers, follow_redirects=True))

    async def sign_in(self, key: str, following: str = "") -> httpx.Response:
        """Send the sign-in form."""
        return await self.client.post("/ui/sign-in", data={"key": key, "next": following})

    async def token(self) -> str:
        """Return the token of this visitor's forms."""
        page = await self.get("/ui/tasks")
        found = [each["value"] for each in page.attributes("input") if each.get("name") == "token"]
        assert found, page.text[:300]
        return str(found[0])

    async def post(self, path: str, *, follow: bool = True, **fields: Any) -> Page:
        """Send a form of the session."""
        fields.setdefault("token", await self.token())
        return Page(await self.client.post(path, data=fields, follow_redirects=follow))


@contextlib.asynccontextmanager
async def visitor(world: World, key: str | None = None) -> AsyncIterator[Visitor]:
    """Yield a visitor, signed in with a key where one is given."""
    transport = httpx.ASGITransport(world.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        found = Visitor(client)
        if key is not None:
            answer = await found.sign_in(key)
            assert answer.status_code == 303, answer.text
        yield found


def inline_code(page: Page) -> list[str]:
    """Return everything on a page that a strict content policy would refuse to run or apply."""
    handlers = [f"{tag} {name}" for tag, attributes in page.tags for name in attributes if name.startswith("on")]
    styles = [f"{tag} style" for tag, attributes in page.tags if "style" in attributes]
    scripts = [f"script {each}" for each in page.attributes("script") if not each.get("src")]
    schemes = [str(each) for _, each in page.tags if re.match(r"(javascript|data|vbscript):", str(each.get("href")))]
    return handlers + styles + scripts + schemes + ["style element"] * len(page.attributes("style"))
