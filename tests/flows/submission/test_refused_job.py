"""An upstream refuses a submission and still runs its job: the paid result is delivered and booked as paid."""

import json
from typing import Any

import httpx
import pytest

from service.domain.task import State
from service.flows.money import ledger as ledger_flow
from service.sandbox import Faults, InProcessTransport
from service.store import ledger as ledger_store
from tests.support.routes import WITHOUT_WEBHOOK, three_upstreams
from tests.support.world import JOB_SECONDS, World

ALONE = {"DOVECOTE_ROUTES__RUNWAY": "elkapi"}


class Refusing(httpx.AsyncBaseTransport):
    """Forwards purchases to the sandbox, and answers them with a refusal."""

    def __init__(self, inner: httpx.AsyncBaseTransport, status: int, document: Any) -> None:
        self._inner, self._status, self._document = inner, status, document

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        if "generate" not in request.url.path:
            return answer
        body = json.dumps(self._document).encode()
        await answer.aread()
        headers = {"content-type": "application/json"}
        return httpx.Response(self._status, headers=headers, stream=httpx.ByteStream(body), request=request)


REFUSALS: dict[str, tuple[int, Any]] = {
    "invalid input": (400, {"error": {"message": "prompt is invalid", "code": "invalid_request"}}),
    "no credit": (402, {"error": {"message": "insufficient balance", "code": "insufficient_user_quota"}}),
    "bad key": (401, {"error": {"message": "invalid token", "code": "unauthorized"}}),
}


def refuse(world: World, kind: str) -> None:
    world.edge.hosts["sandbox.test"] = Refusing(InProcessTransport(world.sandbox.app), *REFUSALS[kind])


async def totals(world: World) -> ledger_flow.Account:
    async with world.context.database.reading() as connection:
        _, total = ledger_flow.summarize(await ledger_store.entries(connection, by=["upstream"]))
    return total


@pytest.mark.parametrize("kind", REFUSALS)
async def test_success_callback_of_a_refused_submission_is_delivered(database_url: str, kind: str) -> None:
    async with World.opened(database_url, **ALONE) as world:
        refuse(world, kind)
        task = await world.submit()
        await world.work()
        assert ((await world.task(task)).state, len(world.sandbox.ledger.jobs)) == (State.FAILED, 1)
        await world.until(JOB_SECONDS * 3)
        ended = await world.task(task)
        assert (ended.state, ended.decided_by, ended.failure) == (State.SUCCEEDED, "provider", None)
        assert [result.kind for result in ended.results if result.role == "result"] == ["video"]
        assert [each.type for each in await world.messages(task)] == ["task.failed", "task.late_result"]
        total = await totals(world)
        assert (total.paid, total.submissions) == (1, 1)


async def test_job_of_a_refused_submission_that_stops_calling_back_is_polled(database_url: str) -> None:
    """One callback proves the job. The callback with the result is lost."""
    async with World.opened(database_url, **ALONE) as world:
        refuse(world, "invalid input")
        task = await world.submit("[drop] a dove")
        await world.work()
        [submission] = await world.submissions(task)
        [job] = world.sandbox.ledger.jobs
        path = f"/callbacks/{world.context.tokens.make(submission.id)}"
        started = {"code": 200, "task_id": job.id, "msg": "", "data": {"task_id": job.id, "status": "IN_PROGRESS"}}
        assert (await world.client.post(path, json=started)).status_code == 200
        await world.work()
        found = await world.task(task)
        assert (found.state, found.external_id, found.decided_by) == (State.FAILED, job.id, "dovecote")
        await world.until(7200)
        assert (await world.task(task)).state is State.SUCCEEDED


async def test_failure_callback_of_a_refused_submission_sends_no_further_message(database_url: str) -> None:
    async with World.opened(database_url, faults=Faults.named(["fail"]), **ALONE) as world:
        refuse(world, "invalid input")
        task = await world.submit()
        await world.until(JOB_SECONDS * 3)
        ended = await world.task(task)
        assert (ended.state, ended.decided_by) == (State.FAILED, "provider")
        assert [each.type for each in await world.messages(task)] == ["task.failed"]


@pytest.mark.parametrize("kind", ["invalid input", "no credit"])
async def test_success_beside_the_job_of_another_upstream_is_a_paid_duplicate(database_url: str, kind: str) -> None:
    """Both the refused submission and the next upstream of the route have a job."""
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        world = three.world
        refuse(world, kind)
        task = await world.submit(**WITHOUT_WEBHOOK)
        await world.until(600)
        ended = await world.task(task)
        assert ended.state is State.SUCCEEDED
        assert ended.upstream == ("elkapi" if kind == "invalid input" else "cometapi")
        total = await totals(world)
        assert total.refunded == total.perhaps_refunded == total.unpaid == 0
        assert total.paid == 1
