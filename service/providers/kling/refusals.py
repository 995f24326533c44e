"""Kling's error codes, which gateways pass on with other HTTP statuses: the code counts first."""

from collections.abc import Mapping

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.providers.newapi import errors as newapi_errors
from service.providers.read import fields, line, number
from service.providers.wire import Reply

Verdict = tuple[type[UpstreamError], str]
_UNAUTHORIZED: Verdict = (AccountProblem, "unauthorized")
_FORBIDDEN: Verdict = (AccountProblem, "forbidden")
_NO_CREDIT: Verdict = (AccountProblem, "insufficient_credit")
_INVALID: Verdict = (Refused, "invalid_input")
_POLICY: Verdict = (Refused, "content_policy")
_LIMITED: Verdict = (Unavailable, "rate_limited")
CODES: Mapping[int, Verdict] = {
    **dict.fromkeys(range(1000, 1005), _UNAUTHORIZED),
    1100: _FORBIDDEN,
    1101: _NO_CREDIT,  # HTTP 429, and yet no reason to try again
    1102: _NO_CREDIT,
    1103: _FORBIDDEN,
    **dict.fromkeys(range(1200, 1204), _INVALID),
    1300: _POLICY,
    1301: _POLICY,
    1302: _LIMITED,
    1303: _LIMITED,
    1304: _FORBIDDEN,  # the address is not on the allow list; HTTP 429, too
    5000: (Uncertain, "provider_error"),
    5001: (Unavailable, "overloaded"),
    5002: (Uncertain, "provider_timeout"),
}
"""The class of a submit's error code (Kling's page on error codes)."""
_ON_POLL: Mapping[int, Verdict] = {
    **dict.fromkeys((1202, 1203), (NotFound, "not_found")),
    5000: (Unavailable, "provider_error"),
    5002: (Unavailable, "provider_timeout"),
}
"""The codes that mean something else for a query."""
UNKNOWN_RESOURCE = 1203
_NOT_FOUND = 404


def code_in(reply: Reply) -> int | None:
    """Return Kling's own code of an error; None where there is none."""
    stated = number(fields(reply.document).get("code"))
    return int(stated) if stated is not None and int(stated) in CODES else None


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without a task means: by its code, or as at any gateway.

    :param creating: whether the reply answers a call that creates a job
    """
    code, said = code_in(reply), fields(reply.document)
    if code is not None:
        error, name = CODES[code] if creating else _ON_POLL.get(code, CODES[code])
        broken = error in {Uncertain, Unavailable} and name != "rate_limited"
        return error(name, line(said.get("message")), retry_after=reply.retry_after, broken=broken)
    if creating and reply.status == _NOT_FOUND and said and not fields(said.get("error")):
        return AccountProblem("not_found", line(said.get("message")))  # the gateway does not serve this route
    return newapi_errors.refusal_in(reply, creating=creating)
