"""Reading of Tencent's ``Response``, behind its own host and behind gateways. Errors come with HTTP 200."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure, Result, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import fields, identifier, items, kind_of, line, link, number, word
from service.providers.wire import Reply

STATES: Mapping[str, State] = {
    "wait": State.SUBMITTED,
    "run": State.RUNNING,
    "done": State.SUCCEEDED,
    "fail": State.FAILED,
}
RULES: tuple[tuple[tuple[str, ...], type[UpstreamError], str], ...] = (
    (("moderation", "sensitive", "illegal"), Refused, "content_policy"),
    (("jobnotexist", "resourcenotfound"), NotFound, "not_found"),
    (
        (
            "invalidparameter",
            "missingparameter",
            "unknownparameter",
            "unsupportedoperation",
            "invalidrequest",
            "requestsizelimit",
        ),
        Refused,
        "invalid_input",
    ),
    (("authfailure",), AccountProblem, "unauthorized"),
    (("resourceinsufficient", "inarrears", "lowbalance", "charge"), AccountProblem, "insufficient_credit"),
    (
        ("unauthorizedoperation", "resourceunavailable", "invalidaction", "ipinblacklist", "ipnotinwhitelist"),
        AccountProblem,
        "forbidden",
    ),
    (
        ("actionoffline", "nosuchversion", "nosuchproduct", "unsupportedregion", "unsupportedprotocol"),
        AccountProblem,
        "provider_error",
    ),
    (("limitexceeded", "jobnumexceed"), Unavailable, "rate_limited"),
    (("serviceunavailable", "resourceinuse", "resourcessoldout"), Unavailable, "overloaded"),
)
"""Parts of an error's code, and their meaning for a submit; the first that fits counts."""


def response_of(reply: Reply) -> Mapping[str, Any]:
    """Return the ``Response`` of an answer; an empty one where there is none."""
    return fields(fields(reply.document).get("Response"))


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error of an answer."""
    error = fields(response_of(reply).get("Error"))
    code, text = word(error.get("Code")), line(error.get("Message"))
    if code is None:
        return newapi_errors.refusal_in(reply, creating=creating)
    found = next(((kind, ours) for parts, kind, ours in RULES if any(part in code.lower() for part in parts)), None)
    if found is None:
        return (Uncertain if creating else Unavailable)("provider_error", text or code)
    kind, ours = found
    return (Unavailable if kind is Refused and not creating else kind)(ours, text or code)


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit: the id of the job."""
    job = identifier(response_of(reply).get("JobId"))
    if not reply.ok or job is None or "Error" in response_of(reply):
        raise refusal_of(reply, creating=True)
    return Update(state=State.SUBMITTED, external_id=job)


def read_status(reply: Reply) -> Update:
    """Read the job. The answer does not name it."""
    said = response_of(reply)
    status = word(said.get("Status"))
    if not reply.ok or status is None or "Error" in said:
        raise refusal_of(reply, creating=reply.endpoint.startswith("Submit"))
    state = STATES.get(status.lower())
    results = _results(said)
    if state is State.SUCCEEDED and not results:
        state = None  # a success without a file settles nothing
    return Update(
        state=state,
        results=results if state is State.SUCCEEDED else (),
        failure=_failure(said) if state is State.FAILED else None,
        cost=number(said.get("ResultCreditConsumed")),
        unknown_word=None if status.lower() in STATES else status.lower(),
    )


def _results(said: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return every file, and then the previews as covers. An OBJ is a .zip with its textures.

    The API before AI3D groups the files as ``File3D``. The parts of a model come with a description of them.
    """
    groups = [fields(each) for each in items(said.get("ResultFile3Ds"))]
    files = [fields(each) for group in groups for each in items(group.get("File3D") or group)]
    main = [Result(kind_of(url, "model"), url) for each in files if (url := link(each.get("Url"), relative=False))]
    shown = dict.fromkeys(url for each in files if (url := link(each.get("PreviewImageUrl"), relative=False)))
    parts = link(said.get("PartSegmentationInfoUrl"), relative=False)
    described = () if parts is None else (Result("json", parts, role="extra"),)
    return (*main, *(Result("image", url, role="cover") for url in shown), *described) if main else ()


def _failure(said: Mapping[str, Any]) -> Failure:
    """Return why a job failed: by its code, then by its message."""
    code, text = word(said.get("ErrorCode")), line(said.get("ErrorMessage"))
    by_code = next((ours for parts, _, ours in RULES[:3] if any(part in (code or "").lower() for part in parts)), None)
    read = failure_from_text(text or code)
    return Failure(by_code, text or code) if by_code is not None and by_code != "not_found" else read
