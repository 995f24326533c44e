"""A task as fal shows a request: its result, its error, and its webhook."""

from collections.abc import Mapping
from typing import Any, Final

from service.domain.task import Result, State, Task
from service.flows.webhooks.formats.rebuild import rebuilt
from service.flows.webhooks.formats.shapes import code_of, reason_of

_FIELDS: Final[Mapping[str, tuple[str, bool]]] = {
    "image": ("images", True),
    "video": ("video", False),
    "audio": ("audio", False),
    "model": ("model_mesh", False),
}
"""The field of an output without a place by its kind, and whether it holds a list."""
_TYPES: Final[Mapping[str, str]] = {
    "content_policy": "content_policy_violation",
    "invalid_input": "value_error",
    "provider_timeout": "generation_timeout",
    "overloaded": "downstream_service_unavailable",
    "cancelled": "client_cancelled",
}
"""fal's type of an error by our code."""


def result_document(task: Task) -> Any:
    """Return the output of a task as the model gives it."""
    if all(each.item is None for each in task.results):
        return _by_kind([each for each in task.results if each.role == "result"])
    placed = [each for each in task.results if each.item is not None]
    return rebuilt(placed, _value_of)


def _value_of(result: Result) -> Any:
    return {"url": result.url} if result.url is not None else result.text


def _by_kind(results: list[Result]) -> Any:
    if len(results) == 1 and results[0].kind == "json":
        return rebuilt(results, _value_of)
    document: dict[str, Any] = {}
    for each in results:
        name, several = _FIELDS.get(each.kind, ("output", False))
        if several:
            document.setdefault(name, []).append(_value_of(each))
        else:
            document.setdefault(name, _value_of(each))
    return document


def error_type(task: Task) -> str:
    """Return fal's type of the error of a task."""
    return _TYPES.get(code_of(task), "internal_server_error")


def error_document(task: Task) -> dict[str, Any]:
    """Return the error of a task as its result has it."""
    return {"detail": [{"loc": ["body"], "msg": reason_of(task), "type": error_type(task)}]}


def message(task: Task, base: str) -> dict[str, Any]:
    """Return the body of a webhook: the result, or the error."""
    del base
    about = {"request_id": str(task.id), "gateway_request_id": str(task.id)}
    if task.state is State.SUCCEEDED:
        return {**about, "status": "OK", "payload": result_document(task)}
    return {**about, "status": "ERROR", "error": reason_of(task), "payload": error_document(task)}
