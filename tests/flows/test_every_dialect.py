"""The same journeys for every dialect of the registry, against the sandbox. A registered dialect is covered by itself."""

from typing import Any

import pytest

from service.domain.task import Source, State, Task
from service.flows.submission.accept import accept
from service.providers.capabilities import CanCancel
from service.providers.dialect import Dialect
from service.providers.registry import FAMILIES
from service.sandbox import Faults, Sandbox
from service.store import tables
from tests.support.dialects import DIALECTS, SYNCHRONOUS, example_of, world_of
from tests.support.journeys import AT_ONCE, JOURNEYS, REFERENCE, SHORT_AT_ONCE, expected_end, is_short
from tests.support.world import JOB_SECONDS, RECEIVER_URL, World

DEADLINE = 200.0


def test_sandbox_supports_every_dialect() -> None:
    assert sorted(Sandbox.base_paths()) == sorted([*DIALECTS, *SYNCHRONOUS])


def test_sandbox_speaks_a_dialect_of_every_family() -> None:
    played = [*DIALECTS.values(), *SYNCHRONOUS.values()]
    served = {
        family.name
        for family in FAMILIES.values()
        for operation in family.operations
        if any(dialect.offers(family.name, operation) for dialect in played)
    }
    assert served == set(FAMILIES)


async def submit(world: World, dialect: Dialect, faults: tuple[str, ...] = (), **more: Any) -> Task:
    """Submit the example of a dialect to an upstream with these faults."""
    world.sandbox.faults = Faults.named(faults)
    return await world.submit(**example_of(dialect), callback_url=RECEIVER_URL, deadline=DEADLINE, **more)


GRID = [
    pytest.param(
        name,
        journey,
        id=f"{name}-{journey}",
        marks=[] if is_short(name, journey) else [pytest.mark.long],
    )
    for name in DIALECTS
    for journey in JOURNEYS
]


@pytest.mark.parametrize(("name", "journey"), GRID)
async def test_journey_ends_as_expected_and_is_paid_at_most_once(sqlite_url: str, name: str, journey: str) -> None:
    expected, dialect = JOURNEYS[journey], DIALECTS[name]
    state, failure = expected_end(name, journey, dialect)
    async with world_of(name, sqlite_url) as world:
        task = await submit(world, dialect, expected.faults)
        await world.until(DEADLINE + 30)
        ended = await world.task(task)
        assert (ended.state, ended.dialect) == (state, name), ended.last_error
        assert (None if ended.failure is None else ended.failure.code) == failure
        assert world.sandbox.ledger.paid() == expected.paid
        assert [each.state for each in world.receiver.received] == [str(state)]
        if state is State.SUCCEEDED:
            check_result(world, ended, dialect, came_by_callback="drop" not in expected.faults)


def check_result(world: World, task: Task, dialect: Dialect, *, came_by_callback: bool) -> None:
    """Check that the result is the sandbox's file, and came by callback where the dialect trusts callbacks."""
    job = world.sandbox.ledger.jobs[-1]
    assert task.external_id is not None
    assert job.id in task.external_id
    main = [result for result in task.results if result.role == "result"]
    assert main
    assert all(result.text or job.id in (result.url or "") for result in main)
    trusted = dialect.facts.callbacks and not dialect.facts.confirms and came_by_callback
    assert task.outcome_source is (Source.CALLBACK if trusted else Source.POLL)


ONLY_QUEUED = frozenset({"seedance/ark", "wan/official"})
"""Where a job can be cancelled in the queue only: a running one is still delivered."""
SEVERAL = [pytest.param(name, marks=[] if name in REFERENCE else [pytest.mark.long]) for name in DIALECTS]


@pytest.mark.parametrize("name", SEVERAL)
async def test_job_that_was_bought_elsewhere_is_followed_to_its_end(sqlite_url: str, name: str) -> None:
    dialect = DIALECTS[name]
    async with world_of(name, sqlite_url) as world:
        bought = await submit(world, dialect)
        await world.work()
        job = (await world.task(bought)).external_id
        async with world.context.database.writing() as connection:  # from here on it was bought elsewhere
            for table in reversed(tables.metadata.sorted_tables):
                await connection.execute(table.delete())
        known = {"family": bought.family, "operation": bought.operation, "upstream": "elkapi", "external_id": job}
        model = {name: value for name, value in bought.input.items() if name == "model"}
        request = {**known, "input": model, "deadline": DEADLINE}
        task = (await accept(world.context, request, client="default")).task
        await world.until(DEADLINE)
        ended = await world.task(task)
        assert (ended.state, ended.external_id, ended.adopted) == (State.SUCCEEDED, job, True), ended.last_error
        assert world.sandbox.ledger.paid() == 1


CANCELLING = [name for name, dialect in DIALECTS.items() if isinstance(dialect, CanCancel) and name not in ONLY_QUEUED]


@pytest.mark.parametrize("name", CANCELLING)
async def test_running_job_is_cancelled_at_the_provider(sqlite_url: str, name: str) -> None:
    async with world_of(name, sqlite_url) as world:
        task = await submit(world, DIALECTS[name])
        await world.until(JOB_SECONDS / 2)
        answer = await world.client.post(f"/v1/tasks/{task.id}/cancel")
        assert answer.status_code in {200, 202}, answer.text
        await world.until(DEADLINE)
        assert [job.state for job in world.sandbox.ledger.jobs] == ["cancelled"]
        assert (await world.task(task)).state is State.CANCELLED
        assert [each.state for each in world.receiver.received] == ["cancelled"]


NOT_CANCELLING = [
    pytest.param(name, marks=[] if name in REFERENCE else [pytest.mark.long])
    for name in DIALECTS
    if name not in CANCELLING
]


@pytest.mark.parametrize("name", NOT_CANCELLING)
async def test_result_of_a_job_that_cannot_be_cancelled_is_still_delivered(sqlite_url: str, name: str) -> None:
    async with world_of(name, sqlite_url) as world:
        task = await submit(world, DIALECTS[name])
        await world.until(JOB_SECONDS / 2)
        await world.client.post(f"/v1/tasks/{task.id}/cancel")
        await world.until(DEADLINE)
        assert [job.state for job in world.sandbox.ledger.jobs] == ["succeeded"]
        ended = await world.task(task)
        assert ended.state is State.SUCCEEDED
        assert world.sandbox.ledger.paid() == 1


AT_ONCE_GRID = [
    pytest.param(name, journey, id=f"{name}-{journey}", marks=[] if journey in SHORT_AT_ONCE else [pytest.mark.long])
    for name in SYNCHRONOUS
    for journey in AT_ONCE
]


@pytest.mark.parametrize(("name", "journey"), AT_ONCE_GRID)
async def test_answer_of_a_dialect_without_jobs_is_the_result(sqlite_url: str, name: str, journey: str) -> None:
    expected = AT_ONCE[journey]
    async with world_of(name, sqlite_url) as world:
        task = await submit(world, SYNCHRONOUS[name], expected.faults)
        await world.until(DEADLINE + 30)
        ended = await world.task(task)
        assert (ended.state, ended.dialect) == (expected.state, name), ended.last_error
        assert (None if ended.failure is None else ended.failure.code) == expected.failure
        assert world.sandbox.ledger.paid() == expected.paid
        assert bool(ended.results) is (expected.state is State.SUCCEEDED)
