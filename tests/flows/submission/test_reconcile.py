"""The gateway's list of jobs settles a lost answer: exactly the right job is adopted, or none."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.domain.schedules import UNCONFIRMED_SHORTEST
from service.domain.task import Source, State, Task
from service.sandbox import Faults
from service.sandbox.account import TOKEN, USER
from tests.support.world import JOB_SECONDS, World

LIST = "GET /api/task/self"
SHOWS = {
    "DOVECOTE_UPSTREAMS__ELKAPI__ACCOUNT_TOKEN": TOKEN,
    "DOVECOTE_UPSTREAMS__ELKAPI__ACCOUNT_USER": USER,
    "DOVECOTE_PUBLIC_URL": "",  # so that no callback can arrive
}


@contextlib.asynccontextmanager
async def gateway(url: str, **more: str) -> AsyncIterator[World]:
    async with World.opened(url, **{**SHOWS, **more}) as world:
        yield world


async def song(world: World, prompt: str, **more: Any) -> Task:
    request = {"family": "suno", "operation": "music", "input": {"prompt": prompt}, "callback_url": None, **more}
    return await world.submit(**request)


async def stands(world: World, *tasks: Task) -> list[tuple[str, str | None]]:
    return [(str(each.state), each.external_id) for each in [await world.task(task) for task in tasks]]


def jobs(world: World) -> list[str]:
    return [job.id for job in world.sandbox.ledger.jobs]


async def events(world: World, task: Task) -> list[str]:
    return [event.type for event in await world.events(task)]


async def test_job_of_a_cut_answer_is_found_in_the_list(database_url: str) -> None:
    async with gateway(database_url) as world:
        task = await song(world, "[cut] a dove")
        await world.work()
        assert await stands(world, task) == [("unconfirmed", None)]
        assert re.search("the next search for the job is due within 1[0-5] s", await explained(world, task))
        await world.until(JOB_SECONDS * 6)
        assert await stands(world, task) == [("succeeded", jobs(world)[0])]
        assert (await world.task(task)).outcome_source is Source.POLL
        assert (await events(world, task)).count("found_in_list") == 1
        assert [(each.outcome, each.external_id) for each in await world.submissions(task)] == [
            ("taken", jobs(world)[0])
        ]
        assert world.sandbox.ledger.paid() == 1


async def explained(world: World, task: Task) -> str:
    return str((await world.client.get(f"/v1/tasks/{task.id}")).json()["explanation"])


async def test_job_is_found_in_the_list_when_callbacks_are_lost(database_url: str) -> None:
    async with gateway(database_url, DOVECOTE_PUBLIC_URL="http://dovecote.test") as world:
        task = await song(world, "[cut][drop] a dove")
        await world.until(JOB_SECONDS * 6)
        assert await stands(world, task) == [("succeeded", jobs(world)[0])]
        assert world.sandbox.ledger.paid() == 1


@pytest.mark.parametrize("words", ["[cutbody]", "[500]", "[htmlsubmit]"])
async def test_job_is_found_after_every_kind_of_lost_answer(database_url: str, words: str) -> None:
    async with gateway(database_url) as world:
        task = await song(world, f"{words} a dove")
        await world.until(JOB_SECONDS * 6)
        assert await stands(world, task) == [("succeeded", jobs(world)[0])]


async def test_list_is_not_requested_with_an_api_key(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_PUBLIC_URL="") as world:
        task = await song(world, "[cut] a dove")
        await world.until(300)
        assert await stands(world, task) == [("unconfirmed", None)]
        assert world.sandbox.ledger.requests[LIST] == 0
        answer = await world.context.http.questions.get(
            "http://sandbox.test/api/task/self", headers={"Authorization": "Bearer sandbox-key"}
        )
        assert answer.json()["success"] is False


async def test_account_token_is_sent_to_the_list_only(database_url: str) -> None:
    async with gateway(database_url) as world:
        await song(world, "[cut] a dove")
        await world.until(JOB_SECONDS * 6)
        with_token = {each.url.path for each in world.edge.requests if TOKEN in each.headers.get("authorization", "")}
        assert with_token == {"/api/task/self"}
        assert {each.headers.get("new-api-user") for each in world.edge.requests} == {None, USER}


@pytest.mark.parametrize(("policy", "state", "paid"), [("hold", "unconfirmed", 2), ("fail", "failed", 2)])
async def test_two_equal_jobs_are_not_adopted(database_url: str, policy: str, state: str, paid: int) -> None:
    async with gateway(database_url) as world:
        tasks = [await song(world, "[cut] a dove", on_uncertain=policy) for _ in range(2)]
        await world.until(UNCONFIRMED_SHORTEST + 60)
        assert await stands(world, *tasks) == [(state, None)] * 2
        assert world.sandbox.ledger.paid() == paid
        assert "may be it, and none is certain" in str((await world.task(tasks[0])).last_error)


async def test_different_jobs_are_distinguished_by_their_prompts(database_url: str) -> None:
    async with gateway(database_url) as world:
        tasks = [await song(world, f"[cut] dove {number}") for number in range(3)]
        await world.until(JOB_SECONDS * 8)
        assert await stands(world, *tasks) == [("succeeded", job) for job in jobs(world)]
        sung = {job.id: job.prompt for job in world.sandbox.ledger.jobs}
        assert [sung[job or ""] for _, job in await stands(world, *tasks)] == [f"[cut] dove {n}" for n in range(3)]


async def test_job_of_another_task_is_never_adopted(database_url: str) -> None:
    """The first task's answer is lost before its job exists. The only job belongs to the second task."""
    async with gateway(database_url) as world:
        lost = await song(world, "a dove")
        world.edge.hosts["sandbox.test"], sandbox = _LosesRequests(), world.edge.hosts["sandbox.test"]
        await world.work()
        world.edge.hosts["sandbox.test"] = sandbox
        other = await song(world, "a dove")
        await world.until(300)
        assert await stands(world, lost, other) == [("unconfirmed", None), ("succeeded", jobs(world)[0])]


async def test_job_of_a_submission_in_flight_is_not_adopted(database_url: str) -> None:
    """The list shows the second task's job before the answer to its submit has arrived."""
    async with gateway(database_url) as world:
        lost = await song(world, "a dove")
        sandbox = world.edge.hosts["sandbox.test"]
        world.edge.hosts["sandbox.test"] = _LosesRequests()
        await world.work()
        world.edge.hosts["sandbox.test"] = sandbox
        world.sandbox.faults = Faults.named(["cut"])
        slow = await song(world, "a dove")
        await world.work()
        assert len(jobs(world)) == 1
        await world.until(300)
        assert await stands(world, lost, slow) == [("unconfirmed", None)] * 2
        assert "or that of another task" in str((await world.task(lost)).last_error)


async def test_foreign_job_of_the_account_is_distinguished_by_its_prompt(database_url: str) -> None:
    async with gateway(database_url) as world:
        lost = await song(world, "a dove")
        sandbox = world.edge.hosts["sandbox.test"]
        world.edge.hosts["sandbox.test"] = _LosesRequests()
        await world.work()
        world.edge.hosts["sandbox.test"] = sandbox
        await world.context.http.questions.post(
            "http://sandbox.test/suno/submit/music",
            json={"gpt_description_prompt": "a raven"},
            headers={"Authorization": "Bearer sandbox-key"},
        )
        world.clock.forward(JOB_SECONDS)
        await world.until(300)
        assert await stands(world, lost) == [("unconfirmed", None)]


class _LosesRequests:
    """A host that receives a request and breaks the connection. It creates no job."""

    async def handle_async_request(self, request: Any) -> Any:
        raise httpx.ReadError("reset", request=request)


async def test_unavailable_list_is_requested_again(database_url: str) -> None:
    async with gateway(database_url) as world:
        task = await song(world, "[cut] a dove")
        await world.work()
        world.edge.down.add("sandbox.test")
        await world.until(40)
        assert await stands(world, task) == [("unconfirmed", None)]
        assert "does not show its list" in str((await world.task(task)).last_error)
        world.edge.down.clear()
        await world.until(JOB_SECONDS * 6)
        assert await stands(world, task) == [("succeeded", jobs(world)[0])]
        assert (await world.task(task)).last_error is None


async def test_wrong_account_token_is_reported(database_url: str) -> None:
    async with gateway(database_url, DOVECOTE_UPSTREAMS__ELKAPI__ACCOUNT_TOKEN="wrong-token") as world:
        task = await song(world, "[cut] a dove")
        await world.until(300)
        assert await stands(world, task) == [("unconfirmed", None)]
        words = await explained(world, task)
        assert "access token" in words
        assert "wrong-token" not in words


async def test_late_listed_job_is_found_before_a_resubmit(database_url: str) -> None:
    async with gateway(database_url) as world:
        task = await song(world, "[cut][ghost=60] a dove", on_uncertain="resubmit_once")
        await world.until(300)
        assert await stands(world, task) == [("succeeded", jobs(world)[0])]
        assert world.sandbox.ledger.paid() == 1


async def test_synchronous_operation_has_no_job_to_find(database_url: str) -> None:
    async with gateway(database_url) as world:
        task = await world.submit(
            family="suno", operation="style_tags", input={"style": "[cut] folk"}, callback_url=None, upstream="elkapi"
        )
        await world.until(300)
        assert (await world.task(task)).state is State.UNCONFIRMED
        assert world.sandbox.ledger.requests[LIST] == 0
