"""Jimeng by Volcengine's visual API. Every call is a POST to one path, and is signed. Facts are from new-api: experimental."""

import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import family, operation
from service.providers.read import fields, identifier, items, line, link, links, number, word
from service.providers.wire import Call, Reply

STATES: Mapping[str, State] = {
    "in_queue": State.SUBMITTED,
    "generating": State.RUNNING,
    "done": State.SUCCEEDED,
    "expired": State.FAILED,
}
_NOT_FOUND = "not_found"
Verdict = tuple[type[UpstreamError], str]
CODES: Mapping[int, Verdict] = {
    **dict.fromkeys((50411, 50412, 50413, 50511, 50512, 50518, 50519), (Refused, "content_policy")),
    **dict.fromkeys((50429, 50430), (Unavailable, "rate_limited")),
    50400: (AccountProblem, "forbidden"),
    50401: (AccountProblem, "unauthorized"),
    **dict.fromkeys((50500, 50501), (Uncertain, "provider_error")),
}
"""The meaning of a ``code``. In a query of a job, the codes of moderation are the job's failure."""
_FINE = 10_000
_VERSION = "2022-08-31"
_SUBMIT = f"/?Action=CVSync2AsyncSubmitTask&Version={_VERSION}"
_QUERY = f"/?Action=CVSync2AsyncGetResult&Version={_VERSION}"
_MODELS = {
    "text_to_video": "jimeng_t2v_v30",
    "image_to_video": "jimeng_i2v_first_v30",
    "text_to_image": "jimeng_t2i_v30",
}
_BOTH_FRAMES = "jimeng_i2v_first_tail_v30"
_FRAMES = {5: 121, 10: 241}
_REGION, _SERVICE = "cn-north-1", "cv"
_SIGNED = ("content-type", "host", "x-content-sha256", "x-date")
FAMILY = family(
    "jimeng",
    "Jimeng",
    operation("text_to_video", "video", "prompt* duration+ aspect_ratio+ seed model", known=SHARED),
    operation("image_to_video", "video", "image* prompt+ last_image duration+ seed model", known=SHARED),
    operation("text_to_image", "image", "prompt* aspect_ratio seed model", known=SHARED, deadline=1800.0),
)


class Visual(Dialect):
    """Jimeng by Volcengine. A query needs the model again. new-api takes the same calls with a plain key."""

    facts = Facts(
        family="jimeng",
        name="official",
        operations=dict.fromkeys(_MODELS, _SUBMIT),
        queries=("CVSync2AsyncGetResult",),
        typical_seconds=dict.fromkeys(_MODELS, 120.0) | {"text_to_image": 30.0},
        result_lifetime=3600.0,
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        return Call(method="POST", path=_SUBMIT, json=merge(_body(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the job, with its model."""
        model = task.options.get("req_key", _model(task))
        return Call(method="POST", path=_QUERY, json={"req_key": model, "task_id": task.external_id})

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id."""
        job = identifier(_data(reply).get("task_id"))
        if not reply.ok or _code(reply) != _FINE or job is None:
            raise _refusal(reply, creating=True)
        return Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the job: its state, or the code by which it failed."""
        error, code = CODES.get(_code(reply) or 0, (None, ""))
        if error is Refused:
            return Update(state=State.FAILED, failure=Failure(code, line(fields(reply.document).get("message"))))
        said = word(_data(reply).get("status"))
        if not reply.ok or _code(reply) != _FINE or said is None:
            raise _refusal(reply, creating=False)
        if said.lower() == _NOT_FOUND:
            raise NotFound("not_found")
        return _read(_data(reply))

    def sign(self, call: Call, key: str, *, host: str, content: bytes, now: float) -> Call:
        """Return the call with Volcengine's signature, where the key is a pair ``ACCESS_KEY:SECRET_KEY``."""
        access, _, secret = key.partition(":")
        if not access or not secret:
            return self.authorize(call, key)
        return _signed(call, access, secret, host=host, content=content, now=now)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is known to be refused."""
        found = super().validate(task)
        if task.operation in _MODELS and task.input.get("duration", 5) not in _FRAMES:
            found.append(Mistake("input.duration", "Jimeng makes videos of 5 or 10 seconds."))
        return found


def _model(task: Task) -> str:
    both = task.operation == "image_to_video" and "last_image" in task.input
    return str(task.input.get("model", _BOTH_FRAMES if both else _MODELS[task.operation]))


def _body(task: Task) -> dict[str, Any]:
    given = task.input
    images = [given[name] for name in ("image", "last_image") if name in given]
    inline = [url.partition(",")[2] for url in images if url[:5].lower() == "data:"]
    linked = [url for url in images if url[:5].lower() != "data:"]
    return {
        "req_key": _model(task),
        "prompt": given.get("prompt"),
        "image_urls": linked or None,
        "binary_data_base64": inline or None,
        "seed": given.get("seed"),
        "aspect_ratio": given.get("aspect_ratio"),
        "frames": _FRAMES.get(given["duration"]) if "duration" in given else None,
    }


def _code(reply: Reply) -> int | None:
    stated = number(fields(reply.document).get("code"))
    return None if stated is None else int(stated)


def _data(reply: Reply) -> Mapping[str, Any]:
    return fields(fields(reply.document).get("data"))


def _refusal(reply: Reply, *, creating: bool) -> UpstreamError:
    code, said = _code(reply), fields(reply.document)
    if code is not None and code in CODES:
        error, name = CODES[code]
        if error is Uncertain and not creating:
            error = Unavailable
        return error(name, line(said.get("message")), retry_after=reply.retry_after)
    if code == _FINE and reply.ok:
        return (Uncertain if creating else Unavailable)("unreadable", "the answer holds no task")
    return newapi_errors.refusal_in(reply, creating=creating)


_OUTPUTS = ("video_url", "image_urls", "binary_data_base64")


def _read(data: Mapping[str, Any]) -> Update:
    """Read a job. One that is done has failed where every place of an output is there and blank."""
    said = (word(data.get("status")) or "").lower()
    state, failure = STATES.get(said), None
    results: tuple[Result, ...] = ()
    if state is State.SUCCEEDED:
        results = _results(data)
        if not results and all(name in data and data[name] in (None, "", []) for name in _OUTPUTS):
            state, failure = State.FAILED, Failure("provider_error", "the job is done and made nothing", retryable=True)
        elif not results:
            state = None
    elif state is State.FAILED:
        failure = Failure("provider_timeout", None, retryable="provider_timeout" in RETRYABLE)
    return Update(
        state=state, results=results, failure=failure, unknown_word=said if said and said not in STATES else None
    )


def _results(data: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the video, or the images, whose bytes count as a ``data:`` URL."""
    video = link(data.get("video_url"))
    if video is not None:
        return (Result("video", video),)
    inline = data.get("binary_data_base64")
    texts = [each for each in items(inline) if isinstance(each, str)] if isinstance(inline, list) else []
    urls = links(data.get("image_urls")) or links([f"data:image/png;base64,{each}" for each in texts])
    return tuple(Result("image", url) for url in urls)


def _signed(call: Call, access: str, secret: str, *, host: str, content: bytes, now: float) -> Call:
    """Return a call with Volcengine's signature, version 4: an HMAC over the request, by a key of the day."""
    at = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    parts, digest = urlsplit(call.path), hashlib.sha256(content).hexdigest()
    query = "&".join(sorted(parts.query.split("&"))) if parts.query else ""
    stated = {"content-type": "application/json", "host": host, "x-content-sha256": digest, "x-date": at}
    lines = "".join(f"{name}:{stated[name]}\n" for name in _SIGNED)
    request = "\n".join((call.method, quote(parts.path), query, lines, ";".join(_SIGNED), digest))
    scope = f"{at[:8]}/{_REGION}/{_SERVICE}/request"
    text = "\n".join(("HMAC-SHA256", at, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    signature = hmac.digest(key, text.encode(), hashlib.sha256).hex()
    credential = f"HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={';'.join(_SIGNED)}, Signature={signature}"
    headers = {
        "Content-Type": "application/json",
        "X-Date": at,
        "X-Content-Sha256": digest,
        "Authorization": credential,
    }
    return dataclasses.replace(call, headers={**call.headers, **headers})
