"""The webhook endpoints and messages of the synchronous client."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

from dovecote import webhook_calls
from dovecote.messages import Endpoint, Message
from dovecote.protocol import Call, Session
from dovecote.values import Page
from dovecote.webhook_calls import EndpointOrId, MessageOrId

Result = TypeVar("Result")


class _Run(Protocol):
    def __call__(self, call: Call[Result], /) -> Result: ...


class Endpoints:
    """The webhook endpoints, as ``client.endpoints``."""

    def __init__(self, session: Session, run: _Run) -> None:
        """Keep what executes a call."""
        self._session = session
        self._run = run

    def create(
        self, url: str, *, events: Sequence[str] | None = None, description: str | None = None, **more: Any
    ) -> Endpoint:
        """Register an endpoint. ``secret`` of the returned value is shown this once.

        :param events: types of the events that it receives; default: all but ``task.progress``
        :param more: further fields of the API, such as ``format``
        """
        document = {"url": url, "events": events, "description": description, **more}
        return self._run(webhook_calls.create_endpoint(self._session, document))

    def list(self) -> Sequence[Endpoint]:
        """List all endpoints, oldest first."""
        return self._run(webhook_calls.list_endpoints(self._session))

    def get(self, endpoint: EndpointOrId) -> Endpoint:
        """Get an endpoint."""
        return self._run(webhook_calls.get_endpoint(self._session, endpoint))

    def update(self, endpoint: EndpointOrId, **changes: Any) -> Endpoint:
        """Change an endpoint.

        :param changes: fields of the API: ``url``, ``events``, ``description``, ``format``, ``enabled``
        """
        return self._run(webhook_calls.update_endpoint(self._session, endpoint, changes))

    def delete(self, endpoint: EndpointOrId) -> Endpoint:
        """Delete an endpoint. Its pending messages are discarded."""
        return self._run(webhook_calls.delete_endpoint(self._session, endpoint))

    def rotate_secret(self, endpoint: EndpointOrId) -> Endpoint:
        """Give an endpoint a new secret, shown this once. For a day the old secret signs as well."""
        return self._run(webhook_calls.rotate_endpoint_secret(self._session, endpoint))

    def test(self, endpoint: EndpointOrId) -> Message:
        """Send a test message to an endpoint and return the message with its delivery."""
        return self._run(webhook_calls.test_endpoint(self._session, endpoint))


class Messages:
    """The messages to clients, as ``client.messages``."""

    def __init__(self, session: Session, run: _Run) -> None:
        """Keep what executes a call."""
        self._session = session
        self._run = run

    def list(self, **filters: Any) -> Iterator[Message]:
        """Yield messages, newest first. Further pages are loaded as needed; the filters are those of :meth:`page`."""
        cursor = None
        while True:
            page = self.page(cursor=cursor, **filters)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def page(
        self,
        *,
        state: str | Sequence[str] | None = None,
        type: str | Sequence[str] | None = None,  # noqa: A002 - the API's word
        endpoint: EndpointOrId | None = None,
        task: str | UUID | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Message]:
        """List one page of messages, newest first.

        :param limit: size of the page, at most 100
        :param cursor: ``next`` of the page before
        """
        filters = {"state": state, "type": type, "endpoint": endpoint, "task": task, "limit": limit}
        return self._run(webhook_calls.list_messages(self._session, filters, cursor))

    def get(self, message: MessageOrId) -> Message:
        """Get a message with its body and every attempt to deliver it."""
        return self._run(webhook_calls.get_message(self._session, message))

    def replay(self, message: MessageOrId) -> Message:
        """Deliver a message again, under the same ``webhook-id``."""
        return self._run(webhook_calls.replay_message(self._session, message))

    def replay_all(
        self,
        *,
        after: str | None = None,
        before: str | None = None,
        state: Sequence[str] | None = None,
        type: Sequence[str] | None = None,  # noqa: A002 - the API's word
        endpoint: EndpointOrId | None = None,
        limit: int | None = None,
    ) -> int:
        """Deliver every message again that matches, and return their number.

        :param after: RFC 3339, as ``before``: when the message was written
        :param state: default: ``exhausted`` and ``discarded``
        :param limit: messages of one request, at most 1000
        """
        filters = {"after": after, "before": before, "state": state, "type": type, "endpoint": endpoint, "limit": limit}
        return self._run(webhook_calls.replay_messages(self._session, filters))
