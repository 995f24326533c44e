"""The log: events and fields as text and as JSON, each on one line, and without the texts of exceptions."""

import io
import json
import logging
import re
import sys
from typing import Any
from uuid import UUID

import pytest

from service.logs import JsonFormatter, TextFormatter, about, log_to_standard_error, request_id

TASK = UUID("0198c0de-0000-7000-8000-000000000001")


def record(
    template: str, *arguments: Any, level: int = logging.INFO, error: BaseException | None = None
) -> logging.LogRecord:
    caught = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("dovecote", level, __file__, 1, template, arguments, caught)


def text(template: str, *arguments: Any) -> str:
    line = TextFormatter().format(record(template, *arguments))
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    ", line)
    return line.partition("INFO    ")[2]


def document(template: str, *arguments: Any) -> dict[str, Any]:
    found = json.loads(JsonFormatter().format(record(template, *arguments)))
    assert found.pop("time").endswith("Z")
    assert (found.pop("level"), found.pop("logger")) == ("info", "dovecote")
    return found


@pytest.mark.parametrize(
    ("template", "arguments", "line", "fields"),
    [
        pytest.param("started", (), "started", {"event": "started"}, id="no-fields"),
        pytest.param(
            "callback stored task=%s bytes=%d",
            (TASK, 12),
            f"callback stored task={TASK} bytes=12",
            {"event": "callback stored", "task": str(TASK), "bytes": 12},
            id="fields",
        ),
        pytest.param(
            "call ended seconds=%.2f status=%s error=%s",
            (1.23456, None, "no connection"),
            'call ended seconds=1.23 status=- error="no connection"',
            {"event": "call ended", "seconds": 1.23, "status": None, "error": "no connection"},
            id="rounded-none-and-blank",
        ),
        pytest.param(
            "%d rows written table=%s",
            (3, "tasks"),
            "3 rows written table=tasks",
            {"event": "3 rows written", "table": "tasks"},
            id="argument-in-the-event",
        ),
        pytest.param("100%% done of=%s", ("x",), "100% done of=x", {"event": "100% done", "of": "x"}, id="percent"),
        pytest.param(
            "event=%s",
            ("of its own",),
            'event="of its own"',
            {"event": "", "event_": "of its own"},
            id="field-with-a-name-of-the-line",
        ),
    ],
)
def test_template_gives_event_and_fields(
    template: str, arguments: tuple[Any, ...], line: str, fields: dict[str, Any]
) -> None:
    assert text(template, *arguments).strip() == line
    assert document(template, *arguments) == fields


@pytest.mark.parametrize("value", ["a\nb", "a\r\nINFO forged", 'say "x"', "a=b", "\x1b[31m", "a\u202eb", "\u2028", ""])
def test_value_cannot_break_the_line_or_forge_a_field(value: str) -> None:
    line = text("client named name=%s after=%d", value, 7)
    assert line.isprintable()
    assert line.endswith(" after=7")
    quoted = line.removeprefix("client named name=").removesuffix(" after=7")
    assert json.loads(quoted) == value
    assert document("client named name=%s", value)["name"] == value
    assert text("%s is the client", value).isprintable()


def test_long_value_is_cut() -> None:
    assert len(text("read text=%s", "x" * 10_000)) < 600
    assert len(document("read text=%s", "x" * 10_000)["text"]) == 500


def test_arguments_that_do_not_fit_the_template_are_still_written() -> None:
    assert text("by name %(name)s", {"name": "x"}) == "by name x"
    assert document("by name %(name)s", {"name": "x"}) == {"event": "by name x"}


def test_request_id_is_a_field_of_every_line() -> None:
    token = request_id.set("req-1")
    try:
        assert text("stored task=%s", TASK) == f"stored task={TASK} request=req-1"
        assert document("stored") == {"event": "stored", "request": "req-1"}
    finally:
        request_id.reset(token)


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_traceback_comes_without_the_text_of_the_exception(formatter: logging.Formatter) -> None:
    prompt = "prompt of a client"
    try:
        raise ValueError(prompt)  # noqa: TRY301
    except ValueError as error:
        written = formatter.format(record("round failed journey=%s", "poll", error=error))
    assert "ValueError" in written
    assert "test_logs.py" in written
    assert "prompt of a client" not in written


def test_libraries_are_logged_from_warnings_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for name in ("", "dovecote", "uvicorn"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    log_to_standard_error("debug", "json", stream=stream)
    logging.getLogger("dovecote").debug("ours")
    logging.getLogger("sqlalchemy.engine").info("SELECT secret")
    logging.getLogger("aiohttp").warning("odd")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["ours", "odd"]
    assert sys.stderr is not stream


def test_task_that_is_worked_on_is_a_field_of_every_line_without_one() -> None:
    with about(TASK):
        assert text("upstream called status=%s", 200) == f"upstream called status=200 task={TASK}"
        assert text("stored task=%s", "another") == "stored task=another"
        assert document("stored") == {"event": "stored", "task": str(TASK)}
    assert document("stored") == {"event": "stored"}
