"""The responses about webhook endpoints and messages as types."""

from typing import Annotated, Any, Final, Literal

from typing_extensions import TypedDict

from service.domain.operator_events import OPERATOR_TYPES
from service.domain.webhook_events import TEST, TYPES
from service.flows.webhooks import endpoints, replay, secrets
from service.flows.webhooks.formats import FORMATS
from service.web.api.schema import Id, Time, about, one_of

MESSAGE_TYPES: Final = (*TYPES, TEST, *OPERATOR_TYPES)
MESSAGE_TYPE: Final[dict[str, Any]] = {"type": "string", "enum": list(MESSAGE_TYPES)}
MESSAGE_STATE: Final[dict[str, Any]] = {"type": "string", "enum": ["pending", "delivered", "exhausted", "discarded"]}


class Endpoint(TypedDict):
    """A registered webhook endpoint."""

    id: Id
    url: str
    description: str
    events: Annotated[list[str], about("Event types that it receives. Empty: all of its scope but `task.progress`.")]
    format: Annotated[str, one_of(["standard", "cloudevents"])]
    scope: Annotated[
        str, one_of(["client", "admin"], "`client`: messages about the client's tasks. `admin`: messages to operators.")
    ]
    callback_format: Annotated[
        str, one_of(list(FORMATS), "The form of the messages about tasks: Dovecote's own, or that of another API.")
    ]
    enabled: bool
    disabled_at: Time | None
    disabled_reason: Annotated[
        str | None,
        one_of(
            ["client", "gone", "failing", None],
            "`client`: by `PATCH`. `gone`: the endpoint answered 410. `failing`: every delivery failed for 120 hours.",
        ),
    ]
    failing_since: Annotated[Time | None, about("The first failed delivery since the last successful one.")]
    previous_secret_until: Annotated[
        Time | None, about("Until this time the secret from before the last rotation signs as well.")
    ]
    created_at: Time
    updated_at: Time


class EndpointWithSecret(Endpoint):
    """A registered webhook endpoint with its signing secret."""

    secret: Annotated[str, about("Verifies the endpoint's messages. Only this response contains it.")]


class Message(TypedDict):
    """A webhook message to a client."""

    id: Annotated[Id, about("Also the message's `webhook-id`.")]
    type: Annotated[str, one_of(MESSAGE_TYPES)]
    state: Annotated[Literal["pending", "delivered", "exhausted", "discarded"], about("State of the delivery.")]
    task_id: Id | None
    endpoint_id: Annotated[Id | None, about("Null: the message goes to the task's `callback_url`.")]
    url: str
    sequence: Annotated[int, about("Sequence number of the task's event.")]
    attempts: int
    last_status: Annotated[int | None, about("HTTP status of the latest attempt.")]
    last_error: Annotated[
        str | None, about("Why the latest attempt failed. For a discarded message: why it was discarded.")
    ]
    created_at: Time
    delivered_at: Time | None
    replayed_at: Time | None
    next_attempt_at: Time | None


class Delivery(TypedDict):
    """One attempt to deliver a message."""

    attempt: Annotated[int, about("A missing number is an attempt whose process ended before it finished.")]
    at: Time
    status: Annotated[int | None, about("HTTP status. Null: no response arrived.")]
    duration_ms: int
    answer: Annotated[str | None, about("The first 2 kB of the receiver's response.")]
    error: str | None


class MessageWithDeliveries(Message):
    """A webhook message with its body and its deliveries."""

    body: Annotated[dict[str, Any], about("The body, before the endpoint's format is applied.")]
    deliveries: list[Delivery]


class EndpointList(TypedDict):
    """All endpoints of a client, oldest first."""

    endpoints: list[Endpoint]


class MessageList(TypedDict):
    """A page of messages, newest first."""

    messages: list[Message]
    next: Annotated[str | None, about("The cursor of the next page. Null: this is the last one.")]


class ReplayResult(TypedDict):
    """The result of a replay."""

    replayed: Annotated[int, about("The number of messages that are due again; with `dry_run`, that would be due.")]
    next: Annotated[str | None, about("The `cursor` of the next replay request. Null: there are no more messages.")]


class WebhookSecret(TypedDict):
    """The secret that signs messages to the client's ``callback_url``."""

    secret: Annotated[str, about("Verifies the messages: `whsec_` and base64.")]
    previous_secret_until: Annotated[Time | None, about("Until when the previous secret signs, too.")]


MODELS: Final = (EndpointList, EndpointWithSecret, MessageList, MessageWithDeliveries, ReplayResult, WebhookSecret)

REQUESTS: Final[dict[str, Any]] = {
    "EndpointRequest": {"title": "EndpointRequest", **endpoints.REQUEST},
    "EndpointChange": {"title": "EndpointChange", **endpoints.CHANGES},
    "ReplayRequest": {"title": "ReplayRequest", **replay.REQUEST},
    "WebhookSecretRotation": {"title": "WebhookSecretRotation", **secrets.ROTATION},
}
"""JSON Schema of request bodies by component name."""
