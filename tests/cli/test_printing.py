"""Text from outside reaches a terminal only with every invisible character escaped."""

import io
import json
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import hypothesis.strategies as st
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from rich.console import Console
from rich.table import Table

from service.cli import main
from service.cli.explain import command as explain
from service.cli.printing import _Visible, clean, is_invisible, json_text
from tests.support.openapi import ID, operations, sample, success

HOSTILE = "\u202eevil\u200b\x1b[2J\x9b31m\u2066\ufeff\u2028\U000e0041\r\b\ud800\u3164\ufe0f\u00ad\u061c"
TEXTS = st.text(st.characters(codec=None), max_size=40)


def invisible(text: str) -> set[str]:
    return {each for each in text if is_invisible(each)}


CODES = (
    0x202E,
    0x2066,
    0x200B,
    0x200D,
    0x200E,
    0x2060,
    0xFEFF,
    0xAD,
    0x1B,
    0x9B,
    0x7F,
    0x0D,
    0x00,
    0x2028,
    0x2029,
    0x061C,
)
CODES += (0x180E, 0x034F, 0x115F, 0x3164, 0xFE0F, 0xE0001, 0xE0100, 0xD800)


@pytest.mark.parametrize("code", CODES, ids=lambda code: f"U+{code:04X}")
def test_invisible_character_is_escaped_in_text_and_json(code: int) -> None:
    text = f"a{chr(code)}b"
    assert clean(text) == (f"a\\u{code:04x}b" if code < 0x10000 else f"a\\U{code:08x}b")
    assert not invisible(json_text({"x": text}))
    assert json.loads(json_text({"x": text})) == {"x": text}


@pytest.mark.parametrize(
    "text", ["", "plain", "中文，一句话。", "naïve Ünïcödé", "🕊 ❤ €", "two\nlines\tand a tab", "नमस्ते", "　"]
)
def test_visible_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


@given(TEXTS)
@example(HOSTILE)
def test_no_invisible_character_is_left(text: str) -> None:
    assert not invisible(clean(text))
    clean(text).encode()


@given(TEXTS)
@example(HOSTILE)
def test_json_is_the_same_document(text: str) -> None:
    written = json_text({text: [text, 1]}, indent=2)
    assert not invisible(written)
    assert json.loads(written) == {text: [text, 1]}


def test_every_unassigned_format_and_control_character_counts_as_invisible() -> None:
    for code in (*range(0x3000), *range(0xD7F0, 0xE010), *range(0xE0000, 0xE0200)):
        character = chr(code)
        if character not in "\n\t" and unicodedata.category(character)[0] == "C":
            assert is_invisible(character), hex(code)


@given(TEXTS)
@example(HOSTILE)
def test_table_on_a_terminal_is_escaped_as_well(text: str) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, color_system=None, markup=False, width=100)
    table = Table(box=None)
    table.add_row(text, "x")
    screen.print(_Visible(table))
    assert not invisible(screen.file.getvalue())  # type: ignore[attr-defined]


class Hostile(ThreadingHTTPServer):
    """A server whose responses are valid and hold invisible characters in every text."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hostile

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        for method, path, operation in operations():
            if method == self.command and path.replace("{id}", ID) == self.path.partition("?")[0]:
                status, schema = success(operation)
                assert schema is not None
                document = sample(schema, text=HOSTILE)
                if "state" in document and "family" in document:
                    document["state"] = "succeeded"
                return self._send(status, {**document, **({"next": None} if "next" in document else {})})
        return self._send(404, {"status": 404, "code": "not_found", "title": HOSTILE, "detail": self.path})

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that the library looks up

    def _send(self, status: int, document: Any) -> None:
        if self.server.refuses:
            errors = [{"path": HOSTILE, "message": HOSTILE}]
            status = 422
            document = {"status": 422, "code": "x", "title": HOSTILE, "detail": HOSTILE, "errors": errors}
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Hostile]:
    server = Hostile()
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield server
    server.shutdown()
    server.server_close()
    serving.join()


COMMANDS = [
    ["submit", "runway", "text_to_video", "prompt=x"],
    ["submit", "runway", "text_to_video", "prompt=x", "--wait"],
    ["tasks", "list"],
    ["tasks", "show", ID],
    ["tasks", "show", ID, "--wait"],
    ["tasks", "events", ID],
    ["tasks", "cancel", ID],
    ["tasks", "refresh", ID],
    ["tasks", "retry", ID, "--confirm-double-payment"],
    ["tasks", "input", ID, "x=1"],
    ["families"],
    ["families", HOSTILE],
    ["families", HOSTILE, HOSTILE],
    ["upstreams"],
    ["endpoints", "list"],
    ["endpoints", "create", "https://example.com/"],
    ["endpoints", "show", ID],
    ["endpoints", "update", ID, "--disable"],
    ["endpoints", "rotate", ID],
    ["endpoints", "test", ID],
    ["endpoints", "delete", ID],
    ["webhook-secret", "show"],
    ["webhook-secret", "rotate", "--overlap", "60"],
    ["messages", "list"],
    ["messages", "show", ID],
    ["messages", "replay", ID],
    ["messages", "replay", "--since", "1h"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: " ".join(each).encode("ascii", "ignore").decode()[:40])
@pytest.mark.parametrize("refuses", [False, True], ids=["success", "problem"])
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_command_prints_no_invisible_character(
    server: Hostile, arguments: list[str], *, refuses: bool, as_json: bool
) -> None:
    server.refuses = refuses
    given = [*arguments, "--json"] if as_json else arguments
    result = CliRunner().invoke(main, given, env={"DOVECOTE_URL": server.url})
    assert result.exit_code == (3 if refuses else 0), result.output
    assert not invisible(result.stdout + result.stderr)
    assert "evil" in result.output or arguments[0] in {"messages", "upstreams", "endpoints"} or refuses


def test_explanation_of_a_message_has_no_invisible_character() -> None:
    body = json.dumps({"task_id": "t1", "status": "2", "msg": HOSTILE})
    result = CliRunner().invoke(
        explain, ["--family", "runway", "--dialect", "aggregator", "--kind", "callback"], input=body
    )
    assert result.exit_code == 0, result.output
    assert not invisible(result.stdout)
