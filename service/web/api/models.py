"""What the API shows, as JSON Schema: the components of the OpenAPI document."""

from typing import Any

from service.domain.errors import CODES
from service.domain.task import Source, State
from service.domain.webhook_events import TYPES
from service.flows.render import MAX_BRIEF
from service.flows.submission.request import REQUEST
from service.web.api import webhook_models
from service.web.problems import TITLES


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _closed(title: str, properties: dict[str, Any], *, optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "title": title, "properties": properties, "required": required}


TEXT: dict[str, Any] = {"type": "string"}
TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
ANYTHING: dict[str, Any] = {"type": "object"}
STATE: dict[str, Any] = {"type": "string", "enum": [str(state) for state in State]}

RESULT = _closed(
    "Result",
    {
        "kind": {"type": "string", "enum": ["video", "image", "audio", "text", "model"]},
        "role": {"type": "string", "enum": ["result", "cover", "last_frame", "preview", "extra"]},
        "url": {**TEXT, "description": "At the provider, and temporary: copy it soon."},
        "text": TEXT,
        "item": {**TEXT, "description": "Which of several outputs it belongs to, such as a clip's id."},
    },
    optional=frozenset({"url", "text", "item"}),
)
ACTION = _closed("Action", {"id": TEXT, "label": TEXT})
FAILURE = _closed(
    "Failure",
    {
        "code": {"type": "string", "enum": sorted(CODES)},
        "message": {**_nullable(TEXT), "description": "The provider's own words: diagnostic, not for end users."},
        "retryable": {"type": "boolean", "description": "Whether the same input may succeed when submitted again."},
    },
)
TASK = _closed(
    "Task",
    {
        "id": {"type": "string", "format": "uuid"},
        "family": TEXT,
        "operation": TEXT,
        "state": STATE,
        "explanation": {**TEXT, "description": "In one sentence: where it stands, and why it is not finished yet."},
        "progress": {"type": ["integer", "null"], "minimum": 0, "maximum": 100},
        "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
        "next_actions": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Action"},
            "description": "What can be done next with a finished task; an `action` task takes one of their ids.",
        },
        "awaits": {
            "type": ["object", "null"],
            "properties": {"input": ANYTHING},
            "description": "In `awaiting_input`: the JSON Schema of what `POST /v1/tasks/{id}/input` takes.",
        },
        "failure": {"anyOf": [{"$ref": "#/components/schemas/Failure"}, {"type": "null"}]},
        "route": {"type": "array", "items": TEXT, "description": "The upstreams that may serve it, in order."},
        "skipped_upstreams": {
            "type": "object",
            "additionalProperties": TEXT,
            "description": "The upstreams that cannot say its input, with the reason.",
        },
        "on_uncertain": {
            "type": "string",
            "enum": ["hold", "fail", "resubmit_once"],
            "description": "What becomes of it when nobody can find out whether its job was bought.",
        },
        "upstream": {**_nullable(TEXT), "description": "The one that it was handed to last."},
        "dialect": _nullable(TEXT),
        "external_id": {**_nullable(TEXT), "description": "The provider's id of the job."},
        "cost": {**_nullable({"type": "number"}), "description": "In the provider's own unit (points, credits)."},
        "refunded": {
            "type": ["boolean", "null"],
            "description": "Whether the provider says that it has given the price back.",
        },
        "outcome_source": {"type": ["string", "null"], "enum": [*(str(source) for source in Source), None]},
        "queue_position": {
            "type": "integer",
            "minimum": 1,
            "description": "Of a task that stands in line, as an answer to `GET /v1/tasks/{id}`: 1 is next.",
        },
        "waits_for": {
            **_nullable(TEXT),
            "description": "What it stands in line for: a place at an upstream, or an upstream's recovery in one dialect.",
        },
        "input": ANYTHING,
        "options": ANYTHING,
        "labels": {"type": "object", "additionalProperties": TEXT},
        "parent_id": {"type": ["string", "null"], "format": "uuid", "description": "The task that it goes on from."},
        "callback_url": _nullable(TEXT),
        "callback_events": {
            "type": "array",
            "items": TEXT,
            "description": "Types of the messages that go to the `callback_url`; none: its end, and what comes late.",
        },
        "sequence": {"type": "integer", "description": "Number of its last event."},
        "created_at": TIME,
        "updated_at": TIME,
        "submitted_at": _nullable(TIME),
        "finished_at": _nullable(TIME),
        "deadline_at": TIME,
        "next_check_at": {**_nullable(TIME), "description": "When Dovecote looks after it next; null: never."},
        "truncated": {
            "type": "boolean",
            "description": f"In feeds, streams and webhooks: `true` when the task takes more than {MAX_BRIEF} bytes. Large fields are empty then.",
        },
        "url": {**TEXT, "description": "Of a truncated task: the address of the whole task."},
        "client": {**TEXT, "description": "Whose it is; shown to those who see the tasks of all (scope `admin`)."},
    },
    optional=frozenset({"queue_position", "truncated", "url", "client"}),
)
EVENT = _closed(
    "Event",
    {
        "sequence": {"type": "integer"},
        "type": TEXT,
        "source": {"type": "string", "enum": [str(source) for source in Source]},
        "at": TIME,
        "data": ANYTHING,
    },
)
FEED_EVENT = _closed(
    "FeedEvent",
    {
        "id": {**TEXT, "description": "Its place in the feed: a cursor."},
        "type": {"type": "string", "enum": list(TYPES)},
        "timestamp": TIME,
        "sequence": {"type": "integer", "description": "Number of the event in the task's own history."},
        "task_id": {"type": "string", "format": "uuid"},
        "data": {"$ref": "#/components/schemas/Task"},
    },
)
MISTAKE = _closed("Mistake", {"path": TEXT, "message": TEXT})
PROBLEM = _closed(
    "Problem",
    {
        "type": {"type": "string", "const": "about:blank"},
        "title": TEXT,
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(TITLES)},
        "detail": TEXT,
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Mistake"}},
        "task_id": {"type": "string", "format": "uuid"},
    },
    optional=frozenset({"errors", "task_id"}),
)
OPERATION = _closed(
    "Operation",
    {
        "name": TEXT,
        "title": TEXT,
        "aliases": {"type": "array", "items": TEXT},
        "produces": TEXT,
        "deadline_seconds": {"type": "number"},
        "parent": {
            "type": ["string", "null"],
            "enum": ["required", "optional", None],
            "description": "Whether `parent_id` is taken.",
        },
        "answer": {
            "type": ["object", "null"],
            "description": "JSON Schema of the input that it may ask for on the way.",
        },
        "upstreams": {"type": "array", "items": TEXT, "description": "Configured upstreams that serve it, in order."},
        "input": {**ANYTHING, "description": "JSON Schema of the task's input."},
    },
)
FAMILY = _closed(
    "Family",
    {"name": TEXT, "title": TEXT, "operations": {"type": "array", "items": {"$ref": "#/components/schemas/Operation"}}},
)
UPSTREAM = _closed(
    "Upstream",
    {
        "name": TEXT,
        "base_url": TEXT,
        "dialects": {"type": "array", "items": TEXT},
        "callbacks": {"type": "boolean", "description": "Whether callbacks can come from it now."},
        "callback_share": {
            "type": ["number", "null"],
            "description": "Share of its last ends that were learned by callback, where one was expected.",
        },
        "circuits": {
            "type": "array",
            "description": "The dialects in which it has failed lately; those that are not `closed` are passed over.",
            "items": _closed(
                "Circuit",
                {
                    "dialect": TEXT,
                    "state": {"type": "string", "enum": ["closed", "open", "half_open", "probing"]},
                    "failures": {"type": "integer", "description": "In the last minute."},
                    "opened_at": _nullable(TIME),
                    "open_until": _nullable(TIME),
                },
            ),
        },
        "open_tasks": {"type": "integer", "description": "Tasks that are being handed to it or that it works on."},
        "waiting": {"type": "integer", "description": "Tasks that stand in line for it."},
        "limits": _closed(
            "Limits",
            {
                "open_tasks": _nullable({"type": "integer"}),
                "submits_per_second": _nullable({"type": "number"}),
                "polls_per_second": _nullable({"type": "number"}),
            },
        ),
        "credit": {
            "anyOf": [
                _closed(
                    "Credit",
                    {
                        "left": {
                            **_nullable({"type": "number"}),
                            "description": "Null: there is no limit, or (with `error`) it was never told.",
                        },
                        "unit": _nullable(TEXT),
                        "low": {"type": "boolean", "description": "Whether it is below `low_credit`."},
                        "error": {**_nullable(TEXT), "description": "Why it could not be asked for the last time."},
                        "at": TIME,
                    },
                ),
                {"type": "null"},
            ],
            "description": "What is left on the account, where the provider tells it; null: not known.",
        },
    },
)

COMPONENTS: dict[str, Any] = {
    "Wish": {"title": "Wish", **REQUEST},
    "Task": TASK,
    "Result": RESULT,
    "Action": ACTION,
    "Failure": FAILURE,
    "Event": EVENT,
    "FeedEvent": FEED_EVENT,
    "Problem": PROBLEM,
    "Mistake": MISTAKE,
    "Family": FAMILY,
    "Operation": OPERATION,
    "Upstream": UPSTREAM,
    **webhook_models.COMPONENTS,
}


def ref(name: str) -> dict[str, str]:
    """Point to a component."""
    return {"$ref": f"#/components/schemas/{name}"}
