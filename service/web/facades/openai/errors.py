"""The errors of OpenAI's API."""

from collections.abc import Mapping
from typing import Any, Final

from service.web.problems import Problem

_INVALID: Final = "invalid_request_error"
_SERVER: Final = 500
_CODES: Final[Mapping[str, tuple[str, str]]] = {
    "content_policy": ("image_generation_user_error", "moderation_blocked"),
    "insufficient_credit": ("insufficient_quota", "insufficient_quota"),
    "budget_exceeded": ("insufficient_quota", "insufficient_quota"),
    "unknown_key": (_INVALID, "invalid_api_key"),
    "unauthorized": (_INVALID, "invalid_api_key"),
    "expired_key": (_INVALID, "invalid_api_key"),
    "revoked_key": (_INVALID, "invalid_api_key"),
    "rate_limited": ("requests", "rate_limit_exceeded"),
}
"""OpenAI's type and code by ours."""


def error_of(code: str, message: str, status: int = 400, param: str | None = None) -> dict[str, Any]:
    """Return the inner object of an error."""
    kind, theirs = _CODES.get(code, (_INVALID if status < _SERVER else "server_error", code))
    return {"message": message, "type": kind, "param": param, "code": theirs}


def error_document(problem: Problem) -> dict[str, Any]:
    """Return an error as OpenAI writes it."""
    param = problem.mistakes[0].path if problem.mistakes else None
    return {"error": error_of(problem.code, problem.detail, problem.status, param)}
