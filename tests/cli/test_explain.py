"""``dovecote explain``: one message, many messages, and messages that it cannot read."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.explain import command, explain, explain_lines

RECORDINGS = Path(__file__).parents[1] / "recordings"
FAILED = {"task_id": "t1", "status": "2", "msg": "内容违规"}
READ = {
    "state": "failed",
    "external_id": "t1",
    "progress": None,
    "results": [],
    "failure": {"code": "content_policy", "message": "内容违规"},
}
CALLBACK = {"family": "runway", "dialect": "aggregator", "kind": "callback", "body": FAILED}
AGGREGATOR = ["--family", "runway", "--dialect", "aggregator"]


def run(*arguments, given=""):
    return CliRunner().invoke(command, list(arguments), input=given)


def test_message_is_read_from_standard_input():
    ran = run(*AGGREGATOR, "--kind", "callback", given=json.dumps(FAILED))
    assert (ran.exit_code, json.loads(ran.stdout)) == (0, READ)
    assert ran.stdout.count("\n") == 1
    assert "内容违规" in ran.stdout


def test_message_is_read_from_a_file(tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(b"<html>\xff</html>")
    route = ("--endpoint", "POST /runway/pro/generate")
    submit = run(*AGGREGATOR, "--kind", "submit_response", "--status", "502", *route, str(path))
    assert json.loads(submit.stdout)["error"] == "uncertain"
    poll = run(*AGGREGATOR, "--kind", "poll_response", "--status", "502", str(path))
    assert json.loads(poll.stdout)["error"] == "unavailable"
    assert submit.exit_code == poll.exit_code == 0


def test_recording_describes_itself(tmp_path):
    path = tmp_path / "recording.json"
    path.write_text(json.dumps(CALLBACK), encoding="utf-8")
    ran = run(str(path))
    assert (ran.exit_code, json.loads(ran.stdout)) == (0, READ)


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (["--family", "runwey", "--dialect", "x", "--kind", "callback"], "{}", "did you mean 'runway'?"),
        (["--family", "runway", "--dialect", "agregator", "--kind", "callback"], "{}", "did you mean 'aggregator'?"),
        ([*AGGREGATOR, "--kind", "polled_response"], "{}", "did you mean 'poll_response'?"),
        ([*AGGREGATOR], "{}", "missing: --kind"),
        (["--kind", "callback"], "{}", "missing: --family, --dialect"),
        ([], json.dumps(FAILED), "FILE has no family, dialect, kind, so it seems to be a plain body: give --family"),
        ([], json.dumps({**FAILED, "kind": "callback"}), "FILE has no family, dialect"),
        ([], "<html>", "(not JSON: Expecting value: line 1 column 1 (char 0)): give --family, --dialect and --kind"),
        ([], "[]", "a message is a JSON object"),
    ],
)
def test_unusable_input_is_a_usage_error(arguments, given, said):
    ran = run(*arguments, given=given)
    assert ran.exit_code == 2
    assert said in ran.stderr
    assert ran.stdout == ""


def test_batch_prints_one_reading_a_line_in_order():
    messages = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDINGS.rglob("*.json"))]
    told = [message for message in messages if "reading" in message and message["family"] == "runway"]
    ran = run("--batch", given="".join(json.dumps(message) + "\n" for message in told))
    assert ran.exit_code == 0
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [message["reading"] for message in told]


def test_batch_continues_after_an_unusable_line():
    odd = ["nonsense", "[1]", json.dumps({**CALLBACK, "family": "x"}), json.dumps({**CALLBACK, "http_status": "?"})]
    odd += [json.dumps({**CALLBACK, "headers": [1]}), "[" * 100_000, json.dumps({**CALLBACK, "kind": "submit_request"})]
    lines = [json.dumps(CALLBACK), "", *odd, json.dumps(CALLBACK)]
    ran = run("--batch", given="\n".join(lines))
    shown = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.exit_code == 1
    assert shown[0] == shown[-1] == READ
    assert [list(line) for line in shown[1:-1]] == [["problem"]] * len(odd)


def test_lone_surrogate_can_be_printed():
    (line,) = explain_lines([json.dumps({**CALLBACK, "family": "\ud800"})])
    line.encode()
    (line,) = explain_lines([json.dumps({**CALLBACK, "body": {**FAILED, "msg": "\ud800"}})])
    line.encode()


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        ("error", {"code": 429, "msg": "x"}, "unavailable"),
        ("error", {"code": "callback_url_empty", "message": "x", "data": None}, "refused"),
        ("error", {"error": {"message": "无效的令牌"}}, "account"),
        ("error", {"code": 7}, "refused"),
        ("submit_response", {"code": 200, "data": None}, "uncertain"),
        ("submit_response", "<html>", "uncertain"),
        ("submit_response", "", "uncertain"),
        ("submit_response", None, "uncertain"),
    ],
)
def test_missing_http_status_is_assumed_by_kind(kind, body, error):
    route = "POST /runway/pro/generate"
    assert explain({**CALLBACK, "kind": kind, "endpoint": route, "http_status": None, "body": body})["error"] == error


def test_unsigned_message_has_no_verification():
    assert "verified" not in explain({**CALLBACK, "secret": "s"})


def test_raw_body_takes_precedence_over_the_document():
    assert explain({**CALLBACK, "body": {}, "raw_body": json.dumps(FAILED)}) == READ
