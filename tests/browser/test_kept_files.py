"""Kept files that a hostile provider made, in a real browser: no script of theirs runs at the address of the API.

Every file is opened directly and embedded in a page of the same origin, by the API's path and by a signed link. The first test
shows that each script would run, and be noticed, if the file were served without Dovecote's headers.
"""

import base64
import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Route

from service.cli.demo.stage import Stage
from service.domain.media_types import sniff
from tests.browser.chromium import LIMIT

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]

RAN = "/ran"
_CODE = f"let c = 'none'; try {{ c = document.cookie }} catch (e) {{}} fetch('{RAN}?' + c).catch(() => 0);"
_WORKER = f"fetch('{RAN}').catch(() => 0);"
_PACKED = base64.b64encode(f"<script>{_CODE}</script>".encode()).decode()
FILES = {
    "page": f'<!doctype html><title>x</title><script>{_CODE}</script><img src=x onerror="{_CODE}">',
    "page-behind-a-comment": f"<!-- a dove --><script>{_CODE}</script>",
    "page-that-moves-on": f'<html><meta http-equiv="refresh" content="0;url={RAN}"><base href="/"><form action="{RAN}"></form>',
    "drawing": f'<svg xmlns="http://www.w3.org/2000/svg" onload="{_CODE}"><script>{_CODE}</script></svg>',
    "drawing-with-a-page": '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><foreignObject><iframe '
    f'xmlns="http://www.w3.org/1999/xhtml" src="data:text/html;base64,{_PACKED}"/><script '
    f'xmlns="http://www.w3.org/1999/xhtml">{_CODE}</script></foreignObject></svg>',
    "xml": f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><script>{_CODE}</script></html>',
    "script": _WORKER,
    "document": "%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>/Pages 2 0 R>>endobj\n"
    "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\n"
    "trailer<</Root 1 0 R>>\n%%EOF",
}
TYPES = {"xml": "application/xhtml+xml", "script": "text/javascript"}
"""The types with which these files would run, where that is not the type of their first bytes."""
_EMBED = """async url => {
  const embed = (tag, name, more) => new Promise(resolve => {
    const element = Object.assign(document.createElement(tag), more);
    element[name] = url;
    element.onload = element.onerror = resolve;
    setTimeout(resolve, 1500);
    document.body.append(element);
  });
  const work = () => new Promise(resolve => {
    setTimeout(resolve, 1500);
    try { new Worker(url).onerror = resolve } catch (error) { resolve() }
  });
  const service = () => navigator.serviceWorker.register(url).catch(() => 0);
  await Promise.all([
    embed("img", "src"), embed("iframe", "src"), embed("object", "data"), embed("embed", "src"), embed("video", "src"),
    embed("script", "src"), embed("script", "src", {type: "module"}), embed("link", "href", {rel: "stylesheet"}),
    work(), Promise.race([service(), new Promise(resolve => setTimeout(resolve, 1500))]),
  ]);
}"""


class Visitor:
    """A browser with a cookie at the origin of Dovecote, which notices whatever a script sends."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        context.add_cookies([{"name": "session", "value": "secret", "url": base}])
        context.route(f"{base}/blank", lambda route: route.fulfill(body="<body>", content_type="text/html"))
        context.route(f"{base}{RAN}**", self._note)
        self.context, self.base, self.ran = context, base, list[str]()

    def _note(self, route: Route) -> None:
        self.ran.append(route.request.url)
        route.fulfill(body="")

    def show(self, url: str, *, embedded: bool, until_noticed: bool = False) -> None:
        """Show a file by itself, or in a page in every way that a page has, and let its scripts run."""
        before, end = len(self.ran), time.monotonic() + LIMIT / 1000
        with contextlib.closing(self.context.new_page()) as page, contextlib.suppress(Error):
            # A download is no page, and a file that leads away ends what was begun on the page.
            page.goto(f"{self.base}/blank" if embedded else url)
            if embedded:
                page.evaluate(_EMBED, url)
            page.wait_for_timeout(100)
            while until_noticed and len(self.ran) == before and time.monotonic() < end:
                page.wait_for_timeout(100)


@pytest.fixture
def visitor(browser: Browser, stage: Stage) -> Iterator[Visitor]:
    with contextlib.closing(browser.new_context(accept_downloads=False)) as context:
        yield Visitor(context, stage.dovecote.url)


@pytest.fixture(scope="module")
def kept(stage: Stage) -> dict[str, dict[str, str]]:
    """Return the addresses of the kept files. Each takes the place of a film that the sandbox made."""
    return {name: replaced(stage, content.encode()) for name, content in FILES.items()}


def replaced(stage: Stage, content: bytes) -> dict[str, str]:
    task = finished(stage)
    with contextlib.closing(sqlite3.connect(stage.folder / "dovecote.db", timeout=30)) as database, database:
        facts = (len(content), hashlib.sha256(content).hexdigest(), sniff(content))
        replacing = "UPDATE assets SET size = ?, sha256 = ?, media_type = ? WHERE task_id = ? RETURNING object"
        for (name,) in database.execute(replacing, (*facts, task.replace("-", ""))).fetchall():
            (stage.folder / "kept" / name).write_bytes(content)
    path = f"{stage.dovecote.url}/v1/tasks/{task}/results/0"
    return {"content": f"{path}/content", "link": httpx.get(f"{path}/link").json()["url"]}


def finished(stage: Stage) -> str:
    document = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}
    task = httpx.post(f"{stage.dovecote.url}/v1/tasks", json=document, timeout=30).json()["id"]
    end = time.monotonic() + LIMIT / 1000
    while not is_kept(httpx.get(f"{stage.dovecote.url}/v1/tasks/{task}", timeout=30).json()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return str(task)


def is_kept(task: dict[str, Any]) -> bool:
    return bool(task["results"]) and all(each["kept"] == "kept" for each in task["results"])


@pytest.mark.parametrize("name", sorted(set(FILES) - {"document"}))  # headless Chromium shows no PDF
def test_script_runs_and_is_noticed_without_the_headers(visitor: Visitor, name: str) -> None:
    url, kind = f"{visitor.base}/bare/{name}", TYPES.get(name, sniff(FILES[name].encode()))
    visitor.context.route(url, serving(FILES[name], kind))
    visitor.show(url, embedded=name in {"script", "drawing-with-a-page"}, until_noticed=True)
    assert visitor.ran
    assert any("secret" in url for url in visitor.ran) or "document.cookie" not in FILES[name]


def serving(content: str, kind: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(body=content, content_type=kind)


@pytest.mark.parametrize("address", ["content", "link"])
@pytest.mark.parametrize("name", FILES)
def test_no_script_of_a_kept_file_runs(
    visitor: Visitor, kept: dict[str, dict[str, str]], name: str, address: str
) -> None:
    for embedded in (False, True):
        visitor.show(kept[name][address], embedded=embedded)
    assert visitor.ran == []


@pytest.mark.parametrize("name", FILES)
def test_kept_file_is_a_download_of_a_harmless_type(kept: dict[str, dict[str, str]], name: str) -> None:
    for url in kept[name].values():
        answer = httpx.get(url)
        assert answer.text == FILES[name]
        assert answer.headers["content-type"].partition(";")[0] not in {"text/html", "text/xml", *TYPES.values()}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox;")
        assert answer.headers["content-disposition"].startswith("attachment")
