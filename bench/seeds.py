"""The content of a database before a measurement: submitted tasks that wait for their callbacks."""

import dataclasses
import datetime as dt
import functools
from uuid import UUID, uuid4

import uuid_utils.compat as uuid_utils
from sqlalchemy import insert

from bench import obvious
from service.domain.callback_token import Tokens
from service.domain.task import Outcome, State, Submission, Task
from service.store import submissions, tables
from service.store.database import Database
from service.store.migrate import migrate
from service.store.tasks import row_of

CALLBACK_SECRET = "callback-secret-of-the-bench"  # noqa: S105 - it guards nothing
API_KEY = "the-api-key-of-the-measurements"
MAX_AT_ONCE = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Seed:
    """A task that waits for its callbacks."""

    task_id: UUID
    submission_id: UUID
    external_id: str
    token: str


@functools.cache
def seeds(count: int) -> tuple[Seed, ...]:
    """Return tasks, the same for all contestants."""
    tokens = Tokens(CALLBACK_SECRET)
    ids = [(uuid_utils.uuid7(), uuid_utils.uuid7()) for _ in range(count)]
    return tuple(Seed(task, submission, str(uuid4()), tokens.make(submission)) for task, submission in ids)


async def fill_dovecote(url: str, count: int) -> None:
    """Make Dovecote's tables and tasks."""
    now = dt.datetime.now(dt.UTC)
    later = now + dt.timedelta(days=1)
    database = Database(url)
    await migrate(database)
    for some in _portions(seeds(count)):
        made = [_task(seed, now, later) for seed in some]
        sent = [_submission(seed, now) for seed in some]
        async with database.writing() as connection:
            await connection.execute(tables.tasks.insert(), [row_of(task) for task in made])
            await submissions.begin(connection, sent)
    await database.close()


def _task(seed: Seed, now: dt.datetime, later: dt.datetime) -> Task:
    return Task(
        id=seed.task_id,
        client="bench",
        family="runway",
        operation="text_to_video",
        input={"prompt": "a dove comes home", "duration": 5, "aspect_ratio": "16:9"},
        request_hash="",
        route=("elkapi",),
        state=State.SUBMITTED,
        upstream="elkapi",
        dialect="runway/aggregator",
        external_id=seed.external_id,
        callback_expected=True,
        sequence=3,
        created_at=now,
        updated_at=now,
        submitted_at=now,
        deadline_at=later,
        due_at=later,
    )


def _submission(seed: Seed, now: dt.datetime) -> Submission:
    return Submission(
        id=seed.submission_id,
        task_id=seed.task_id,
        upstream="elkapi",
        dialect="runway/aggregator",
        outcome=Outcome.TAKEN,
        external_id=seed.external_id,
        sent_at=now,
        settled_at=now,
    )


async def fill_obvious(url: str, count: int) -> None:
    """Make the obvious version's tables and tasks."""
    engine = obvious.open_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(obvious.Base.metadata.create_all)
        for some in _portions(seeds(count)):
            await connection.execute(insert(obvious.Task), [_row(seed) for seed in some])
    await engine.dispose()


def _row(seed: Seed) -> dict[str, object]:
    return {
        "id": seed.task_id,
        "token": seed.token,
        "client": "bench",
        "family": "runway",
        "operation": "text_to_video",
        "input": {"prompt": "a dove comes home", "duration": 5, "aspect_ratio": "16:9"},
        "state": "submitted",
        "external_id": seed.external_id,
    }


def _portions(some: tuple[Seed, ...]) -> list[tuple[Seed, ...]]:
    return [some[start : start + MAX_AT_ONCE] for start in range(0, len(some), MAX_AT_ONCE)]
