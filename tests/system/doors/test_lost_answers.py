"""Requests whose answers are lost on real connections, from clients without idempotency keys and without marks."""

import asyncio
import json

import httpx
import pytest

from tests.support.doors import KEY, RUNWAY_CLIENT, doors_on_sockets, run_client, runway_environment
from tests.support.processes import until

NODE = {"User-Agent": "replicate-javascript/1.4.0", "Authorization": f"Bearer {KEY}"}
PATH = "/replicate/v1/models/acme/doves/predictions"
WAITING = (
    RUNWAY_CLIENT
    + """
task = submit("a patient kite")
first = client.tasks.retrieve(task.id).status
print(json.dumps([task.id, first]))
"""
)


async def test_request_that_is_sent_six_times_within_milliseconds_makes_one_task(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand, httpx.AsyncClient(base_url=stand.url, headers=NODE) as client:
        stand.relay.lose = 5
        for _ in range(5):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(PATH, json={"input": {"prompt": "a lost dove"}})
        answer = await client.post(PATH, json={"input": {"prompt": "a lost dove"}})
        assert answer.headers["idempotency-replayed"] == "true"
        await client.post(PATH, json={"input": {"prompt": "another dove"}})
        assert await stand.paid_before("a lost dove", last="another dove") == 1


async def test_request_whose_connection_broke_before_the_answer_is_recognised_from_any_client(sqlite_url: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    body = json.dumps({"input": {"prompt": "a dove"}}).encode()
    async with doors_on_sockets(sqlite_url) as stand, httpx.AsyncClient(base_url=stand.url, headers=headers) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", stand.port)
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()
        writer.transport.abort()

        async def stored() -> bool:
            return bool((await client.get("/replicate/v1/predictions")).json()["results"])

        await until(stored)
        answer = await client.post(PATH, content=body)
        assert answer.headers["idempotency-replayed"] == "true"
        later = await client.post(PATH, content=body)  # this client has an answer now
        assert later.json()["id"] != answer.json()["id"]


@pytest.mark.long
async def test_task_waits_while_the_gateway_is_down(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url, upstream_url="http://127.0.0.1:9") as stand:
        task, status = await run_client(WAITING, **runway_environment(stand.url))
        async with httpx.AsyncClient(base_url=stand.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            shown = (await client.get(f"/runwayml/v1/tasks/{task}")).json()
            assert (status, shown["status"] in {"PENDING", "THROTTLED"}) == ("PENDING", True)
            assert (await client.delete(f"/runwayml/v1/tasks/{task}")).status_code == 204
            assert (await client.get(f"/runwayml/v1/tasks/{task}")).json()["status"] == "CANCELLED"
