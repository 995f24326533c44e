"""The inbox: every filter selects the same callbacks as a scan of all of them, page by page."""

import itertools
from typing import Any

import pytest
from sqlalchemy import update

from service.domain.task import State
from service.store import callbacks as callback_store
from service.store import inbox, submissions
from service.store.database import Database
from service.store.inbox import Filter
from service.store.tables import callbacks
from tests.support.values import NOW, a_callback, a_submission, a_task, keep, opened

DECISIONS = ("applied", "forged", None)


async def fill(database: Database) -> list[dict[str, Any]]:
    """Store callbacks of each upstream and decision; return what is known of them, newest first."""
    known: list[dict[str, Any]] = []
    for upstream, client in itertools.product(("elkapi", "cometapi"), ("alice", "bob")):
        task = a_task(client=client, state=State.RUNNING, upstream=upstream, due_at=NOW)
        await keep(database, task)
        submission = a_submission(task, upstream=upstream)
        async with database.writing() as connection:
            await submissions.begin(connection, [submission])
            for number, decision in itertools.product(range(3), DECISIONS):
                row = a_callback(
                    submission_id=submission.id,
                    dedupe_key=f"{number}{decision}".encode(),
                    decision=decision,
                    decided_at=None if decision is None else NOW,
                    upstream=None if decision is None else upstream,
                    due_at=NOW if decision is None else None,
                )
                await callback_store.receive(connection, [row])
                facts = {"task_id": task.id, "client": client, "upstream": upstream, "decision": decision}
                known.append({"id": row.id, **facts})
    return sorted(known, key=lambda each: each["id"], reverse=True)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"upstream": "elkapi"},
        {"upstream": "nobody"},
        {"decisions": ("applied",)},
        {"decisions": ("applied", "forged")},
        {"decisions": ("parked",)},
        {"upstream": "cometapi", "decisions": ("forged",)},
        {"task": 0},
        {"task": 0, "decisions": ("forged",)},
        {"task": 0, "upstream": "nobody"},
        {"task": 0, "client": "nobody"},
    ],
    ids=str,
)
async def test_filter_selects_the_matching_callbacks_newest_first(database_url: str, wanted: dict[str, Any]) -> None:
    async with opened(database_url) as database:
        known = await fill(database)
        if "task" in wanted:
            wanted = {**wanted, "task_id": known[wanted["task"]]["task_id"]}
            del wanted["task"]
        expected = [
            each["id"]
            for each in known
            if each["decision"] in (wanted.get("decisions") or DECISIONS)
            and all(each[name] == wanted[name] for name in ("upstream", "client", "task_id") if name in wanted)
        ]
        found: list[Any] = []
        async with database.reading() as connection:
            while True:
                before = found[-1] if found else None
                more = await inbox.page(connection, Filter(**wanted, before=before), most=4)
                found += [each.id for each in more]
                if len(more) < 4:
                    break
    assert found == expected


async def test_upstream_of_callbacks_that_an_older_version_decided_is_completed(database_url: str) -> None:
    async with opened(database_url) as database:
        known = await fill(database)
        async with database.writing() as connection:
            unmatched = a_callback(dedupe_key=b"unmatched", decision="unmatched", decided_at=NOW, due_at=None)
            await callback_store.receive(connection, [unmatched])
            await connection.execute(update(callbacks).values(upstream=None))
        counts = []
        for _ in range(4):
            async with database.writing() as connection:
                counts.append(await inbox.complete(connection, most=10))
        async with database.reading() as connection:
            found = await inbox.page(connection, Filter(upstream="elkapi", decisions=("applied",)), most=100)
            of_none = await inbox.page(connection, Filter(upstream=""), most=100)
    decided = [each for each in known if each["decision"] is not None]
    assert counts == [10, 10, len(decided) + 1 - 20, 0]
    assert [each.id for each in found] == [
        each["id"] for each in decided if (each["upstream"], each["decision"]) == ("elkapi", "applied")
    ]
    assert [each.id for each in of_none] == [unmatched.id]
