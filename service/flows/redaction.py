"""Remove our secrets from what providers say. Gateways quote keys, and the URLs that they were given, in their answers.

Texts are redacted twice: the body before it is read, because a text that is cut later may end within a secret, and the values
that were read from it, because only they are free of the encoding of the body.
"""

import dataclasses
import enum
import functools
import html
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote, unquote

from service.domain.callback_token import Tokens
from service.domain.errors import UpstreamError

REDACTED: Final = "[redacted]"
MAX_SPELLED: Final = 256 * 1024
"""Bytes of a text in which every spelling of a secret is looked for. In a larger one, such as a picture, the usual ones are."""
_MIN_SECRET: Final = 4
_TOKEN_LENGTH: Final = 43
_TOKEN_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43,}")
_MARKED: Final = bytes(ord("x") if code in _TOKEN_CHARACTERS else ord(" ") for code in range(256))
"""Translates each character of a token to ``x``, and every other one to a space."""
_RUN: Final = b"x" * _TOKEN_LENGTH
_UNICODE_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")
_IN_URL = re.compile(r"(callbacks(?:\\?/|%2[fF]|\\u002[fF]|&#x2[fF];|&#47;))[A-Za-z0-9_-]{43}")

Value = TypeVar("Value")


class Redactor:
    """Finds secrets by their value, in every usual spelling, and callback tokens by their form."""

    def __init__(self, tokens: Tokens, secrets: Iterable[str] = ()) -> None:
        """Prepare.

        :param tokens: recognises the callback tokens of this installation
        :param secrets: the values that are secret
        """
        self._tokens = tokens
        self._secrets = sorted({each for each in secrets if len(each) >= _MIN_SECRET}, key=len, reverse=True)
        self.secrets = tuple(self._secrets)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self._secrets:
            for spelling in _usual_spellings(secret):
                text = text.replace(spelling, REDACTED)
        if len(text) <= MAX_SPELLED:
            if any(mark in text for mark in "%\\&") and self._is_spelled_in(text):
                text = _pattern(self.secrets).sub(REDACTED, text)
            if _may_hold_token(text):
                text = _TOKEN.sub(self._without_token, text)
        return _IN_URL.sub(rf"\1{REDACTED}", text)

    def body(self, body: bytes) -> bytes:
        """Return a body without secrets, whatever its encoding. A body without any is returned as it is."""
        found = self.text(body.decode("latin-1")).encode("latin-1")
        for encoding in ("utf-16-le", "utf-16-be"):
            for secret in self._secrets:
                found = found.replace(secret.encode(encoding), REDACTED.encode(encoding))
        return found

    def value(self, value: Value) -> Value:
        """Return a value of ours, such as an update, in which every text is without secrets."""
        return cast("Value", self._redacted(value))

    def error(self, error: UpstreamError) -> UpstreamError:
        """Remove secrets from the texts of an error, and return it."""
        error.message = None if error.message is None else self.text(error.message)
        error.details = tuple(map(self.text, error.details))
        error.args = tuple(map(self._redacted, error.args))
        return error

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._redacted(name): self._redacted(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._redacted(each) for each in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
            return dataclasses.replace(value, **{name: self._redacted(each) for name, each in fields.items()})
        return value

    def _is_spelled_in(self, text: str) -> bool:
        """Return whether a text holds a secret once its escapes are undone. The exact pattern costs far more."""
        plain = html.unescape(unquote(_UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)))
        plain = plain.replace("\\", "")
        return any(secret in plain or " " in secret for secret in self._secrets)

    def _without_token(self, found: re.Match[str]) -> str:
        """Return a run of characters without the genuine token in it."""
        run = found[0]
        if (
            len(run) > 2 * _TOKEN_LENGTH
        ):  # a picture or a key of somebody else: tokens stand alone or behind "callbacks/"
            return run
        for start in range(len(run) - _TOKEN_LENGTH + 1):
            if self._tokens.read(run[start : start + _TOKEN_LENGTH]) is not None:
                return run[:start] + REDACTED + run[start + _TOKEN_LENGTH :]
        return run


def _may_hold_token(text: str) -> bool:
    """Return whether a run of characters is as long as a token. The pattern takes ten times as long to find none."""
    return len(text) >= _TOKEN_LENGTH and _RUN in text.encode("latin-1", "replace").translate(_MARKED)


@functools.lru_cache(maxsize=256)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of every spelling of some secrets."""
    return re.compile("|".join(map(_every_spelling, secrets)))


@functools.lru_cache(maxsize=1024)
def _usual_spellings(secret: str) -> frozenset[str]:
    """Return a secret as it is, in a URL, and in JSON."""
    return frozenset({secret, quote(secret, safe=""), quote(secret), secret.replace("/", "\\/")})


def _every_spelling(secret: str) -> str:
    """Return a pattern in which every character may be escaped as in a URL, in JSON, in HTML, or not at all."""
    return "".join(map(_spellings_of, secret))


def _spellings_of(character: str) -> str:
    code = ord(character)
    percent = "".join(_hexadecimal("%", byte, 2) for byte in character.encode())
    ways = [
        rf"\\?{re.escape(character)}",
        percent,
        rf"\\{_hexadecimal('u', code, 4)}",
        rf"{_hexadecimal('&#[xX]0*', code, 1)};",
        rf"&#0*{code};",
    ]
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;", " ": r"\+"}.get(character)
    return f"(?:{'|'.join([*ways, *([named] if named else [])])})"


def _hexadecimal(prefix: str, number: int, width: int) -> str:
    digits = f"{number:0{width}x}"
    return prefix + "".join(f"[{each}{each.upper()}]" if each.isalpha() else each for each in digits)
