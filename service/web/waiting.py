"""Wait for the end of a task, or for another of its states."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from service.domain.task import Task
from service.flows.context import Context
from service.store import tasks as task_store


def _has_ended(task: Task) -> bool:
    return task.state.ended


async def wait_for_end(
    context: Context, task: Task, seconds: float, *, enough: Callable[[Task], bool] = _has_ended
) -> Task:
    """Wait until a task has ended, at most for some seconds, and return its latest version.

    :param enough: returns whether a version of the task is what is waited for; default: its end
    """
    until = asyncio.get_running_loop().time() + seconds
    with context.signals.watching(task.id) as changed:
        while True:
            changed.clear()
            async with context.database.reading() as connection:
                task = await task_store.find(connection, task.id) or task
            left = until - asyncio.get_running_loop().time()
            if enough(task) or left <= 0 or context.signals.closed:
                return task
            try:  # flows/signals/catchup.py wakes a waiter whose signal was lost
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                continue


async def stopped(future: asyncio.Future[Any]) -> None:
    """End what a future does, if it is not done."""
    future.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await future
