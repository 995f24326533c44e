"""Worlds in which data is old: settings of retention, sweeps, and counted rows."""

from typing import Any

from sqlalchemy import Table, func, select

from service.domain.task import Task
from service.flows.retention.sweep import run_to_the_end
from service.store import tables
from tests.support.world import JOB_SECONDS, World

DAY = 86_400.0


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
