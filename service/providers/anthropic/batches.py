"""Anthropic's Message Batches (POST /v1/messages/batches): conversations at half the price, within a day."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from service.domain.errors import NotFound, Uncertain, UpstreamError
from service.domain.task import Failure, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.anthropic import record
from service.providers.anthropic.family import MODEL
from service.providers.dialect import Dialect, Facts, about, merge
from service.providers.read import compact, fields, identifier, items, moment, number, word
from service.providers.talk import talk_mistakes
from service.providers.wire import Call, Exchange, JobsExchange, ListedJob, Reply

STATES: Mapping[str, State] = {"in_progress": State.RUNNING, "canceling": State.RUNNING, "ended": State.SUCCEEDED}
"""``processing_status``. Of a batch that has ended, its results tell how."""
_BATCHES = "/v1/messages/batches"
_PAGE, _MAX_PAGES = 100, 10
_MAX_RESULTS = 64 * 1024 * 1024
_MONTH = 29 * 86400.0


class Batches(Dialect):
    """A batch of messages. Its results are one text for each request, in the order of the requests."""

    facts = Facts(
        family="anthropic",
        name="batches",
        operations={"batch": _BATCHES},
        typical_seconds={"batch": 3600.0},
        reserved=frozenset({"callback_url", "requests"}),
        queries=("/cancel",),
        result_lifetime=_MONTH,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the batch. Each request has an id of ours, which its result repeats."""
        del callback_url
        model, given = task.model or MODEL, items(task.input.get("requests"))
        requests = [
            {"custom_id": f"{task.submission_id or task.id}-{place}", "params": _params(each, model)}
            for place, each in enumerate(given)
        ]
        body = merge({"requests": requests}, task.options)
        return Call(method="POST", path=_BATCHES, json=body, headers=record.VERSION)

    def query(self, task: Task) -> Call:
        """Return the call that queries the batch."""
        return Call(method="GET", path=_path(task), headers=record.VERSION)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the batch."""
        update = _read(reply.document) if reply.ok else None
        if not reply.ok or "error" in fields(reply.document):
            raise record.refusal(reply, creating=True)
        if update is None or update.external_id is None:
            raise Uncertain("unreadable", "the answer is no batch")
        return dataclasses.replace(update, state=State.SUBMITTED)

    def read_status(self, reply: Reply) -> Update:
        """Read the batch, or its results: one document in a line."""
        results = _results_in(reply) if reply.ok else []
        if results:
            return _ended(results)
        update = _read(reply.document) if reply.ok else None
        if update is None:
            raise _refusal(reply)
        return update

    def poll(self, task: Task) -> Exchange:
        """Request the batch, and once it has ended its results."""
        reply = yield self.query(task)
        update = about(task, self.read_status(reply))
        if word(fields(reply.document).get("processing_status")) != "ended":
            return update
        call = Call(method="GET", path=f"{_path(task)}/results", headers=record.VERSION, max_answer=_MAX_RESULTS)
        results = yield call
        if results.ok and len(_results_in(results)) < len(items(task.input.get("requests"))):
            return update  # the list of results was cut off
        ended = self.read_status(results)
        return dataclasses.replace(ended, external_id=task.external_id)

    def cancel(self, task: Task) -> Exchange:
        """Cancel the batch. Requests that are done keep their results, and a poll shows them."""
        reply = yield Call(method="POST", path=f"{_path(task)}/cancel", headers=record.VERSION)
        return about(task, self.read_cancelled(reply))

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to a cancel: the batch, which ends a little later."""
        update = _read(reply.document) if reply.ok else None
        if update is None:
            raise _refusal(reply)
        return update

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """List the batches, newest first. The list shows how many requests each has."""
        del task
        found, after = list[ListedJob](), ""
        for _ in range(_MAX_PAGES):
            reply = yield Call(method="GET", path=f"{_BATCHES}?limit={_PAGE}{after}", headers=record.VERSION)
            said = fields(reply.document)
            if not reply.ok or not isinstance(said.get("data"), list):
                raise _refusal(reply)
            for each in items(said["data"]):
                job, at = identifier(fields(each).get("id")), moment(fields(each).get("created_at"))
                if job is None or at is None:
                    raise UpstreamError("unreadable", "a listed batch has no id or no time")
                counts = [number(count) for count in fields(fields(each).get("request_counts")).values()]
                total = sum(count for count in counts if count is not None) if counts else None
                found.append(ListedJob(job, at.timestamp(), functools.partial(_may_be, total)))
            last = identifier(said.get("last_id"))
            if said.get("has_more") is not True or last is None:
                return found
            after = f"&after_id={quote(last, safe='')}"
        raise UpstreamError("unreadable", f"the list goes on after {_MAX_PAGES} pages")

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in ``x-api-key``, and the version that every call must have."""
        return dataclasses.replace(call, headers={**record.VERSION, **call.headers, "x-api-key": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is wrong with the words of each conversation."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        for number_, each in enumerate(items(task.input.get("requests"))):
            alone = dataclasses.replace(task, input=fields(each))
            below = f"input.requests[{number_}]"
            found += [
                Mistake(below + mistake.path.removeprefix("input"), mistake.message) for mistake in talk_mistakes(alone)
            ]
        return found


def _refusal(reply: Reply) -> UpstreamError:
    """Return the error that the answer to a query means."""
    found = record.refusal(reply, creating=False)
    return NotFound("not_found", found.message) if found.code == "not_found" else found


def _path(task: Task) -> str:
    return f"{_BATCHES}/{quote(task.external_id or '', safe='')}"


def _params(given: Any, model: str) -> dict[str, Any]:
    return merge(record.params_of(fields(given), model), fields(fields(given).get("options")))


def _may_be(total: float | None, task: Task) -> bool:
    return total is None or total == len(items(task.input.get("requests")))


def _read(document: Any) -> Update | None:
    """Read a batch; None for any other document. One that has ended has no state until its results are read."""
    batch = fields(document)
    said = (word(batch.get("processing_status")) or "").lower()
    if not said:
        return None
    state = STATES.get(said)
    done = _progress(fields(batch.get("request_counts")))
    return Update(
        state=None if state is State.SUCCEEDED else state,
        external_id=identifier(batch.get("id")),
        progress=done if state is State.RUNNING else None,
        unknown_word=said if said not in STATES else None,
    )


def _progress(counts: Mapping[str, Any]) -> int | None:
    """Return how many requests of a hundred are done."""
    numbers = {name: number(value) or 0.0 for name, value in counts.items()}
    total = sum(numbers.values())
    return None if not total or "processing" not in numbers else int(100 * (total - numbers["processing"]) / total)


def _results_in(reply: Reply) -> list[Mapping[str, Any]]:
    """Return the lines of the results; none where the answer is another document, or cut off."""
    found: list[Mapping[str, Any]] = []
    for text in reply.text.split("\n"):  # a text may contain what Unicode calls the end of a line
        try:
            document = orjson.loads(text) if text.strip() else None
        except orjson.JSONDecodeError:
            return []
        if isinstance(document, dict) and "custom_id" in document and isinstance(document.get("result"), dict):
            found.append(document)
    found.sort(key=_place)
    return found if [_place(each) for each in found] == list(range(len(found))) else []


def _place(result: Mapping[str, Any]) -> int:
    """Return the number of the request that a result belongs to: the end of its id."""
    stated = (word(result.get("custom_id")) or "").rpartition("-")[2]
    return int(stated) if stated.isascii() and stated.isdecimal() else 0


def _ended(results: list[Mapping[str, Any]]) -> Update:
    """Read the results of a batch that has ended. Requests without a message are listed beside the texts."""
    made: list[Result] = []
    failures: list[tuple[int, Failure]] = []
    for each in results:
        number_, result = _place(each), fields(each.get("result"))
        kind = (word(result.get("type")) or "").lower()
        message = record.read_message(result.get("message")) if kind == "succeeded" else None
        if message is not None and message.state is State.SUCCEEDED:
            made += [dataclasses.replace(one, item=str(number_)) for one in message.results]
        else:
            failures.append((number_, _failure(kind, result, message)))
    if not made:
        first = failures[0][1] if failures else Failure("provider_error", None)
        all_cancelled = bool(failures) and all(failure.code == "cancelled" for _, failure in failures)
        return Update(state=State.CANCELLED) if all_cancelled else Update(state=State.FAILED, failure=first)
    listed = [{"request": number_, "code": failure.code, "message": failure.message} for number_, failure in failures]
    beside = [Result("json", text=compact(listed), role="extra")] if listed else []
    return Update(state=State.SUCCEEDED, results=(*made, *beside))


def _failure(kind: str, result: Mapping[str, Any], message: Update | None) -> Failure:
    if message is not None and message.failure is not None:
        return message.failure
    if kind == "expired":
        return Failure("provider_timeout", "the batch ended before this request was done", retryable=True)
    if kind in {"canceled", "cancelled"}:
        return Failure("cancelled", None)
    return record.failure_of(result.get("error"))
