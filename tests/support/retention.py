"""Worlds in which data is old or erased: settings of retention, sweeps, dumps and counted rows."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Table, func, select, text

from service.domain.task import Task
from service.flows.money import ledger as ledger_flow
from service.flows.retention.sweep import run_to_the_end
from service.store import ledger, tables
from tests.support.world import JOB_SECONDS, World

DAY = 86_400.0
WORDS = "Zebrafink Quarzlampe"
"""Words that occur in no other text."""
LONG = 400.0
"""Seconds after which the second pass of an erasure is over."""


async def count(world: World, table: Table, *conditions: Any) -> int:
    """Count rows."""
    async with world.context.database.reading() as connection:
        return int(await connection.scalar(select(func.count()).select_from(table).where(*conditions)) or 0)


async def is_kept(world: World, task: Task) -> bool:
    """Return whether a task is still there."""
    return await count(world, tables.tasks, tables.tasks.c.id == task.id) == 1


async def ended(world: World, prompt: str = "a dove", **fields: Any) -> Task:
    """Submit a task and run it to its end."""
    task = await world.submit(prompt, labels={"user": "42"}, **fields)
    await world.until(JOB_SECONDS * 4)
    return await world.task(task)


async def newest(world: World) -> Task:
    """Run a task that holds the newest submission and the newest event, so that all others may go."""
    return await ended(world, callback_url=None)


def keep(world: World, **ages: str) -> None:
    """Change the settings of retention: what is not named is kept without an end."""
    settings = world.context.settings.retention
    ages = {**dict.fromkeys(type(settings).model_fields, "forever"), "idempotency_keys": "1h", **ages}
    changed = settings.model_copy(update=ages)
    world.context.settings = world.context.settings.model_copy(update={"retention": changed})


async def sweep(world: World) -> dict[str, int]:
    """Remove all that is too old, and return how many rows of each kind."""
    return dict((await run_to_the_end(world.context)).removed)


async def dump(world: World) -> str:
    """Return every value of every table as text."""
    found: list[str] = []
    async with world.context.database.reading() as connection:
        for table in tables.metadata.sorted_tables:
            rows = (await connection.execute(text(f"SELECT * FROM {table.name}"))).all()  # noqa: S608 - our own names
            found += [
                value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                for row in rows
                for value in row
            ]
    return "\n".join(found)


def files_with(folder: Path, words: Iterable[str]) -> list[str]:
    """Return the files of a folder that contain any of some words."""
    return [
        each.name
        for each in folder.iterdir()
        if each.is_file() and any(word.encode() in each.read_bytes() for word in words)
    ]


async def endpoint(api: httpx.AsyncClient) -> str:
    """Register an endpoint of the client."""
    answer = await api.post("/v1/endpoints", json={"url": "http://receiver.test/all"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def erased(api: httpx.AsyncClient, task: Task, query: str = "") -> httpx.Response:
    """Ask for the erasure of a task."""
    return await api.delete(f"/v1/tasks/{task.id}{query}")


async def accounts(world: World) -> Any:
    """Return the ledger, by client, family, upstream and day, and in all."""
    async with world.context.database.reading() as connection:
        entries = await ledger.entries(connection, by=["client", "family", "upstream", "day"])
    groups, total = ledger_flow.summarize(entries)
    return {group: each.as_json() for group, each in groups.items()}, total.as_json()


async def labelled(world: World, client: str, prompt: str = WORDS, **labels: str) -> Task:
    """Submit a task with labels."""
    return await world.submit_as(client, prompt, labels=labels, callback_url=None)
