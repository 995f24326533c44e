"""Safe reading of a provider's data. A value of the wrong type reads as None or as empty, and never raises."""

import codecs
import json
import math
import re
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.domain.compression import TooLarge, unpack
from service.domain.form_fields import form_fields
from service.domain.task import ResultKind
from service.domain.text import one_line, shortened, storable

MAX_BODY = 8 * 1024 * 1024
"""Bytes that a packed body may unpack to."""
MAX_VALUES = 1_000_000
"""Commas in a JSON text that is parsed: each value occupies ten times its length in memory."""
MAX_URL = 8192
"""Characters of a URL that is no ``data:`` URL. Those that a bucket signs by a role's token have more than 2000."""
MAX_ITEMS = 1000
"""Items of a list that are read. A task keeps fewer."""
_MAX_TEXT = 4000
MAX_ID = 2000
"""Bytes of a job id."""
_CHUNK = 128 * 1024
_MILLISECONDS = 100_000_000_000
"""A Unix time from here on is in milliseconds: in seconds it would be the year 5138."""
_YEARS = range(2015, 2200)
"""The years of times that are believed: 0 and the like stand for none."""
_CODINGS = ("content-encoding", "transfer-encoding")
_UNMARKED = ("br", "deflate")
_MAX_UNMARKED = 1024 * 1024
"""Bytes of a body on which packings without a mark are tried."""
_SHOWN_START = 200
_JSON_STARTS = (b"{", b"[", b'"')
_FALLBACK_CHARSET = "gb18030"
_CHARSETS = ("utf-8", "utf-16", "utf-32", "ascii", "gb18030", "big5", "iso8859", "cp125", "shift_jis", "euc_", "koi8")
"""The charsets that are honoured, by the start of Python's name for them."""
_FORM = "application/x-www-form-urlencoded"
_MEDIA: Mapping[ResultKind, frozenset[str]] = {
    "video": frozenset({"mp4", "mov", "webm", "mkv", "m4v"}),
    "image": frozenset({"png", "jpg", "jpeg", "webp", "gif", "avif"}),
    "audio": frozenset({"mp3", "wav", "m4a", "ogg", "opus", "flac", "aac"}),
    "model": frozenset({"glb", "gltf", "obj", "fbx", "usdz", "stl", "ply"}),
}


_DECODER = json.JSONDecoder(strict=False)
"""Line ends within texts are accepted: gateways paste messages of others into their answers."""
_MAX_TEXTS = 3
"""How often a document may be wrapped in a JSON text."""
_MAX_PREFIX = 2000
_WHOLE_PAGE = re.compile(r"<(!doctype|html|head|title|body|script|style)\b", re.IGNORECASE)


class _Nothing:
    """The type of :data:`NOTHING`."""

    def __bool__(self) -> bool:
        return False


NOTHING = _Nothing()
"""Stands for a body that is not JSON. It differs from JSON's null."""


# Bodies ----------------------------------------------------------------------------------------------------------


def unpacked(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a body without its packing, which is known by its first bytes or by the headers.

    Two kinds of packing have no mark: they are tried on what is no text. A body that cannot be unpacked, or that would be
    larger than :data:`MAX_BODY`, is returned as it came.
    """
    try:
        found = unpack(body, [_header(headers, name) for name in _CODINGS], MAX_BODY)
        if found is not body or not _may_be_packed(body):
            return found
        tried = (unpack(body, [coding], MAX_BODY) for coding in _UNMARKED)
        return next((each for each in tried if each.lstrip()[:1] in _JSON_STARTS), body)
    except TooLarge:
        return body


def _may_be_packed(body: bytes) -> bool:
    """Return whether a body is neither text nor in an encoding with a mark."""
    if not 0 < len(body) <= _MAX_UNMARKED or body.lstrip(b"\x00 \t\r\n")[:1] in _JSON_STARTS:
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return not body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return not body[:_SHOWN_START].isascii() or any(byte < ord("\t") for byte in body[:_SHOWN_START])


def decoded(body: bytes, headers: Mapping[str, str]) -> str:
    """Return a body as text, by its byte order mark or declared charset. Without either it is UTF-8 with replacements."""
    body = unpacked(body, headers)
    detected = json.detect_encoding(body)
    marked = body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or detected != "utf-8":
        text = _replacing(body, detected)
        if marked or text.lstrip()[:1] in {"{", "[", '"'}:
            return text
    try:
        return body.decode(_charset(headers) or "utf-8")
    except UnicodeError:
        return _replacing(body, "utf-8")


def _replacing(body: bytes, charset: str) -> str:
    """Return a body as text with replacements, in parts: each one that is replaced takes long, and no other thread runs."""
    decoder = codecs.getincrementaldecoder(charset)("replace")
    starts = range(0, len(body), _CHUNK)
    return "".join(decoder.decode(body[start : start + _CHUNK], final=start == starts[-1]) for start in starts)


def _charset(headers: Mapping[str, str]) -> str | None:
    for part in _header(headers, "content-type").split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            return _text_codec(value.strip().strip("\"'"))
    return None


def _text_codec(name: str) -> str | None:
    """Return the name of a codec for a declared charset; GBK and its subset read as their superset."""
    try:
        found = codecs.lookup(name[:40]).name
    except (LookupError, ValueError):
        return None
    if found in {"gb2312", "gbk"}:
        return _FALLBACK_CHARSET
    return found if found.startswith(_CHARSETS) else None


def document(body: bytes, headers: Mapping[str, str], text: str | None = None) -> Any:
    """Return the first JSON value of a body, or :data:`NOTHING`.

    Old gateways append a second object to the same body, declare JSON as text, or wrap it in a form or in a JSON text.

    :param text: the decoded body, where that is known
    """
    text = decoded(body, headers) if text is None else text
    found = first_json(text)
    if found is NOTHING and not text.isascii():
        found = first_json(_replacing(unpacked(body, headers), _FALLBACK_CHARSET))
    if found is NOTHING and _FORM in _header(headers, "content-type").lower():
        found = _form(text)
    if found is NOTHING or isinstance(found, int | float):
        embedded = _embedded(text)
        found = embedded if embedded is not NOTHING else found
    inner: Any = found
    for _ in range(_MAX_TEXTS):
        inner = first_json(inner) if isinstance(inner, str) else inner
    return inner if isinstance(inner, dict | list) else found


def _embedded(text: str) -> Any:
    """Return the object behind a short text that is no JSON: a warning of PHP, ``data:``, ``callback(``. NOTHING without one.

    Only the first brace counts: a later one may be a part of a document that is cut. A page of HTML is no document.
    """
    start = text.find("{", 0, _MAX_PREFIX)
    before = text[: max(start, 0)].rstrip()
    if start < 0 or text.lstrip("\ufeff \t\r\n")[:1] in {"{", "[", '"'} or _WHOLE_PAGE.search(before):
        return NOTHING
    found = first_json(text[len(before) - 1 :] if before.endswith("[") else text[start:])
    return found if isinstance(found, dict | list) and found else NOTHING


def first_json(text: str) -> Any:
    """Return the first JSON value of a text; NOTHING when there is none, when it is nested too deeply or has too many values."""
    if len(text) > MAX_VALUES and text.count(",") > MAX_VALUES:
        return NOTHING
    try:
        return _DECODER.raw_decode(text.lstrip("\ufeff \t\r\n"))[0]
    except (ValueError, RecursionError):
        return NOTHING


def _form(text: str) -> Any:
    """Return the fields of a form as an object, or the document that a single field holds."""
    try:
        given = dict(form_fields(text.encode(errors="replace"), 200))
    except ValueError:
        return NOTHING
    parsed = {name: nested(value) for name, value in given.items()}
    if len(parsed) == 1:
        [only] = parsed.values()
        return only if isinstance(only, dict | list) else parsed
    return parsed or NOTHING


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for stated, value in headers.items() if stated.lower() == name), "")


# Values ----------------------------------------------------------------------------------------------------------


def nested(value: Any) -> Any:
    """Return the object or list that a text holds as JSON; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        found = first_json(value)
        return found if isinstance(found, dict | list) else value
    return value


def fields(value: Any) -> Mapping[str, Any]:
    """Return an object. It may be JSON in a text, or the only item of a list. Return an empty one for any other value."""
    value = nested(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return a list. It may be JSON in a text. A single value is a list of one, and null is an empty list."""
    value = nested(value)
    if value is None:
        return []
    return value[:MAX_ITEMS] if isinstance(value, list) else [value]


def word(value: Any) -> str | None:
    """Return a text or number as a storable text of at most 4,000 characters; None for any other value, and for an empty one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return shortened(storable(str(value)).strip(), _MAX_TEXT) or None


def line(value: Any) -> str | None:
    """Return what :func:`word` does, as one line: for messages."""
    found = word(value)
    return None if found is None else one_line(found) or None


def prose(value: Any) -> str | None:
    """Return a text that is an output, in its full length; None where there is none."""
    found = storable(value) if isinstance(value, str) else ""
    return found if found.strip() else None


def compact(value: Any) -> str:
    """Return a document that is an output as JSON text."""
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def identifier(value: Any) -> str | None:
    """Return a job id: a text or a whole number; None for a container, for nothing, and for the 0 of an unset column.

    One of more than :data:`MAX_ID` bytes is none: it would be cut, and PostgreSQL's indexes take no larger values.
    """
    found = None if value == 0 or isinstance(value, float) else word(value)
    return None if found is None or len(found.encode()) > MAX_ID else found


def percent(value: Any, *, fraction: bool = False) -> int | None:
    """Return a progress of 0 to 100: ``45``, ``"45%"``, or 0.45 where the protocol states fractions."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        stated = float(str(value).strip().removesuffix("%")) * (100 if fraction else 1)
        return min(max(round(stated), 0), 100)
    except (ValueError, OverflowError):  # not a number, or NaN and infinity
        return None


def number(value: Any) -> float | None:
    """Return a finite amount: ``320`` or ``"320"``."""
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        amount = float(value)
    except (ValueError, OverflowError):
        return None
    return amount if math.isfinite(amount) else None


def moment(value: Any) -> datetime | None:
    """Return a time, to the second: Unix seconds or milliseconds, or a text in ISO 8601, which without a zone is in UTC."""
    stated = number(value)
    try:
        if stated is not None:
            seconds = stated / 1000 if stated >= _MILLISECONDS else stated
            found = datetime.fromtimestamp(seconds, UTC)
        else:
            found = datetime.fromisoformat(value if isinstance(value, str) else "")
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return found.replace(microsecond=0) if found.year in _YEARS else None


# Outputs ---------------------------------------------------------------------------------------------------------


def link(value: Any, *, relative: bool = True) -> str | None:
    """Return the URL of an output, also of an object with a ``url``; None for anything that is no output.

    :param relative: whether an address without a host counts: it is below the upstream's origin
    """
    value = nested(value)
    if isinstance(value, dict):
        value = value.get("url")
    if not isinstance(value, str):
        return None
    text = storable(value[: MAX_BODY + 1]).strip()
    if text[:5].lower() == "data:":
        return text if is_output(text) else None
    if len(text) > MAX_URL or len(text.split(maxsplit=1)) > 1:
        return None
    return text if is_output(text) and (relative or "://" in text[:8]) else None


def is_output(url: str) -> bool:
    """Return whether a URL leads to an output. Providers fill the fields of outputs with placeholders too."""
    if url[:5].lower() == "data:":
        return bool(url.partition(",")[2].strip())
    try:
        parts = urllib.parse.urlsplit(url)
        host = (parts.hostname or "").lower()
    except ValueError:
        return False
    name = urllib.parse.unquote(parts.path.rstrip("/").rpartition("/")[2]).lower()
    stem = name.rpartition(".")[0] if "." in name else name
    remote = parts.scheme.lower() in {"http", "https"} and bool(host)
    local = not parts.scheme and url.startswith("/") and bool(name or host)
    named = (
        _PLACEHOLDERS.isdisjoint({host, stem}) and not _STANDS_FOR_ONE.search(stem) and host not in _PLACEHOLDER_HOSTS
    )
    filled_in = _UNFILLED.isdisjoint(parts.path.split("/"))
    return (remote or local) and (bool(stem) or not name) and named and filled_in


_PLACEHOLDERS = frozenset(
    {"none", "null", "nil", "undefined", "nan", "false", "forbidden", "[object object]", "sil-100"}
)
"""Names that stand for a missing output: Suno's ``/api/forbidden``, ``None.mp3`` and its silence ``sil-100.mp3``."""
_STANDS_FOR_ONE = re.compile(r"(^|[\W_])placeholder([\W_]|$)|^\$?\{.*\}$")
_PLACEHOLDER_HOSTS = frozenset({"via.placeholder.com", "placehold.co", "placehold.it", "dummyimage.com"})
_UNFILLED = frozenset({"None", "null", "undefined", "NaN"})
"""A part of a path that a program has filled with nothing, as in ``/tasks/null/output.mp4``."""


def links(value: Any) -> list[str]:
    """Return the URLs of outputs in a list, or in a single value."""
    return [url for item in items(value) if (url := link(item)) is not None]


def kind_of(url: str, default: ResultKind) -> ResultKind:
    """Return the kind of an output, by the extension or the media type in its URL."""
    if url.startswith("data:"):
        family = url[5:].partition("/")[0]
        return next((kind for kind in _MEDIA if kind == family), default)
    extension = url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()
    return next((kind for kind, extensions in _MEDIA.items() if extension in extensions), default)


_MAX_PLACE = 200


def place(path: str, name: str | int) -> str:
    """Return the place of a value in a document, such as ``images/0``: the ``item`` of a result."""
    part = storable(str(name)).replace("/", "_")
    return (f"{path}/{part}" if path else part)[:_MAX_PLACE]
