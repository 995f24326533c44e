"""The callbacks of jobs: when they are due, and how they are sent, separate from the submit as at a real provider."""

import asyncio
import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

import httpx
import orjson

from service.sandbox.jobs import Job, Ledger, State

Send = Callable[[str, bytes], Awaitable[int]]
"""POST these JSON bytes to this URL; returns the HTTP status of the answer, 0 where none came."""

Render = Callable[[Job, State, float], Any]
"""Renders a callback about a job in this state at this moment: the JSON document."""

_PAUSE: Final = 0.02  # seconds between two checks of the clock
_TIMEOUT: Final = 10.0  # seconds for one callback to be answered


@dataclass(frozen=True, slots=True)
class Post:
    """One callback to send: news of `state`, as of the moment `at`, whole or broken."""

    due_at: float
    state: State
    at: float
    broken: bool = False


def planned(job: Job, stages: Iterable[float] = ()) -> list[Post]:
    """List the callbacks of a job in the order of sending: on the change to running, at these shares, and at the end.

    Sent once, never again: no provider here documents a retry.
    """
    life, faults = job.life, job.faults
    if job.callback_url is None or faults.drop:
        return []
    late = faults.late or 0.0
    running = Post(life.started_at + late, "running", life.started_at)
    final = Post(life.ended_at + late, life.verdict, life.ended_at)
    reversal = Post(life.reversed_at + late, life.last_word, life.reversed_at)
    moments = [life.started_at + share * (life.ended_at - life.started_at) for share in stages]
    posts = [running, *(Post(moment + late, "running", moment) for moment in moments), final, reversal]
    if faults.garbage:
        posts.insert(posts.index(final), Post(final.due_at, final.state, final.at, broken=True))
    if faults.disorder and final.due_at < math.inf:
        posts.remove(running)
        posts.insert(posts.index(final) + 1, Post(final.due_at, running.state, running.at))
    repeats = 2 if faults.twice else 1
    return [post for post in posts if post.due_at < math.inf for _ in range(repeats)]


class Courier:
    """Sends callbacks when they are due: those of one job one after the other, those of several jobs side by side."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float], send: Send) -> None:
        self._ledger = ledger
        self._clock = clock
        self._send = send
        self._serial = itertools.count()
        self._waiting: list[tuple[float, int, str, Post, Render]] = []
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def plan(self, job: Job, render: Render, stages: Iterable[float] = ()) -> None:
        for post in planned(job, stages):
            heapq.heappush(self._waiting, (post.due_at, next(self._serial), job.id, post, render))

    async def deliver_due(self, only: str | None = None) -> None:
        """Send every callback that is due (of one job, where it is named), and wait for the answers."""
        await asyncio.gather(*(self._carry(job_id, posts) for job_id, posts in self._take_due(only).items()))

    async def run(self) -> None:
        """Deliver what becomes due until cancelled; a receiver that is slow holds up its own job only."""
        async with asyncio.TaskGroup() as deliveries:
            while True:
                for job_id, posts in self._take_due(None).items():
                    deliveries.create_task(self._carry(job_id, posts))
                await asyncio.sleep(_PAUSE)

    def _take_due(self, only: str | None) -> dict[str, list[tuple[Post, Render]]]:
        now = self._clock()
        due: dict[str, list[tuple[Post, Render]]] = defaultdict(list)
        skipped_upstreams = []
        while self._waiting and self._waiting[0][0] <= now:
            entry = heapq.heappop(self._waiting)
            _, _, job_id, post, render = entry
            if only in (None, job_id):
                due[job_id].append((post, render))
            else:
                skipped_upstreams.append(entry)
        for entry in skipped_upstreams:
            heapq.heappush(self._waiting, entry)
        return due

    async def _carry(self, job_id: str, posts: list[tuple[Post, Render]]) -> None:
        turn = self._turns.setdefault(job_id, asyncio.Lock())
        async with turn:
            for post, render in posts:
                job = self._ledger.find(job_id)
                if job is None or job.callback_url is None:  # the ledger was cleared meanwhile
                    return
                if job.cancelled and post.state != "running":
                    continue  # it had no such end
                body = orjson.dumps(render(job, post.state, post.at))
                status = await self._send(job.callback_url, body[: len(body) // 2] if post.broken else body)
                self._ledger.count_callback(job_id, status)


class HttpSender:
    """The default `Send`: a plain POST by httpx, without proxies, redirects or retries."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, url: str, body: bytes) -> int:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)
        try:
            answer = await self._client.post(url, content=body, headers={"Content-Type": "application/json"})
        except (httpx.HTTPError, httpx.InvalidURL):
            return 0
        return answer.status_code

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
