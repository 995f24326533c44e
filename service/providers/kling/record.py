"""Reading of Kling's task, in both generations: the envelope, the bare task of a callback, and a list."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import Refused, UpstreamError
from service.domain.task import Result, State, Update
from service.providers.newapi.video import video_failure
from service.providers.read import compact, fields, identifier, items, kind_of, line, link, number, word
from service.providers.wire import Reply

STATES: Mapping[str, State] = {
    "submitted": State.SUBMITTED,
    "processing": State.RUNNING,
    "succeed": State.SUCCEEDED,  # the older generation's word
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
}
"""``task_status`` of the older generation, ``status`` of the newer one; both spellings are read in both."""

Record = Mapping[str, Any]
_RESULTS = ("videos", "images", "series_images", "audios")
"""The lists of ``task_result``, in the order in which their outputs are returned."""
_MEDIA = ("url", "url_mp3", "mp3_url", "url_wav", "wav_url")
"""Where an output has its URL, best first: of a sound in two formats the MP3 is the main one."""
_SHOTS = ("url_1", "url_2", "url_3")
"""The pictures of one output of several shots."""
_OTHER_FORMATS = ("url_wav", "wav_url")
_NO_MEDIA = frozenset({"voice", "element"})
"""Types of outputs that are things of Kling's library."""
_UNIT = "unit"


def tasks_in(document: Any) -> list[Record] | None:
    """Return the tasks in a document: in ``data`` or ``data.result``, or alone; None where there is no place for any."""
    envelope = fields(document)
    if _is_bare(envelope):
        return [envelope]
    data = envelope.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("result"), list):
        data = data["result"]
    if isinstance(data, list):
        return [fields(each) for each in items(data)]
    return [fields(data)] if fields(data) else None


def _is_bare(record: Record) -> bool:
    named = identifier(record.get("task_id")) or identifier(record.get("id"))
    return named is not None and _stated(record) is not None


def _stated(record: Record) -> str | None:
    found = word(record.get("task_status")) or word(record.get("status"))
    return None if found is None or found.isdigit() else found.lower()


def first_task(document: Any) -> Record | None:
    """Return the first task of a document, which has a status word; None where there is none."""
    found = tasks_in(document)
    return found[0] if found and _stated(found[0]) is not None else None


def read_task(record: Record) -> Update:
    """Read a task. A success whose outputs are not in the message settles nothing: a query brings them."""
    said = _stated(record)
    state = None if said is None else STATES.get(said)
    outputs = outputs_of(record) if state is State.SUCCEEDED else ()
    settled = any(each.role == "result" for each in outputs)
    return Update(
        state=None if state is State.SUCCEEDED and not settled else state,
        external_id=identifier(record.get("task_id")) or identifier(record.get("id")),
        results=outputs if settled else (),
        failure=video_failure(_reason(record)) if state is State.FAILED else None,
        cost=_cost(record),
        incomplete=state is State.SUCCEEDED and not settled,
        unknown_word=said if said is not None and said not in STATES else None,
    )


def _reason(record: Record) -> str | None:
    return line(record.get("task_status_msg")) or line(record.get("message"))


def outputs_of(record: Record) -> tuple[Result, ...]:
    """Return the outputs, each with its twins: a watermarked one, or another format of the same sound."""
    result = fields(record.get("task_result"))
    media = [each for name in _RESULTS for each in _ordered(result.get(name))] + items(record.get("outputs"))
    return tuple(output for each in media for output in _outputs(fields(each)))


def _ordered(value: Any) -> list[Any]:
    """Return a list of outputs by their ``index``, where they have one."""
    found = items(value)
    return sorted(found, key=lambda each: number(fields(each).get("index")) or 0.0)


def _outputs(medium: Record) -> list[Result]:
    if word(medium.get("type")) in _NO_MEDIA or medium.get("is_contain") is False:
        return []
    url = next((url for name in _MEDIA if (url := link(medium.get(name))) is not None), None)
    if url is None:
        shots = (link(medium.get(name)) for name in _SHOTS)
        return [Result(kind_of(shot, "image"), shot) for shot in shots if shot is not None]
    stated = (word(medium.get("type")) or "").rpartition("_")[2]
    sound = any(name in medium for name in (*_MEDIA[1:], "url_mp3"))
    kind = kind_of(url, "audio" if sound or stated == "audio" else "image" if stated in _PICTURES else "video")
    item = identifier(medium.get("id"))
    found = [Result(kind, url, item=item)]
    for name in ("watermark_url", *_OTHER_FORMATS):
        twin = link(medium.get(name))
        if twin is not None and twin != url:
            found.append(Result(kind_of(twin, kind), twin, role="extra", item=item))
    return found


_PICTURES = frozenset({"image", "images", "seg"})


def _cost(record: Record) -> float | None:
    """Return the price in units of a resource pack. A price in money has another unit, and is left out."""
    stated = number(record.get("final_unit_deduction"))
    if stated is not None:
        return stated
    charges = [fields(each) for each in items(record.get("billing"))]
    units = [number(each.get("amount")) for each in charges if each.get("charge_type") == _UNIT]
    known = [each for each in units if each is not None]
    return sum(known) if known else None


def read_helper(reply: Reply) -> Update | UpstreamError | None:
    """Read the answer of a helper, which makes no task; None where the document is none.

    Its external id is the session's. ``data.status`` other than 0 is a rejection, although ``code`` is 0.
    """
    envelope = fields(reply.document)
    data = fields(envelope.get("data"))
    status, session = data.get("status"), identifier(data.get("session_id"))
    if type(status) is int and status != 0:
        return Refused("invalid_input", line(data.get("message")))
    known = (type(status) is int and "session_id" in data) or isinstance(data.get("face_data"), list)
    if not known or session is None:
        return None
    res = fields(data.get("res"))
    video = link(data.get("normalized_video")) or link(res.get("video"))
    found = [Result("video", video)] if video is not None else []
    cover = link(res.get("video_cover"))
    if cover is not None:
        found.append(Result("image", cover, role="cover"))
    found.append(Result("json", text=compact(data), role="extra"))
    return Update(
        state=State.SUCCEEDED, external_id=session, results=tuple(found), cost=number(data.get("final_unit_deduction"))
    )
