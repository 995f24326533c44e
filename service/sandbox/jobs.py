"""The jobs of the sandbox, and the ledger of payments: the proof that no task was paid twice."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, Self

from service.sandbox.faults import Faults
from service.sandbox.inputs import Fetched

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Media = Literal["video", "image", "audio", "model"]

EXTENSIONS: Final[dict[Media, str]] = {"video": "mp4", "image": "png", "audio": "mp3", "model": "glb"}

_QUEUE_SHARE: Final = 0.2  # of a job's time; the rest it runs
_OPPOSITE: Final[dict[State, State]] = {"succeeded": "failed", "failed": "succeeded"}


@dataclass(frozen=True, slots=True)
class Life:
    """The moments of a job, in seconds of the sandbox's clock; infinity means never."""

    created_at: float
    started_at: float
    ended_at: float
    reversed_at: float
    verdict: State

    @classmethod
    def planned(cls, created_at: float, seconds: float, faults: Faults) -> Self:
        """Plan the life of a job that takes so many seconds."""
        ended_at = math.inf if faults.stuck else created_at + seconds
        return cls(
            created_at=created_at,
            started_at=created_at if faults.early else created_at + seconds * _QUEUE_SHARE,
            ended_at=ended_at,
            reversed_at=math.inf if faults.contradict is None else ended_at + faults.contradict,
            verdict="failed" if faults.fail or faults.moderate or faults.halffail else "succeeded",
        )

    @property
    def last_word(self) -> State:
        """The opposite outcome, which the job reports after `reversed_at`."""
        return _OPPOSITE[self.verdict]

    def state_at(self, now: float) -> State:
        if now >= self.reversed_at:
            return self.last_word
        if now >= self.ended_at:
            return self.verdict
        return "running" if now >= self.started_at else "queued"

    def progress_at(self, now: float) -> float:
        """Return the finished fraction of the work, from 0 to 1. A stuck job never finishes."""
        if now >= self.ended_at:
            return 1.0
        if now <= self.started_at or math.isinf(self.ended_at):
            return 0.0
        return (now - self.started_at) / (self.ended_at - self.started_at)

    def changed_at(self, now: float) -> float:
        """Return when the job last changed."""
        moments = (self.created_at, self.started_at, self.ended_at, self.reversed_at)
        return max(moment for moment in moments if moment <= max(now, self.created_at))


@dataclass(frozen=True, slots=True)
class Order:
    """A client's order, as the protocol read it from the request."""

    document: Mapping[str, Any]
    prompt: str
    points: int
    media: Media = "video"
    callback_url: str | None = None
    awaits_input: bool = False  # the job starts only after further input …
    resumes: str | None = None  # … by such an order: no new job, this one goes on
    facts: Mapping[str, str] = field(default_factory=dict)  # texts that its messages contain


@dataclass(frozen=True, slots=True)
class Job:
    """An order that was taken. A value: the ledger keeps the newest one."""

    id: str
    account: str  # the paid account; other accounts cannot see the job
    route: str
    order: Order
    life: Life
    faults: Faults
    base_url: str  # where the client found the sandbox: its files are there too
    paid: bool = True
    polls: int = 0
    callbacks_sent: int = 0
    callback_statuses: tuple[int, ...] = ()  # 0 where no answer came
    awaits_input: bool = False
    answered_at: float | None = None
    cancelled_at: float | None = None
    kept: bool = False  # whether a poll still finds it after it was cancelled
    deleted_at: float | None = None
    state: State = field(default="queued")  # at the moment when the ledger showed it

    @property
    def prompt(self) -> str:
        return self.order.prompt

    @property
    def points(self) -> int:
        return self.order.points

    @property
    def callback_url(self) -> str | None:
        return self.order.callback_url

    @property
    def created_at(self) -> float:
        return self.life.created_at

    @property
    def cancelled(self) -> bool:
        return self.cancelled_at is not None

    @property
    def gone(self) -> bool:
        """Whether it was cancelled or deleted, so that a poll finds nothing."""
        return self.deleted_at is not None or (self.cancelled and not self.kept)

    @property
    def file_url(self) -> str:
        return self.file(EXTENSIONS[self.order.media])

    def file(self, ending: str) -> str:
        return f"{self.base_url}/sandbox/files/{self.id}.{ending}"

    def state_at(self, now: float) -> State:
        return "cancelled" if self.cancelled else self.life.state_at(now)

    def as_document(self) -> dict[str, Any]:
        """Return the job as the ledger's JSON."""
        return {
            "id": self.id,
            "account": self.account,
            "route": self.route,
            "prompt": self.prompt,
            "paid": self.paid,
            "points": self.points,
            "created_at": self.created_at,
            "state": self.state,
            "callback_url": self.callback_url,
            "polls": self.polls,
            "cancelled": self.cancelled,
            "callbacks_sent": self.callbacks_sent,
            "callback_statuses": list(self.callback_statuses),
            "faults": self.faults.as_words(),
        }


class Ledger:
    """Every job that was taken, and every request that came."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self.fetched: list[Fetched] = []
        """Every file of an order that was fetched, or could not be."""
        self.requests: Counter[str] = Counter()
        """The number of requests of each route, refused ones included; by `METHOD /path`."""

    @property
    def jobs(self) -> list[Job]:
        """Every job in the order of taking, with its state as of now."""
        now = self._clock()
        return [replace(job, state=job.state_at(now)) for job in self._jobs.values()]

    def paid(self) -> int:
        """Return the number of paid jobs: every job that was taken."""
        return sum(job.paid for job in self._jobs.values())

    def spent(self, account: str) -> int:
        """Return the points that an account charged, before refunds."""
        return sum(job.points for job in self._jobs.values() if job.account == account)

    def find(self, job_id: str, account: str | None = None) -> Job | None:
        job = self._jobs.get(job_id)
        return job if job is not None and account in (None, job.account) else None

    def put(self, job: Job) -> Job:
        """Keep the newest value of a job."""
        self._jobs[job.id] = job
        return job

    def count_callback(self, job_id: str, status: int) -> None:
        if (job := self.find(job_id)) is not None:
            statuses = (*job.callback_statuses, status)
            self.put(replace(job, callbacks_sent=job.callbacks_sent + 1, callback_statuses=statuses))

    def clear(self) -> None:
        self._jobs.clear()
        self.fetched.clear()
        self.requests.clear()

    def as_document(self) -> dict[str, Any]:
        return {
            "paid": self.paid(),
            "requests": dict(self.requests),
            "fetched": [asdict(each) for each in self.fetched],
            "jobs": [job.as_document() for job in self.jobs],
        }
