"""Replicate's API, for its SDKs: ``REPLICATE_BASE_URL=https://…/replicate``."""

from typing import Any, Final

from service.web.facades.door import Door
from service.web.facades.replicate import catalogue, files, predictions
from service.web.problems import Problem


def error_document(problem: Problem) -> dict[str, Any]:
    """Return an error as Replicate writes it."""
    document: dict[str, Any] = {
        "title": problem.code.replace("_", " ").capitalize(),
        "detail": problem.detail,
        "status": problem.status,
        "type": "about:blank",
    }
    if problem.mistakes:
        document["invalid_fields"] = [
            {"type": "invalid", "field": each.path, "description": each.message} for each in problem.mistakes
        ]
    return document


DOOR: Final = Door(
    name="replicate",
    prefixes=("/replicate", ""),
    routes=(*predictions.ROUTES, *files.ROUTES, *catalogue.ROUTES),
    write_error=error_document,
    invalid_status=422,
)
