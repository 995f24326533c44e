"""A task as Replicate shows a prediction: in answers and in webhooks."""

from collections.abc import Mapping
from typing import Any, Final

from service.domain.events import rfc3339
from service.domain.task import Result, Source, State, Task
from service.flows.webhooks.formats.ids import short
from service.flows.webhooks.formats.rebuild import rebuilt
from service.flows.webhooks.formats.shapes import WAITING, reason_of

PREFIX: Final = "/replicate"
_STATUSES: Final[Mapping[State, str]] = {
    **dict.fromkeys(WAITING, "starting"),
    State.RUNNING: "processing",
    State.AWAITING_INPUT: "processing",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "canceled",
    State.EXPIRED: "failed",
}
_NO_INPUT: Final = frozenset({"model", "deployment", "input"})


def prediction_document(task: Task, base: str) -> dict[str, Any]:
    """Return a task as a prediction.

    :param base: the address of the door, which links begin with
    """
    status = _STATUSES[task.state]
    asked = task.cancel_requested_at is not None or task.outcome_source is Source.CLIENT
    if task.state is State.CANCELLED and not asked:
        status = "failed"  # a client that waits takes `canceled` for an end without a result, and raises nothing
    model, version = _model_of(task)
    given = {name: value for name, value in task.input.items() if name not in _NO_INPUT}
    inner = task.input.get("input")
    named = short(task.id)
    url = f"{base}/v1/predictions/{named}"
    document = {
        "id": named,
        "model": model,
        "version": version,
        "input": {**given, **(inner if isinstance(inner, dict) else {})},
        "output": _output(task) if task.state is State.SUCCEEDED else None,
        "error": reason_of(task) if status == "failed" else None,
        "logs": "",
        "metrics": _metrics(task),
        "status": status,
        "created_at": rfc3339(task.created_at),
        "started_at": rfc3339(task.submitted_at),
        "completed_at": rfc3339(task.finished_at),
        "data_removed": False,
        "source": "api",
    }
    return document | {"urls": {"get": url, "cancel": f"{url}/cancel", "stream": f"{url}/stream"}}


def _model_of(task: Task) -> tuple[str, str]:
    """Return the model and the version of a prediction; ``hidden``, as for Replicate's official models, where there is none."""
    named = str(task.input.get("deployment") or task.input.get("model") or task.family)
    model, _, version = named.partition(":")
    if "version" in task.options:
        return task.family, str(task.options["version"])
    return model, version or "hidden"


def _output(task: Task) -> Any:
    results = [each for each in task.results if each.role == "result"]
    return rebuilt(results, _value_of)


def _value_of(result: Result) -> str | None:
    return result.url if result.url is not None else result.text


def _metrics(task: Task) -> dict[str, float]:
    if task.finished_at is None or task.submitted_at is None:
        return {}
    return {"predict_time": max((task.finished_at - task.submitted_at).total_seconds(), 0.0)}


def message(task: Task, base: str) -> dict[str, Any]:
    """Return the body of a webhook: the prediction."""
    return prediction_document(task, f"{base}{PREFIX}")
