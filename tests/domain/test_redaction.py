"""Secrets are removed by value in every spelling, and callback tokens by their form."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.callback_token import Tokens
from service.domain.errors import Refused
from service.domain.redaction import MAX_SPELLED, REDACTED, Redactor, redact, redact_document
from service.domain.task import Action, Failure, Result, State, Update
from tests.support.values import unicode_escaped

KEY = "sk-/+&='\"<x> y%2F"
TOKENS = Tokens("secret")
TOKEN = TOKENS.make(uuid4())


SPELLINGS: dict[str, str] = {
    "as it is": KEY,
    "percent-encoded": quote(KEY, safe=""),
    "percent-encoded but for the slash": quote(KEY),
    "percent-encoded in lower case": quote(KEY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "percent-encoded twice": quote(quote(KEY, safe=""), safe=""),
    "as a form": quote_plus(KEY),
    "in JSON": json.dumps(KEY)[1:-1],
    "in JSON without ASCII": json.dumps(KEY, ensure_ascii=False)[1:-1],
    "in JSON with slashes": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "in JSON, all escaped": unicode_escaped(KEY),
    "in JSON within JSON": json.dumps(json.dumps(KEY))[3:-3],
    "in JSON within JSON, all escaped": unicode_escaped(KEY).replace("\\", "\\\\"),
    "in HTML": html.escape(KEY),
    "in HTML by numbers": "".join(f"&#{ord(each)};" for each in KEY),
    "in HTML by hexadecimal numbers": "".join(f"&#x{ord(each):X};" for each in KEY),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_secret_is_found_in_every_spelling(spelling: str) -> None:
    redactor = Redactor(TOKENS, [KEY])
    text = f"invalid key: {SPELLINGS[spelling]}!"
    assert redactor.text(text) == f"invalid key: {REDACTED}!"
    assert redactor.body(text.encode()) == f"invalid key: {REDACTED}!".encode()
    assert redact(text, [KEY]) == f"invalid key: {REDACTED}!"
    assert redact_document({text: [text]}, [KEY]) == {f"invalid key: {REDACTED}!": [f"invalid key: {REDACTED}!"]}


@pytest.mark.parametrize("before", ["", "x", ":", "Bearer ", "user:", "\x00\x00"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_secret_is_found_in_base64(encode: Callable[[bytes], bytes], before: str) -> None:
    key = "sk-a/b+c&d=e-long~!?key"
    encoded = encode(f"{before}{key}".encode()).decode()
    shown = redact(f"Authorization: Basic {encoded} is wrong", [key])
    assert REDACTED in shown
    left = shown.replace(REDACTED, "").removeprefix("Authorization: Basic ").removesuffix(" is wrong")
    assert len(left) <= len(encode(before.encode())) + 4  # what stands before it, and the characters at its ends


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_secret_is_found_in_every_encoding_of_a_body(encoding: str) -> None:
    body = '{"message":"bad key sk-secret-key"}'.encode(encoding)
    expected = '{"message":"bad key [redacted]"}'.encode(encoding)
    assert Redactor(TOKENS, ["sk-secret-key"]).body(body) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://dovecote.example/callbacks/{token}",
        "https:\\/\\/dovecote.example\\/callbacks\\/{token}",
        "https%3A%2F%2Fdovecote.example%2Fcallbacks%2F{token}",
        "token={token}&x=1",
        "{token}",
        "x{token}",
        "{token}.json",
        "callbacks/{token}tail",
    ],
)
def test_token_of_any_submission_is_found_by_its_form(text: str) -> None:
    redacted = Redactor(TOKENS).text(text.format(token=TOKEN))
    assert TOKEN not in redacted
    assert redacted == text.format(token=REDACTED)


def test_forged_token_in_a_callback_url_is_redacted_as_well() -> None:
    foreign = Tokens("another").make(uuid4())
    assert Redactor(TOKENS).text(f"https://x/callbacks/{foreign}") == f"https://x/callbacks/{REDACTED}"
    assert Redactor(TOKENS).text(f"id {foreign}") == f"id {foreign}"


@given(st.text(max_size=300))
def test_text_without_secrets_is_returned_as_it_is(text: str) -> None:
    assert Redactor(TOKENS, ["canary-of-a-key-77"]).text(text) == text


@given(st.binary(max_size=300))
def test_body_without_secrets_is_returned_as_it_is(body: bytes) -> None:
    assert Redactor(TOKENS, ["canary-of-a-key-77"]).body(body) == body


@pytest.mark.parametrize("secret", ["abcd", "a/cd", "k-1234567", "äöü€", "sk-0123456789abcdef"])
def test_text_that_is_nothing_but_a_secret_is_redacted(secret: str) -> None:
    encoded = base64.b64encode(secret.encode() * 3).decode()
    assert redact(secret, [secret, "another-longer-secret"]) == REDACTED
    assert Redactor(TOKENS, [secret]).text(secret) == REDACTED
    assert redact(secret[:-1], [secret]) == secret[:-1]
    assert secret not in redact(encoded + secret, [secret])


def test_large_picture_is_returned_as_it_is_and_its_secret_is_found() -> None:
    picture = "data:image/png;base64," + "Ab1+/9_-" * MAX_SPELLED
    redactor = Redactor(TOKENS, ["sk-secret-key"])
    assert redactor.text(picture) == picture
    assert redactor.text(f"{picture} sk-secret-key") == f"{picture} {REDACTED}"


def test_every_text_of_a_value_is_redacted() -> None:
    update = Update(
        state=State.FAILED,
        external_id="7",
        progress=5,
        results=(Result("image", url=f"https://x/{KEY}"), Result("text", text=f"a {KEY}")),
        failure=Failure("unknown", f"no {KEY}"),
        actions=(Action("upscale", label=KEY),),
    )
    redacted = Redactor(TOKENS, [KEY]).value({"7": [update]})["7"][0]
    assert KEY not in repr(redacted)
    assert (redacted.state, redacted.external_id, redacted.progress) == (State.FAILED, "7", 5)
    assert redacted.results[0].url == f"https://x/{REDACTED}"


def test_every_text_of_an_error_is_redacted() -> None:
    error = Redactor(TOKENS, [KEY]).error(Refused("unauthorized", f"no {KEY}", details=(f"key: {KEY}",)))
    assert KEY not in f"{error} {error!r} {error.message} {error.details}"
    assert error.code == "unauthorized"
