"""Secrets in the settings are neither repeated by a message nor printed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from service.settings.load import SettingsError, load
from service.settings.model import Settings

KEY = "a-key-that-is-long-enough"
UPSTREAM_KEY = "upstream-key"
EMPTY = Path(os.devnull)
"""A file without settings: a ``dovecote.toml`` of this folder is not read."""


def mistakes(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(environment, EMPTY)
    return raised.value.mistakes


SECRET = "Zk7!q9Wx"
PLACES = [
    ("DOVECOTE_DATABASE_URL", "postgresql://user:{}@@x:y@host/db"),
    ("DOVECOTE_DATABASE_URL", "postgresql://user:{}:x@host:port/db"),
    ("DOVECOTE_DATABASE_URL", "postgresql://user:a@b:{}@host/db"),
    ("DOVECOTE_DATABASE_URL", "mysql://user:{}@host/db"),
    ("DOVECOTE_DATABASE_URL", "{}"),
    ("DOVECOTE_PUBLIC_URL", "https://user:{}@host"),
    ("DOVECOTE_PUBLIC_URL", "https://host:{}"),
    ("DOVECOTE_PUBLIC_URL", "{}"),
    ("DOVECOTE_PUBLIC_URL", "https://user:{}℀@host"),
    ("DOVECOTE_PUBLIC_URL", "https://user:{}@[host"),
    ("DOVECOTE_API_URL", "https://user:{}℀@host"),
    ("DOVECOTE_OBSERVABILITY__PING_URL", "https://hc-ping.com／{}"),
    ("DOVECOTE_OBSERVABILITY__PING_URL", "https://[hc-ping.com/{}"),
    ("DOVECOTE_STORAGE__ENDPOINT", "https://user:{}℀@host"),
    ("DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL", "https://user:{}℀@host"),
    ("DOVECOTE_UPSTREAMS__ELKAPI__CALLBACK_KEYS_URL", "https://user:{}℀@host"),
    ("DOVECOTE_WEBHOOK_SECRET", "{}"),
    ("DOVECOTE_API_KEYS", "{}"),
    ("DOVECOTE_API_KEYS", "alice={}"),
    ("DOVECOTE_API_KEYS", "{}{}{}=="),
    ("DOVECOTE_API_KEYS", "{}{}{}=a"),
    ("DOVECOTE_API_KEYS", "{0}{0}{0},{0}{0}{0}="),
    ("DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL", "https://{}@host"),
    ("DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL", "https://host:{}/v1"),
    ("DOVECOTE_PORT", "{}"),
    ("DOVECOTE_LOG_LEVEL", "{}"),
    ("DOVECOTE_ALLOW_PRIVATE_WEBHOOKS", "{}"),
]


@pytest.mark.parametrize(("variable", "value"), PLACES)
def test_message_never_repeats_a_value(variable: str, value: str) -> None:
    given = value.format(*[SECRET] * value.count("{}"), SECRET)
    text = " ".join(
        mistakes({variable: given, "ELKAPI_KEY": UPSTREAM_KEY, "DOVECOTE_UPSTREAMS__ELKAPI__CONCURRENCY": "0"})
    )
    assert text
    for length in (len(SECRET), 5):
        assert SECRET[:length] not in text


SENSITIVE = sorted(name for name in Settings.model_fields if name not in {"upstreams", "host"})


@given(st.sampled_from(SENSITIVE), st.text(st.characters(codec="utf-8"), max_size=30))
def test_message_never_repeats_a_random_value(name: str, value: str) -> None:
    marked = f"{value}{SECRET}"
    try:
        load({f"DOVECOTE_{name.upper()}": marked}, EMPTY)
    except SettingsError as error:
        assert SECRET not in str(error)  # noqa: PT017 - not every value is a mistake


def test_secrets_are_not_printed_with_the_settings() -> None:
    settings = load(
        {"DOVECOTE_API_KEYS": f"alice={KEY}", "ELKAPI_KEY": SECRET, "DOVECOTE_CALLBACK_SECRET": SECRET * 2}, EMPTY
    )
    assert isinstance(settings.callback_secret, SecretStr)
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert SECRET not in text
        assert KEY not in text


def test_library_error_does_not_repeat_the_value() -> None:
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate({"port": SECRET})
    assert SECRET not in str(raised.value)
