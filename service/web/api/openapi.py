"""The OpenAPI document, built from the same values as the routes."""

from typing import Any

from service import __version__
from service.domain.operator_events import OPERATOR_TYPES
from service.domain.webhook_events import TYPES
from service.flows.webhooks.dispatch import ATTEMPT_TIMEOUT
from service.web.api import ENDPOINTS
from service.web.api.models import all_components, ref
from service.web.api.route import Endpoint, ResponseSpec
from service.web.problems import MEDIA_TYPE

_PROBLEMS = {
    400: "The request is not valid HTTP, or the body is not JSON.",
    401: "The API key is missing, unknown, expired or revoked; `code` says which.",
    402: "A budget has no room for it; `left`, `held` and `renews_at` say more. Nothing was bought.",
    403: "The key lacks the required scope; `detail` names it.",
    404: "It does not exist, or it belongs to another client.",
    408: "The body arrived too slowly.",
    409: "Its state does not allow this.",
    410: "The events after the cursor were removed.",
    413: "The body is too large.",
    415: "The body is not declared as JSON, or it is compressed.",
    416: "The file has no such part; `Content-Range` states its size.",
    421: "Without API keys only direct requests to a loopback name are served.",
    422: "The request has errors; `errors` lists them.",
    429: "The key has used its rate limit (`RateLimit-Policy`); see `Retry-After`.",
    503: "Temporarily unavailable; see `Retry-After`.",
    507: "The storage of files is full.",
}
_ALWAYS = (401, 403, 421, 429, 503)
_WITH_BODY = (408,)
_RETRYABLE = frozenset({429, 503})


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dovecote",
            "version": __version__,
            "summary": "Submit media generation tasks, follow them, and receive their results by webhook.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".", "description": "This server"}],  # relative: it keeps the path prefix of a proxy
        "security": [{"key": []}],
        "tags": [
            {"name": "Tasks", "description": "Submit media generation tasks and follow them."},
            {"name": "Uploads", "description": "Upload files that tasks take as their media."},
            {"name": "Money", "description": "Quote tasks before they are bought."},
            {"name": "Feed", "description": "Follow the events of all tasks, or of one."},
            {
                "name": "Endpoints",
                "description": "Webhook endpoints for the events of all tasks, besides the `callback_url` of each task.",
            },
            {"name": "Messages", "description": "Webhook messages and their deliveries. Messages can be replayed."},
            {"name": "Callbacks", "description": "The stored callbacks of providers. They can be processed again."},
            {"name": "Catalogue", "description": "Families with their operations, and the upstreams that serve them."},
        ],
        "paths": paths,
        "webhooks": {"taskChanged": {"post": _WEBHOOK}, "operatorEvent": {"post": _OPERATOR_WEBHOOK}},
        "components": {
            "schemas": all_components(),
            "responses": {str(status): _problem(status, text) for status, text in _PROBLEMS.items()},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": (
                        "A key from `DOVECOTE_API_KEYS` or from `dovecote keys create`. Each operation needs a scope: "
                        "`read`, `submit`, or `admin`, which implies both and covers every client. A Dovecote on loopback "
                        "without any key needs no authentication."
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
            **{str(status): _response(spec) for status, spec in endpoint.responses.items()},
            **{
                str(status): {"$ref": f"#/components/responses/{status}"}
                for status in sorted({*endpoint.problems, *_ALWAYS, *(() if endpoint.body is None else _WITH_BODY)})
            },
        },
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if endpoint.body is not None:
        example = {} if endpoint.example is None else {"example": endpoint.example}
        content = {endpoint.body_type: {"schema": endpoint.body, **example}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _response(spec: ResponseSpec) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": spec.description}
    if spec.schema is not None:
        others = {kind: {"schema": schema} for kind, schema in spec.also.items()}
        shown["content"] = {spec.media_type: {"schema": spec.schema}, **others}
    if spec.headers:
        shown["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in spec.headers.items()
        }
    return shown


def _problem(status: int, description: str) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description, "content": {MEDIA_TYPE: {"schema": ref("Problem")}}}
    if status in _RETRYABLE:
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before the request is repeated.",
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return response


_WEBHOOK: dict[str, Any] = {
    "operationId": "taskChanged",
    "summary": "A task has changed",
    "description": (
        "Posted to the task's `callback_url` and to your endpoints, with a signature as Standard Webhooks defines it "
        f"(`webhook-id`, `webhook-timestamp`, `webhook-signature`). An answer 2xx within {ATTEMPT_TIMEOUT:.0f} s ends the "
        "delivery; else it is retried until the schedule ends. Delivery is at least once: every attempt has the same id, so "
        "ignore an id that you know."
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
                        "timestamp": {"type": "string", "format": "date-time"},
                        "sequence": {
                            "type": "integer",
                            "description": "Sequence number of the task's event: a higher number is newer.",
                        },
                        "data": ref("Task"),
                    },
                }
            }
        },
    },
    "responses": {"2XX": {"description": "Delivered. Any other status is retried."}},
}

_OPERATOR_WEBHOOK: dict[str, Any] = {
    "operationId": "operatorEvent",
    "summary": "Something has happened to the installation",
    "description": "Posted to endpoints with the scope `admin`, signed and retried as messages about tasks are.",
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["type", "timestamp", "sequence", "data"],
                    "properties": {
                        "type": {"type": "string", "enum": list(OPERATOR_TYPES)},
                        "timestamp": {"type": "string", "format": "date-time"},
                        "sequence": {"type": "integer", "const": 0},
                        "data": {"type": "object", "description": "Fields by type; see the documentation."},
                    },
                }
            }
        },
    },
    "responses": {"2XX": {"description": "Delivered. Any other status is retried."}},
}
