"""The client and real processes: a server that restarts, and two servers on one database."""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from dovecote import AsyncClient, Event
from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup
from service.sandbox import Sandbox, running
from tests.support.processes import dovecote, started, until
from tests.support.waiting import LIMIT
from tests.support.world import JOB_SECONDS, Clock

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.long]


async def test_wait_and_streams_outlive_a_restart(database_url: str, tmp_path: Path) -> None:
    clock = Clock()
    sandbox = Sandbox(seconds=JOB_SECONDS, clock=clock.seconds, key=SANDBOX_KEY)
    async with running(sandbox) as upstream:
        served = dovecote(tmp_path, database_url, upstream)
        with ProcessGroup() as group:
            await started(group, served)
            async with AsyncClient(served.url) as client:
                task = await client.submit("runway", "text_to_video", input={"prompt": "a dove", "duration": 5})
                streamed: list[Event] = []
                feed: list[Event] = []
                waiting = asyncio.create_task(client.wait(task, timeout=60))
                streaming = asyncio.create_task(collect(client, task.id, streamed))
                following = asyncio.create_task(collect(client, None, feed))

                async def submitted() -> bool:
                    return bool(streamed) and bool(feed)

                await until(submitted)
                assert served.process is not None
                served.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(served.process.wait, LIMIT) == 0
                assert not waiting.done()
                assert not streaming.done()
                await started(group, served)
                clock.forward(JOB_SECONDS * 2)
                await sandbox.deliver_due()
                assert (await asyncio.wait_for(waiting, LIMIT)).succeeded
                await asyncio.wait_for(streaming, LIMIT)
                everything = [event.id async for event in client.events()]
                await until(lambda: same(feed, everything))
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
    assert await same(streamed, everything[: len(streamed)])
    assert streamed[0].type == "task.submitted"
    assert {"task.succeeded", "task.settled"} <= {event.type for event in streamed[1:]}
    assert "Cancel" not in served.log.read_text()  # the streams ended by themselves, before the grace period
    assert "Traceback" not in served.log.read_text()


async def same(events: list[Event], ids: list[str]) -> bool:
    """Return whether the events begin with these ids. A result that is kept adds an event at any later time."""
    return [event.id for event in events[: len(ids)]] == ids


async def collect(client: AsyncClient, task: str | None, into: list[Event]) -> None:
    async for event in client.stream(task, after=None if task else "0"):
        into.append(event)  # noqa: PERF401 - the test reads it meanwhile


async def test_two_processes_serve_one_feed(postgresql_url: str, tmp_path: Path) -> None:
    """One process writes events while a client reads from both in turn: each event once, and in order."""
    count = 12
    sandbox = Sandbox(seconds=0.3, key=SANDBOX_KEY)
    async with running(sandbox) as upstream:
        here, there = (
            dovecote(tmp_path, postgresql_url, upstream),
            dovecote(tmp_path, postgresql_url, upstream, "web"),
        )
        with ProcessGroup() as group:
            await started(group, here, there)
            async with AsyncClient(here.url) as one, AsyncClient(there.url) as other:
                submitting = asyncio.create_task(submit(one, other, count))
                seen: list[Event] = []
                after, count_of_streams = "0", 0
                async with asyncio.timeout(LIMIT):
                    while sum(event.type == "task.succeeded" for event in seen) < count:
                        count_of_streams += 1
                        stream = (one, other)[count_of_streams % 2].stream(after=after)
                        async for event in stream:
                            seen.append(event)
                            if len(seen) % 3 == 0:
                                break
                        await stream.aclose()  # type: ignore[attr-defined] - it is a generator
                        after = seen[-1].id
                await submitting
                everything = [event.id async for event in other.events()]
    assert [event.id for event in seen] == everything[: len(seen)]
    assert {event.task.id for event in seen} == set(await submitting)
    assert count_of_streams > count / 2


async def submit(one: AsyncClient, other: AsyncClient, count: int) -> list[str]:
    ids = []
    for number in range(count):
        client = (one, other)[number % 2]
        task = await client.submit("runway", "text_to_video", input={"prompt": f"dove {number}", "duration": 5})
        ids.append(task.id)
    return ids
