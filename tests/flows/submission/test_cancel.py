"""Cancel and refresh in every state, at providers with and without cancellation. The response states the true outcome."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.domain.task import Source, State, Task
from service.flows.concurrency import TaskPool
from service.flows.submission import run as submission_run
from tests.support.contract import CONTRACT
from tests.support.world import JOB_SECONDS, World


@contextlib.asynccontextmanager
async def two_upstreams(database_url: str) -> AsyncIterator[World]:
    """Open a world with a gateway, which cannot cancel, and Runway itself, which can."""
    async with World.opened(
        database_url,
        RUNWAYML_API_SECRET="sandbox-key",
        DOVECOTE_UPSTREAMS__RUNWAYML__BASE_URL="http://sandbox.test",
    ) as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        yield world


@pytest.fixture
async def both(database_url: str) -> AsyncIterator[World]:
    async with two_upstreams(database_url) as world:
        yield world


async def cancel(world: World, task: Task) -> tuple[int, dict[str, Any]]:
    answer = await world.client.post(f"/v1/tasks/{task.id}/cancel")
    return answer.status_code, answer.json()


def jobs(world: World, state: str) -> int:
    return sum(job.state == state for job in world.sandbox.ledger.jobs)


async def test_queued_task_is_cancelled_without_a_submission(both: World) -> None:
    task = await both.submit()
    status, shown = await cancel(both, task)
    assert (status, shown["state"], shown["failure"]["code"]) == (200, "cancelled", "cancelled")
    assert "nothing was paid" in shown["explanation"]
    await both.until(100)
    assert both.sandbox.ledger.paid() == 0
    assert [received.state for received in both.receiver.received] == ["cancelled"]
    assert (await cancel(both, task))[0] == 200


class Held(httpx.AsyncBaseTransport):
    """A network whose answers wait until the test lets them go."""

    def __init__(self, network: httpx.AsyncBaseTransport) -> None:
        self._network = network
        self.answered, self.go_on = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._network.handle_async_request(request)
        self.answered.set()
        await self.go_on.wait()
        return response


@pytest.mark.parametrize(("upstream", "cancelled"), [("elkapi", 0), ("runwayml", 1)])
async def test_task_in_flight_is_cancelled_once_its_id_is_known(both: World, upstream: str, cancelled: int) -> None:
    held = both.edge.hosts["sandbox.test"] = Held(both.edge.hosts["sandbox.test"])
    task = await both.submit(upstream=upstream)
    pool = TaskPool(1)
    await submission_run.run_due(both.context, pool)
    await held.answered.wait()
    status, shown = await cancel(both, task)
    assert (status, shown["state"]) == (202, "submitting")
    assert (await cancel(both, task))[0] == 202
    held.go_on.set()
    await pool.finish()
    ended = await both.task(task)
    assert (ended.state, ended.decided_by) == (State.CANCELLED, "provider" if cancelled else "dovecote")
    assert jobs(both, "cancelled") == cancelled
    assert [event.type for event in await both.events(task)].count("cancel_requested") == 1


@pytest.mark.parametrize("seconds", [0, JOB_SECONDS / 2])
async def test_job_is_cancelled_at_the_provider(both: World, seconds: float) -> None:
    task = await both.submit(upstream="runwayml")
    await both.pass_time(seconds + 1)
    status, shown = await cancel(both, task)
    assert (status, shown["state"], shown["outcome_source"]) == (200, "cancelled", "poll")
    assert jobs(both, "cancelled") == 1
    ended = await both.task(task)
    assert (ended.decided_by, ended.due_at) == ("provider", None)
    assert (await cancel(both, task))[0] == 200
    assert both.sandbox.ledger.requests["DELETE /v1/tasks/{id}"] == 1


@pytest.mark.parametrize("words", ["", "[drop]"])
async def test_cancel_without_provider_support_keeps_a_late_result(both: World, words: str) -> None:
    task = await both.submit(f"{words} a dove", upstream="elkapi")
    await both.work()
    status, shown = await cancel(both, task)
    assert (status, shown["state"], shown["outcome_source"]) == (200, "cancelled", "client")
    assert "may go on and be charged" in shown["failure"]["message"]
    await both.until(600)
    late = await both.task(task)
    assert (late.state, late.decided_by) == (State.SUCCEEDED, "provider")
    assert [received.state for received in both.receiver.received] == ["cancelled", "succeeded"]


async def test_cancel_does_not_destroy_a_finished_result(both: World) -> None:
    task = await both.submit(upstream="runwayml")
    await both.work()
    both.clock.forward(JOB_SECONDS)  # it is finished there, and has not been polled yet
    status, shown = await cancel(both, task)
    assert (status, shown["state"], len(shown["results"])) == (200, "succeeded", 1)
    assert both.sandbox.ledger.requests["DELETE /v1/tasks/{id}"] == 0


@pytest.mark.parametrize("words", ["", "[fail]"])
async def test_ended_task_cannot_be_cancelled(both: World, words: str) -> None:
    task = await both.submit(f"{words} a dove")
    await both.until(JOB_SECONDS * 4)
    answer = await both.client.post(f"/v1/tasks/{task.id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_ended")


async def test_cancel_of_an_unconfirmed_task_is_recorded_and_followed_up(both: World) -> None:
    task = await both.submit("[cut] a dove", upstream="elkapi")
    await both.work()
    assert (await cancel(both, task))[0] == 202
    await both.until(JOB_SECONDS * 4)
    ended = await both.task(task)
    assert ended.state in {State.SUCCEEDED, State.CANCELLED}
    assert both.sandbox.ledger.paid() == 1


async def test_invisible_job_is_cancelled_once_it_is_visible(both: World) -> None:
    """The provider's 'unknown' is no confirmation. Accepting it would leave a running job that is not watched."""
    task = await both.submit("[ghost=100][seconds=1000] a dove", upstream="runwayml")
    await both.work()
    status, shown = await cancel(both, task)
    assert (status, shown["state"]) == (202, "submitted")
    assert "does not know job" in shown["explanation"]
    await both.until(90)
    assert (await both.task(task)).state is State.SUBMITTED
    await both.until(60)
    assert (await both.task(task)).state is State.CANCELLED
    assert jobs(both, "cancelled") == 1


async def test_cancel_request_is_kept_while_the_provider_is_unreachable(both: World) -> None:
    task = await both.submit("[seconds=1000] a dove", upstream="runwayml")
    await both.work()
    both.edge.down.add("sandbox.test")
    answer = await both.client.post(f"/v1/tasks/{task.id}/cancel")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
        503,
        "upstream_unavailable",
        "5",
    )
    both.edge.down.discard("sandbox.test")
    await both.until(60)
    assert (await both.task(task)).state is State.CANCELLED
    assert jobs(both, "cancelled") == 1


# ── refresh ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_refresh_polls_now_and_keeps_the_schedule(world: World, api: httpx.AsyncClient) -> None:
    task = await world.submit("[drop][seconds=30] a dove")
    await world.work()
    due = (await world.task(task)).due_at
    world.clock.forward(9)
    shown = (await api.post(f"/v1/tasks/{task.id}/refresh")).json()
    assert (shown["state"], world.sandbox.ledger.requests["POST /runway/feed"]) == ("running", 1)
    assert (await world.task(task)).due_at == due
    world.clock.forward(30)
    ended = (await api.post(f"/v1/tasks/{task.id}/refresh")).json()
    assert (ended["state"], ended["outcome_source"]) == ("succeeded", Source.POLL)
    for _ in range(2):
        assert (await api.post(f"/v1/tasks/{task.id}/refresh")).json()["state"] == "succeeded"
    assert world.sandbox.ledger.requests["POST /runway/feed"] == 2


async def test_refresh_without_an_answer_changes_only_last_error(world: World, api: httpx.AsyncClient) -> None:
    queued = await world.submit()
    assert (await api.post(f"/v1/tasks/{queued.id}/refresh")).json()["state"] == "queued"
    await world.work()
    before = await world.task(queued)
    world.edge.down.add("sandbox.test")
    shown = (await api.post(f"/v1/tasks/{queued.id}/refresh")).json()
    assert (shown["state"], shown["sequence"]) == ("submitted", before.sequence)
    assert "connection refused" in shown["explanation"]
    assert (await world.task(queued)).due_at == before.due_at
