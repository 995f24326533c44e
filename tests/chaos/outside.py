"""What surrounds Dovecote: two providers that take money, and a receiver of messages. All they see is recorded."""

import asyncio
import base64
import hashlib
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx
import orjson
from standardwebhooks.webhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.domain.webhook_secret import derive_secret
from service.sandbox import Sandbox
from tests.chaos.evidence import Arrived, Called, Evidence, Job
from tests.support.world import INSTALLATION_SECRET

KEYS: Final = {"ada": "ada-has-a-key-of-her-own", "ben": "ben-has-a-key-of-his-own"}
LOST: Final = 0.05
"""Share of the callbacks that are lost on their way."""
AGAIN: Final = 0.08
"""Share of the callbacks that come once more, later and out of order."""
HANG_SECONDS: Final = 6.0
SLOW: Final = 0.25
"""Share of the messages that are answered after a while."""
SLOW_SECONDS: Final = (0.5, 2.5)

Mode = Literal["well", "hang", "fail"]


def token_of(url: str) -> str:
    """Return the token of a callback URL."""
    return urlsplit(url).path.rpartition("/")[2]


class Postman:
    """Sends callbacks as providers do: once, to whichever server stands behind the public address. Some are lost."""

    def __init__(self, evidence: Evidence, chance: random.Random, servers: Callable[[], list[str]]) -> None:
        """Prepare.

        :param servers: the addresses of the web servers, those that are down included
        """
        self._evidence, self._chance, self._servers = evidence, chance, servers
        self._client = httpx.AsyncClient(timeout=8.0, trust_env=False)
        self.sent: deque[tuple[str, bytes]] = deque(maxlen=200)
        self._later: set[asyncio.Task[Any]] = set()

    async def __call__(self, url: str, body: bytes) -> int:
        """Send a callback of a sandbox."""
        token = token_of(url)
        if self._chance.random() < LOST:
            self._note(token, body, -1, own=True)
            return 0
        self.sent.append((token, body))
        if self._chance.random() < AGAIN:
            self._start(self._repeat(token, body, self._chance.uniform(0.2, 6.0)))
        return await self.post(token, body, own=True)

    async def post(self, token: str, body: bytes, *, own: bool) -> int:
        """Post a callback, and record the answer."""
        target = f"{self._chance.choice(self._servers())}/callbacks/{token}"
        try:
            answer = await self._client.post(target, content=body, headers={"Content-Type": "application/json"})
            status = answer.status_code
        except httpx.HTTPError:
            status = 0
        self._note(token, body, status, own=own)
        return status

    async def _repeat(self, token: str, body: bytes, wait: float) -> None:
        await asyncio.sleep(wait)
        await self.post(token, body, own=True)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _note(self, token: str, body: bytes, status: int, *, own: bool) -> None:
        sha = hashlib.sha256(body).hexdigest()
        text = base64.b64encode(body).decode()
        self._evidence.add(Called(token=token, body=text, sha256=sha, status=status, own=own))

    async def aclose(self) -> None:
        """Send what is left, and close the connections."""
        for task in list(self._later):
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)
        await self._client.aclose()


class Hooks:
    """A receiver of messages at ``/{client}/…`` that can hang and fail."""

    def __init__(self, evidence: Evidence, chance: random.Random) -> None:
        """Prepare the receiver."""
        self._evidence, self._chance = evidence, chance
        self._secrets = {name: Webhook(derive_secret(INSTALLATION_SECRET, name, 1)) for name in KEYS}
        self.mode: Mode = "well"
        self._healed = asyncio.Event()
        self.app = Starlette(routes=[Route("/{client}/{path:path}", self._take, methods=["POST"])])

    def set(self, mode: Mode) -> None:
        """Choose how it behaves."""
        self.mode = mode
        if mode == "well":
            self._healed.set()
            self._healed = asyncio.Event()

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        if self.mode == "hang":
            try:
                await asyncio.wait_for(self._healed.wait(), HANG_SECONDS)
            except TimeoutError:
                self._note(request, body, 504)
                return Response(status_code=504)
        if self._chance.random() < SLOW:
            await asyncio.sleep(self._chance.uniform(*SLOW_SECONDS))
        status = 500 if self.mode == "fail" else 204
        self._note(request, body, status)
        return Response(status_code=status)

    def _note(self, request: Request, body: bytes, status: int) -> None:
        document = orjson.loads(body)
        data = document.get("data") if isinstance(document.get("data"), dict) else {}
        self._evidence.add(
            Arrived(
                message=request.headers.get("webhook-id", ""),
                type=document.get("type"),
                task=data.get("id"),
                state=data.get("state"),
                sequence=document.get("sequence"),
                sha256=hashlib.sha256(body).hexdigest(),
                verified=self._verifies(request, body),
                status=status,
            )
        )

    def _verifies(self, request: Request, body: bytes) -> bool:
        """Return whether the signature is right. The time in it is not compared: clocks are wrong here on purpose."""
        stamp = f"{request.headers.get('webhook-id', '')}.{request.headers.get('webhook-timestamp', '')}.".encode()
        import hmac

        webhook = self._secrets[request.path_params["client"]]
        right = base64.b64encode(hmac.digest(webhook._whsecret, stamp + body, hashlib.sha256)).decode()
        return f"v1,{right}" in request.headers.get("webhook-signature", "").split()


def jobs_of(name: str, sandbox: Sandbox) -> list[Job]:
    """Return the paid jobs of a sandbox as evidence."""
    return [
        Job(
            upstream=name,
            id=job.id,
            prompt=job.prompt,
            created_at=job.created_at,
            ended_at=job.life.ended_at if job.state in {"succeeded", "failed"} else job.cancelled_at,
            state=job.state,
            callback_token=None if job.callback_url is None else token_of(job.callback_url),
            faults=job.faults.as_words(),
        )
        for job in sandbox.ledger.jobs
    ]
