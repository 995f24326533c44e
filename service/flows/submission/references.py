"""Check the references to media in a request, and write them as a task stores them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from service.domain.media_references import (
    MAX_INDEX,
    SCHEME,
    MediaReference,
    Path,
    place,
    reference_in,
    replaced,
    upload_id,
    upload_name,
    written,
)
from service.domain.task import Result, Task
from service.domain.uploads import Upload
from service.domain.validation import Mistake, quote
from service.providers.media import stand_in

MAX_UPLOADS = 100
"""Uploads that one task may take."""
_TYPES = {"image": "image/png", "video": "video/mp4", "audio": "audio/mpeg", "model": "model/gltf-binary"}
"""The usual type of a result of each kind."""
_KINDS = {"image": ("image",), "images": ("image",), "mask": ("image",), "frame": ("image",), "video": ("video",),
          "audio": ("audio", "video")}  # fmt: skip
"""The kinds of files that a field takes, by the end of its name. Others take any."""
_ANY = "application/octet-stream"


def uploads_named(document: Any) -> set[UUID]:
    """Return the ids of the uploads that an input refers to, which may be of any depth and size: it is not checked yet.

    Of more than :data:`MAX_UPLOADS` only some are returned. The others are not found then.
    """
    found: set[UUID] = set()
    waiting = [document]
    while waiting and len(found) < MAX_UPLOADS:
        value = waiting.pop()
        reference = written(value)
        wanted = upload_id(reference[1]) if reference is not None and reference[0] == "upload" else None
        if wanted is not None:
            found.add(wanted)
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def with_references(
    given: Any,
    schema: Mapping[str, Any],
    *,
    client: str,
    uploads: Mapping[UUID, Upload],
    parent: Task | None,
    now: datetime,
    mistakes: list[Mistake],
) -> Any:
    """Return an input with its references as a task stores them. What is wrong with one is added to the mistakes.

    :param uploads: those that the input refers to, as far as there are any
    :param parent: the task that ``parent_id`` names
    """
    usable = {
        name: each
        for name, each in uploads.items()
        if each.client == client and each.task_id is None and each.usable(now)
    }

    def stored(path: Path, value: Any) -> Any:
        if isinstance(value, str) and value.startswith(SCHEME):
            mistakes.append(
                Mistake(place(path), 'write a reference as an object: {"upload": "upl_…"} or {"result": 0}')
            )
            return value
        found = written(value) if path else None
        if found is None:
            return value
        takes = _taken_at(schema, path)
        if takes == "object" or (takes == "free" and not _is_meant(found, parent)):
            return value  # an object of the model's own
        if takes == "text":
            mistakes.append(
                Mistake(place(path), "takes a text: a reference to a file can stand only in place of a URL")
            )
            return value
        source, name = found
        if source == "upload":
            return _to_upload(path, name, usable, mistakes) or value
        return _to_result(path, name, parent, mistakes) or value

    return replaced(given, stored)


def with_stand_ins(document: Any) -> Any:
    """Return a stored input with a URL in place of each reference, as its schema expects it."""

    def shown(_: Path, value: Any) -> Any:
        found = reference_in(value)
        return value if found is None else stand_in(found.content_type)

    return replaced(document, shown)


def _to_upload(path: Path, name: Any, uploads: Mapping[UUID, Upload], mistakes: list[Mistake]) -> str | None:
    wanted = upload_id(name)
    upload = None if wanted is None else uploads.get(wanted)
    if upload is None:
        mistakes.append(
            Mistake(place(path), f"there is no upload {quote(str(name))}, or it has expired: upload the file again")
        )
        return None
    if not _fits(path, upload.content_type):
        mistakes.append(Mistake(place(path), f"takes another kind of file: the upload is {upload.content_type}"))
        return None
    return str(MediaReference("upload", upload_name(upload.id), upload.content_type))


def _to_result(path: Path, number: Any, parent: Task | None, mistakes: list[Mistake]) -> str | None:
    if parent is None:
        mistakes.append(Mistake(place(path), "a result is one of another task: name that task as parent_id"))
        return None
    if type(number) is not int or not 0 <= number <= min(len(parent.results) - 1, MAX_INDEX):
        many = len(parent.results)
        words = f"its results are numbered 0 to {many - 1}" if many else "it has no results"
        mistakes.append(Mistake(place(path), f"the parent has no result {quote(str(number))}: {words}"))
        return None
    result = parent.results[number]
    if result.url is None:
        mistakes.append(Mistake(place(path), f"result {number} of the parent is no file: it is a {result.kind}"))
        return None
    content_type = type_of_result(result)
    if not _fits(path, content_type):
        mistakes.append(
            Mistake(place(path), f"takes another kind of file: result {number} of the parent is a {result.kind}")
        )
        return None
    return str(MediaReference("result", str(number), content_type))


def type_of_result(result: Result) -> str:
    """Return the type of a result, as far as it is known."""
    known = None if result.kept is None else result.kept.media_type
    return known or _TYPES.get(result.kind, _ANY)


def _fits(path: Path, content_type: str) -> bool:
    """Return whether a file of a type can be what a field takes. An unknown type fits everywhere."""
    name = next((str(part) for part in reversed(path) if isinstance(part, str)), "").lower().split("_")[-1]
    wanted = _KINDS.get(name)
    kind = content_type.partition("/")[0]
    return wanted is None or kind in wanted or kind not in {"image", "video", "audio"}


def _is_meant(found: tuple[str, Any], parent: Task | None) -> bool:
    """Return whether an object within a model's own input is a reference. A model may have fields of these names itself."""
    source, name = found
    return upload_id(name) is not None if source == "upload" else parent is not None and type(name) is int


def _taken_at(schema: Mapping[str, Any], path: Path) -> Literal["media", "text", "object", "free"]:
    """Return what a field takes: a URL of a medium, another text, an object, or what the model's own input has there."""
    at: Mapping[str, Any] = schema
    described = ""
    for part in path:
        options = [at, *at.get("anyOf", ())]
        described = str(at.get("description", described))
        if isinstance(part, int):
            at = next((each["items"] for each in options if isinstance(each.get("items"), Mapping)), {})
        else:
            at = next((each["properties"][part] for each in options if part in each.get("properties", {})), {})
        if not at:
            return "free"
    described = str(at.get("description", described))
    strings = [each for each in [at, *at.get("anyOf", ())] if each.get("type") == "string"]
    if not strings:
        return "object" if at.get("type") == "object" else "text"
    texts = [described, *(str(each) for one in strings for each in (one.get("pattern", ""), *one.get("examples", ())))]
    return "media" if any("URL" in text or "data:" in text or text.startswith("http") for text in texts) else "text"
