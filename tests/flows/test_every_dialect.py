"""The same journeys for every dialect of the registry, against the sandbox. A registered dialect is covered by itself."""

import dataclasses
from typing import Any

import pytest

from service.domain.task import Source, State, Task
from service.providers.capabilities import CanCancel
from service.providers.dialect import Dialect
from service.sandbox import Faults, Sandbox
from tests.support.dialects import DIALECTS, SYNCHRONOUS, example_of, world_of
from tests.support.world import JOB_SECONDS, RECEIVER_URL, World

DEADLINE = 200.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """The behaviour of an upstream, and the expected end of the task."""

    faults: tuple[str, ...] = ()
    state: State = State.SUCCEEDED
    failure: str | None = None
    paid: int = 1
    callback_needed: bool = False
    """Whether only a callback can bring the result: without callbacks the task expires."""


JOURNEYS = {
    "success": Journey(),
    "lost-callback": Journey(faults=("drop",)),
    "doubled-and-disordered-callbacks": Journey(faults=("twice", "disorder", "garbage")),
    "callback-before-the-answer": Journey(faults=("early", "seconds=0")),
    "failure": Journey(faults=("fail",), state=State.FAILED, failure="provider_error"),
    "failure-without-callback": Journey(faults=("fail", "drop"), state=State.FAILED, failure="provider_error"),
    "content-refused-by-the-job": Journey(faults=("moderate",), state=State.FAILED, failure="content_policy"),
    "content-refused-at-submit": Journey(
        faults=("refuse", "moderate"), state=State.FAILED, failure="content_policy", paid=0
    ),
    "invalid-input": Journey(faults=("refuse",), state=State.FAILED, failure="invalid_input", paid=0),
    "invalid-input-with-http-200": Journey(
        faults=("refuse200",), state=State.FAILED, failure="invalid_input", paid=0
    ),
    "no-credit": Journey(faults=("nocredit",), state=State.FAILED, failure="insufficient_credit", paid=0),
    "rate-limited-submit": Journey(faults=("429=2",)),
    "unavailable-submit": Journey(faults=("503=2",)),
    "unknown-id-at-first": Journey(faults=("drop", "ghost=5")),
    "unknown-id-with-http-200-at-first": Journey(faults=("drop", "ghost200=5")),
    "failing-polls": Journey(faults=("drop", "flaky")),
    "answer-lost": Journey(faults=("cut",), callback_needed=True),
    "answer-cut-in-half": Journey(faults=("cutbody",), callback_needed=True),
    "answer-is-a-page": Journey(faults=("htmlsubmit",), callback_needed=True),
    "answer-is-http-500": Journey(faults=("500",), callback_needed=True),
    "answer-and-callback-lost": Journey(faults=("cut", "drop"), state=State.EXPIRED, failure="provider_timeout"),
}  # fmt: skip


REFUSAL_CODES = {("runway/official", "content-refused-at-submit"): "invalid_input"}
"""Where a provider words a refusal so that its reason cannot be told from another."""

LOOKED_UP = frozenset({"kling/official"})
"""Where a lost job is looked up by our reference: it needs neither an answer nor a callback."""


def test_sandbox_speaks_every_dialect() -> None:
    assert sorted(Sandbox.base_paths()) == sorted([*DIALECTS, *SYNCHRONOUS])


async def submit(world: World, dialect: Dialect, faults: tuple[str, ...] = (), **more: Any) -> Task:
    """Submit the example of a dialect to an upstream with these faults."""
    world.sandbox.faults = Faults.named(faults)
    return await world.submit(**example_of(dialect), callback_url=RECEIVER_URL, deadline=DEADLINE, **more)


@pytest.mark.parametrize("journey", JOURNEYS)
@pytest.mark.parametrize("name", DIALECTS)
async def test_journey_ends_as_expected_and_is_paid_at_most_once(sqlite_url: str, name: str, journey: str) -> None:
    expected, dialect = JOURNEYS[journey], DIALECTS[name]
    state, failure = expected.state, REFUSAL_CODES.get((name, journey), expected.failure)
    if expected.callback_needed and not dialect.facts.callbacks:
        state, failure = State.EXPIRED, "provider_timeout"
    if state is State.EXPIRED and name in LOOKED_UP:
        state, failure = State.SUCCEEDED, None
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


ONLY_QUEUED = frozenset({"wan/official"})
"""Where a job can be cancelled in the queue only: a running one is still delivered."""
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


@pytest.mark.parametrize("name", [name for name in DIALECTS if name not in CANCELLING])
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


AT_ONCE = {
    "success": Journey(),
    "content-refused-at-submit": JOURNEYS["content-refused-at-submit"],
    "invalid-input-with-http-200": JOURNEYS["invalid-input-with-http-200"],
    "no-credit": JOURNEYS["no-credit"],
    "unavailable-submit": JOURNEYS["unavailable-submit"],
    "answer-lost": Journey(faults=("cut",), state=State.EXPIRED, failure="provider_timeout"),
    "answer-is-a-page": Journey(faults=("htmlsubmit",), state=State.EXPIRED, failure="provider_timeout"),
}


@pytest.mark.parametrize("journey", AT_ONCE)
@pytest.mark.parametrize("name", SYNCHRONOUS)
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
