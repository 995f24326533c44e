"""Removal of secrets from text that others sent: by value, and by the form of our callback tokens."""

import functools
import re
from collections.abc import Sequence
from typing import Any

REDACTED = "[redacted]"
_TOKEN = re.compile(r"(callbacks(?:\\*/|%2[Ff]|\\+u002[Ff]))[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
"""A callback token in its path, plain or escaped."""
_MIN_SECRET = 6
"""Characters. Shorter values are not redacted: they would be cut out of ordinary words."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """Return a text without our callback tokens and without these secrets, in any of their escaped spellings."""
    pattern = _pattern(tuple(secrets))
    if pattern is not None:
        text = pattern.sub(REDACTED, text)
    return _TOKEN.sub(rf"\g<1>{REDACTED}", text) if "callbacks" in text else text


def redact_document(document: Any, secrets: Sequence[str] = ()) -> Any:
    """Return a JSON document with every text redacted, names of fields too."""
    if isinstance(document, str):
        return redact(document, secrets)
    if isinstance(document, list):
        return [redact_document(each, secrets) for each in document]
    if isinstance(document, dict):
        return {redact(name, secrets): redact_document(value, secrets) for name, value in document.items()}
    return document


@functools.lru_cache(maxsize=256)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return a pattern for these secrets, longest first."""
    told = sorted({secret for secret in secrets if len(secret) >= _MIN_SECRET}, key=len, reverse=True)
    return re.compile("|".join("".join(map(_spellings, secret)) for secret in told)) if told else None


def _spellings(character: str) -> str:
    """Return a pattern for a character: plain, or escaped for a URL, JSON or HTML."""
    if character.isascii() and (character.isalnum() or character in "-_"):
        return re.escape(character)
    encoded = "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
    forms = [r"\\*" + re.escape(character), f"(?i:{encoded})", rf"\\+u(?i:{ord(character):04x})"]
    if character in _ENTITIES:
        forms.append(re.escape(_ENTITIES[character]))
    return f"(?:{'|'.join(forms)})"
