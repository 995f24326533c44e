"""Unexpected evidence of jobs: several at once, late, or while another process checks the same job."""

import asyncio
from typing import Any

import pytest

from service.domain.task import State, Submission, Task, WaitingFor
from service.flows.callbacks import process
from service.flows.concurrency import TaskPool
from service.flows.submission import duplicates
from service.flows.submission import run as submission_run
from service.sandbox import Faults
from tests.support.crashes import LONGEST_LEASE
from tests.support.routes import Route, three_upstreams
from tests.support.stage import FaultyUpstream
from tests.support.waiting import LIMIT
from tests.support.world import JOB_SECONDS

TASK_REQUEST: dict[str, Any] = {"operation": "text_to_video", "callback_url": None}
AGAIN = {"confirm_double_payment": True}


def with_fault(three: Route, fault: str) -> FaultyUpstream:
    host = FaultyUpstream(three.elk)
    host.fault = fault
    three.world.edge.hosts["sandbox.test"] = host
    return host


async def test_concurrent_callbacks_of_a_refused_job_record_one_job(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi") as three:
        with_fault(three, "lie")
        task = await three.world.submit("[early][seconds=0] a dove", **TASK_REQUEST)
        pool = TaskPool(1)
        await submission_run.run_due(three.world.context, pool)
        await pool.finish()
        assert await three.history(task) == [("elkapi", "unavailable")]
        assert await process.run_due(three.world.context) == 2
        assert (await three.world.task(task)).state is State.SUCCEEDED
        [submission] = await three.world.submissions(task)
        assert (submission.outcome, submission.superseded_at, submission.job_state) == ("taken", None, None)
        assert "duplicate_job" not in [event.type for event in await three.world.events(task)]


async def test_answer_after_a_retry_serves_the_task(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi") as three:
        host = with_fault(three, "hold")
        task = await three.world.submit("[drop] a dove", **TASK_REQUEST)
        sleeper = TaskPool(1)
        await submission_run.run_due(three.world.context, sleeper)
        await host.holds.wait()
        three.world.clock.forward(LONGEST_LEASE)
        await three.world.work()
        answer = await three.world.client.post(f"/v1/tasks/{task.id}/retry", json=AGAIN)
        assert answer.json()["state"] == "queued"
        host.fault = "well"
        host.let_go()
        await sleeper.finish()
        await three.world.until(JOB_SECONDS * 10)
        assert (await three.world.task(task)).state is State.SUCCEEDED
        [submission] = await three.world.submissions(task)
        assert (submission.outcome, submission.superseded_at) == ("taken", None)
        assert three.jobs == [1, 0, 0]


async def test_job_adopted_during_a_duplicate_check_stays_adopted(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        world = three.world
        host, other = with_fault(three, "cut"), FaultyUpstream(three.comet)
        world.edge.hosts["comet.test"] = other
        task = await world.submit(**TASK_REQUEST)
        await world.work()
        other.fault, three.comet.faults = "detain", Faults.named(["503=99"])
        await world.client.post(f"/v1/tasks/{task.id}/retry", json=AGAIN)
        buying = TaskPool(1)
        await submission_run.run_due(world.context, buying)
        await other.holds.wait()
        world.clock.forward(JOB_SECONDS * 0.3)
        await three.elk.deliver_due()
        await process.run_due(world.context)
        assert (await world.submissions(task))[0].job_state == "running"
        host.fault = "hold"
        looking = TaskPool(1)
        await duplicates.run_due(world.context, looking)
        await host.holds.wait()
        other.let_go()
        await buying.finish()
        assert (await world.task(task)).state is State.QUEUED
        world.clock.forward(JOB_SECONDS)
        await three.elk.deliver_due()
        await process.run_due(world.context)
        host.let_go()
        await looking.finish()
        assert (await world.task(task)).state is State.SUCCEEDED
        first, second = await world.submissions(task)
        assert (first.outcome, first.superseded_at, first.job_state, first.due_at) == ("taken", None, None, None)
        assert second.outcome == "unavailable"


async def test_facts_about_a_duplicate_job_only_grow(database_url: str) -> None:
    """A late callback with 'running' arrives last. The recorded end stays, and the job is not checked again."""
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        world = three.world
        three.elk.faults = Faults.named(["cut", "drop"])
        task = await world.submit(**TASK_REQUEST)
        await world.work()
        await world.client.post(f"/v1/tasks/{task.id}/retry", json=AGAIN)
        await world.work()
        assert await three.history(task) == [("elkapi", "uncertain"), ("cometapi", "taken")]
        first, _ = await world.submissions(task)
        [job] = three.elk.ledger.jobs
        for status in ("1", "3", "1"):
            world.clock.forward(JOB_SECONDS)
            told = {"task_id": job.id, "status": status, "video_url": job.file_url if status == "3" else None}
            await world.client.post(f"/callbacks/{world.context.tokens.make(first.id)}", json={**told, "msg": status})
            await world.work()
        first, _ = await world.submissions(task)
        assert (first.job_state, first.due_at) == ("succeeded", None)
        happened = [event.type for event in await world.events(task)]
        assert (happened.count("duplicate_job"), happened.count("duplicate_job_ended")) == (1, 1)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_cancelled_unconfirmed_task_is_not_resubmitted_and_ends(database_url: str, *, cancelled: bool) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi") as three, asyncio.timeout(LIMIT):
        three.elk.faults = Faults.named(["cut", "drop"])
        task = await three.world.submit(**TASK_REQUEST, on_uncertain="resubmit_once", deadline=400)
        await three.world.work()
        if cancelled:
            await three.world.client.post(f"/v1/tasks/{task.id}/cancel")
        await three.world.until(300)
        assert three.jobs == [1 if cancelled else 2, 0, 0]
        held = State.CANCELLED if cancelled else State.UNCONFIRMED
        assert (await three.world.task(task)).state is held
        await three.world.until(110)
        assert (await three.world.task(task)).state is (held if cancelled else State.EXPIRED)


async def test_waiting_task_is_not_claimed_repeatedly(database_url: str) -> None:
    """A submit would fit into the second, and there is no place: no timer ends that, but a place that is given back."""
    limits = {"OPEN_TASKS": "1", "SUBMITS_PER_SECOND": "5"}
    more = {f"DOVECOTE_UPSTREAMS__ELKAPI__{name}": value for name, value in limits.items()}
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi", **more) as three:
        for _ in range(2):
            await three.world.submit("[stuck] a dove", **TASK_REQUEST)
        await three.world.work()
        three.world.clock.forward(10)
        woken = three.world.context.signals.journeys["submit"]
        woken.clear()
        assert await submission_run.run_due(three.world.context, TaskPool(1)) == 0
        await asyncio.sleep(0.05)
        assert not woken.is_set()


@pytest.mark.parametrize("state", [State.SUBMITTING, State.UNCONFIRMED, State.QUEUED])
async def test_callback_with_an_id_proves_the_job_despite_an_unknown_status(database_url: str, state: State) -> None:
    """Otherwise the job would be bought again although its id is known."""
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        world = three.world
        host = with_fault(three, "hold" if state is State.SUBMITTING else "cut")
        task = await world.submit("[drop] a dove", **TASK_REQUEST)
        pool = TaskPool(1)
        await submission_run.run_due(world.context, pool)
        if state is State.SUBMITTING:
            await host.holds.wait()
        else:
            await pool.finish()
        if state is State.QUEUED:
            await world.client.post(f"/v1/tasks/{task.id}/retry", json=AGAIN)
        assert (await world.task(task)).state is state
        [submission], [job] = await world.submissions(task), three.elk.ledger.jobs
        path = f"/callbacks/{world.context.tokens.make(submission.id)}"
        await world.client.post(path, json={"task_id": job.id, "status": "hatching", "msg": None})
        await process.run_due(world.context)
        after = await world.task(task)
        assert (after.state, after.external_id) == (State.SUBMITTED, job.id)
        [submission] = await world.submissions(task)
        assert (submission.outcome, submission.external_id, submission.superseded_at) == ("taken", job.id, None)
        host.fault = "well"
        host.let_go()
        await pool.finish()
        await world.until(JOB_SECONDS * 10)
        assert (await world.task(task)).state is State.SUCCEEDED
        assert three.jobs == [1, 0, 0]


async def bought_twice(three: Route, answer: str) -> tuple[Task, list[Submission]]:
    """Start a second submission, deliver the evidence of the first one's job, and then answer the second."""
    world = three.world
    with_fault(three, "cut")
    task = await world.submit("a dove", **TASK_REQUEST)
    await world.work()
    other = FaultyUpstream(three.comet)
    world.edge.hosts["comet.test"] = other
    other.fault, three.comet.faults = "detain", Faults.named([answer])
    await world.client.post(f"/v1/tasks/{task.id}/retry", json=AGAIN)
    with_fault(three, "well")
    buying = TaskPool(1)
    await submission_run.run_due(world.context, buying)
    await other.holds.wait()
    world.clock.forward(JOB_SECONDS * 0.3)
    await three.elk.deliver_due()
    await process.run_due(world.context)
    submissions: list[Submission] = await world.submissions(task)
    assert [(each.outcome, each.job_state) for each in submissions] == [("taken", "running"), ("sending", None)]
    other.let_go()
    await buying.finish()
    return task, submissions


@pytest.mark.parametrize("answer", ["503=99", "cut"])
async def test_known_job_is_adopted_before_a_resubmit(database_url: str, answer: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        task, _ = await bought_twice(three, answer)
        state = (await three.world.task(task)).state
        assert state is (State.UNCONFIRMED if answer == "cut" else State.QUEUED)
        await three.world.work()
        after = await three.world.task(task)
        assert after.state in {State.SUBMITTED, State.RUNNING}
        assert (after.upstream, after.external_id) == ("elkapi", three.elk.ledger.jobs[0].id)
        first, second = await three.world.submissions(task)
        assert (first.outcome, first.superseded_at, first.job_state, first.due_at) == ("taken", None, None, None)
        assert (second.outcome, second.superseded_at is None) == (
            ("uncertain", False) if answer == "cut" else ("unavailable", True)
        )
        await three.world.until(JOB_SECONDS * 5)
        assert (await three.world.task(task)).state is State.SUCCEEDED
        assert three.jobs == [1, 1 if answer == "cut" else 0, 0]


@pytest.mark.parametrize("answer", ["refuse", "nocredit"])
async def test_paid_job_is_adopted_when_all_other_upstreams_refuse(database_url: str, answer: str) -> None:
    """The second submission is turned down, and the first one's job goes on: its result is delivered, late."""
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        task, _ = await bought_twice(three, answer)
        if answer == "refuse":
            told = await three.world.task(task)
            assert (told.state, told.decided_by) == (State.FAILED, "dovecote")
        await three.world.until(JOB_SECONDS * 5)
        after = await three.world.task(task)
        assert (after.state, after.decided_by, after.upstream) == (State.SUCCEEDED, "provider", "elkapi")
        assert three.jobs == [1, 0, 0]


async def test_task_takes_a_free_slot_instead_of_waiting_for_a_failing_upstream(database_url: str) -> None:
    """Slots become free all the time; an upstream may be down for hours, and is tried by one task in half a minute."""
    limits = {"OPEN_TASKS": "2", "TYPICAL_SECONDS": str(JOB_SECONDS)}
    more = {f"DOVECOTE_UPSTREAMS__COMETAPI__{name}": value for name, value in limits.items()}
    more["DOVECOTE_ROUTES__RUNWAY"] = "elkapi,cometapi"
    async with three_upstreams(database_url, **more) as three:
        world = three.world
        world.edge.down.add("sandbox.test")
        for _ in range(5):  # they find elkapi down, and open its circuit
            await world.submit(**TASK_REQUEST, route=["elkapi"], deadline=10)
        await world.work()
        tasks = [await world.submit(**TASK_REQUEST) for _ in range(8)]
        await world.work()
        waiting = [task for task in [await world.task(each) for each in tasks] if task.waits_for is not None]
        assert {task.waits_for for task in waiting} == {WaitingFor("cometapi")}
        assert len(waiting) == 6
        await world.pass_time(JOB_SECONDS * 8)
        assert three.jobs == [0, 8, 0]
