"""Requests whose answers are lost on real connections, from clients without idempotency keys and without marks."""

import asyncio
import json

import httpx
import pytest

from tests.support.doors import KEY, RUNWAY_CLIENT, doors_on_sockets, run_client, runway_environment
from tests.support.processes import until

NODE = {"User-Agent": "replicate-javascript/1.4.0", "Authorization": f"Bearer {KEY}"}
NOWHERE = "http://127.0.0.1:9"
"""An upstream that is down."""
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
    async with doors_on_sockets(sqlite_url, upstream_url=NOWHERE) as stand:
        task, status = await run_client(WAITING, **runway_environment(stand.url))
        async with httpx.AsyncClient(base_url=stand.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            shown = (await client.get(f"/runwayml/v1/tasks/{task}")).json()
            assert (status, shown["status"] in {"PENDING", "THROTTLED"}) == ("PENDING", True)
            assert (await client.delete(f"/runwayml/v1/tasks/{task}")).status_code == 204
            assert (await client.get(f"/runwayml/v1/tasks/{task}")).json()["status"] == "CANCELLED"


OPENAI_WAITS = """
import json, os, openai
client = openai.OpenAI(base_url=os.environ["BASE"] + "/openai/v1", api_key=os.environ["KEY"])
video = client.videos.create(model="sora-2", prompt="a patient dove", seconds="8")
response = client.responses.create(model="gpt-6-luna", input="a patient answer", background=True)
try:
    client.with_options(timeout=1.0, max_retries=2).images.generate(model="gpt-image-2", prompt="a patient picture")
    late = None
except openai.APITimeoutError as error:
    late = type(error).__name__
found = [client.videos.retrieve(video.id).status, client.responses.retrieve(response.id).status]
cancelled = client.responses.cancel(response.id).status
print(json.dumps([found, late, cancelled, client.videos.delete(video.id).deleted]))
"""
REPLICATE_WAITS = """
import json, os, time, replicate
client = replicate.Client(base_url=os.environ["BASE"] + "/replicate", api_token=os.environ["KEY"])
waited = client.predictions.create(model="acme/doves", input={"prompt": "a patient crow"}, wait=1)
first = waited.status
waited.reload()
again = waited.status
waited.cancel()
while waited.status == "starting":  # a submission may be under way: it ends first
    time.sleep(0.05)
    waited.reload()
print(json.dumps([first, again, waited.status]))
"""


@pytest.mark.long
async def test_clients_of_openai_and_replicate_wait_while_the_gateway_is_down(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url, upstream_url=NOWHERE) as stand:
        where = {"BASE": stand.url, "KEY": KEY}
        shown = await run_client(OPENAI_WAITS, **where)
        assert shown == [["queued", "queued"], "APITimeoutError", "cancelled", True]
        assert await run_client(REPLICATE_WAITS, **where) == ["starting", "starting", "canceled"]
        async with httpx.AsyncClient(base_url=stand.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            tasks = (await client.get("/v1/tasks")).json()["tasks"]
        pictures = [each for each in tasks if each["input"].get("prompt") == "a patient picture"]
        assert len(pictures) == 1, "a client that gives up and asks again gets the same task"


LOST_CALLBACK = """
import json, os, time, openai
pause = time.sleep
time.sleep = lambda seconds: pause(min(seconds, 0.05))
client = openai.OpenAI(base_url=os.environ["BASE"] + "/openai/v1", api_key=os.environ["KEY"])
video = client.videos.create_and_poll(model="sora-2", prompt="[drop] a dove", seconds="8", poll_interval_ms=20)
slow = client.videos.create_and_poll(model="sora-2", prompt="[seconds=3] a dove", seconds="8", poll_interval_ms=20)
held = client.images.generate(model="gpt-image-2", prompt="[seconds=2] a dove")
print(json.dumps([video.status, slow.status, len(held.data)]))
"""


@pytest.mark.long
async def test_client_of_openai_gets_slow_results_and_those_without_a_callback(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand:
        assert await run_client(LOST_CALLBACK, BASE=stand.url, KEY=KEY) == ["completed", "completed", 1]
