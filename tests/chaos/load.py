"""The load: clients that insist until each submit is acknowledged, readers, and callbacks that nobody asked for."""

import asyncio
import base64
import contextlib
import dataclasses
import itertools
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from service.domain.callback_token import Tokens
from service.domain.webhook_events import TYPES
from tests.chaos.evidence import Accepted, Evidence, Reading, Refused
from tests.chaos.outside import KEYS, Postman

CALLBACK_SECRET: Final = "callback-secret-of-the-tests"

WORDS: Final[Mapping[str, int]] = {
    "": 50,
    "[slow=2]": 40,
    "[slow=1]": 20,
    "[drop]": 14,
    "[twice][disorder]": 12,
    "[late=4]": 8,
    "[early]": 6,
    "[garbage]": 4,
    "[fail]": 8,
    "[429]": 6,
    "[refuse]": 4,
    "[flaky]": 4,
    "[cut]": 4,
    "[cutbody]": 2,
    "[hang]": 2,
    "[503]": 2,
    "[500]": 1,
    "[filereset]": 2,
    "[file503]": 2,
    "[filegone]": 1,
    "[filebytes=400000]": 4,
    "[stuck]": 1,
}
"""Faults of the provider, and how many prompts cause each, of about 180."""
REQUESTS: Final[Mapping[str, dict[str, Any]]] = {
    "runway": {"family": "runway", "operation": "text_to_video"},
    "midjourney": {"family": "midjourney", "operation": "imagine"},
    "suno": {"family": "suno", "operation": "music"},
}
DOORS: Final[Mapping[str, tuple[str, Callable[[str], dict[str, Any]]]]] = {
    "runway": ("/runway/pro/generate", lambda prompt: {"prompt": prompt, "model": "gen4_turbo", "options": {"seconds": 5}}),
    "midjourney": ("/mj/submit/imagine", lambda prompt: {"prompt": prompt}),
    "suno": ("/suno/submit/music", lambda prompt: {"gpt_description_prompt": prompt}),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One task that a client wants."""

    client: str
    family: str
    prompt: str
    door: bool
    hook: bool
    on_uncertain: str
    cancel_after: float | None


class Load:
    """Everything that uses Dovecote from outside."""

    def __init__(
        self,
        evidence: Evidence,
        chance: random.Random,
        servers: Callable[[], list[str]],
        *,
        hook: str,
        postman: Postman,
        deadline: int,
        clock_off: Callable[[str], bool],
    ) -> None:
        """Prepare.

        :param servers: the addresses of the web servers, those that are down included
        :param hook: the address of the receiver
        :param deadline: seconds after which Dovecote stops waiting for a task
        :param clock_off: whether the clock of the server at an address may be wrong
        """
        self.evidence, self._chance, self._servers = evidence, chance, servers
        self._hook, self._postman, self._clock_off = hook, postman, clock_off
        self._deadline = deadline
        self._client = httpx.AsyncClient(timeout=10.0, trust_env=False)
        self._numbers = itertools.count()
        self._accepted: list[tuple[str, str]] = []
        self._tokens = Tokens(CALLBACK_SECRET)
        self.ended = False

    async def run(self, seconds: float, *, rate: float, at_once: int = 16) -> None:
        """Submit for some seconds, then let every submit that began be acknowledged."""
        end = time.monotonic() + seconds
        reading = [asyncio.create_task(work) for work in (self._read(), self._disturb(end))]
        try:
            async with asyncio.TaskGroup() as clients:
                for _ in range(at_once):
                    clients.create_task(self._work(end, at_once / rate))
        finally:
            self.ended = True
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _work(self, end: float, pause: float) -> None:
        while time.monotonic() < end:
            request = self._request_of_a_client()
            await self._insist(request)
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * pause)

    def _request_of_a_client(self) -> Request:
        chance, number = self._chance, next(self._numbers)
        words = chance.choices(list(WORDS), list(WORDS.values()))[0]
        seconds = "" if "seconds" in words or "stuck" in words else f"[seconds={chance.uniform(0.3, 5):.1f}]"
        door = chance.random() < 0.15
        if door and "stuck" in words:  # a door takes no deadline, so that such a task would outlast the round
            words = ""
        family = chance.choice(sorted(DOORS) if door else ["runway", "runway", "runway", *REQUESTS])
        return Request(
            client=chance.choice(sorted(KEYS)),
            family=family,
            prompt=f"{words}{seconds} dove {number}",
            door=door,
            hook=chance.random() < 0.8,
            on_uncertain=chance.choices(["hold", "fail", "resubmit_once"], [80, 8, 12])[0],
            cancel_after=chance.uniform(0, 4) if chance.random() < 0.04 else None,
        )

    async def _insist(self, request: Request) -> None:
        """Repeat a submit until it is acknowledged. At a door, where there are no keys, it is sent once."""
        key = f"key of {request.prompt}"
        path, body, headers = self._request(request, key)
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await self._client.post(f"{self._a_server()}{path}", json=body, headers=headers)
                task = self._task_of(request, answer)
                if task is not None:
                    self._note(request, task, None if request.door else key)
                    await self._cancel(request, task)
                    return
                # A door has the errors of its API: midjourney-proxy's are answered 200, and nobody repeats after 504.
                if answer.status_code not in ({200, 429, 503, 504} if request.door else {429, 503}):
                    text = answer.text[:300]
                    self.evidence.add(Refused(what=f"POST {path}", status=answer.status_code, text=text))
                    return
            if request.door:
                return
            await asyncio.sleep(0.2)

    def _request(self, request: Request, key: str) -> tuple[str, dict[str, Any], dict[str, str]]:
        bearer = {"Authorization": f"Bearer {KEYS[request.client]}"}
        if request.door:
            path, document = DOORS[request.family]
            return path, document(request.prompt), bearer
        body = {
            **REQUESTS[request.family],
            "input": {"prompt": request.prompt},
            "deadline": self._deadline,
            "on_uncertain": request.on_uncertain,
        }
        if request.hook:
            body |= {"callback_url": f"{self._hook}/{request.client}/done"}
            if self._chance.random() < 0.3:
                body |= {"callback_events": list(TYPES)}
        return "/v1/tasks", body, {**bearer, "Idempotency-Key": key}

    def _task_of(self, request: Request, answer: httpx.Response) -> str | None:
        if answer.status_code >= 300:
            return None
        return answer.headers.get("dovecote-task") if request.door else str(answer.json()["id"])

    def _note(self, request: Request, task: str, key: str | None) -> None:
        self._accepted.append((request.client, task))
        self.evidence.add(
            Accepted(
                task=task,
                client=request.client,
                prompt=request.prompt,
                key=key,
                family=request.family,
                hook=request.hook and not request.door,
                on_uncertain="hold" if request.door else request.on_uncertain,
            )
        )

    async def _cancel(self, request: Request, task: str) -> None:
        if request.cancel_after is None:
            return
        await asyncio.sleep(request.cancel_after)
        bearer = {"Authorization": f"Bearer {KEYS[request.client]}"}
        with contextlib.suppress(httpx.HTTPError):
            answer = await self._client.post(f"{self._a_server()}/v1/tasks/{task}/cancel", headers=bearer)
            if answer.status_code not in {200, 202, 409, 429, 502, 503, 504}:
                text = answer.text[:300]
                self.evidence.add(Refused(what="cancel", status=answer.status_code, text=text))

    def _a_server(self) -> str:
        return self._chance.choice(self._servers())

    async def _read(self) -> None:
        """Read tasks again and again, and record what is said of them."""
        while True:
            await asyncio.sleep(0.2)
            if self._accepted:
                client, task = self._chance.choice(self._accepted[-120:])
                await self.read(client, task)

    async def read(self, client: str, task: str) -> None:
        """Read a task, and record what is said of it."""
        server, asked = self._a_server(), time.time()
        headers = {"Authorization": f"Bearer {KEYS[client]}"}
        with contextlib.suppress(httpx.HTTPError):
            answer = await self._client.get(f"{server}/v1/tasks/{task}", headers=headers)
            if answer.status_code == 200:
                told = answer.json()
                self.evidence.add(
                    Reading(
                        asked=asked,
                        task=task,
                        state=told["state"],
                        explanation=told["explanation"],
                        document=told,
                        clock_off=self._clock_off(server),
                    )
                )
            elif answer.status_code not in {429, 503}:
                self.evidence.add(Refused(what="GET task", status=answer.status_code, text=answer.text[:300]))

    async def _disturb(self, end: float) -> None:
        """Send callbacks that nobody asked for: forged ones, ones of unknown submissions, old ones again."""
        while time.monotonic() < end:
            await asyncio.sleep(self._chance.uniform(0.3, 1.0))
            what = self._chance.random()
            if what < 0.2:
                status = await self._postman.post(self._forged(), b'{"status":"3"}', own=False)
                if status not in {0, 404, 503}:
                    self.evidence.add(Refused(what="forged callback", status=status, text=""))
            elif what < 0.5:
                token = self._tokens.make(uuid.UUID(int=self._chance.getrandbits(128), version=4))
                await self._postman.post(token, b'{"task_id":"nobody","status":"3"}', own=False)
            elif self._postman.sent:
                token, body = self._chance.choice(self._postman.sent)
                await self._postman.post(token, body, own=True)

    def _forged(self) -> str:
        return base64.urlsafe_b64encode(self._chance.randbytes(32)).rstrip(b"=").decode()
