"""The OpenAPI document, made of the same values as the routes."""

from typing import Any

from service import __version__
from service.domain.webhook_events import TYPES
from service.flows.webhooks.dispatch import ATTEMPT_TIMEOUT
from service.web.api import ENDPOINTS
from service.web.api.models import COMPONENTS, TIME, ref
from service.web.api.route import Answers, Endpoint
from service.web.problems import MEDIA_TYPE

_PROBLEMS = {
    400: "The body is not JSON.",
    401: "No valid API key.",
    403: "The key lacks the scope that this needs; `detail` names it.",
    404: "There is no such thing, or it belongs to another client.",
    408: "The body came too slowly.",
    409: "It is in no state for this.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    421: "Without API keys only loopback names are served.",
    422: "The request has mistakes: `errors` has all of them.",
    429: "The key has used up what `RateLimit-Policy` allows: see `Retry-After`.",
    503: "It would work later: see `Retry-After`.",
}
_ALWAYS = (401, 403, 421, 429, 503)
_WITH_A_BODY = (408,)
_LATER = frozenset({429, 503})


def document() -> dict[str, Any]:
    """Make the OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dovecote",
            "version": __version__,
            "summary": "Media generation tasks that always come home.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [
            {"name": "Tasks", "description": "Submit media jobs and follow them."},
            {"name": "Feed", "description": "Follow what happens to all tasks, or to one, as it happens."},
            {"name": "Endpoints", "description": "Where you want to be told, besides the `callback_url` of each task."},
            {"name": "Messages", "description": "What you were told, how it was delivered, and how to have it again."},
            {"name": "Catalogue", "description": "What can be asked for, and who serves it."},
        ],
        "paths": paths,
        "webhooks": {"taskChanged": {"post": _WEBHOOK}},
        "components": {
            "schemas": COMPONENTS,
            "responses": {str(status): _problem(status, text) for status, text in _PROBLEMS.items()},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": (
                        "A key of `DOVECOTE_API_KEYS` or of `dovecote keys create`. Each operation says which scope it "
                        "needs: `read`, `submit`, or `admin`, which implies both and sees the rows of every client. "
                        "Not asked for on a loopback Dovecote without keys."
                    ),
                }
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "security": [{"key": [str(endpoint.scope)]}],
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.description,
                "schema": {"type": "array", "items": parameter.schema} if parameter.many else parameter.schema,
            }
            for parameter in endpoint.parameters
        ],
        "responses": {
            **{str(status): _answer(answer) for status, answer in endpoint.answers.items()},
            **{
                str(status): {"$ref": f"#/components/responses/{status}"}
                for status in sorted({*endpoint.problems, *_ALWAYS, *(() if endpoint.body is None else _WITH_A_BODY)})
            },
        },
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    return operation


def _answer(answer: Answers) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": answer.description}
    if answer.schema is not None:
        shown["content"] = {answer.media_type: {"schema": answer.schema}}
    if answer.headers:
        shown["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    return shown


def _problem(status: int, description: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": description, "content": {MEDIA_TYPE: {"schema": ref("Problem")}}}
    if status in _LATER:
        answer["headers"] = {
            "Retry-After": {"description": "Seconds until it may work.", "schema": {"type": "integer", "minimum": 1}}
        }
    return answer


_WEBHOOK: dict[str, Any] = {
    "operationId": "taskChanged",
    "summary": "A task has changed",
    "description": (
        "Posted to the task's `callback_url` and to your endpoints, signed as Standard Webhooks say (`webhook-id`, `webhook-timestamp`, "
        f"`webhook-signature`), until it is answered 2xx within {ATTEMPT_TIMEOUT:.0f} s or the schedule is used up. The id "
        "is the same for every attempt: at-least-once, so ignore what you know already."
    ),
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["type", "timestamp", "sequence", "data"],
                    "properties": {
                        "type": {"type": "string", "enum": list(TYPES)},
                        "timestamp": TIME,
                        "sequence": {"type": "integer", "description": "Of the task: the higher one is the newer one."},
                        "data": ref("Task"),
                    },
                }
            }
        },
    },
    "responses": {"2XX": {"description": "Taken. Anything else: Dovecote comes again."}},
}
