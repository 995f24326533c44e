"""``dovecote verify``: a valid webhook, and what is wrong with any other."""

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from standardwebhooks import Webhook

from service.cli import exits, main
from service.cli.verify import fault_in

SECRET = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cy1zZWNyZXQ="
OTHER = "whsec_YW5vdGhlci1zZWNyZXQtb2YtdGhlLXRlc3Rz"
BODY = '{"type":"task.succeeded","data":{}}'


def headers(body: str = BODY, secret: str = SECRET, age: dt.timedelta = dt.timedelta()) -> dict[str, str]:
    """Return the headers of a message that was signed now, or so long ago."""
    at = dt.datetime.now(dt.UTC).replace(microsecond=0) - age
    signature = Webhook(secret).sign("msg-1", at, body)
    return {"webhook-id": "msg-1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def verified(given: dict[str, str], *more: str, body: str = BODY, secret: str = SECRET) -> Result:
    options = [part for name, value in given.items() for part in ("-H", f"{name}: {value}")]
    environment = {"DOVECOTE_WEBHOOK_SECRET": secret}
    return CliRunner().invoke(main, ["verify", *options, *more], input=body, env=environment)


def test_valid_webhook_from_standard_input_and_file(tmp_path: Path) -> None:
    assert verified(headers()).exit_code == exits.OK
    (tmp_path / "body.json").write_text(BODY)
    result = verified(headers(), str(tmp_path / "body.json"), "--json", body="")
    assert (result.exit_code, json.loads(result.stdout)) == (exits.OK, {"valid": True, "reason": None})


def test_both_secrets_of_a_rotation_are_tried() -> None:
    assert verified(headers(), secret=f"{OTHER} {SECRET}").exit_code == exits.OK


def test_one_of_several_signatures_is_enough() -> None:
    given = headers()
    given["webhook-signature"] = f"{headers(secret=OTHER)['webhook-signature']} {given['webhook-signature']} v1a,xyz"
    assert verified(given).exit_code == exits.OK


@pytest.mark.parametrize(
    ("change", "body", "secret", "reason"),
    [
        pytest.param({}, BODY, OTHER, "the secret is another one", id="other-secret"),
        pytest.param({}, BODY + "\n", SECRET, "a line end was added", id="line-end-added"),
        pytest.param({}, BODY.replace(":", ": "), SECRET, "parsed and written again", id="written-again"),
        pytest.param({"webhook-id": "msg-2"}, BODY, SECRET, "does not match", id="other-id"),
        pytest.param({"webhook-timestamp": "soon"}, BODY, SECRET, "not a number of seconds", id="no-time"),
        pytest.param({"webhook-timestamp": "١٢"}, BODY, SECRET, "not a number of seconds", id="other-digits"),
        pytest.param({"webhook-signature": "v0,abc"}, BODY, SECRET, "no signature of version v1", id="no-version"),
    ],
)
def test_wrong_webhook_is_refused_with_the_reason(change: dict[str, str], body: str, secret: str, reason: str) -> None:
    result = verified({**headers(), **change}, body=body, secret=secret)
    assert result.exit_code == exits.NOT_SUCCEEDED
    assert reason in result.stdout
    assert secret not in result.output


def test_removed_line_end_is_named() -> None:
    assert "the last line end was removed" in verified(headers(BODY + "\n")).stdout


def test_old_webhook_is_valid_only_at_any_age() -> None:
    old = headers(age=dt.timedelta(hours=2))
    assert "old; receivers accept 300 s" in verified(old).stdout
    assert verified(old, "--any-age").exit_code == exits.OK


@pytest.mark.parametrize(
    ("given", "secret", "sentence"),
    [
        pytest.param({}, "", "set DOVECOTE_WEBHOOK_SECRET", id="no-secret"),
        pytest.param({}, "not-a-secret-☂", "is not a webhook secret", id="no-webhook-secret"),
        pytest.param({"webhook-id": None}, SECRET, "missing header webhook-id", id="missing-header"),
    ],
)
def test_wrong_usage_is_named(given: dict[str, str | None], secret: str, sentence: str) -> None:
    left = {name: value for name, value in {**headers(), **given}.items() if value is not None}
    result = verified(left, secret=secret)
    assert result.exit_code == exits.USAGE
    assert sentence in result.stderr
    assert not secret or secret not in result.output


def test_body_that_is_not_text_is_refused() -> None:
    assert "not UTF-8" in str(fault_in(b"\xff", headers(), [SECRET], now=dt.datetime.now(dt.UTC)))
