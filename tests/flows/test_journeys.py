"""Journeys of a Runway task, each on both databases, on a held clock."""

import pytest

from service.domain.task import Source, State
from tests.support.world import JOB_SECONDS, World


async def ended(world: World, prompt: str, **fields: object):
    """Submit a task, and advance the time until it has ended."""
    task = await world.submit(prompt, **fields)
    await world.work()
    await world.pass_time(JOB_SECONDS * 3)
    return await world.task(task)


async def test_task_succeeds_by_callback(world: World) -> None:
    task = await ended(world, "a dove")
    assert (task.state, task.outcome_source, task.progress) == (State.SUCCEEDED, Source.CALLBACK, 100)
    assert [result.role for result in task.results] == ["result", "cover", "last_frame"]
    assert [event.type for event in await world.events(task)] == [
        "accepted",
        "submitting",
        "submitted",
        "running",
        "succeeded",
        "settled",
    ]
    assert [received.decision for received in await world.callbacks(task)] == ["applied", "applied"]
    assert [message.state for message in await world.messages(task)] == ["delivered"]
    assert [(each.state, each.verified) for each in world.receiver.received] == [("succeeded", True)]
    assert world.sandbox.ledger.paid() == 1
    assert task.due_at is None


async def test_lost_callback_is_replaced_by_polling(world: World) -> None:
    task = await ended(world, "[drop] a dove")
    assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.POLL)
    assert await world.callbacks(task) == []
    assert len(world.receiver.received) == 1


@pytest.mark.parametrize(
    ("words", "state", "outcome_source"),
    [
        ("[twice]", State.SUCCEEDED, Source.CALLBACK),
        ("[disorder]", State.SUCCEEDED, Source.CALLBACK),
        ("[early]", State.SUCCEEDED, Source.CALLBACK),
        ("[early][seconds=0]", State.SUCCEEDED, Source.CALLBACK),
        ("[garbage]", State.SUCCEEDED, Source.CALLBACK),
        ("[contradict]", State.SUCCEEDED, Source.CALLBACK),
        ("[cut]", State.SUCCEEDED, Source.CALLBACK),
        ("[cutbody]", State.SUCCEEDED, Source.CALLBACK),
        ("[500]", State.SUCCEEDED, Source.CALLBACK),
        ("[htmlsubmit]", State.SUCCEEDED, Source.CALLBACK),
        ("[429]", State.SUCCEEDED, Source.CALLBACK),
        ("[503]", State.SUCCEEDED, Source.CALLBACK),
        ("[drop][ghost=5]", State.SUCCEEDED, Source.POLL),
        ("[drop][ghost200][ghost=5]", State.SUCCEEDED, Source.POLL),
        ("[drop][flaky]", State.SUCCEEDED, Source.POLL),
        ("[fail]", State.FAILED, Source.CALLBACK),
        ("[fail][drop]", State.FAILED, Source.POLL),
        ("[moderate]", State.FAILED, Source.CALLBACK),
    ],
)
async def test_upstream_faults_lead_to_one_payment_and_one_message(
    world: World, words: str, state: State, outcome_source: Source
) -> None:
    task = await ended(world, f"{words} a dove")
    assert (task.state, task.outcome_source) == (state, outcome_source)
    assert world.sandbox.ledger.paid() == 1
    assert len({received.id for received in world.receiver.received}) == 1
    terminal = [event for event in await world.events(task) if event.data.get("state") in {"succeeded", "failed"}]
    assert len(terminal) == 1


@pytest.mark.parametrize(("words", "code"), [("[refuse]", "invalid_input"), ("[nocredit]", "insufficient_credit")])
async def test_refused_task_fails_with_the_reason_and_costs_nothing(world: World, words: str, code: str) -> None:
    task = await ended(world, f"{words} a dove")
    assert task.state is State.FAILED
    assert task.failure is not None
    assert task.failure.code == code
    assert world.sandbox.ledger.paid() == 0
    assert [each.state for each in world.receiver.received] == ["failed"]
