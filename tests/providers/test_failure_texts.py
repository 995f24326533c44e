"""Failure texts of providers and gateways, and the codes that they mean.

The wordings are split into two halves by a hash of the text. The rules were written for the first half alone, and the
second half measures them.
"""

import json
from pathlib import Path

import pytest

from service.domain.errors import CODES
from service.providers.newapi.failure_texts import RETRYABLE, code_of, failure_from_text

FOLDER = Path(__file__).parents[1] / "recordings" / "failure-texts"
RULES, CHECK = (json.loads((FOLDER / f"{half}.json").read_text(encoding="utf-8")) for half in ("rules", "check"))
NEEDED = 0.95


def shares(rows):
    return sum(code_of(row["text"]) == row["code"] for row in rows) / len(rows)


def test_halves_are_large_and_disjoint():
    texts = [{row["text"] for row in half} for half in (RULES, CHECK)]
    assert min(map(len, texts)) >= 80
    assert not texts[0] & texts[1]
    assert {row["code"] for half in (RULES, CHECK) for row in half} <= CODES


@pytest.mark.parametrize("row", RULES, ids=lambda row: row["text"][:60])
def test_wording_of_the_rules_gets_its_code(row):
    assert code_of(row["text"]) == row["code"]


def test_wordings_that_the_rules_were_not_written_for_get_their_code():
    wrong = [(row["text"], row["code"], code_of(row["text"])) for row in CHECK if code_of(row["text"]) != row["code"]]
    assert shares(CHECK) >= NEEDED, wrong


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Post /v1: net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "provider_timeout"),
        ("TaskPromptPolicyViolation", "content_policy"),
        ("request-was-throttled", "rate_limited"),
        ("an invalid response of the video service", "provider_error"),
        ("the connection was blocked", "provider_error"),
        ("CONTENT_POLICY_VIOLATION", "content_policy"),
    ],
)
def test_word_counts_only_in_its_context(text, code):
    assert code_of(text) == code


def test_failure_keeps_the_text_as_one_line():
    assert failure_from_text(" NSFW\n  content\x00 ").message == "NSFW content"
    assert failure_from_text("").code == failure_from_text(None).code == "unknown"
    assert failure_from_text("the server is busy").retryable is ("overloaded" in RETRYABLE)
