"""A file whose URL has expired is fetched by the URL that the provider reports when it is asked again."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.domain.kept import GONE_FOR, renewed_url
from service.domain.task import Result, State, Task
from tests.support.kept_results import finished, keeping
from tests.support.values import a_task
from tests.support.world import World

_FILE = re.compile(rb"/sandbox/files/[\w.-]+")


class Signed(httpx.AsyncBaseTransport):
    """Signs the URLs of files in the answers of an upstream, with one number for each answer. Old signatures are refused."""

    def __init__(self, upstream: httpx.AsyncBaseTransport, *, status: int = 403, renews: bool = True) -> None:
        self._upstream, self._status, self._renews = upstream, status, renews
        self.answers = 0
        self.asked = 0
        self.refused = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "/sandbox/files/" in request.url.path:
            if not request.url.params.get("signature"):
                self.refused += 1
                return httpx.Response(self._status, stream=httpx.ByteStream(b"expired"))
            return await self._upstream.handle_async_request(request)
        answer = await self._upstream.handle_async_request(request)
        self.asked += 1
        if not self._renews:
            return answer
        self.answers += 1
        body = _FILE.sub(self._signed, await answer.aread())
        headers = {"Content-Type": answer.headers.get("content-type", "application/json")}
        if "location" in answer.headers:
            headers["Location"] = _FILE.sub(self._signed, answer.headers["location"].encode()).decode()
        return httpx.Response(answer.status_code, headers=headers, stream=httpx.ByteStream(body))

    def _signed(self, found: re.Match[bytes]) -> bytes:
        return found[0] + b"?signature=%d" % self.answers


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with keeping(database_url) as opened:
        yield opened


TASKS: dict[str, dict[str, Any]] = {
    "runway": {},
    "midjourney": {"family": "midjourney", "operation": "imagine", "input": {"prompt": "a dove"}},
    "suno": {"family": "suno", "operation": "music", "input": {"prompt": "a dove"}},
}


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("family", ["runway", "midjourney"])
async def test_expired_url_is_asked_for_again(world: World, family: str, status: int) -> None:
    signed = Signed(world.edge.hosts["sandbox.test"], status=status)
    world.edge.hosts["sandbox.test"] = signed
    task = await finished(world, **TASKS[family])  # the callback tells the URLs, and is not signed
    await world.until(60)
    task = await world.task(task)
    assert task.state is State.SUCCEEDED
    assert states(task) == {"kept"}
    assert signed.refused
    assert world.sandbox.ledger.paid() == 1
    assert not any("signature" in (each.url or "") for each in task.results)  # the outcome stays as it was told


async def test_provider_that_reports_the_same_url_leaves_the_file_lost(world: World) -> None:
    signed = Signed(world.edge.hosts["sandbox.test"], renews=False)
    world.edge.hosts["sandbox.test"] = signed
    task = await finished(world)
    await world.until(3 * GONE_FOR)
    result = (await world.task(task)).results[0]
    assert result.kept is not None
    assert (result.kept.state, result.kept.lost_because) == ("lost", "HTTP 403")
    assert world.sandbox.ledger.paid() == 1


async def test_provider_that_knows_the_job_no_more_leaves_the_file_lost(world: World) -> None:
    task = await finished(world, "[filegone=0]")
    world.sandbox.ledger.clear()
    await world.until(3 * GONE_FOR)
    task = await world.task(task)
    assert task.state is State.SUCCEEDED
    assert {each.kept.state for each in task.results if each.kept} == {"lost"}


OLD = (Result("image", "http://a.test/1"), Result("text", text="a dove"), Result("image", "http://a.test/2"))


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ((Result("image", "http://a.test/1?x"), Result("image", "http://a.test/2?x")), "http://a.test/2?x"),
        ((Result("image", "http://a.test/1"), Result("image", "http://a.test/2")), None),
        ((Result("image", "http://a.test/2"), Result("image", "http://a.test/1")), None),
        ((Result("image", "http://a.test/2?x"),), None),
        ((Result("image", "http://a.test/1?x"), Result("video", "http://a.test/2?x")), None),
        ((), None),
    ],
    ids=["renewed", "the same", "in another order", "one is missing", "of another kind", "none"],
)
def test_url_is_renewed_where_it_is_certain_which_file_it_is(
    reported: tuple[Result, ...], expected: str | None
) -> None:
    task = a_task(results=OLD)
    assert renewed_url(task, OLD[2], reported) == expected


async def test_files_of_a_task_share_one_poll(world: World) -> None:
    forwarded, task = await unfetched(world)
    world.edge.hosts["sandbox.test"] = signed = Signed(forwarded)
    await world.until(60)
    task = await world.task(task)
    assert states(task) == {"kept"}
    assert signed.refused == sum(each.kept is not None for each in task.results)
    assert signed.asked == 1


async def test_another_poll_is_made_when_the_shared_report_is_old(world: World) -> None:
    world.context.monotonic = world.clock.seconds
    forwarded, task = await unfetched(world)
    world.edge.hosts["sandbox.test"] = signed = Signed(forwarded, renews=False)
    await world.until(10)
    assert signed.asked == 1
    world.edge.hosts["sandbox.test"] = signed = Signed(forwarded)
    await world.until(40)
    assert signed.asked == 1
    assert states(await world.task(task)) == {"kept"}


async def unfetched(world: World) -> tuple[httpx.AsyncBaseTransport, Task]:
    """Return a task of several files, whose first attempts found a broken host, and what reaches the host."""
    forwarded = world.edge.hosts["sandbox.test"]
    world.edge.hosts["sandbox.test"] = broken = Signed(forwarded, status=503, renews=False)
    task = await finished(world, **TASKS["suno"])
    assert states(task) == {"pending"}
    assert broken.refused == sum(each.kept is not None for each in task.results) > 2
    return forwarded, task


def states(task: Task) -> set[str]:
    """Return the states of the copies of a task's results."""
    return {each.kept.state for each in task.results if each.kept}
