"""A receiver of completion webhooks, like that of a client. It shows and tests that messages arrive."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_ACCEPTED: Final = 204
_FORGED: Final = 401


@dataclass(frozen=True, slots=True)
class Received:
    """A message. Repeated attempts count as one. A field that was not sent is null."""

    id: str
    type: str | None
    task_id: str | None
    state: str | None
    verified: bool
    attempts: int = 1


class Receiver:
    """Keep the messages that come by POST at any path, and list them at GET /receiver/received.

    With a secret (`whsec_…` or its base64) it verifies the Standard Webhooks signature over the raw body, within five
    minutes of this machine's time; without one nothing counts as verified. It answers 204, or 401 to a message that
    fails its secret. `answers` are HTTP statuses to give instead, to the attempts of each message in turn; the last
    one stays.
    """

    def __init__(self, secret: str | None = None, *, answers: Sequence[int] = ()) -> None:
        self._webhook = None if secret is None else Webhook(secret)
        self._answers = tuple(answers)
        self._received: dict[tuple[str, bool], Received] = {}
        self.app = Starlette(
            routes=[
                Route("/receiver/received", self._list),
                Route("/healthz", self._healthy),
                Route("/{path:path}", self._take, methods=["POST"]),
            ]
        )

    @property
    def received(self) -> list[Received]:
        """Every message once, in the order of first arrival; a forged one is kept apart from the true one."""
        return list(self._received.values())

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        message = self._note(body, request.headers)
        if self._answers:
            return Response(status_code=self._answers[min(message.attempts, len(self._answers)) - 1])
        forged = self._webhook is not None and not message.verified
        return Response(status_code=_FORGED if forged else _ACCEPTED)

    def _note(self, body: bytes, headers: Mapping[str, str]) -> Received:
        message = _read(body, headers.get("webhook-id", ""), verified=self._verifies(body, headers))
        key = (message.id, message.verified)
        before = self._received.get(key)
        if before is not None:
            message = replace(message, attempts=before.attempts + 1)
        self._received[key] = message
        return message

    def _verifies(self, body: bytes, headers: Mapping[str, str]) -> bool:
        if self._webhook is None:
            return False
        try:
            self._webhook.verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError):  # ValueError: headers or a body that cannot be decoded
            return False
        return True

    async def _list(self, _request: Request) -> Response:
        return JSONResponse([asdict(message) for message in self.received])

    async def _healthy(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})


def _read(body: bytes, message_id: str, *, verified: bool) -> Received:
    document = _object(body)
    data = document.get("data")
    task: Mapping[str, Any] = data if isinstance(data, dict) else {}
    return Received(message_id, document.get("type"), task.get("id"), task.get("state"), verified)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
