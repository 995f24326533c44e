"""fal's own client, unchanged, against Dovecote against the sandbox."""

from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.doors import KEY, doors_on_sockets, run_client

BEGIN = """
import json
import fal_client

MODEL = "fal-ai/flux/dev"
client = fal_client.SyncClient()


def refused(function):
    try:
        function()
    except fal_client.FalClientHTTPError as error:
        return [type(error).__name__, error.status_code]

"""
SHORT = (
    BEGIN
    + """
seen = []
made = client.subscribe(MODEL, arguments={"prompt": "a heron"}, on_queue_update=lambda each: seen.append(type(each).__name__))
print(json.dumps({
    "made": [list(made), len(made["images"]), made["images"][0]["url"][:4]],
    "seen": seen[-1],
    "failed": refused(lambda: client.subscribe(MODEL, arguments={"prompt": "[fail] a heron"})),
    "key": refused(lambda: fal_client.SyncClient(key="another-key-of-nobody").submit(MODEL, arguments={"prompt": "x"})),
}))
"""
)
LOST = (
    BEGIN
    + """
first = client.submit(MODEL, arguments={"prompt": "a lost heron"})
first.get()
second = client.submit(MODEL, arguments={"prompt": "another heron"})
print(json.dumps([first.request_id, second.request_id]))
"""
)
LONG = (
    BEGIN
    + """
handle = client.submit(MODEL, arguments={"prompt": "[seconds=3600] a boat"}, webhook_url="http://127.0.0.1:9/hook")
waiting = type(handle.status()).__name__
handle.cancel()
unnoticed = client.subscribe(MODEL, arguments={"prompt": "[drop] a heron"})
run = client.run(MODEL, arguments={"prompt": "a crow"})
print(json.dumps({
    "waiting": waiting in {"Queued", "InProgress"},
    "unnoticed": len(unnoticed["images"]),
    "run": len(run["images"]),
    "moderated": refused(lambda: client.subscribe(MODEL, arguments={"prompt": "[fail] [moderate] a heron"})),
}))
"""
)


def environment(url: str, authority: Authority) -> dict[str, str]:
    host = url.removeprefix("https://")
    return {
        "FAL_QUEUE_RUN_HOST": f"{host}/fal",
        "FAL_RUN_HOST": f"{host}/fal/fal-run",
        "FAL_KEY": KEY,
        "SSL_CERT_FILE": str(authority.file),
    }


async def test_requests_succeed_and_fail_with_the_exceptions_of_the_client(sqlite_url: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with doors_on_sockets(sqlite_url, tls=authority.serving("IP:127.0.0.1")) as stand:
        shown = await run_client(SHORT, **environment(stand.url, authority))
    assert shown == {
        "made": [["images"], 1, "http"],
        "seen": "Completed",
        "failed": ["FalClientHTTPError", 500],
        "key": ["FalClientHTTPError", 401],
    }


@pytest.mark.parametrize("lost", [1, pytest.param(4, marks=pytest.mark.long)])
async def test_submit_whose_answer_is_lost_makes_one_job(sqlite_url: str, tmp_path: Path, lost: int) -> None:
    authority = Authority(tmp_path)
    async with doors_on_sockets(sqlite_url, tls=authority.serving("IP:127.0.0.1")) as stand:
        stand.relay.lose = lost
        first, second = await run_client(LOST, **environment(stand.url, authority))
        assert first != second
        assert await stand.paid_before("a lost heron", last="another heron") == 1
        assert stand.relay.posts == lost + 2


@pytest.mark.long
async def test_other_calls_of_the_client_work(sqlite_url: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with doors_on_sockets(sqlite_url, tls=authority.serving("IP:127.0.0.1")) as stand:
        shown = await run_client(LONG, **environment(stand.url, authority))
    assert shown.pop("moderated")[0] == "FalClientHTTPError"
    assert shown == {"waiting": True, "unnoticed": 1, "run": 1}
