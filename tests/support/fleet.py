"""Real Dovecote processes over one database, paid providers, and clients that want each task exactly once."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text, update

from service.cli.practice import plug
from service.cli.processes import LOOPBACK, Served, clean_environment, free_ports
from service.sandbox import Job, Receiver
from service.store import queue
from service.store.database import Database
from service.store.tables import circuits
from tests.support.waiting import LIMIT
from tests.support.world import INSTALLATION_SECRET


def dovecote(
    folder: Path, database_url: str, name: str, *, role: str = "all", public: str = "", **environment: str
) -> Served:
    """Return a server that is not started yet."""
    (port,) = free_ports(1)
    settings = {
        "DOVECOTE_DATABASE_URL": database_url,
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": public or f"http://{LOOPBACK}:{port}",
        "DOVECOTE_WEBHOOK_SECRET": INSTALLATION_SECRET,
        "DOVECOTE_CALLBACK_SECRET": "callback-secret-of-the-tests",
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
        **environment,
    }
    return Served(name, ("serve", "--role", role), {**clean_environment(), **settings}, port, folder, "/readyz")


def with_sandboxes(seconds: float, **urls: str) -> dict[str, str]:
    """Return the settings that connect sandboxes as upstreams. Runway uses them in this order."""
    plugs = [plug(url, seconds, name) for name, url in urls.items()]
    return {name: value for each in plugs for name, value in each.items()} | {"DOVECOTE_ROUTES__RUNWAY": ",".join(urls)}


def client_of(served: Served) -> httpx.AsyncClient:
    """Open a client of a server."""
    return httpx.AsyncClient(base_url=served.url, timeout=LIMIT, trust_env=False)


async def until(
    true: Callable[[], Awaitable[bool]],
    why: Callable[[], object] = lambda: None,
    *,
    pause: float = 0.05,
    limit: float = LIMIT,
) -> None:
    """Wait for a condition in another process.

    :param limit: seconds after which the test fails
    """
    end = time.monotonic() + limit
    while not await true():
        assert time.monotonic() < end, why()
        await asyncio.sleep(pause)


async def pass_time(database_url: str) -> int:
    """End every lease and every open circuit in the database, without a worker.

    This is the database that a worker finds when it starts minutes after another was killed. Return the number of
    purchases that were in flight.
    """
    database = Database(database_url)
    now = dt.datetime.now(dt.UTC)
    async with database.writing() as connection:
        under_way = await connection.scalar(text("SELECT count(*) FROM tasks WHERE state = 'submitting'"))
        await queue.release_leases(connection, now=now)
        await connection.execute(update(circuits).where(circuits.c.open_until > now).values(open_until=now))
        await connection.execute(update(circuits).values(probe_until=None))
    await database.close()
    return int(under_way or 0)


FAULTS = {
    "[slow=0.3]": 60,
    "[drop]": 20,
    "[twice][disorder]": 10,
    "[early]": 6,
    "[fail]": 6,
    "[429]": 6,
    "[refuse]": 4,
    # These count as failures of the upstream. Five open a circuit, and there are two upstreams:
    # not so many that both are left alone at once, which would take half a minute.
    "[cut]": 3,
    "[cutbody]": 2,
    "[503]": 1,
}
"""The faults, and the number of prompts of 200 that cause each."""


def prompts(count: int, chance: random.Random) -> list[str]:
    """Return different prompts, some of which cause faults."""
    words = [word for word, share in FAULTS.items() for _ in range(share * count // 200)]
    words += [""] * (count - len(words))
    chance.shuffle(words)
    return [f"{word} dove {number}".strip() for number, word in enumerate(words)]


class Clients:
    """Submit tasks as clients do that want each exactly once: repeat with the same key until there is an answer."""

    def __init__(self, client: httpx.AsyncClient, hook: str, wanted: Sequence[str], **fields: Any) -> None:
        self._client, self._hook, self._request = client, hook, fields
        self._left: Iterator[str] = iter(wanted)
        self.wanted = wanted
        self.accepted: dict[str, str] = {}
        """Prompt → id of the task, as it was answered."""
        self.turned_away = 0
        """How often the answer was that it cannot be done now."""

    async def run(self, at_once: int) -> None:
        await asyncio.gather(*(self._work() for _ in range(at_once)))

    async def _work(self) -> None:
        for prompt in self._left:
            while prompt not in self.accepted:
                with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):  # it was killed
                    await self._submit(prompt)
                await asyncio.sleep(0.02)

    async def _submit(self, prompt: str) -> None:
        request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": prompt}, **self._request}
        answer = await self._client.post(
            "/v1/tasks", json={**request, "callback_url": f"{self._hook}/done"}, headers={"Idempotency-Key": prompt}
        )
        if answer.status_code == 503:
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("unavailable", "5")
            self.turned_away += 1
            return
        assert answer.status_code == 202, answer.text
        self.accepted[prompt] = answer.json()["id"]


async def all_tasks(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return every task, page by page; an empty list where the server does not answer now."""
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 100}
    while True:
        answer = await client.get("/v1/tasks", params=query)
        if answer.status_code == 503:  # not now
            return []
        page = answer.json()
        found += page["tasks"]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]


@dataclasses.dataclass(slots=True)
class Accounts:
    """The outcome of each task by Dovecote, compared with the paid jobs at the providers."""

    receiver: Receiver
    ledgers: Sequence[Callable[[], list[Job]]]
    tasks: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def jobs(self) -> dict[str, list[Job]]:
        """Return every paid job by its prompt."""
        found: dict[str, list[Job]] = {}
        for job in (job for ledger in self.ledgers for job in ledger()):
            found.setdefault(job.prompt, []).append(job)
        return found

    async def settle(self, client: httpx.AsyncClient, clients: Clients) -> None:
        """Wait until every task has ended as expected. A task that cannot be resolved stays ``unconfirmed``."""

        async def settled() -> bool:
            self.tasks = await all_tasks(client)
            jobs = self.jobs
            assert not paid_twice(jobs)
            still = all(silent(job) for own in jobs.values() for job in own)
            return still and not self.wrong(jobs, clients) and self._all_told()

        await until(settled, lambda: (self.wrong(self.jobs, clients), self._untold()))

    def wrong(self, jobs: dict[str, list[Job]], clients: Clients) -> list[Any]:
        """Return the violations of the guarantees, and the tasks that have not ended yet."""
        found: list[Any] = [(prompt, "paid twice") for prompt in paid_twice(jobs)]
        known = {task["input"]["prompt"]: task["id"] for task in self.tasks}
        found += [(prompt, "lost") for prompt, key in clients.accepted.items() if known.get(prompt) != key]
        found += [(prompt, "there twice") for prompt in known if len(self.tasks) != len(known)]
        for task in self.tasks:
            prompt = task["input"]["prompt"]
            right = expected(task, next(iter(jobs.get(prompt, ())), None))
            if task["state"] not in right:
                found.append((prompt, task["state"], right, task["explanation"]))
        return found

    def received_by_client(self) -> Counter[tuple[str | None, str | None]]:
        """Count the messages that the client received, by task and state."""
        return Counter((each.task_id, each.state) for each in self.receiver.received)

    def _untold(self) -> list[str]:
        told = self.received_by_client()
        return [each["id"] for each in self.tasks if each["finished_at"] and (each["id"], each["state"]) not in told]

    def _all_told(self) -> bool:
        return not self._untold()

    def close(self, clients: Clients) -> None:
        """Compare all records with one another once nothing changes any more."""
        assert self.wrong(self.jobs, clients) == []
        assert sorted(clients.accepted) == sorted(clients.wanted)
        assert len(self.tasks) == len(clients.wanted)
        told = self.received_by_client()
        assert set(told.values()) == {1}, "somebody was told twice"
        assert set(told) == {(task["id"], task["state"]) for task in self.tasks if task["finished_at"]}
        assert all(received.verified for received in self.receiver.received)


def paid_twice(jobs: dict[str, list[Job]]) -> list[str]:
    """Return the prompts that have more than one job."""
    return [prompt for prompt, own in jobs.items() if len(own) > 1]


def silent(job: Job) -> bool:
    """Return whether a job sends no further callback."""
    return job.faults.drop or (job.state in {"succeeded", "failed"} and job.callbacks_sent >= 2)


def expected(task: dict[str, Any], job: Job | None) -> Iterable[str]:
    """Return the states in which a task may have ended, by the provider's record of it."""
    if job is None:
        return {"failed", "unconfirmed"} if "[refuse]" in task["input"]["prompt"] else {"unconfirmed"}
    if task["external_id"] is not None or 200 in job.callback_statuses:
        return {"failed" if job.faults.fail else "succeeded"}
    return {"unconfirmed"}


async def left_over(database_url: str) -> dict[str, int]:
    """Count the rows that no journey will ever process."""
    counts = {
        "undecided": "SELECT count(*) FROM callbacks WHERE decision IS NULL",
        "sending": "SELECT count(*) FROM submissions WHERE outcome = 'sending'",
        "owed": "SELECT count(*) FROM webhook_messages WHERE state = 'pending'",
    }
    database = Database(database_url)
    async with database.reading() as connection:
        found = {name: int(await connection.scalar(text(statement)) or 0) for name, statement in counts.items()}
    await database.close()
    return found
