"""The command as a client: what it sends, what it repeats, and what it says when something is wrong."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from service.cli import exits, main
from service.cli.api import AGAIN, Api, ApiProblem, Refused, Unavailable, render_problem
from service.cli.tasks import gather

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
    """A server in this process that answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def api(self, url: str = "http://dovecote.test/", key: str | None = None) -> Api:
        return Api(url, key=key, transport=httpx.MockTransport(self._answer), pause=self.pauses.append)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_problem_is_written_with_every_error() -> None:
    assert render_problem(PROBLEM) == (
        "Error: The request has mistakes (422 invalid_request)\n"
        "  input.promt   unknown field; did you mean 'prompt'?\n"
        "  input.prompt  is required"
    )


def test_a_detail_that_says_more_is_written_too() -> None:
    assert "  see the docs\n" in render_problem({**PROBLEM, "detail": "see the docs"})
    assert (
        render_problem({"title": "Gone", "status": 404, "detail": "no such task"})
        == "Error: Gone (404)\n  no such task"
    )


def test_a_problem_cannot_command_the_terminal() -> None:
    assert "\x1b" not in render_problem({**PROBLEM, "detail": "\x1b[2Jcleared"})


@pytest.mark.parametrize(
    ("answer", "kind", "exit_code", "words"),
    [
        (httpx.Response(422, json=PROBLEM), Refused, 3, "unknown field"),
        (httpx.Response(401, json={"title": "An API key is needed", "status": 401}), Refused, 3, "DOVECOTE_API_KEY"),
        (httpx.Response(503, json={"title": "Not now", "status": 503}), Unavailable, 69, "Not now"),
        (httpx.Response(500, json={"title": "Our mistake", "status": 500}), Unavailable, 69, "Our mistake"),
        (httpx.Response(502, html="<h1>Bad Gateway</h1>"), Unavailable, 69, "HTTP 502 with text/html"),
        (httpx.Response(404, json={"error": "?"}), Unavailable, 69, "is Dovecote there"),
        (httpx.Response(200, html="<h1>Welcome</h1>"), Unavailable, 69, "HTTP 200 with text/html"),
        (httpx.Response(302, headers={"Location": "/login"}), Unavailable, 69, "HTTP 302"),
        (httpx.ConnectError("refused"), Unavailable, 69, "dovecote serve"),
        (httpx.ReadTimeout("too slow"), Unavailable, 69, "broke off"),
    ],
)
def test_what_goes_wrong_has_a_code_and_words(
    answer: httpx.Response | Exception, kind: type[click.ClickException], exit_code: int, words: str
) -> None:
    with Server(answer).api() as api, pytest.raises(kind) as caught:
        api.get("/v1/tasks")
    assert isinstance(caught.value, ApiProblem)
    assert caught.value.exit_code == exit_code
    assert words in render_problem(caught.value.document)


def test_a_request_is_repeated_as_it_was() -> None:
    server = Server(
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.Response(503, json={"title": "Not now", "status": 503}, headers={"Retry-After": "5"}),
        httpx.Response(202, json={"id": "t1"}),
    )
    with server.api() as api:
        reply = api.ask("POST", "/v1/tasks", document={"a": 1}, headers={"Idempotency-Key": "mine"}, again=AGAIN)
    assert reply.document == {"id": "t1"}
    assert [(request.headers["idempotency-key"], request.content) for request in server.requests] == [
        ("mine", b'{"a":1}')
    ] * 4
    assert server.pauses == [AGAIN[0], AGAIN[1], 5.0]


def test_what_was_refused_is_not_repeated() -> None:
    for answer in (httpx.Response(422, json=PROBLEM), httpx.Response(500, json={"title": "x", "status": 500})):
        server = Server(answer)
        with server.api() as api, pytest.raises(ApiProblem):
            api.get("/v1/tasks", again=AGAIN)
        assert len(server.requests) == 1


def test_patience_ends() -> None:
    server = Server(*[httpx.ConnectError("refused")] * 9)
    with server.api() as api, pytest.raises(Unavailable):
        api.get("/v1/tasks", again=AGAIN)
    assert len(server.requests) == len(AGAIN) + 1


def test_without_leave_nothing_is_repeated() -> None:
    server = Server(httpx.ConnectError("refused"))
    with server.api() as api, pytest.raises(Unavailable):
        api.get("/v1/tasks")
    assert not server.pauses


def test_the_key_goes_as_bearer_and_a_long_wait_has_a_longer_timeout() -> None:
    server = Server(httpx.Response(200, json={}), httpx.Response(200, json={}))
    with server.api("https://example.com/dovecote/", key="k" * 20) as api:
        api.get("/v1/tasks/1", {"wait": 60, "label": None})
    with server.api() as api:
        api.get("/v1/tasks/1")
    first, second = server.requests
    assert str(first.url) == "https://example.com/dovecote/v1/tasks/1?wait=60"
    assert first.headers["authorization"] == "Bearer " + "k" * 20
    assert "authorization" not in second.headers
    assert first.extensions["timeout"]["read"] == second.extensions["timeout"]["read"] + 60


@pytest.mark.parametrize("url", ["ftp://x", "dovecote", "http://", "http://user:key@host", "http://[", "//host"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(click.UsageError):
        Api(url)


def test_pages_are_turned_until_there_is_enough() -> None:
    server = Server(
        httpx.Response(200, json={"tasks": [{"id": number} for number in range(100)], "next": "c1"}),
        httpx.Response(200, json={"tasks": [{"id": number} for number in range(20)], "next": "c2"}),
    )
    with server.api() as api:
        tasks, following = gather(api, {"family": "runway", "state": ["failed", "expired"], "label": []}, 120)
    assert (len(tasks), following) == (120, "c2")
    asked = [request.url.params for request in server.requests]
    assert [params["limit"] for params in asked] == ["100", "20"]
    assert [params.get("cursor") for params in asked] == [None, "c1"]
    assert asked[0].get_list("state") == ["failed", "expired"]


# The commands over a real socket, against a server that is not quite Dovecote.


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
    """Takes tasks, but first breaks the connection off so many times after it has read one."""

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
            self._give(202, {"id": "t1", "state": "queued", "explanation": "Waiting."})
        else:
            self._give(self.server.status, {"title": "Refused", "status": self.server.status})

    def _give(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_a_submit_whose_answer_was_lost_is_sent_again_with_its_key(stub: Stub) -> None:
    stub.breaks = 1
    result = stub.run("submit", "runway", "text_to_video", "prompt=x")
    assert (result.exit_code, result.stdout) == (0, "t1\n")
    assert "trying again in 0.2 s" in result.stderr
    (first, request), (second, again) = stub.posted
    assert first["idempotency-key"] == second["idempotency-key"]
    assert request == again == {"family": "runway", "operation": "text_to_video", "input": {"prompt": "x"}}


def test_two_submits_have_two_keys_unless_the_user_gives_one(stub: Stub) -> None:
    for more in ([], [], ["--idempotency-key", "mine"]):
        stub.run("submit", "runway", "text_to_video", *more)
    first, second, third = (headers["idempotency-key"] for headers, _ in stub.posted)
    assert first != second
    assert third == "mine"


def test_everything_that_is_said_is_sent(stub: Stub) -> None:
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


def test_a_server_that_is_unwell_ends_with_its_code(stub: Stub) -> None:
    for status, exit_code in ((400, exits.REFUSED), (500, exits.UNAVAILABLE)):
        stub.status = status
        assert stub.run("submit", "runway", "text_to_video").exit_code == exit_code


@pytest.mark.parametrize("key", ["with space", "kéy", "two\nlines"])
def test_a_key_that_cannot_be_one_is_refused_and_never_printed(stub: Stub, key: str) -> None:
    result = stub.run("tasks", "list", DOVECOTE_API_KEY=key)
    assert result.exit_code == exits.SETTINGS
    assert key not in result.output


def test_nobody_there() -> None:
    result = CliRunner().invoke(main, ["tasks", "list", "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, result.stdout) == (exits.UNAVAILABLE, "")
    assert "dovecote serve" in result.stderr
