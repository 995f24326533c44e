"""The evidence and the rows of a round, as the verifier reads them."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Table, select

from service.domain.callback_token import Tokens
from service.domain.events import Event
from service.domain.task import Source, Submission
from service.domain.webhook_events import ENDS
from service.store import tables
from service.store.database import Database
from service.store.submissions import submission_of
from service.store.tasks import task_of
from service.store.webhooks.messages import Message
from tests.chaos.evidence import Job, Record, read
from tests.chaos.load import CALLBACK_SECRET
from tests.support.replay import Kept

Row = Mapping[str, Any]
Kind = TypeVar("Kind", bound=Record)


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """The evidence and the rows of a round."""

    records: Sequence[Record]
    tasks: Mapping[UUID, Row]
    submissions: Mapping[UUID, Row]
    callbacks: Mapping[UUID, Sequence[Row]]
    """By submission."""
    messages: Mapping[UUID, Row]
    attempts: Mapping[UUID, Sequence[Row]]
    """By message."""
    events: Mapping[UUID, Sequence[Row]]
    """By task."""
    assets: Mapping[UUID, Sequence[Row]]
    """By task."""
    objects: Path
    kept: Sequence[Kept] = ()
    """The rows of each task, for the invariants of one task."""
    settled: bool = True
    """Whether there was time for everything to end."""

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Return the records of a kind."""
        return [each for each in self.records if isinstance(each, kind)]

    def task_of(self, job: Job) -> Row | None:
        """Return the task that a job was bought for."""
        submission = self.submission_of(job)
        return None if submission is None else self.tasks.get(submission["task_id"])

    def submission_of(self, job: Job) -> Row | None:
        """Return the submission by which a job was bought."""
        if job.callback_token is not None:
            known = Tokens(CALLBACK_SECRET).read(job.callback_token)
            return None if known is None else self.submissions.get(known)
        named = (each for each in self.submissions.values() if each["external_id"] == job.id)
        return next(named, None)


async def read_facts(database_url: str, evidence: Path, objects: Path, *, settled: bool = True) -> Facts:
    """Read the evidence and the database."""
    database = Database(database_url, command_timeout=None)  # a busy machine is only slow
    try:
        async with database.reading() as connection:

            async def rows(table: Table) -> list[Row]:
                return [each._mapping for each in await connection.execute(select(table).order_by(table.c.id))]

            tasks = (await connection.execute(select(tables.tasks))).all()
            begun = [submission_of(row) for row in await connection.execute(select(tables.submissions))]

            return Facts(
                records=list(read(evidence)),
                tasks={each["id"]: each for each in await rows(tables.tasks)},
                submissions={each["id"]: each for each in await rows(tables.submissions)},
                callbacks=_by("submission_id", await rows(tables.callbacks)),
                messages={each["id"]: each for each in await rows(tables.webhook_messages)},
                attempts=_by("message_id", await rows(tables.webhook_attempts)),
                events=_by("task_id", await rows(tables.events)),
                assets=_by("task_id", await rows(tables.assets)),
                objects=objects,
                kept=_kept(tasks, begun, await rows(tables.events), await rows(tables.webhook_messages)),
                settled=settled,
            )
    finally:
        await database.close()


def _kept(
    tasks: Sequence[Any], begun: Sequence[Submission], happened: Sequence[Row], made: Sequence[Row]
) -> list[Kept]:
    """Return the rows of each task as the stateful tests compare them."""
    events, messages = _by("task_id", happened), _by("task_id", made)
    return [
        Kept(
            task_of(row),
            [Event(**{**each, "source": Source(each["source"])}) for each in map(_without_id, events.get(row.id, ()))],
            sorted((each for each in begun if each.task_id == row.id), key=lambda each: each.id),
            # Clients of the load also want messages that no end makes.
            [Message(**each) for each in messages.get(row.id, ()) if each["type"] in ENDS],
        )
        for row in tasks
    ]


def _without_id(event: Row) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "id"}


def _by(name: str, rows: Sequence[Row]) -> Mapping[UUID, Sequence[Row]]:
    found: dict[UUID, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found
