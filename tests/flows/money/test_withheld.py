"""Withheld outputs: a task is bought again as its terms say, within its limit, and each job has its settlement."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.task import Source, State
from service.flows import polling
from service.flows.callbacks import process
from tests.support.prices import prices_file
from tests.support.world import JOB_SECONDS, World

SECOND: Mapping[str, str] = {
    "DOVECOTE_UPSTREAMS__SECOND__BASE_URL": "http://sandbox.test",
    "DOVECOTE_UPSTREAMS__SECOND__KEY": "sandbox-key",
    "DOVECOTE_UPSTREAMS__SECOND__DIALECTS": "runway/aggregator",
}


def opened(url: str, folder: Path, **settings: str) -> Any:
    prices = prices_file(folder, rate="75", id="any", upstream="*", moderated="charged")
    return World.opened(url, DOVECOTE_MONEY__PRICES_FILE=str(prices), **settings)


@pytest.mark.parametrize(
    ("terms", "jobs"),
    [
        ({}, 1),
        ({"on_moderated": "fail"}, 1),
        ({"on_moderated": "retry"}, 2),
        ({"on_moderated": "retry", "moderated_retries": 3}, 4),
        ({"on_moderated": "retry", "moderated_retries": 3, "max_cost": {"amount": "160", "unit": "points"}}, 4),
        ({"on_moderated": "next_upstream", "moderated_retries": 3}, 1),
    ],
    ids=[
        "default",
        "fail",
        "once-by-default",
        "three-times",
        "refunded-purchases-leave-the-limit",
        "no-other-upstream",
    ],
)
async def test_withheld_output_is_bought_again_by_the_terms(
    database_url: str, tmp_path: Path, terms: dict[str, Any], jobs: int
) -> None:
    async with opened(database_url, tmp_path) as world:
        task = await world.submit("[moderate] a dove", **terms)
        await world.until(10 * JOB_SECONDS)
        found = await world.task(task)
        assert (found.state, len(world.sandbox.ledger.jobs)) == (State.FAILED, jobs)
        assert len(found.settlements) == jobs
        assert {each["evidence"]["ending"] for each in found.settlements} == {"moderated"}
        types = [event.type for event in await world.events(task)]
        assert types.count("bought_again") == (
            0 if jobs == 1 and terms.get("on_moderated") != "next_upstream" else max(jobs - 1, 1)
        )
        assert types.count("settled") == jobs


async def test_next_upstream_gets_the_task(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path, **SECOND) as world:
        task = await world.submit("[moderate] a dove", on_moderated="next_upstream", moderated_retries=5)
        await world.until(10 * JOB_SECONDS)
        assert [each.upstream for each in await world.submissions(task)] == ["elkapi", "second"]
        found = await world.task(task)
        assert found.state is State.FAILED
        assert found.failure is not None
        assert found.failure.code == "content_policy"


async def test_policy_of_a_client_counts_unless_the_task_names_its_own(sqlite_url: str, tmp_path: Path) -> None:
    async with opened(sqlite_url, tmp_path, DOVECOTE_MONEY__ON_MODERATED_BY_CLIENT="default=retry") as world:
        await world.submit("[moderate] a dove")
        await world.submit("[moderate] a dove", on_moderated="fail")
        await world.until(10 * JOB_SECONDS)
        assert len(world.sandbox.ledger.jobs) == 3


async def test_cancelled_task_is_not_bought_again(sqlite_url: str, tmp_path: Path) -> None:
    async with opened(sqlite_url, tmp_path) as world:
        task = await world.submit("[moderate] a dove", on_moderated="retry")
        await world.work()
        await world.client.post(f"/v1/tasks/{task.id}/cancel")
        await world.until(10 * JOB_SECONDS)
        assert len(world.sandbox.ledger.jobs) == 1


async def test_repeated_report_of_a_withheld_job_buys_nothing_more(sqlite_url: str, tmp_path: Path) -> None:
    async with opened(sqlite_url, tmp_path) as world:
        task = await world.submit("[moderate][twice] a dove", on_moderated="retry")
        await world.until(10 * JOB_SECONDS)
        assert len(world.sandbox.ledger.jobs) == 2
        assert len((await world.task(task)).settlements) == 2


async def test_withheld_output_that_a_poll_finds_is_bought_again(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as world:
        task = await world.submit("[moderate][drop] a dove", on_moderated="retry", moderated_retries=2)
        await world.until(20 * JOB_SECONDS)
        assert len(world.sandbox.ledger.jobs) == 3
        found = await world.task(task)
        assert (found.state, found.outcome_source, len(found.settlements)) == (State.FAILED, Source.POLL, 3)
        assert [event.type for event in await world.events(task)].count("bought_again") == 2


async def test_late_answer_to_a_poll_of_the_withheld_job_does_not_end_the_task(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url, tmp_path) as world:
        task = await world.submit("[moderate] a dove", on_moderated="retry")
        await world.work()
        world.clock.forward(2 * JOB_SECONDS)
        upstream, meanwhile = world.edge.hosts["sandbox.test"], list[State]()

        async def bought_again_meanwhile(request: httpx.Request) -> httpx.Response:
            answer = await upstream.handle_async_request(request)
            content = await answer.aread()
            world.edge.hosts["sandbox.test"] = upstream
            await world.sandbox.deliver_due()
            await process.run_due(world.context)
            meanwhile.append((await world.task(task)).state)
            return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(content))

        world.edge.hosts["sandbox.test"] = httpx.MockTransport(bought_again_meanwhile)
        await polling.poll(world.context, [await world.task(task)])
        assert meanwhile == [State.QUEUED]
        assert (await world.task(task)).state is State.QUEUED
        await world.work()
        assert (await world.task(task)).state is State.SUBMITTED
        assert len(world.sandbox.ledger.jobs) == 2
