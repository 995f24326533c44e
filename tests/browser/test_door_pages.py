"""A page of another origin calls the doors from a real browser: preflights, keys in headers, and the headers that it can read."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from service.cli.demo.stage import Stage
from service.cli.processes import ProcessGroup

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
KEY = "a-key-of-the-page-1"
CALL = """async ([path, method, headers, body]) => {
  try {
    const answer = await fetch(path, {method, headers, body: body === null ? undefined : JSON.stringify(body)});
    return {status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text()};
  } catch (error) { return {blocked: error.name}; }
}"""


class _Empty(BaseHTTPRequestHandler):
    """Serves an empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title>")

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def origin() -> Iterator[str]:
    """Serve a page, and yield its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def listed() -> Iterator[str]:
    with origin() as found:
        yield found


@pytest.fixture(scope="module")
def stage(browser: Browser, listed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("doors"), seconds=1.0)
    doors = dict.fromkeys((f"DOVECOTE_DOORS__{name}" for name in ("RUNWAYML", "OPENAI", "FAL", "MIDJOURNEY")), "true")
    more = {**doors, "DOVECOTE_DOORS__CORS_ORIGINS": listed, "DOVECOTE_API_KEYS": f"page={KEY}"}
    stage.dovecote.environment = {**stage.dovecote.environment, **more}
    with ProcessGroup() as group:
        stage.open(group)
        yield stage


@pytest.fixture
def page(browser: Browser, listed: str) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(listed)
    yield page
    context.close()


def call(page: Page, stage: Stage, method: str, path: str, body: Any = None, **headers: str) -> Any:
    return page.evaluate(CALL, [stage.dovecote.url + path, method, headers, body])


def test_page_of_a_listed_origin_submits_and_reads_the_answer_and_its_headers(page: Page, stage: Stage) -> None:
    body = {"model": "gen4.5", "promptText": "a dove", "ratio": "1280:720", "duration": 5}
    own = {"Content-Type": "application/json", "X-Runway-Version": "2024-11-06", "x-stainless-retry-count": "0"}
    made = call(page, stage, "POST", "/runwayml/v1/text_to_video", body, Authorization=f"Bearer {KEY}", **own)
    assert made["status"] == 200, made
    task = json.loads(made["text"])["id"]
    assert {"dovecote-task", "x-request-id"} <= set(made["headers"])
    read = call(page, stage, "GET", f"/runwayml/v1/tasks/{task}", Authorization=f"Bearer {KEY}")
    assert json.loads(read["text"])["id"] == task
    assert call(page, stage, "DELETE", f"/runwayml/v1/tasks/{task}", Authorization=f"Bearer {KEY}")["status"] == 204


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/mj/submit/imagine", {"mj-api-secret": KEY}),
        ("/mj/submit/imagine", {"x-api-key": KEY}),
        ("/fal/fal-proxy", {"Authorization": f"Key {KEY}", "x-fal-target-url": "https://queue.fal.run/fal-ai/flux"}),
    ],
    ids=["mj-api-secret", "x-api-key", "fal"],
)
def test_key_is_taken_from_the_headers_of_each_client(
    page: Page, stage: Stage, path: str, headers: dict[str, str]
) -> None:
    made = call(page, stage, "POST", path, {"prompt": "a dove"}, **headers, **{"Content-Type": "application/json"})
    # The sandbox of this stage serves no fal: its refusal is read all the same.
    assert made.get("status") in {200, 422}, made
    assert ("dovecote-task" in made["headers"]) is (made["status"] == 200)


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/openai/v1/videos/video_1", KEY, 404),
        ("/openai/v1/videos", "another-key", 401),
        ("/openai/v1/nothing", KEY, 404),
    ],
    ids=["unknown task", "wrong key", "unknown path"],
)
def test_page_reads_errors(page: Page, stage: Stage, path: str, key: str, status: int) -> None:
    answer = call(page, stage, "GET", path, Authorization=f"Bearer {key}")
    assert answer["status"] == status, answer
    assert "error" in json.loads(answer["text"])


def test_page_reads_a_stream(page: Page, stage: Stage) -> None:
    body = {"model": "gpt-6-luna", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    own = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    answer = call(page, stage, "POST", "/openai/v1/chat/completions", body, **own)
    assert answer["status"] == 200, answer
    assert answer["text"].rstrip().endswith("data: [DONE]")


def test_page_of_another_origin_is_refused_by_the_browser(browser: Browser, stage: Stage) -> None:
    context = browser.new_context()
    with origin() as other:
        page = context.new_page()
        page.goto(other)
        for method, body in (("POST", {"prompt": "a"}), ("GET", None)):
            answer = call(page, stage, method, "/openai/v1/videos", body, Authorization=f"Bearer {KEY}")
            assert answer == {"blocked": "TypeError"}
    context.close()


def test_own_api_stays_closed_to_pages(page: Page, stage: Stage) -> None:
    answer = call(page, stage, "GET", "/v1/tasks", Authorization=f"Bearer {KEY}")
    assert answer == {"blocked": "TypeError"}
