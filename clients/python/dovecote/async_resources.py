"""The webhook endpoints, messages and webhook secret of the client for asyncio."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, Unpack

from dovecote import callbacks as callback_calls
from dovecote import uploads, webhook_calls
from dovecote.callbacks import Callback, CallbackOrId
from dovecote.fields import CallbackFilters, EndpointChanges, EndpointFields, MessageFilters, ReplayFilters
from dovecote.messages import Endpoint, Message, WebhookSecret
from dovecote.protocol import Call, Session
from dovecote.uploads import Upload, UploadOrId
from dovecote.values import Page, every_async
from dovecote.webhook_calls import EndpointOrId, MessageOrId

Result = TypeVar("Result")


class _Run(Protocol):
    async def __call__(self, call: Call[Result], /) -> Result: ...


class AsyncEndpoints:
    """The webhook endpoints, as ``client.endpoints``."""

    def __init__(self, session: Session, run: _Run) -> None:
        """Keep what executes a call."""
        self._session = session
        self._run = run

    async def create(self, url: str, **fields: Unpack[EndpointFields]) -> Endpoint:
        """Register an endpoint. ``secret`` of the returned value is shown this once.

        :param fields: see :class:`EndpointFields`: ``events``, ``description``, ``format``
        """
        return await self._run(webhook_calls.create_endpoint(self._session, {"url": url, **fields}))

    async def list(self) -> Sequence[Endpoint]:
        """List all endpoints, oldest first."""
        return await self._run(webhook_calls.list_endpoints(self._session))

    async def get(self, endpoint: EndpointOrId) -> Endpoint:
        """Get an endpoint."""
        return await self._run(webhook_calls.get_endpoint(self._session, endpoint))

    async def update(self, endpoint: EndpointOrId, **changes: Unpack[EndpointChanges]) -> Endpoint:
        """Change an endpoint.

        :param changes: see :class:`EndpointChanges`: ``url``, ``events``, ``description``, ``format``, ``enabled``
        """
        return await self._run(webhook_calls.update_endpoint(self._session, endpoint, {**changes}))

    async def delete(self, endpoint: EndpointOrId) -> Endpoint:
        """Delete an endpoint. Its pending messages are discarded."""
        return await self._run(webhook_calls.delete_endpoint(self._session, endpoint))

    async def rotate_secret(self, endpoint: EndpointOrId) -> Endpoint:
        """Rotate the secret of an endpoint. The new one is shown this once; for a day the old one signs as well."""
        return await self._run(webhook_calls.rotate_endpoint_secret(self._session, endpoint))

    async def test(self, endpoint: EndpointOrId) -> Message:
        """Send a test message to an endpoint and return the message with its delivery."""
        return await self._run(webhook_calls.test_endpoint(self._session, endpoint))


class AsyncMessages:
    """The messages to clients, as ``client.messages``."""

    def __init__(self, session: Session, run: _Run) -> None:
        """Keep what executes a call."""
        self._session = session
        self._run = run

    def list(self, *, limit: int | None = None, **filters: Unpack[MessageFilters]) -> AsyncIterator[Message]:
        """Yield messages, newest first. Further pages are loaded as needed.

        :param limit: size of a page, at most 100
        :param filters: see :class:`MessageFilters`: ``state``, ``type``, ``endpoint``, ``task``
        """
        return every_async(lambda cursor: self.page(limit=limit, cursor=cursor, **filters))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[MessageFilters]
    ) -> Page[Message]:
        """List one page of messages, newest first.

        :param limit: size of the page, at most 100
        :param cursor: ``next`` of the page before
        :param filters: see :class:`MessageFilters`
        """
        return await self._run(webhook_calls.list_messages(self._session, {**filters, "limit": limit}, cursor))

    async def get(self, message: MessageOrId) -> Message:
        """Get a message with its body and every attempt to deliver it."""
        return await self._run(webhook_calls.get_message(self._session, message))

    async def replay(self, message: MessageOrId) -> Message:
        """Deliver a message again, under the same ``webhook-id``."""
        return await self._run(webhook_calls.replay_message(self._session, message))

    async def replay_all(self, **filters: Unpack[ReplayFilters]) -> int:
        """Deliver every message again that matches, and return their number.

        :param filters: see :class:`ReplayFilters`: ``after``, ``before``, ``state``, ``type``, ``endpoint``
        """
        return await self._run(webhook_calls.replay_messages(self._session, {**filters}))


class AsyncCallbacks:
    """The stored callbacks of providers, as ``client.callbacks``."""

    def __init__(self, session: Session, run: _Run) -> None:
        """Keep what executes a call."""
        self._session = session
        self._run = run

    def list(self, *, limit: int | None = None, **filters: Unpack[CallbackFilters]) -> AsyncIterator[Callback]:
        """Yield callbacks, newest first. Further pages are loaded as needed.

        :param limit: size of a page, at most 100
        :param filters: see :class:`CallbackFilters`: ``decision``, ``upstream``, ``task``
        """
        return every_async(lambda cursor: self.page(limit=limit, cursor=cursor, **filters))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[CallbackFilters]
    ) -> Page[Callback]:
        """List one page of callbacks, newest first.

        :param limit: size of the page, at most 100
        :param cursor: ``next`` of the page before
        :param filters: see :class:`CallbackFilters`
        """
        return await self._run(callback_calls.list_callbacks(self._session, {**filters, "limit": limit}, cursor))

    async def get(self, callback: CallbackOrId) -> Callback:
        """Get a callback with its body, and what this version reads in it."""
        return await self._run(callback_calls.get_callback(self._session, callback))

    async def rerun(self, callback: CallbackOrId) -> Callback:
        """Process a callback again, as this version reads it. It is applied like a new one."""
        return await self._run(callback_calls.rerun_callback(self._session, callback))

    async def rerun_all(self, *decisions: str, limit: int | None = None) -> int:
        """Process every callback with some decisions again, and return their number.

        :param decisions: such as ``unreadable`` and ``unmatched``
        :param limit: number of callbacks, at most 1000
        """
        return await self._run(callback_calls.rerun_callbacks(self._session, decisions, limit))


class AsyncWebhookSecrets:
    """The secret that signs the messages to your ``callback_url``, as ``client.webhook_secret``."""

    def __init__(self, session: Session, run: _Run) -> None:
        """Keep what executes a call."""
        self._session = session
        self._run = run

    async def get(self) -> WebhookSecret:
        """Get your webhook secret."""
        return await self._run(webhook_calls.get_webhook_secret(self._session))

    async def rotate(self, *, overlap: int | None = None) -> WebhookSecret:
        """Rotate your webhook secret and return the new one.

        :param overlap: seconds for which the old secret signs as well, at most 30 days; default: a day; 0 ends it at once
        """
        return await self._run(webhook_calls.rotate_webhook_secret(self._session, overlap))


class AsyncUploads:
    """The files that tasks take as their media, as ``client.uploads``."""

    def __init__(self, session: Session, run: _Run) -> None:
        """Keep what executes a call."""
        self._session = session
        self._run = run

    async def create(self, file: str | Path | bytes, *, name: str | None = None) -> Upload:
        """Upload a file: see :meth:`AsyncClient.upload`."""
        return await self._run(uploads.create(self._session, file, name))

    def list(self, *, limit: int | None = None) -> AsyncIterator[Upload]:
        """Yield uploads, newest first. Further pages are loaded as needed.

        :param limit: size of a page, at most 100
        """
        return every_async(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Upload]:
        """List one page of uploads, newest first.

        :param limit: size of the page, at most 100
        :param cursor: ``next`` of the page before
        """
        return await self._run(uploads.list_uploads(self._session, limit, cursor))

    async def get(self, upload: UploadOrId) -> Upload:
        """Get an upload."""
        return await self._run(uploads.get(self._session, upload))

    async def delete(self, upload: UploadOrId) -> Upload:
        """Delete an upload, and return it as it was. A task that still takes it fails before the purchase."""
        return await self._run(uploads.delete(self._session, upload))
