"""Every call to the API about webhook endpoints, messages and the webhook secret, as generators (see :mod:`dovecote.protocol`)."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from dovecote.calls import given, id_of, page_of, value_of
from dovecote.messages import Endpoint, Message, WebhookSecret
from dovecote.protocol import Call, Request, Session, read_document, send, unexpected
from dovecote.values import Page

EndpointOrId = Endpoint | str | UUID
MessageOrId = Message | str | UUID


def create_endpoint(session: Session, document: Mapping[str, Any]) -> Call[Endpoint]:
    """Register an endpoint. The request is not repeated: it might register two."""
    request = Request(method="POST", path="/v1/endpoints", document=given(document))
    return value_of(Endpoint, (yield from send(session, request, repeatable=False)))


def list_endpoints(session: Session) -> Call[Sequence[Endpoint]]:
    """List all endpoints, oldest first."""
    response = yield from send(session, Request(method="GET", path="/v1/endpoints"))
    return page_of(Endpoint, "endpoints", response).items


def get_endpoint(session: Session, endpoint: EndpointOrId) -> Call[Endpoint]:
    """Get an endpoint."""
    return value_of(Endpoint, (yield from send(session, Request(method="GET", path=_endpoint(endpoint)))))


def update_endpoint(session: Session, endpoint: EndpointOrId, changes: Mapping[str, Any]) -> Call[Endpoint]:
    """Change an endpoint."""
    request = Request(method="PATCH", path=_endpoint(endpoint), document=given(changes))
    return value_of(Endpoint, (yield from send(session, request)))


def delete_endpoint(session: Session, endpoint: EndpointOrId) -> Call[Endpoint]:
    """Delete an endpoint; return it as it was."""
    return value_of(Endpoint, (yield from send(session, Request(method="DELETE", path=_endpoint(endpoint)))))


def rotate_endpoint_secret(session: Session, endpoint: EndpointOrId) -> Call[Endpoint]:
    """Rotate the secret of an endpoint. The request is not repeated: a second rotation would end the old secret at once."""
    request = Request(method="POST", path=f"{_endpoint(endpoint)}/rotate")
    return value_of(Endpoint, (yield from send(session, request, repeatable=False)))


def test_endpoint(session: Session, endpoint: EndpointOrId) -> Call[Message]:
    """Send a test message to an endpoint."""
    request = Request(method="POST", path=f"{_endpoint(endpoint)}/test")
    return value_of(Message, (yield from send(session, request, repeatable=False)))


def list_messages(session: Session, filters: Mapping[str, Any], cursor: str | None) -> Call[Page[Message]]:
    """List one page of messages, newest first."""
    params = {**_ids(filters), **given({"cursor": cursor})}
    response = yield from send(session, Request(method="GET", path="/v1/messages", params=params))
    return page_of(Message, "messages", response)


def get_message(session: Session, message: MessageOrId) -> Call[Message]:
    """Get a message with its body and every attempt to deliver it."""
    return value_of(Message, (yield from send(session, Request(method="GET", path=_message(message)))))


def replay_message(session: Session, message: MessageOrId) -> Call[Message]:
    """Deliver a message again."""
    response = yield from send(session, Request(method="POST", path=f"{_message(message)}/replay"))
    return value_of(Message, response)


def replay_messages(session: Session, filters: Mapping[str, Any]) -> Call[int]:
    """Deliver every message again that matches; return their number."""
    count, cursor = 0, None
    while True:
        document = {**_ids(filters), **given({"cursor": cursor})}
        request = Request(method="POST", path="/v1/messages/replay", document=document)
        response = yield from send(session, request)
        page = read_document(response)
        try:
            count, cursor = count + int(page["replayed"]), page["next"]
        except (KeyError, TypeError, ValueError) as error:
            raise unexpected(response) from error
        if cursor is None:
            return count


def get_webhook_secret(session: Session) -> Call[WebhookSecret]:
    """Get the client's webhook secret."""
    return value_of(WebhookSecret, (yield from send(session, Request(method="GET", path="/v1/webhook-secret"))))


def rotate_webhook_secret(session: Session, overlap: int | None) -> Call[WebhookSecret]:
    """Rotate the client's webhook secret. The request is not repeated: a second rotation would end the old secret at once."""
    request = Request(method="POST", path="/v1/webhook-secret/rotate", document=given({"overlap": overlap}))
    return value_of(WebhookSecret, (yield from send(session, request, repeatable=False)))


def _ids(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters in the form of the API: ids as text."""
    chosen = given(filters)
    return chosen | {name: id_of(chosen[name]) for name in ("endpoint", "task") if name in chosen}


def _endpoint(endpoint: EndpointOrId) -> str:
    return f"/v1/endpoints/{id_of(endpoint)}"


def _message(message: MessageOrId) -> str:
    return f"/v1/messages/{id_of(message)}"
