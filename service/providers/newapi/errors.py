"""The status words and refusals that ElkAPI, CometAPI and every new-api gateway share."""

import dataclasses
import html
import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.task import State
from service.domain.text import one_line, shortened
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.newapi.lost_answers import is_lost
from service.providers.read import fields, items, line, word
from service.providers.wire import Reply

STATES: Mapping[str, State | None] = {
    "not_start": State.SUBMITTED,
    "submitted": State.SUBMITTED,
    "queued": State.SUBMITTED,
    "in_progress": State.RUNNING,
    "success": State.SUCCEEDED,
    "failure": State.FAILED,
    "unknown": None,  # the gateway's word for 'no idea': keep the state, poll on
}
"""The status words of new-api's own task record (its model/task.go), in lower case; case is not to be relied on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Complaint:
    """The content of an error envelope, in any of its spellings."""

    words: frozenset[str]
    """Its machine-readable codes, in lower case."""
    message: str | None
    number: int | None
    """The envelope's own code where that is a number."""


_NO_OBJECT = "(no object)"
_SAYS_NO = "(says no)"
_CODE = re.compile(r"[\w.\-]+", re.ASCII)
_NUMBERS = (
    *("code", "status_code", "statusCode", "error_code", "errorCode", "status"),
    *("http_code", "http_status", "httpCode", "httpStatus"),
)
_MESSAGES = ("message", "msg", "description", "detail", "error_message")
_MAX_MISTAKES = 20
_AGREES = re.compile(r"success|true|0|1|2\d\d", re.ASCII | re.IGNORECASE)
"""A code that says that the query went well. It says nothing about the task."""
_STATUS = re.compile(r"\d{3}", re.ASCII)


def complaint(document: Any) -> Complaint:
    """Return the content of an error envelope: nested, flat, or with a text as the error."""
    if not isinstance(document, dict):  # "404 page not found" begins with a JSON number
        return Complaint(frozenset({_NO_OBJECT}), None, None)
    inner = fields(document.get("error"))
    plain = line(document.get("error")) if not inner else None
    stated = [_text(holder.get(name)) for holder in (inner, document) for name in _MESSAGES]
    message = next((text for text in [*stated, plain] if text is not None), None)
    code = word(inner.get("code")) or word(document.get("code"))
    named = [code, plain, message, word(document.get("error_code")), word(document.get("error_type"))]
    words = {text.lower() for text in named if text is not None and _CODE.fullmatch(text)}
    if document.get("code") is False or (code is not None and not _AGREES.fullmatch(code)):
        words.add(_SAYS_NO)
    numbers = [word(holder.get(name)) for holder in (inner, document) for name in _NUMBERS]
    number = next((int(text) for text in numbers if text is not None and _STATUS.fullmatch(text)), None)
    return Complaint(frozenset(words), message, number)


def _text(value: Any) -> str | None:
    """Return a message: a text, or the first of a list of mistakes (FastAPI's ``detail``)."""
    if isinstance(value, list):
        return next((said for each in value[:_MAX_MISTAKES] if (said := line(fields(each).get("msg")))), None)
    return line(value)


Verdict = tuple[type[UpstreamError], str]
"""The class of error, which tells what may be done next, and the code that tells why."""

_BY_TEXT = ""
"""Stands for the code that the text means, by ``failure_texts``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table of refusals: its condition, and its meaning for a submit and for a poll."""

    submit: Verdict
    poll: Verdict
    statuses: Collection[int] | None = None
    """None: any HTTP status."""
    words: frozenset[str] = frozenset()
    """Code words. One of them, or of ``parts``, must be there."""
    parts: tuple[str, ...] = ()
    """Parts of the message, in lower case."""
    says: str | None = None
    """The code that the message must read as, by ``failure_texts``."""
    lost: bool = False
    """Whether the message or a code word must say that the gateway lost its provider's answer."""

    def holds(self, status: int, said: Complaint) -> bool:
        """Return whether this row holds."""
        if self.statuses is not None and status not in self.statuses:
            return False
        message = (said.message or "").lower()
        if (self.words or self.parts) and not (self.words & said.words or any(part in message for part in self.parts)):
            return False
        if self.lost and not is_lost(" ".join([*sorted(said.words), said.message or ""])):
            return False
        return self.says is None or failure_from_text(said.message).code == self.says


def _rule(
    submit: Verdict,
    poll: Verdict | None = None,
    *,
    statuses: Collection[int] | None = None,
    words: Collection[str] = (),
    parts: tuple[str, ...] = (),
    says: str | None = None,
    lost: bool = False,
) -> Rule:
    """Return a row; without a verdict of their own, polls read as submits do."""
    known = frozenset(words)
    return Rule(submit=submit, poll=poll or submit, statuses=statuses, words=known, parts=parts, says=says, lost=lost)


_BAD_ANSWER = frozenset(
    {
        "bad_response_status_code",
        "bad_response",
        "bad_response_body",
        "empty_response",
        "bad_gateway",
        "gateway_timeout",
        "gateway_time-out",
        "internal_server_error",
        "request_timeout",
        "upstream_timeout",
    }
)
"""Words of new-api, and the names of HTTP statuses."""
_OK = range(200, 300)
_CLIENT = range(400, 500)
_SERVER = range(500, 600)
_NO_CREDIT: Verdict = (AccountProblem, "insufficient_credit")
_INVALID: Verdict = (Refused, "invalid_input")
_POLICY: Verdict = (Refused, "content_policy")
_GONE: Verdict = (Refused, "not_found")
_MISSING: Verdict = (NotFound, "not_found")
_LIMITED: Verdict = (Unavailable, "rate_limited")
_OVERLOADED: Verdict = (Unavailable, "overloaded")
_BROKEN: Verdict = (Unavailable, "provider_error")
_TIMED_OUT: Verdict = (Unavailable, "provider_timeout")
_PERHAPS: Verdict = (Uncertain, "provider_error")

RULES: tuple[Rule, ...] = (
    # An unknown task is known by the word, at any status: new-api answers 400, CometAPI has documented 200.
    _rule(_GONE, _MISSING, words={"task_not_exist", "task_not_found"}, parts=("task_not_exist",)),
    _rule(_GONE, _MISSING, statuses=(*_OK, 400, 404), parts=("task not found", "could not find task", "任务不存在")),
    # A file of an unfinished task: query later.
    _rule(_INVALID, _BROKEN, statuses=(400,), parts=("is not completed yet",)),
    # The quota is reserved before anything goes upstream: nothing was created, at any status.
    _rule(
        _NO_CREDIT,
        words={
            "insufficient_user_quota",
            "quota_not_enough",
            "pre_consume_token_quota_failed",
            "insufficient_quota",
        },
    ),
    _rule((AccountProblem, "unauthorized"), statuses=(401,)),
    _rule((AccountProblem, "unauthorized"), statuses=(*_OK, 400), parts=("invalid token", "无效的令牌")),
    # The edge did not reach the gateway: nothing was created.
    _rule(_BROKEN, statuses=(521, 523, 525, 526, 530), words={_NO_OBJECT}),
    # Permanent for this upstream, and nothing was sent.
    _rule((AccountProblem, "provider_error"), _BROKEN, words={"convert_request_failed"}),
    _rule((AccountProblem, "provider_error"), _BROKEN, statuses=(500,), parts=("not implemented",)),
    _rule((AccountProblem, "provider_error"), _BROKEN, statuses=(501,)),
    _rule(
        _PERHAPS,
        _BROKEN,
        words={
            "do_request_failed",
            "read_response_body_failed",
            "unmarshal_response_body_failed",
            "insert_task_failed",
        },
    ),
    # The gateway quotes the vendor's success as an error: the vendor took the job.
    _rule(_PERHAPS, _BROKEN, statuses=_OK, words={"fail_to_fetch_task"}),
    # The gateway got no usable answer of the vendor, and says so with HTTP 200.
    _rule(_PERHAPS, _BROKEN, statuses=_OK, words=_BAD_ANSWER),
    # The account behind an earlier task is gone: a follow-up of it can never work.
    _rule((Refused, "provider_error"), _BROKEN, words={"task_channel_disable", "channel_not_found"}),
    _rule(_OVERLOADED, words={"get_channel_failed"}),
    _rule(_OVERLOADED, statuses=(*_OK, 500, 503), words={"model_not_found"}, parts=("无可用渠道",)),
    _rule(_INVALID, words={"callback_url_empty", "reference_images_empty"}),
    # CometAPI: a malformed request, documented with HTTP 500.
    _rule(_POLICY, _BROKEN, statuses=(500,), words={"invalid_request"}, says="content_policy"),
    _rule(_INVALID, _BROKEN, statuses=(500,), words={"invalid_request"}),
    _rule(_NO_CREDIT, statuses=(402,)),
    _rule(_NO_CREDIT, statuses=(403,), says="insufficient_credit"),
    _rule((AccountProblem, "forbidden"), statuses=(403,)),
    # A wrong path or host must not read as 'task unknown': it would end running tasks.
    _rule((AccountProblem, "not_found"), statuses=(404,), words={_NO_OBJECT}, parts=("invalid url",)),
    _rule(_GONE, _MISSING, statuses=(404, 410)),
    _rule(_OVERLOADED, statuses=(429,), says="overloaded"),
    _rule(_LIMITED, statuses=(429,)),
    # Without a JSON object it is a proxy's answer, and the request may have passed the proxy.
    _rule(_PERHAPS, _BROKEN, statuses=(503,), words={_NO_OBJECT}),
    _rule(_OVERLOADED, statuses=(503,)),
    _rule((Uncertain, "provider_timeout"), _TIMED_OUT, statuses=(408, 499, 504, 522, 524)),
    _rule(_PERHAPS, _BROKEN, statuses=(425, *range(500, 600))),
    # Gateways report what happened between them and the provider with any status, and with words of their own.
    _rule((Uncertain, "provider_timeout"), _TIMED_OUT, statuses=(*_OK, *_CLIENT), says="provider_timeout", lost=True),
    _rule(_PERHAPS, _BROKEN, statuses=(*_OK, *_CLIENT), lost=True),
    _rule((Uncertain, "provider_timeout"), _TIMED_OUT, statuses=_OK, words={_SAYS_NO}, says="provider_timeout"),
    # Runway, and engines behind a gateway: no money is HTTP 400 there.
    _rule(_NO_CREDIT, statuses=_CLIENT, says="insufficient_credit"),
    _rule(_POLICY, statuses=_CLIENT, says="content_policy"),
    _rule(_INVALID, statuses=_CLIENT),
    # HTTP 200 with a code that is no success.
    _rule(_OVERLOADED, statuses=_OK, words={_SAYS_NO}, says="overloaded"),
    _rule(_LIMITED, statuses=_OK, words={_SAYS_NO}, says="rate_limited"),
    _rule((Refused, _BY_TEXT), (Unavailable, _BY_TEXT), statuses=_OK, words={_SAYS_NO}),
)
"""The class of a refusal, by HTTP status, code word and text. The first matching row decides.

Sources: new-api's relay, CometAPI's and ElkAPI's error pages. A gateway's texts are often Chinese and differ per
version, so the status and the word decide, and the text only where they leave it open.
"""

_OTHERWISE = _rule((Uncertain, "unreadable"), (Unreadable, "unreadable"))
"""A redirect; or HTML, a cut-off body or JSON of another shape with a status that says well: a wrong path answers so."""

_MEANS_A_STATUS = frozenset({401, 402, 403, 404, 408, 410, 425, 429, 499, 500, 502, 503, 504, *range(520, 527)})
"""Numeric codes that mean in an envelope with HTTP 200 what they mean as a status."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHALLENGE = re.compile(r"<title>\s*(just a moment|attention required)|cf-chl|challenge-platform", re.IGNORECASE)
_PAGE = re.compile(r"<(!doctype|html|head|title|body)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_EXCERPT = 200
_SHORT = 80


def refusal_in(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without a task means.

    The class of the error decides what may be done next. Its message is the provider's own, as one line.

    :param creating: whether the reply answers a call that creates a job
    """
    if reply.status in _REDIRECTS:
        return _redirect(reply)
    said = complaint(reply.document)
    if _is_challenge(reply, said):
        return Unavailable(
            "provider_error", "the edge of the host asks for a challenge that only browsers pass", broken=True
        )
    status = said.number if reply.ok and said.number in _MEANS_A_STATUS and said.number is not None else reply.status
    rule = next((rule for rule in RULES if rule.holds(status, said)), _OTHERWISE)
    error, code = rule.submit if creating else rule.poll
    message = _without_html(said.message, status) if said.message else _excerpt(reply)
    if error is Unreadable:
        return Unreadable(message)
    code = code or _code_of(said)
    broken = status in _SERVER
    return error(code, message, retry_after=reply.retry_after, details=_issues(reply.document), broken=broken)


def unless_overloaded(error: UpstreamError, reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error of a 503 as uncertain, unless its text mentions the load: at some providers it proves no more."""
    if not creating or reply.status != HTTPStatus.SERVICE_UNAVAILABLE or not isinstance(error, Unavailable):
        return error
    texts = (error.message, *complaint(reply.document).words)
    speaks_of_load = any(failure_from_text(text).code in {"overloaded", "rate_limited"} for text in texts)
    return error if speaks_of_load else Uncertain("provider_error", error.message)


def _code_of(said: Complaint) -> str:
    """Return the code that the message means. Without one, return the machine-readable words beside it."""
    by_message = failure_from_text(said.message).code
    if by_message not in {"unknown", "provider_error"}:
        return by_message
    words = sorted(said.words - {_SAYS_NO, _NO_OBJECT})
    by_words = failure_from_text(" ".join(words)).code
    return by_words if by_words not in {"unknown", "provider_error"} else by_message


def _redirect(reply: Reply) -> UpstreamError:
    """Return the error for a redirect, which is not followed: the configured address is not the API's."""
    location = urlsplit(reply.header("location"))
    if location.scheme.lower() in {"http", "https"} and location.hostname:
        origin = shortened(one_line(f"{location.scheme.lower()}://{location.netloc.rpartition('@')[2]}"), _SHORT)
        return AccountProblem("not_found", f"base_url redirects to {origin}: set base_url to that")
    return AccountProblem("not_found", f"HTTP {reply.status}: base_url redirects to another path; check base_url")


def _is_challenge(reply: Reply, said: Complaint) -> bool:
    """Return whether the host's edge asks a browser to prove itself, in place of the gateway's answer."""
    if reply.header("cf-mitigated").lower() == "challenge":
        return True
    return not reply.ok and _NO_OBJECT in said.words and _CHALLENGE.search(reply.text[:20_000]) is not None


def _issues(document: Any) -> tuple[str, ...]:
    """Return each of Runway's ``issues``: the field and its fault (POST /v1/*, HTTP 400)."""
    found = [fields(issue) for issue in items(fields(document).get("issues"))[:20]]
    stated = [(issue.get("path"), line(issue.get("message"))) for issue in found]
    return tuple(
        f"{'.'.join(word(part) or '' for part in path)}: {message}" if isinstance(path, list) and path else message
        for path, message in stated
        if message is not None
    )


def _excerpt(reply: Reply) -> str | None:
    """Return the start of a body that is no error envelope, as one line; of a page only its title."""
    return _without_html(one_line(reply.text[: 4 * _EXCERPT]), reply.status) or None


def _without_html(text: str, status: int) -> str:
    """Return a text of at most 200 characters; of an HTML page its status and title."""
    if _PAGE.search(text) is None:
        return shortened(text, _EXCERPT)
    title = _TITLE.search(text)
    named = f": {shortened(one_line(html.unescape(title[1])), _SHORT)}" if title is not None else ""
    return f"HTTP {status}, an HTML page{named}"
