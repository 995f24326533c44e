"""Read the body of a request at a door: JSON, a form, or a form with files, which become ``data:`` URLs."""

import asyncio
import base64
import codecs
import hashlib
import re
from collections.abc import AsyncGenerator, Container, Mapping, Sequence
from typing import Any, Final

import orjson
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.domain.form_fields import form_fields
from service.domain.media_types import UNTYPED, well_formed
from service.domain.validation import quote
from service.flows.submission.request import MAX_DEPTH
from service.web.problems import Problem
from service.web.request_body import SMALL, Lease, parse_json, read_body

Fields = dict[str, Any]
"""The fields of a body by name. A file is a ``data:`` URL."""

_MAX_PARTS: Final = 200
_MAX_FIELD: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024
_ENCODED_AT_ONCE: Final = 3 * 64 * 1024
"""Bytes of a file that are encoded at once: a multiple of 3, so that no padding comes between two parts."""
_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_MAX_FORM_DEPTH: Final = 5


async def read_fields(http: Request, headers: Mapping[str, str], limit: int, lease: Lease) -> Fields:
    """Return the fields of a body. An empty body has none.

    :param headers: those of the request, by their names in lower case
    :raises Problem: 400, 408, 413, 415 or 503
    """
    stated = headers.get("content-type", "")
    kind = stated.partition(";")[0].strip().lower()
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        detail = f"send the body without Content-Encoding (got {quote(encoding)})"
        raise Problem(415, "unsupported_media_type", detail, headers={"Accept-Encoding": "identity"})
    body = await read_body(http, limit, lease)
    if not body:
        return {}
    if len(body) > SMALL:
        await lease.wait_for_turn()
    if kind == "multipart/form-data":
        plain = _plain_form(stated, body)
        return await _multipart(stated, body) if plain is None else _nested(plain)
    if kind == "application/x-www-form-urlencoded":
        pairs = _pairs(body) if len(body) <= SMALL else await asyncio.to_thread(_pairs, body)
        return _nested(pairs)
    document = parse_json(body) if len(body) <= SMALL else await asyncio.to_thread(parse_json, body)
    if not isinstance(document, dict):
        raise Problem(400, "invalid_request", "the body must be a JSON object")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deep(document):
        raise Problem(400, "invalid_request", f"the body is nested deeper than {MAX_DEPTH} levels")
    return document


def _is_deep(document: Any) -> bool:
    """Return whether a document is nested deeper than a request may be. It is not walked by recursion."""
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        holders = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        if not holders:
            return False
        level = [each for holder in holders for each in holder]
    return any(isinstance(each, dict | list) for each in level)


def _pairs(body: bytearray) -> list[tuple[str, str]]:
    try:
        return form_fields(bytes(body), _MAX_PARTS, errors="strict")
    except ValueError:
        raise Problem(400, "invalid_request", "the body is no form in UTF-8, or has too many fields") from None


def _plain_form(kind: str, body: bytearray) -> list[tuple[str, str]] | None:
    """Return the fields of a small form without files; None for any other, which the library parses.

    OpenAI's SDK sends its videos so. The library would take a fifth of the submit's CPU time for it.
    """
    boundary = _BOUNDARY.search(kind)
    if boundary is None or len(body) > SMALL:
        return None
    begin, *parts = (b"\r\n" + bytes(body)).split(b"\r\n--" + boundary[1].encode())
    if begin or not 1 < len(parts) <= _MAX_PARTS + 1 or parts[-1] not in _FORM_ENDS:
        return None
    found = [_PLAIN_PART.fullmatch(part) for part in parts[:-1]]
    try:
        return [(each[1].decode(), each[2].decode()) for each in found if each is not None] if all(found) else None
    except UnicodeDecodeError:
        return None


_BOUNDARY: Final = re.compile(r"""^multipart/form-data; boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})$""")
_PLAIN_PART: Final = re.compile(rb"""\r\nContent-Disposition: form-data; name="([^"\\\r\n]*)"\r\n\r\n(.*)""", re.DOTALL)
_FORM_ENDS: Final = frozenset({b"--", b"--\r\n"})


async def _multipart(kind: str, body: bytearray) -> Fields:
    """Return the fields of a form. A large one is read outside of the event loop.

    :raises Problem: 400 or 415
    """
    _check_charset(kind)
    parts = _parts_of(kind, body)
    return _nested(await parts if len(body) <= SMALL else await asyncio.to_thread(asyncio.run, parts))


def _check_charset(kind: str) -> None:
    """Check the charset that a form states. Python has some that take minutes for a field, and some whose texts are no Unicode.

    :raises Problem: 415 for any other than UTF-8
    """
    stated = parse_options_header(kind)[1].get(b"charset", b"utf-8").decode("latin-1")
    try:
        is_utf_8 = codecs.lookup(stated).name == "utf-8"
    except (LookupError, ValueError):
        is_utf_8 = False
    if not is_utf_8:
        raise Problem(415, "unsupported_media_type", f"send the form in UTF-8 (got the charset {quote(stated)})")


async def _parts_of(kind: str, body: bytearray) -> list[tuple[str, str]]:
    """Return the names and values of a form, as the library parses it."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), _CHUNK):
            yield bytes(body[start : start + _CHUNK])
        yield b""

    headers = Headers({"content-type": kind})
    parser = MultiPartParser(headers, chunks(), max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=_MAX_FIELD)
    try:
        parsed = await parser.parse()
    except (MultiPartException, ValueError, KeyError, LookupError, AssertionError) as error:
        raise Problem(400, "invalid_request", f"the body is no form that can be read: {quote(str(error))}") from None
    try:
        return [
            (name, await _data_url(value) if isinstance(value, UploadFile) else value)
            for name, value in parsed.multi_items()
        ]
    finally:
        await parsed.close()


async def _data_url(file: UploadFile) -> str:
    """Return a file as a ``data:`` URL."""
    content = await file.read()
    kind = well_formed(file.content_type or "")
    if kind == UNTYPED:
        kind = _type_of(content, file.filename or "")
    # In parts: base64 of a whole film would hold the interpreter, and so the event loop, too long.
    parts = (content[start : start + _ENCODED_AT_ONCE] for start in range(0, len(content), _ENCODED_AT_ONCE))
    return "".join([f"data:{kind};base64,", *(base64.b64encode(part).decode() for part in parts)])


_MAGIC: Final = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
)
_ENDINGS: Final[Mapping[str, str]] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "m4a": "audio/mp4",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
}


def _type_of(content: bytes, filename: str) -> str:
    """Return the type of a file that states none: by its first bytes, or by the end of its name."""
    if content[:4] == b"RIFF":
        return "image/webp" if content[8:12] == b"WEBP" else "audio/wav"
    if content[4:8] == b"ftyp":
        return "video/mp4"
    known = next((kind for magic, kind in _MAGIC if content.startswith(magic)), None)
    return known or _ENDINGS.get(filename.rpartition(".")[2].lower(), UNTYPED)


def _nested(pairs: list[tuple[str, str]]) -> Fields:
    """Return the fields of a form: ``a[b]`` is an object, ``a[]`` or a repeated name is a list."""
    found: Fields = {}
    for name, value in pairs:
        form = _NAME.fullmatch(name)
        inner = re.findall(r"\[([^\[\]]*)\]", form[2]) if form is not None else []
        if form is None or len(inner) > _MAX_FORM_DEPTH:
            found[name] = value
        else:
            _put(found, [form[1], *inner], value)
    return found


def _put(holder: Fields, path: list[str], value: str) -> None:
    name, *rest = path
    if not rest or rest == [""]:
        before = holder.get(name)
        if isinstance(before, list):
            before.append(value)
        elif rest or before is not None:
            holder[name] = [value] if before is None else [before, value]
        else:
            holder[name] = value
        return
    inner = holder.get(name)
    if not isinstance(inner, dict):
        inner = holder[name] = {} if inner is None else {"": inner}
    _put(inner, rest, value)


async def fingerprint_of(said: Fields, about: Sequence[str], lease: Lease) -> str:
    """Return a fingerprint that is equal for equal requests: fields and the bytes of files count, and no header.

    :param about: the key, the door, the path and the query
    """
    if lease.size > SMALL:
        return await asyncio.to_thread(_fingerprint, said, about)
    return _fingerprint(said, about)


def _fingerprint(said: Fields, about: Sequence[str]) -> str:
    digest = hashlib.sha256(orjson.dumps(list(about)))
    try:
        digest.update(orjson.dumps(said, option=orjson.OPT_SORT_KEYS))
    except (TypeError, ValueError):
        raise Problem(400, "invalid_request", "the body is nested too deeply") from None
    return digest.hexdigest()[:40]


def is_one_of(value: Any, words: Container[str]) -> bool:
    """Return whether a field has one of some words. A client may put anything there, also what no set can be asked for."""
    return isinstance(value, str) and value in words


def whole_number(value: Any) -> Any:
    """Return the number that a text of a form stands for; anything else as it is, so that its mistake is reported."""
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
