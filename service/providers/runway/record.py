"""Reading of Runway's task: the object of its own API, and the records that gateways make of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from service.domain.task import Failure, Result, ResultKind, ResultRole, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, items, kind_of, link, links, number, percent, word
from service.providers.wire import Reply


class Words(NamedTuple):
    """The meanings of a protocol's status words, in lower case."""

    status: Mapping[str, State | None]
    state: Mapping[str, State | None]
    """``state``, a newer twin of ``status``: it counts where that is blank."""


OWN_WORDS = Words(
    status={
        "pending": State.SUBMITTED,
        "throttled": State.SUBMITTED,  # over the concurrency limit: kept and run later, not refused
        "running": State.RUNNING,
        "succeeded": State.SUCCEEDED,
        "failed": State.FAILED,
        "cancelled": State.CANCELLED,
    },
    state={},
)
"""Runway's own task object (GET /v1/tasks/{id})."""
GATEWAY_WORDS = Words(
    status={
        **newapi_errors.STATES,
        **OWN_WORDS.status,
        "": State.SUBMITTED,  # a submit may be answered by the whole record, blank
        "0": State.SUBMITTED,
        "1": State.RUNNING,
        "2": State.FAILED,  # 2 is the failure and 3 the success, although one reseller's page differs
        "3": State.SUCCEEDED,
    },
    state={
        "pending": State.SUBMITTED,
        "running": State.RUNNING,
        "succeeded": State.SUCCEEDED,
        "success": State.SUCCEEDED,
        "error": State.FAILED,
        "failed": State.FAILED,
    },
)
"""POST /runway/feed of DeerAPI and CometAPI: the record's numbers, and the words of the wrappers around it."""
FAILURE_CODES = {
    "SAFETY": "content_policy",
    "INPUT_PREPROCESSING.SAFETY": "content_policy",
    "ASSET.INVALID": "invalid_input",
    "THIRD_PARTY.UNAVAILABLE": "overloaded",
}
"""``failureCode`` by prefix (Runway's docs, task failures). Any other, and none, counts as INTERNAL: provider_error."""
_SECONDARY: tuple[tuple[str, ResultRole, ResultKind], ...] = (
    ("poster", "cover", "image"),
    ("last_frame", "last_frame", "image"),
    ("raw_video_url", "extra", "video"),
    ("image_url", "extra", "image"),
)
_OWN_FIELDS = frozenset({"output", "failure", "failureCode", "fail_reason", "video_url", "createdAt"})
"""The fields that distinguish a task without an id from any other object with a status, such as an error."""
_DEPTH = 5


def read_created(reply: Reply, words: Words) -> Update:
    """Read the answer to a submit. An id means that the job may exist, even where the answer reports an error."""
    update = read_task(reply.document, words)
    if not reply.ok or update.external_id is None:
        raise newapi_errors.refusal_in(reply, creating=True)
    return dataclasses.replace(update, state=update.state or State.SUBMITTED)


def read_status(reply: Reply, words: Words) -> Update:
    """Read the answer to a poll."""
    if not reply.ok or not is_task(reply.document):
        raise newapi_errors.refusal_in(reply, creating=False)
    return read_task(reply.document, words)


Record = Mapping[str, Any]


def _chain(document: Any) -> list[Record]:
    """Return the objects that wrap one another as ``data``, outermost first: envelope, record, Runway's own object."""
    chain: list[Record] = []
    while len(chain) < _DEPTH and (record := fields(document)):
        chain.append(record)
        document = record.get("data")
    return chain


def _identifier(chain: list[Record]) -> str | None:
    """Return the job's id. A wrapper's id is the gateway's; the vendor's, deeper in, would be unknown to it."""
    named = (identifier(record.get(name)) for record in chain for name in ("task_id", "id"))
    return next((found for found in named if found is not None), None)


def gateway_job(document: Any) -> str | None:
    """Return the job's id as a gateway states it: around or in its record, and not in the vendor's object within."""
    chain = _chain(document)
    outer = chain[: next((depth for depth, record in enumerate(chain) if _speaks(record)), 0) + 1]
    if len(outer) == 1:
        return identifier(outer[0].get("task_id"))
    return _identifier(outer)


def _stated(record: Record, name: str) -> str | None:
    """Return a status word; a blank one is a word too, None where there is none."""
    value = record.get(name)
    return str(value).strip().lower() if isinstance(value, str | int) and not isinstance(value, bool) else None


def _speaks(record: Record) -> bool:
    return _stated(record, "status") is not None or _stated(record, "state") is not None


def is_task(document: Any) -> bool:
    """Return whether a document holds a task."""
    chain = _chain(document)
    if _identifier(chain) is not None or any(_speaks(record) for record in chain[1:]):
        return True
    return bool(chain) and _speaks(chain[0]) and not _OWN_FIELDS.isdisjoint(chain[0])


def read_task(document: Any, words: Words) -> Update:
    """Read every shape of a task: the feed's record, a gateway's wrapper, its flat form, Runway's own object.

    The outermost status counts, because a gateway may have given up a task that still runs inside. The wrapped object only
    adds results.
    """
    chain = _chain(document)
    if not chain:
        return Update()
    records = chain[next((depth for depth, record in enumerate(chain) if _speaks(record)), len(chain) - 1) :]
    state, unknown_word = _state(records[0], words)
    outputs = _outputs(records)
    if link(records[0].get("video_url")) is not None:
        state, unknown_word = State.SUCCEEDED, None  # the safety net: there is no video of a failure
    elif not outputs and state is State.SUCCEEDED:
        state = None  # it will come; a success without an output settles nothing
    return Update(
        state=state,
        external_id=_identifier(chain),
        progress=_progress(records),
        results=_results(records, outputs) if state is State.SUCCEEDED else (),
        failure=_failure(records, state),
        cost=_cost(records[0], state),
        refunded=_refunded(records[0], state),
        unknown_word=unknown_word,
    )


def _state(record: Record, words: Words) -> tuple[State | None, str | None]:
    """Return the state of the status, or of its twin where the status is unknown. Return the word where no table has it."""
    status, twin = _stated(record, "status"), _stated(record, "state")
    known, text = (words.state, twin) if twin and not status else (words.status, twin if status is None else status)
    if text is None:
        return None, None
    return known.get(text), None if text in known else word(text)


def _progress(records: list[Record]) -> int | None:
    """Return the outermost progress: a percentage in a gateway's record, a fraction in Runway's own object."""
    for record in records:
        value = record.get("progress")
        fraction = "task_id" not in record and isinstance(value, int | float) and value <= 1
        if (found := percent(value, fraction=fraction)) is not None:
            return found
    return None


def _outputs(records: list[Record]) -> list[str]:
    """Return the main outputs. Old gateways put the URL of a success into ``fail_reason``."""
    first = records[0]
    candidates = [first.get("video_url"), first.get("result_url"), *(record.get("output") for record in records)]
    candidates += [record.get("video_url") for record in records[1:]]
    found = next((found for candidate in candidates if (found := _addresses(candidate))), [])
    reason = link(first.get("fail_reason"), relative=False)
    return found or ([reason] if reason else [])


def _addresses(output: Any) -> list[str]:
    """Return the addresses in an output: a list, a single one, or those of a workflow's nodes in their order."""
    found = links(output)
    if not found and isinstance(output, dict):
        found = [url for node in items(list(output.values())) for url in links(node)]
    return found


def _results(records: list[Record], outputs: list[str]) -> tuple[Result, ...]:
    """Return the outputs, and after them what goes with them."""
    found = [Result(kind_of(url, "video"), url) for url in outputs]
    for name, role, kind in _SECONDARY:
        url = next((url for record in records if (url := link(record.get(name)))), None)
        if url is not None and url not in outputs:
            found.append(Result(kind, url, role=role))
    return tuple(found)


def _failure(records: list[Record], state: State | None) -> Failure | None:
    """Return why it failed: by the innermost ``failureCode``, or by the text where there is none."""
    texts = (word(record.get(name)) for record in records for name in ("fail_reason", "msg", "failure"))
    text = next((text for text in texts if text is not None), None)
    if state is State.CANCELLED:
        return Failure("cancelled", text) if text else None
    if state is not State.FAILED:
        return None
    for record in reversed(records):
        if (stated := word(record.get("failureCode"))) is not None:
            code = next((ours for prefix, ours in FAILURE_CODES.items() if stated.startswith(prefix)), "provider_error")
            return Failure(code, word(record.get("failure")) or text, retryable=code in RETRYABLE)
    if records[0].keys().isdisjoint({"task_id", "fail_reason", "msg"}):
        return Failure("provider_error", text, retryable=True)  # Runway's own object: no code counts as INTERNAL
    if text is None and any(_stated(record, "status") == "cancelled" for record in records[1:]):
        return Failure("cancelled")
    return failure_from_text(text)


def _cost(record: Record, state: State | None) -> float | None:
    """Return the price: points, which a failure gives back, or Runway's credits."""
    points = number(record.get("point"))
    if points is None:
        return number(fields(record.get("cost")).get("credits"))
    return 0.0 if _refunded(record, state) else points


def _refunded(record: Record, state: State | None) -> bool | None:
    """Return whether the job was refunded: the feed has a flag or the points themselves, Runway a cost of 0."""
    refund, credits_ = number(record.get("refund")), number(fields(record.get("cost")).get("credits"))
    if state not in {State.FAILED, State.CANCELLED}:
        return None
    if refund is None:
        return None if credits_ is None else credits_ == 0
    if refund in {0, 1}:
        return refund == 1
    return True if refund == number(record.get("point")) else None
