"""The requests of the command, its retries, and its error messages."""

import contextlib
import functools
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from dovecote import Client, protocol
from service.cli import exits, main
from service.cli.api_client import Refused, Unavailable, collect, open_client, render_problem

PROBLEM = {
    "type": "about:blank",
    "title": "The request has mistakes",
    "status": 422,
    "code": "invalid_request",
    "detail": "input.promt: unknown field; did you mean 'prompt'?; input.prompt: is required",
    "errors": [
        {"path": "input.promt", "message": "unknown field; did you mean 'prompt'?"},
        {"path": "input.prompt", "message": "is required"},
    ],
}


class Server:
    """A server in this process. It sends its responses in turn and records the requests."""

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self.responses = list(responses)
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self._respond)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response


def test_problem_is_rendered_with_every_error() -> None:
    assert render_problem(PROBLEM) == (
        "Error: The request has mistakes (422 invalid_request)\n"
        "  input.promt   unknown field; did you mean 'prompt'?\n"
        "  input.prompt  is required"
    )


def test_detail_that_adds_something_is_rendered() -> None:
    assert "  see the docs\n" in render_problem({**PROBLEM, "detail": "see the docs"})
    assert (
        render_problem({"title": "Gone", "status": 404, "detail": "no such task"})
        == "Error: Gone (404)\n  no such task"
    )


def test_control_characters_of_a_problem_are_escaped() -> None:
    assert "\x1b" not in render_problem({**PROBLEM, "detail": "\x1b[2Jcleared"})


CODE = {"code": "x"}


@pytest.mark.parametrize(
    ("response", "kind", "exit_code", "words"),
    [
        (httpx.Response(422, json=PROBLEM), Refused, 3, "unknown field"),
        (httpx.Response(401, json={"title": "No key", "status": 401, **CODE}), Refused, 3, "DOVECOTE_API_KEY"),
        (httpx.Response(503, json={"title": "Not now", "status": 503, **CODE}), Unavailable, 69, "Not now"),
        (httpx.Response(500, json={"title": "Internal", "status": 500, **CODE}), Unavailable, 69, "Internal"),
        (httpx.Response(502, html="<h1>Bad Gateway</h1>"), Unavailable, 69, "HTTP 502 with '<h1>Bad Gateway"),
        (httpx.Response(404, json={"error": "?"}), Unavailable, 69, "is not a response of Dovecote"),
        (httpx.Response(200, html="<h1>Welcome</h1>"), Unavailable, 69, "HTTP 200 with '<h1>Welcome"),
        (httpx.Response(302, headers={"Location": "/login"}), Unavailable, 69, "HTTP 302"),
        (httpx.ConnectError("refused"), Unavailable, 69, "dovecote serve"),
        (httpx.ReadTimeout("too slow"), Unavailable, 69, "gave no response"),
    ],
    ids=lambda value: "" if isinstance(value, type | int) else str(value)[:40],
)
def test_error_has_an_exit_code_and_a_message(
    response: httpx.Response | Exception, kind: type[Refused | Unavailable], exit_code: int, words: str
) -> None:
    with pytest.raises(kind) as caught, connected(Server(response), retry_for=0) as client:
        client.page()
    assert caught.value.exit_code == exit_code
    assert words in render_problem(caught.value.document)


@contextlib.contextmanager
def connected(server: Server, url: str = "http://dovecote.test/", **more: Any) -> Iterator[Client]:
    with open_client(url, transport=server.transport, **more) as client:
        yield client


def test_retry_is_announced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(protocol, "PAUSES", (0.01, 0.02))
    server = Server(
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.Response(503, json={"title": "Not now", "status": 503, **CODE}),
        httpx.Response(200, json={"tasks": [], "next": None}),
    )
    with connected(server) as client:
        assert client.page().items == []
    assert capsys.readouterr().err.splitlines() == [
        "cannot connect to http://dovecote.test (ConnectError: refused); trying again in 0.01 s",
        "http://dovecote.test gave no response (ReadError: reset); trying again in 0.02 s",
        "Not now; trying again in 0.02 s",
    ]


def test_url_may_have_a_path() -> None:
    server = Server(httpx.Response(200, json={"tasks": [], "next": None}))
    with connected(server, "https://example.com/dovecote/", api_key="k" * 20) as client:
        client.page(limit=5)
    [request] = server.requests
    assert str(request.url) == "https://example.com/dovecote/v1/tasks?limit=5"
    assert request.headers["authorization"] == "Bearer " + "k" * 20


@pytest.mark.parametrize("url", ["ftp://x", "dovecote", "http://", "http://user:key@host", "http://[", "//host"])
def test_unusable_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(click.UsageError, match="DOVECOTE_URL"), open_client(url):
        pass


def test_pages_are_loaded_until_the_limit() -> None:
    task = {"id": "x", "family": "runway", "operation": "x", "state": "failed"}
    server = Server(
        httpx.Response(200, json={"tasks": [task] * 100, "next": "c1"}),
        httpx.Response(200, json={"tasks": [task] * 20, "next": "c2"}),
    )
    with connected(server) as client:
        wanted = functools.partial(client.page, family="runway", state=["failed", "expired"])
        tasks, cursor = collect(wanted, 120)
    assert (len(tasks), cursor) == (120, "c2")
    sent = [request.url.params for request in server.requests]
    assert [params["limit"] for params in sent] == ["100", "20"]
    assert [params.get("cursor") for params in sent] == [None, "c1"]
    assert sent[0].get_list("state") == ["failed", "expired"]


# The commands over a real socket, against a fake server.


TASK = {"id": "t1", "family": "runway", "operation": "text_to_video", "state": "queued", "explanation": "Waiting."}


@pytest.fixture
def stub() -> Iterator["Stub"]:
    server = Stub()
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield server
    server.shutdown()
    server.server_close()
    serving.join()


class Stub(ThreadingHTTPServer):
    """A server that accepts tasks. It first closes `breaks` connections after it has read the request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.breaks = 0
        self.status = 202
        self.posted: list[tuple[dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def run(self, *arguments: str, **environment: str) -> Any:
        return CliRunner().invoke(main, [*arguments], env={"DOVECOTE_URL": self.url, **environment})


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self._give(200, {"families": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.posted.append((headers, body))
        if len(self.server.posted) <= self.server.breaks:
            self.close_connection = True
        elif self.server.status == 202:
            self._give(202, TASK)
        else:
            self._give(self.server.status, {"title": "Refused", "status": self.server.status, **CODE})

    def _give(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_submit_without_response_is_repeated_with_its_key(stub: Stub) -> None:
    stub.breaks = 1
    result = stub.run("submit", "runway", "text_to_video", "prompt=x")
    assert (result.exit_code, result.stdout) == (0, "t1\n")
    assert "trying again in 0.2 s" in result.stderr
    (first, request), (second, repeated) = stub.posted
    assert first["idempotency-key"] == second["idempotency-key"]
    assert request == repeated == {"family": "runway", "operation": "text_to_video", "input": {"prompt": "x"}}


def test_each_submit_has_its_own_key_unless_one_is_given(stub: Stub) -> None:
    for more in ([], [], ["--idempotency-key", "mine"]):
        stub.run("submit", "runway", "text_to_video", *more)
    first, second, third = (headers["idempotency-key"] for headers, _ in stub.posted)
    assert first != second
    assert third == "mine"


def test_every_option_of_submit_is_sent(stub: Stub) -> None:
    result = stub.run(
        *("submit", "runway", "text_to_video", "prompt=x", "--option", "hd:=true", "--label", "project=intro"),
        *("--callback-url", "https://example.com/done", "--upstream", "elkapi", "--deadline", "2h"),
        DOVECOTE_API_KEY=" secret-of-mine \n",
    )
    assert result.exit_code == 0, result.stderr
    headers, request = stub.posted[0]
    assert headers["authorization"] == "Bearer secret-of-mine"
    assert request == {
        "family": "runway",
        "operation": "text_to_video",
        "input": {"prompt": "x"},
        "options": {"hd": True},
        "labels": {"project": "intro"},
        "callback_url": "https://example.com/done",
        "upstream": "elkapi",
        "deadline": 7200.0,
    }


def test_exit_code_follows_the_status(stub: Stub) -> None:
    for status, exit_code in ((400, exits.REFUSED), (500, exits.UNAVAILABLE)):
        stub.status = status
        assert stub.run("submit", "runway", "text_to_video").exit_code == exit_code


@pytest.mark.parametrize("key", ["with space", "kéy", "two\nlines"])
def test_unusable_key_is_refused_and_not_printed(stub: Stub, key: str) -> None:
    result = stub.run("tasks", "list", DOVECOTE_API_KEY=key)
    assert result.exit_code == exits.SETTINGS
    assert key not in result.output


def test_server_that_does_not_run_is_reported() -> None:
    result = CliRunner().invoke(main, ["tasks", "list", "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, result.stdout) == (exits.UNAVAILABLE, "")
    assert "dovecote serve" in result.stderr
