"""Remove our secrets from the data of others: by value in every spelling, and callback tokens by their form.

Gateways repeat keys and our URLs in their answers. An answer is redacted twice. The body is redacted before it is read,
because a text that is cut later may end within a secret. The values that were read are redacted again, because they are
free of the encoding of the body.
"""

import binascii
import dataclasses
import enum
import functools
import html
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote, unquote

from service.domain.callback_token import Tokens
from service.domain.errors import UpstreamError

REDACTED: Final = "[redacted]"
MAX_SPELLED: Final = 256 * 1024
"""Characters of a text in which every spelling of a secret is looked for. In a larger one, such as a picture, the usual ones are."""
_MIN_SECRET: Final = 4
"""Characters. Shorter values are not redacted: they would be cut out of ordinary words."""
_MIN_BASE64: Final = 10
"""Characters. A shorter part of a Base64 text may be there by chance."""
_URL_SAFE: Final = str.maketrans("+/", "-_")
_TOKEN_LENGTH: Final = 43
_TOKEN_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_MARKS: Final = bytes(ord("x") if code in _TOKEN_CHARACTERS else ord(" ") for code in range(256))
"""Translates each character of a token to ``x``, and every other one to a space."""
_RUN: Final = b"x" * _TOKEN_LENGTH
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{_TOKEN_LENGTH},}}")
_TOKEN_IN_URL = re.compile(rf"(callbacks(?:\\*/|%2[fF]|\\+u002[fF]|&#x2[fF];|&#47;))[A-Za-z0-9_-]{{{_TOKEN_LENGTH}}}")
"""A callback token in its path, plain or escaped."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]+")
"""Characters that no usual spelling changes."""
_UNICODE_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")
_OTHER_SPELLINGS: Final = {
    "&": ["&amp;"],
    "<": ["&lt;"],
    ">": ["&gt;"],
    '"': ["&quot;"],
    "'": ["&apos;"],
    " ": [r"\+"],
}

Value = TypeVar("Value")


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """Return a text without these secrets, and without callback tokens in their path."""
    return _redacted(text, _spellings(tuple(secrets)))


def _redacted(text: str, spellings: "_Spellings") -> str:
    return _without_token_in_url(spellings.removed_from(text))


def _without_token_in_url(text: str) -> str:
    return _TOKEN_IN_URL.sub(rf"\1{REDACTED}", text) if "callbacks" in text else text


def redact_document(document: Any, secrets: Sequence[str] = ()) -> Any:
    """Return a JSON document with every text redacted, names of fields too."""
    spellings = _spellings(tuple(secrets))
    return _with_texts(document, lambda text: _redacted(text, spellings))


class Redactor:
    """Removes secrets by their value, and the callback tokens of this installation anywhere in a text."""

    def __init__(self, tokens: Tokens, secrets: Iterable[str] = ()) -> None:
        """Prepare.

        :param tokens: recognises the callback tokens of this installation
        :param secrets: the values that are secret
        """
        self._tokens = tokens
        self._spellings = _spellings(tuple(secrets))
        self.secrets = self._spellings.secrets

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        text = self._spellings.removed_from(text)
        if len(text) <= MAX_SPELLED and _may_hold_token(text):
            text = _TOKEN.sub(self._without_token, text)
        return _without_token_in_url(text)

    def body(self, body: bytes) -> bytes:
        """Return a body without secrets, in any encoding. A body without secrets is returned unchanged."""
        found = self.text(body.decode("latin-1")).encode("latin-1")
        for encoding in ("utf-16-le", "utf-16-be"):
            for secret in self.secrets:
                found = found.replace(secret.encode(encoding), REDACTED.encode(encoding))
        return found

    def value(self, value: Value) -> Value:
        """Return a value of ours, such as an update, in which every text is without secrets."""
        return cast("Value", _with_texts(value, self.text))

    def error(self, error: UpstreamError) -> UpstreamError:
        """Remove secrets from the texts of an error, and return it."""
        error.message = None if error.message is None else self.text(error.message)
        error.details = tuple(map(self.text, error.details))
        error.args = self.value(error.args)
        return error

    def _without_token(self, found: re.Match[str]) -> str:
        """Return a run of characters without the genuine token in it."""
        run = found[0]
        if len(run) > 2 * _TOKEN_LENGTH:
            return run  # a picture or a foreign key: a token stands alone or behind "callbacks/"
        for start in range(len(run) - _TOKEN_LENGTH + 1):
            if self._tokens.read(run[start : start + _TOKEN_LENGTH]) is not None:
                return run[:start] + REDACTED + run[start + _TOKEN_LENGTH :]
        return run


def _may_hold_token(text: str) -> bool:
    """Return whether a run of characters is as long as a token. The pattern takes ten times as long to find none."""
    return len(text) >= _TOKEN_LENGTH and _RUN in text.encode("latin-1", "replace").translate(_MARKS)


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value in which each text is changed: in mappings, their names too, sequences and dataclasses.

    A value without a changed text is returned itself: most have none, and copies cost more than the search.
    """
    kind = type(value)
    if kind in _WITHOUT_TEXT or not value or isinstance(value, enum.Enum):
        return value
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return _with_texts_of_mapping(value, change)
    if isinstance(value, list | tuple):
        items = [_with_texts(each, change) for each in value]
        return value if all(map(operator.is_, items, value)) else type(value)(items)
    found = {}
    for name in _names_of(value.__class__):
        each = getattr(value, name)
        if type(each) not in _WITHOUT_TEXT and (new := _with_texts(each, change)) is not each:
            found[name] = new
    return dataclasses.replace(value, **found) if found else value


def _with_texts_of_mapping(value: Mapping[Any, Any], change: Callable[[str], str]) -> Mapping[Any, Any]:
    changed = {_with_texts(name, change): _with_texts(each, change) for name, each in value.items()}
    is_same = all(map(operator.is_, changed.values(), value.values())) and all(map(operator.is_, changed, value))
    return value if type(value) is dict and is_same and len(changed) == len(value) else changed


_WITHOUT_TEXT: Final = frozenset({type(None), bool, int, float})


@functools.lru_cache(maxsize=256)
def _names_of(kind: type) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass that can be replaced; none of any other type."""
    return tuple(each.name for each in dataclasses.fields(kind) if each.init) if dataclasses.is_dataclass(kind) else ()


@functools.lru_cache(maxsize=256)
def _spellings(secrets: tuple[str, ...]) -> "_Spellings":
    """Return the spellings of some secrets."""
    return _Spellings(secrets)


class _Spellings:
    """The ways in which some secrets may be written."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """List the usual spellings: as it is, in a URL, and in JSON. Longer secrets come first."""
        known = {secret for secret in secrets if len(secret) >= _MIN_SECRET}
        self.secrets = tuple(sorted(known, key=len, reverse=True))
        self._usual = [spelling for secret in self.secrets for spelling in _usual_of(secret)]
        self._encoded = [part for secret in self.secrets for part in _in_base64(secret)]
        self._shortest = min(map(len, (*self._usual, *self._encoded)), default=0)

    def removed_from(self, text: str) -> str:
        """Return a text without the secrets."""
        if len(text) < self._shortest or not self.secrets:
            return text
        for spelling in self._usual:
            text = text.replace(spelling, REDACTED)
        if len(text) <= MAX_SPELLED:
            for part in self._encoded:
                text = text.replace(part, REDACTED)
        if len(text) <= MAX_SPELLED and ("%" in text or "\\" in text or "&" in text):
            text = self._every.sub(REDACTED, text) if self._are_escaped_in(text) else text
        return text

    def _are_escaped_in(self, text: str) -> bool:
        """Return whether a text holds a secret once its escapes are undone. The exact pattern costs far more."""
        plain = _UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
        plain = html.unescape(unquote(unquote(plain) if "%25" in plain else plain))
        plain = plain.replace("\\", "")
        return any(secret in plain or " " in secret for secret in self.secrets)

    @functools.cached_property
    def _every(self) -> re.Pattern[str]:
        """A pattern of every spelling: each character plain, or escaped as in a URL, in JSON or in HTML."""
        return re.compile("|".join("".join(map(_spellings_of, secret)) for secret in self.secrets))


def _usual_of(secret: str) -> set[str]:
    """Return the usual spellings of a secret. One of plain characters, such as a callback token, has a single one."""
    if _PLAIN.fullmatch(secret):
        return {secret}
    return {
        secret,
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        secret.replace("/", "\\/"),
    }


@functools.lru_cache(maxsize=256)
def _in_base64(secret: str) -> frozenset[str]:
    """Return the parts of Base64 texts that show a secret: alone, or behind other text such as ``Bearer`` or ``user:``.

    Its first and last characters share theirs with what is beside them, and are left out.
    """
    value = secret.encode(errors="replace")
    found = set()
    for before in range(3):
        encoded = binascii.b2a_base64(bytes(before) + value, newline=False)
        part = encoded[-(-before * 8 // 6) : (before + len(value)) * 8 // 6].decode()
        if len(part) >= _MIN_BASE64:
            found.add(part)
            if "+" in part or "/" in part:
                found.add(part.translate(_URL_SAFE))
    return frozenset(found)


def _spellings_of(character: str) -> str:
    """Return a pattern of the ways in which a character may be written."""
    code = ord(character)
    ways = [
        rf"\\*{re.escape(character)}",
        "".join(_hexadecimal("%(?:25)?", byte, 2) for byte in character.encode("utf-8", "surrogatepass")),
        rf"\\+{_hexadecimal('u', code, 4)}",
        rf"{_hexadecimal('&#[xX]0*', code, 1)};",
        rf"&#0*{code};",
        *_OTHER_SPELLINGS.get(character, []),
    ]
    return f"(?:{'|'.join(ways)})"


def _hexadecimal(prefix: str, number: int, width: int) -> str:
    """Return a pattern of a number in hexadecimal, in upper or lower case."""
    digits = f"{number:0{width}x}"
    return prefix + "".join(f"[{each}{each.upper()}]" if each.isalpha() else each for each in digits)
