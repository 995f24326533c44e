"""Runway's recipes, routed generations and workflows (SDK 5.24): their inputs are sent as Runway has them."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.dialect import merge

ROUTES: Mapping[str, str] = {
    "recipe": "/v1/recipes/{recipe}",
    "routed": "/v1/generate/{kind}",
    "workflow": "/v1/workflows/{workflow}",
}
"""The creating route of each operation. A part of the path is a field of the input."""
INVOCATIONS = "/v1/workflow_invocations"
"""The route that shows a run of a workflow: its id is no task's."""
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)
_NAMED = {"recipe": "recipe", "routed": "kind", "workflow": "workflow"}


def path_of(task: Task) -> str:
    """Return the path of the submit."""
    name = _NAMED[task.operation]
    return ROUTES[task.operation].replace(f"{{{name}}}", quote(str(task.input[name]), safe=""))


def body_of(task: Task) -> dict[str, Any]:
    """Return the body of the submit: the input as it is given, within a router's or a workflow's own fields."""
    given = task.input
    if task.operation == "workflow":
        return merge({"nodeOutputs": given.get("node_outputs")}, task.options)
    if task.operation == "routed":
        return merge({"configId": given["router"], "input": given["input"]}, task.options)
    return merge(given["input"], task.options)


def mistakes_in(task: Task) -> list[Mistake]:
    """Return a mistake where a name cannot be a part of a path."""
    name = _NAMED[task.operation]
    wrong = _PART.fullmatch(str(task.input.get(name, ""))) is None
    return [Mistake(f"input.{name}", "must be a name of letters, digits, - and _")] if wrong else []
