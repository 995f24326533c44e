"""The spelling of values: blanks around them, quotes, invisible characters and letters beyond ASCII."""

import os
from pathlib import Path

import pytest

from service.settings.load import SettingsError, load

KEY = "a-key-that-is-long-enough"
UPSTREAM_KEY = "upstream-key"
EMPTY = Path(os.devnull)
"""A file without settings: a ``dovecote.toml`` of this folder is not read."""


def mistakes(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(environment, EMPTY)
    return raised.value.mistakes


SPELLED_WELL = {
    "DOVECOTE_DATABASE_URL": "postgresql://user:password@host/name",
    "DOVECOTE_HOST": "0.0.0.0",  # noqa: S104 - only read
    "DOVECOTE_PUBLIC_URL": "https://dovecote.example.com/hooks",
    "DOVECOTE_API_KEYS": f"shop={KEY}",
    "DOVECOTE_CALLBACK_HOST": "localhost",
    "DOVECOTE_CALLBACK_SECRET": "a-secret-that-is-long-enough",
    "DOVECOTE_WEBHOOK_SECRET": "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cy1zZWNyZXQ=",
    "DOVECOTE_WEBHOOK_ALLOW": "hooks.internal",
    "DOVECOTE_LOG_LEVEL": "debug",
    "ELKAPI_KEY": UPSTREAM_KEY,
    "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "https://gateway.example.com",
    "DOVECOTE_UPSTREAMS__ELKAPI__DIALECTS": "runway/aggregator",
    "DOVECOTE_UPSTREAMS__ELKAPI__CALLBACK_KEY": UPSTREAM_KEY,
    "DOVECOTE_UPSTREAMS__ELKAPI__KEY_NAME": "production",
    "DOVECOTE_ROUTES__RUNWAY": "elkapi",
    "DOVECOTE_ON_UNCERTAIN_BY_CLIENT__SHOP": "fail",
}
BLANK_IS_FINE = {"DOVECOTE_UPSTREAMS__ELKAPI__KEY_NAME"}


@pytest.mark.parametrize("variable", SPELLED_WELL)
@pytest.mark.parametrize("around", [" {} ", "{}\n", "\r\n{}\r\n", "\t{}\u00a0"], ids=["blanks", "lf", "crlf", "nbsp"])
def test_blanks_around_a_value_are_removed(variable: str, around: str) -> None:
    given = {**SPELLED_WELL, variable: around.format(SPELLED_WELL[variable])}
    assert load(given, EMPTY) == load(SPELLED_WELL, EMPTY)


@pytest.mark.parametrize("variable", SPELLED_WELL)
@pytest.mark.parametrize(
    "wrong",
    ['"{}"', "'{}'", "{}\n{}", "{}\x00", "{}\u200b{}", "\ufeff{}", "{}\u202e", "{}\x7f", "{} {}", "{}\u3000{}"],
    ids=["double-quotes", "single-quotes", "line", "nul", "zero-width", "bom", "bidi", "del", "blank", "wide-blank"],
)
def test_misspelled_value_is_a_mistake(variable: str, wrong: str) -> None:
    value = SPELLED_WELL[variable]
    given = {**SPELLED_WELL, variable: wrong.format(value, value)}
    if variable in BLANK_IS_FINE and wrong in {"{} {}", "{}\u3000{}"}:
        load(given, EMPTY)
        return
    found = " ".join(mistakes(given))
    assert found
    assert not value.isascii() or f"{value}{value}" not in found


@pytest.mark.parametrize("character", ["é", "…", "鍵", "𝟙"])
@pytest.mark.parametrize(
    "variable",
    [
        "DOVECOTE_API_KEYS",
        "DOVECOTE_CALLBACK_SECRET",
        "DOVECOTE_WEBHOOK_SECRET",
        "DOVECOTE_PUBLIC_URL",
        "ELKAPI_KEY",
        "DOVECOTE_UPSTREAMS__ELKAPI__KEY",
        "DOVECOTE_UPSTREAMS__ELKAPI__CALLBACK_KEY",
        "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL",
    ],
)
def test_letters_beyond_ascii_in_keys_and_urls_are_a_mistake(variable: str, character: str) -> None:
    value = SPELLED_WELL.get(variable, UPSTREAM_KEY)
    assert mistakes({**SPELLED_WELL, variable: f"{value}{character}{value}"})
