"""The sandbox's faults on real connections, and its own callbacks over them."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest
import uvloop

from service.sandbox import Receiver, Sandbox, running
from tests.support.waiting import LIMIT

HEADERS = {"Authorization": "Bearer sandbox-key", "X-Runway-Version": "2024-11-06"}


def order(prompt: str, callback_url: str = "http://127.0.0.1:9/nobody") -> dict[str, Any]:
    return {"callback_url": callback_url, "prompt": prompt, "model": "gen4"}


async def generate(url: str, prompt: str, callback_url: str = "http://127.0.0.1:9/nobody") -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=5, trust_env=False) as client:
        return await client.post("/runway/pro/generate", json=order(prompt, callback_url))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not true():  # noqa: ASYNC110 - the sandbox tells nobody when it has called back
            await asyncio.sleep(0.01)


async def test_cut_resets_the_connection_after_the_job_was_paid() -> None:
    sandbox = Sandbox()
    async with running(sandbox) as url:
        with pytest.raises(httpx.ReadError):
            await generate(url, "[cut]")
        assert (await generate(url, "fine")).status_code == 200
    assert sandbox.ledger.paid() == 2


async def test_cutbody_closes_the_connection_in_the_middle_of_the_answer() -> None:
    sandbox = Sandbox()
    async with running(sandbox) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = orjson.dumps(order("[cutbody]"))
        head = "POST /runway/pro/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox-key\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(LIMIT):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head_sent, _, body_sent = answer.partition(b"\r\n\r\n")
        assert head_sent.startswith(b"HTTP/1.1 200 ")
        length = int(head_sent.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert 0 < len(body_sent) < length
        with pytest.raises(httpx.RemoteProtocolError):
            await generate(url, "[cutbody]")
    assert sandbox.ledger.paid() == 2


async def test_hang_never_answers_and_others_are_served() -> None:
    sandbox = Sandbox()
    async with running(sandbox) as url, httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/runway/pro/generate", json=order("[hang]"), timeout=0.1)
        assert (await client.get("/healthz")).status_code == 200
    assert sandbox.ledger.paid() == 1


async def test_hang_ends_with_the_server() -> None:
    sandbox = Sandbox()
    async with asyncio.TaskGroup() as tasks:
        async with running(sandbox) as url:
            waiting = tasks.create_task(_fails(generate(url, "[hang]"), httpx.ReadError))
            await until(lambda: sandbox.ledger.paid() == 1)
        async with asyncio.timeout(0.1):  # the server is gone, and the client notices
            assert await waiting


async def _fails(call: Awaitable[object], error: type[Exception]) -> bool:
    with pytest.raises(error):
        await call
    return True


async def test_served_sandbox_sends_callbacks() -> None:
    sandbox, receiver = Sandbox(seconds=0.1), Receiver()
    async with running(receiver) as there, running(sandbox) as url:
        await generate(url, "a cat", f"{there}/callbacks/1")
        await until(lambda: sandbox.ledger.jobs[0].callbacks_sent == 2)
    [job] = sandbox.ledger.jobs
    assert (job.state, job.callback_statuses) == ("succeeded", (204, 204))


async def test_order_of_a_file_whose_address_is_none_is_refused() -> None:
    async with running(Sandbox()) as url:
        assert (await generate(url, "[fetch] http://[::1/dove.png")).status_code == 400


async def test_early_callbacks_have_been_answered_before_the_submit_is() -> None:
    sandbox, receiver = Sandbox(seconds=0), Receiver(answers=[202])
    async with running(receiver) as there, running(sandbox) as url:
        with pytest.raises(httpx.ReadError):
            await generate(url, "[early][cut]", f"{there}/callbacks/1")
        assert sandbox.ledger.jobs[0].callback_statuses == (202, 202)


async def test_undeliverable_callback_is_counted() -> None:
    sandbox = Sandbox(seconds=0)
    async with running(sandbox) as url:
        for nobody in ("http://127.0.0.1:9/", "nonsense", "http://\x00/"):
            await generate(url, "a cat", nobody)
        await until(lambda: sum(job.callbacks_sent for job in sandbox.ledger.jobs) == 6)
    assert {job.callback_statuses for job in sandbox.ledger.jobs} == {(0, 0)}


async def test_slow_receiver_delays_its_own_job_only() -> None:
    release, came = asyncio.Event(), []

    async def send(url: str, body: bytes) -> int:
        status = json.loads(body)["status"]
        if (url, status) == ("http://x.test/slow", "1"):
            await release.wait()
        came.append((url, status))
        return 200

    sandbox = Sandbox(seconds=0.05, send=send)
    async with running(sandbox) as url:
        await generate(url, "a", "http://x.test/slow")
        await generate(url, "b", "http://x.test/fast")
        await until(lambda: len(came) == 2 and sandbox.ledger.jobs[0].state == "succeeded")
        await asyncio.sleep(0.05)  # time enough for the slow one's final callback to overtake its first
        assert came == [("http://x.test/fast", "1"), ("http://x.test/fast", "3")]
        release.set()
        await until(lambda: len(came) == 4)
    assert came[2:] == [("http://x.test/slow", "1"), ("http://x.test/slow", "3")]


def test_cut_works_on_uvloop_too() -> None:
    uvloop.run(test_cut_resets_the_connection_after_the_job_was_paid())
    uvloop.run(test_cutbody_closes_the_connection_in_the_middle_of_the_answer())


async def test_serve_prints_its_url_and_serves() -> None:
    program = "from service.sandbox import Faults, Sandbox, serve; serve(Sandbox(faults=Faults(refuse=True)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            line = (await process.stdout.readline()).decode().strip()
        name, _, url = line.rpartition(" at ")
        assert name == "Sandbox"
        assert not url.endswith(":0")
        assert (await generate(url, "a cat")).status_code == 400
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), LIMIT)
