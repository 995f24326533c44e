"""Reading of the records and callbacks of kie.ai's older endpoints."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from service.domain.task import ENDED, Result, ResultKind, State, Update
from service.providers.kie_envelope import FAILURES, agrees, code_of, failure_of, job_of
from service.providers.read import fields, items, kind_of, line, link, links, percent, word

_FLAGS = {"0": State.RUNNING, "1": State.SUCCEEDED, "2": State.FAILED, "3": State.FAILED}
"""``successFlag``: 2 says that the creation failed, 3 the generation."""
_WORDS = {
    "wait": State.SUBMITTED,
    "waiting": State.SUBMITTED,
    "queueing": State.SUBMITTED,
    "queuing": State.SUBMITTED,
    "generating": State.RUNNING,
    "success": State.SUCCEEDED,
    "fail": State.FAILED,
    "create_task_failed": State.FAILED,
    "generate_failed": State.FAILED,
}
"""``state`` of Runway, ``status`` of 4o images, in lower case."""
_FAILED = re.compile(r"[45]\d\d", re.ASCII)
_REFUSED = {**FAILURES, "422": "content_policy"}
"""``code`` of a callback: 422 is the provider's word for refused content here."""
_LISTS = ("resultUrls", "result_urls")
_SINGLE: tuple[tuple[str, ResultKind], ...] = (
    ("videoUrl", "video"),
    ("video_url", "video"),
    ("resultImageUrl", "image"),
    ("resultUrl", "video"),
)
_SECONDARY = ("originUrls", "originImageUrl")
_COVERS = ("imageUrl", "image_url")
_HOLDERS = ("response", "info", "videoInfo", "resultInfoJson")


def read_record(document: Any) -> Update | None:
    """Read a record or a callback; None for any other document."""
    envelope = fields(document)
    data = fields(envelope.get("data"))
    job = job_of(data)
    if is_being_made(document):
        return Update(external_id=job)
    if job is None and not has_result(data):
        return Update() if agrees(document) and "data" in envelope and not envelope["data"] else None
    if _FAILED.fullmatch(word(envelope.get("code")) or ""):
        failure = failure_of(line(envelope.get("msg")), word(envelope.get("code")), _REFUSED)
        return Update(state=State.FAILED, external_id=job, failure=failure)
    state, unknown = _state(data)
    results = tuple(_results(data))
    if state is State.SUCCEEDED and not results:
        state = None
    return Update(
        state=state,
        external_id=job,
        progress=percent(data.get("progress"), fraction=True),
        results=results if state in ENDED else (),
        failure=failure_of(_text(data), code_of(data)) if state is State.FAILED else None,
        unknown_word=unknown,
    )


def is_being_made(document: Any) -> bool:
    """Return whether a document reports that a file of a better resolution is not ready: a code 400 that is no failure."""
    said = fields(document)
    text = (line(said.get("msg")) or "").lower()
    waits = any(part in text for part in ("processing", "being", "generating", "not ready", "wait"))
    return word(said.get("code")) == "400" and waits and any(part in text for part in ("1080p", "4k"))


def has_result(data: Mapping[str, Any]) -> bool:
    """Return whether there is an output in a record."""
    return next(_results(data), None) is not None


def _state(data: Mapping[str, Any]) -> tuple[State | None, str | None]:
    """Return the state, and a word that no table has. A callback states none: its outputs are the success."""
    said = (word(data.get("state")) or word(data.get("status")) or "").lower()
    flag = word(data.get("successFlag"))
    if said:
        return _WORDS.get(said), None if said in _WORDS else said
    if flag is not None:
        return _FLAGS.get(flag), None if flag in _FLAGS else flag.lower()
    return (State.SUCCEEDED if has_result(data) else None), None


def _text(data: Mapping[str, Any]) -> str | None:
    return line(data.get("errorMessage")) or line(data.get("failMsg"))


def _results(data: Mapping[str, Any]) -> Iterator[Result]:
    """Yield the outputs, and after them what goes with them. They stand in the record, or in an object in it."""
    holders = [data, *(fields(data.get(name)) for name in _HOLDERS)]
    found = [url for each in holders for name in _LISTS for url in _addresses(each.get(name))]
    main = [Result(kind_of(url, "image"), url) for url in found]
    main += [
        Result(kind_of(url, kind), url) for each in holders for name, kind in _SINGLE if (url := link(each.get(name)))
    ]
    yield from main
    if main:
        for each in holders:
            yield from (
                Result(kind_of(url, "image"), url, role="extra") for name in _SECONDARY for url in links(each.get(name))
            )
            yield from (Result("image", url, role="cover") for name in _COVERS if (url := link(each.get(name))))


def _addresses(listed: Any) -> list[str]:
    """Return the URLs of a list, which is JSON as a text on older pages, and of objects at Midjourney."""
    found = (link(each.get("resultUrl")) if isinstance(each, dict) else link(each) for each in items(listed))
    return [url for url in found if url is not None]
