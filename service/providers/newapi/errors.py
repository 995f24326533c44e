"""Refusals and status words that ElkAPI, CometAPI and every new-api gateway share for all families."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.task import Failure, State
from service.providers.read import fields, word
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

FAILURE_TEXTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("content_policy", ("policy", "moderation", "safety", "sensitive", "risk control", "blocked", "rejected")),
    ("content_policy", ("banned prompt", "image denied", "敏感", "违规", "审核")),
    ("invalid_input", ("invalid", "参数")),
    ("cancelled", ("取消", "cancel")),
    ("provider_timeout", ("timeout", "time out", "timed out", "超时")),
    ("insufficient_credit", ("quota", "balance", "credit", "余额", "额度")),
    ("rate_limited", ("rate limit", "too many requests", "并发", "频率")),
    ("overloaded", ("capacity", "busy", "overload", "queue full", "饱和", "负载", "队列已满")),
)
"""Gateways report failures as free text. The first row that has a part of the text names the code; case is ignored."""

RETRYABLE = frozenset({"provider_error", "provider_timeout", "rate_limited", "overloaded"})
"""The failure codes after which the same input may succeed."""


def failure_from_text(text: str | None) -> Failure:
    """Return the failure code that a free text reports; no text at all is ``unknown``."""
    if not text:
        return Failure("unknown")
    lower = text.lower()
    code = next((code for code, parts in FAILURE_TEXTS if any(part in lower for part in parts)), "provider_error")
    return Failure(code, text, retryable=code in RETRYABLE)


@dataclasses.dataclass(frozen=True, slots=True)
class Complaint:
    """What an error envelope says, whichever of its spellings was used."""

    words: frozenset[str]
    """Everything in it that reads as a machine's code, in lower case."""
    message: str | None
    number: int | None
    """The envelope's own code where that is a number."""


_NO_OBJECT = "(no object)"
_SAYS_NO = "(says no)"
_CODE = re.compile(r"[\w.\-]+", re.ASCII)
_MESSAGES = ("message", "msg", "description", "detail", "error_message")
_AGREES = re.compile(r"success|true|0|1|2\d\d", re.ASCII | re.IGNORECASE)
"""Such a code speaks of the query, which went well, and not of the task."""
_STATUS = re.compile(r"\d{3}", re.ASCII)


def complaint(document: Any) -> Complaint:
    """Read an error envelope: nested, flat, with a text for an error, or none at all."""
    if not isinstance(document, dict):  # "404 page not found" begins with a JSON number
        return Complaint(frozenset({_NO_OBJECT}), None, None)
    inner = fields(document.get("error"))
    plain = word(document.get("error"))
    stated = [word(holder.get(name)) for holder in (inner, document) for name in _MESSAGES]
    message = next((text for text in [*stated, plain] if text is not None), None)
    code = word(inner.get("code")) or word(document.get("code"))
    named = [code, plain, message, word(document.get("error_code")), word(document.get("error_type"))]
    words = {text.lower() for text in named if text is not None and _CODE.fullmatch(text)}
    if document.get("code") is False or (code is not None and not _AGREES.fullmatch(code)):
        words.add(_SAYS_NO)
    number = int(code) if code and _STATUS.fullmatch(code) else None
    return Complaint(frozenset(words), message, number)


Verdict = tuple[type[UpstreamError], str]
"""What may be done next, and the code that says why."""

_BY_TEXT = ""
"""A code that stands for 'whatever the text says', by :data:`FAILURE_TEXTS`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table of refusals: when it holds, and what it means to a submit and to a poll."""

    submit: Verdict
    poll: Verdict
    statuses: Collection[int] | None = None
    """None: whatever the HTTP status."""
    words: frozenset[str] = frozenset()
    """Code words of which one must be there, or else one of ``parts``."""
    parts: tuple[str, ...] = ()
    """Parts of the message, in lower case."""
    says: str | None = None
    """The code that the message must read as, by :data:`FAILURE_TEXTS`."""

    def holds(self, status: int, said: Complaint) -> bool:
        """Return whether this row matches."""
        if self.statuses is not None and status not in self.statuses:
            return False
        message = (said.message or "").lower()
        if (self.words or self.parts) and not (self.words & said.words or any(part in message for part in self.parts)):
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
) -> Rule:
    """Write a row; without a column of their own, polls read as submits do."""
    return Rule(submit=submit, poll=poll or submit, statuses=statuses, words=frozenset(words), parts=parts, says=says)


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
    # The quota is reserved before anything goes upstream: nothing was created, whatever the status.
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
    # A wrong path or host must not read as 'task unknown': it would end tasks that are well.
    _rule((AccountProblem, "not_found"), statuses=(404,), words={_NO_OBJECT}, parts=("invalid url",)),
    _rule(_GONE, _MISSING, statuses=(404,)),
    _rule(_OVERLOADED, statuses=(429,), says="overloaded"),
    _rule(_LIMITED, statuses=(429,)),
    # Without a reason of the provider's own it is a proxy's, and says nothing about what had been passed on before.
    _rule(_PERHAPS, _BROKEN, statuses=(503,), words={_NO_OBJECT}),
    _rule(_OVERLOADED, statuses=(503,)),
    _rule((Uncertain, "provider_timeout"), _TIMED_OUT, statuses=(408, 499, 504, 522, 524)),
    _rule(_PERHAPS, _BROKEN, statuses=(425, *range(500, 600))),
    # Runway, and engines behind a gateway: no money is HTTP 400 there.
    _rule(_NO_CREDIT, statuses=_CLIENT, says="insufficient_credit"),
    _rule(_POLICY, statuses=_CLIENT, says="content_policy"),
    _rule(_INVALID, statuses=_CLIENT),
    # HTTP 200 that says no in so many words.
    _rule((Refused, _BY_TEXT), (Unavailable, _BY_TEXT), statuses=_OK, words={_SAYS_NO}),
)
"""What may be done next, by HTTP status, code word and text. The first row that holds decides.

Sources: new-api's relay, CometAPI's and ElkAPI's error pages. A gateway's texts are often Chinese and differ per
version, so the status and the word decide, and the text only where they leave it open.
"""

_OTHERWISE = _rule((Uncertain, "unreadable"), (Unreadable, "unreadable"))
"""A redirect; or HTML, a cut-off body or JSON of another shape with a status that says well: a wrong path answers so."""

_KEEPS_ITS_CLASS = frozenset({401, 402, 403, 404, 429, 503})
"""Numeric codes that mean in an envelope with HTTP 200 what they mean as a status."""

_EXCERPT = 200


def refusal_in(reply: Reply, *, creating: bool) -> UpstreamError:
    """Read what a reply without a task in it means, as the error to raise.

    Its class says what may be done next, its message is the provider's own.

    :param creating: whether the reply answers a call that creates a job
    """
    said = complaint(reply.document)
    status = reply.status
    if status in _OK and said.number in _KEEPS_ITS_CLASS:
        status = said.number
    rule = next((rule for rule in RULES if rule.holds(status, said)), _OTHERWISE)
    error, code = rule.submit if creating else rule.poll
    message = said.message or _excerpt(reply)
    if error is Unreadable:
        return Unreadable(message)
    code = code or failure_from_text(said.message).code
    broken = status in _SERVER
    return error(code, message, retry_after=reply.retry_after, details=_issues(reply.document), broken=broken)


def _issues(document: Any) -> tuple[str, ...]:
    """Return each of Runway's ``issues``: the field, and its problem (POST /v1/*, HTTP 400)."""
    listed = fields(document).get("issues")
    found = [fields(issue) for issue in (listed if isinstance(listed, list) else [])[:20]]
    said = [(issue.get("path"), word(issue.get("message"))) for issue in found]
    return tuple(
        f"{'.'.join(word(part) or '' for part in path)}: {message}" if isinstance(path, list) and path else message
        for path, message in said
        if message is not None
    )


def _excerpt(reply: Reply) -> str | None:
    """Show the start of a body that is no error envelope."""
    text = word(reply.body[: 4 * _EXCERPT].decode("utf-8", "replace"))
    return None if text is None else text[:_EXCERPT]
