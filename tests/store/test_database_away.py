"""The database fails in the middle of a round. The claimed work is resumed as soon as it is back, and sent once."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import State
from service.flows import polling
from service.flows.concurrency import TaskPool
from service.flows.submission import run as submission_run
from service.store.database import Database, StoreUnavailable
from service.store.writer import Batch, Submit, name_of
from tests.support.world import JOB_SECONDS, World
from tests.support.writers import intercepted


class Away:
    """Interrupts one kind of write: before it begins, before its commit, or after it."""

    def __init__(self) -> None:
        self.breaks: tuple[str, str] | None = None
        """The name of the function, and ``before``, ``undone`` or ``after``."""

    async def around(self, submit: Submit, function: Batch[Any, Any], item: Any) -> Any:
        when = self.breaks[1] if self.breaks is not None and self.breaks[0] == name_of(function) else None
        if when is not None:
            self.breaks = None
        if when == "before":
            raise StoreUnavailable("away")
        if when == "undone":

            async def undone(connection: AsyncConnection, items: Sequence[Any]) -> Sequence[Any]:
                await function(connection, items)
                raise StoreUnavailable("away")

            return await submit(undone, item)
        answer = await submit(function, item)
        if when == "after":
            raise StoreUnavailable("away")
        return answer


@pytest.fixture
def away(world: World) -> Away:
    found = Away()
    world.context.writers = intercepted(world.context.writers, found.around)
    return found


async def once(journey: Any, world: World) -> None:
    pool = TaskPool(100)
    with pytest.raises(StoreUnavailable):
        await journey.run_due(world.context, pool)
    await pool.finish()


@pytest.mark.parametrize("when", ["before", "undone", "after"])
async def test_submission_round_is_retried_after_a_failed_write(world: World, away: Away, when: str) -> None:
    task = await world.submit()
    away.breaks = ("_plan_and_write", when)
    await once(submission_run, world)
    assert world.sandbox.ledger.paid() == 0
    world.clock.forward(2)  # less than any lease: where it had been written, as a try that failed
    await world.work()
    assert (await world.task(task)).state is State.SUBMITTED
    assert world.sandbox.ledger.paid() == 1


async def test_submission_round_reads_only_in_its_own_transactions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, pool = await world.submit(), TaskPool(100)

    def gone(_: Database) -> Any:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "reading", gone)
        assert await submission_run.run_due(world.context, pool) == 1
        await pool.finish()
        await once(submission_run, world)  # nothing is due, and whether tasks wait cannot be read
    assert (await world.task(task)).state is State.SUBMITTED
    assert world.sandbox.ledger.paid() == 1


async def test_poll_is_repeated_after_a_failed_write(world: World, away: Away) -> None:
    task = await world.submit("[drop] a dove")
    await world.work()
    world.clock.forward(JOB_SECONDS * 1.5)
    pool, away.breaks = TaskPool(100), ("apply", "before")
    await polling.run_due(world.context, pool)
    await pool.finish()
    assert (await world.task(task)).state is State.SUBMITTED
    await world.work()
    assert (await world.task(task)).state is State.SUCCEEDED
