"""Every request that a real client was seen to send, at its door: the answer has the status and the fields that the client reads."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox.files import FILES
from tests.support.clients import ALICE, BOB
from tests.support.doors import DOORS, upstreams
from tests.support.world import World

RECORDINGS = Path(__file__).parents[2] / "recordings" / "doors"
ELSEWHERE_TESTED = {"dooy-web", "mj-bot", "suno-api-client"}
"""Clients whose requests need the answers to the ones before: test_gateway_doors.py plays them."""
CASES = [
    path
    for path in sorted(RECORDINGS.glob("*/*.json"))
    if path.parent.name not in ELSEWHERE_TESTED and not path.name.startswith(("mj.", "suno."))
]
PREFIXES = {
    "runwayml-node": "/runwayml",
    "runwayml-python": "/runwayml",
    "replicate-node": "/replicate",
    "replicate-python": "/replicate",
    "fal-python": "/fal",
    "fal-js": "/fal",
}
"""The prefix of each client's base URL; OpenAI's clients use the root here."""
ELSEWHERE = {
    "upload.2-bytes": "the address and the fields come from the answer to the step before",
    "stream.events": "the address comes from the answer to the create",
}
ID = re.compile(
    r"(?<=/)(video_1|resp_1|x|17f20503-[0-9a-f-]+|gm3qorzdhgbfurvjtvhg6dckhu|764cabcf-[0-9a-f-]+)(?=[/?]|$)"
)
MADE = {
    "video": {"family": "openai", "operation": "text_to_video", "input": {"prompt": "a dove"}},
    "resp": {"family": "openai", "operation": "response", "input": {"prompt": "a dove"}},
    "runway": {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}},
    "replicate": {"family": "replicate", "operation": "run", "input": {"model": "acme/x", "input": {"prompt": "a"}}},
    "fal": {"family": "fal", "operation": "run", "input": {"model": "fal-ai/flux/dev", "input": {"prompt": "a"}}},
}


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def named(path: Path) -> str:
    return f"{path.parent.name} {path.stem}"


def prefix_of(case: dict[str, Any], client: str) -> str:
    if client == "litellm" and "X-Runway-Version" in case["request"]["headers"]:
        return "/runwayml"
    return PREFIXES.get(client, "")


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    settings = {f"DOVECOTE_DOORS__{name}": "true" for name in DOORS}
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB}"}
    async with World.opened(database_url, **settings, **keys, **upstreams("http://sandbox.test")) as opened:
        yield opened


async def send(world: World, request: dict[str, Any], path: str, key: str = ALICE) -> httpx.Response:
    """Send a recorded request, and let the worker run until it is answered."""
    scheme, _, _ = request["headers"].get("Authorization", request["headers"].get("authorization", "")).partition(" ")
    headers = {name: value for name, value in request["headers"].items() if name.lower() in KEPT}
    headers["Authorization"] = f"{scheme or 'Bearer'} {key}"
    body, content = request["body"], {}
    if isinstance(body, dict) and "multipart" in body:
        parts = body["multipart"]
        content["files"] = [
            (part["name"], (part.get("filename"), FILES["png"][1], part["content_type"]))
            if "bytes" in part
            else (part["name"], (None, part["value"]))
            for part in parts
        ]
    elif body is not None:
        content["json"] = body
    asking = asyncio.create_task(world.client.request(request["method"], path, headers=headers, **content))
    for _ in range(40):
        done, _pending = await asyncio.wait({asking}, timeout=0.02)
        if done:
            break
        await world.work()
        await world.pass_time(1)
    return await asking


KEPT = {"x-fal-target-url", "user-agent", "x-stainless-retry-count", "x-runway-version", "prefer", "accept"}


async def prepared(world: World, path: str) -> str:
    """Return a path with the id of a task that has succeeded, in place of the recorded one."""
    if ID.search(path) is None:
        return path
    kind = next(
        (name for name in ("video", "resp") if f"/{name}_1" in path),
        "replicate" if "predictions" in path else "fal" if "/requests/" in path else "runway",
    )
    headers = {"Authorization": f"Bearer {ALICE}"}
    made = (await world.client.post("/v1/tasks", json=MADE[kind], headers=headers)).json()
    await world.work()
    return ID.sub(made["id"], path)


def reads(document: Any, field: str) -> bool:
    """Return whether a document has a field such as ``data[].b64_json``."""
    holders = [document]
    for part in field.split("."):
        name, bracket, _ = part.partition("[")
        holders = [each[name] for each in holders if isinstance(each, dict) and name in each]
        if bracket:
            holders = [item for each in holders if isinstance(each, list) for item in each]
    return bool(holders)


@pytest.mark.parametrize("client", sorted({path.parent.name for path in CASES}))
async def test_recorded_requests_get_what_their_client_reads(world: World, client: str) -> None:
    paths = [path for path in CASES if path.parent.name == client and path.stem not in ELSEWHERE]
    assert paths
    for path in paths:
        await replay(world, path, client)


async def replay(world: World, path: Path, client: str) -> None:
    """Send a recorded request, and check its answer."""
    case = load(path)
    address = await prepared(world, prefix_of(case, client) + case["request"]["path"])
    request = case["request"]
    if "/videos/" in address and request["method"] == "POST" and not address.endswith("/edits"):
        await world.pass_time(20)  # only a finished video can be continued
    if address.endswith(("/edits", "/content")) or (
        client.startswith("fal-") and case["answer_it_needs"]["http_status"] == 200 and request["method"] == "GET"
    ):
        address = await finished(world, request, address)
    answer = await send(world, request, address)
    expected = case["answer_it_needs"]["http_status"]
    if path.stem == "error.400":
        request = {**request, "body": {**request["body"], "duration": "long"}}
        answer = await send(world, request, address)
    if path.stem == "error.401":
        answer = await send(world, request, address, key="another-key-of-nobody")
    assert answer.status_code == expected, (named(path), answer.text)
    fields = [each for each in case["answer_it_needs"].get("read") or [] if re.fullmatch(r"[\w.\[\]]+", each)]
    if answer.headers.get("content-type") == "application/json" and fields and expected < 400:
        document = answer.json()
        if fields[0].startswith("data[]"):
            assert any(reads(document, each) for each in fields), (named(path), answer.text)
        else:
            missing = [each for each in fields if not reads(document, each) and each not in OPTIONAL]
            assert not missing, (named(path), answer.text)


OPTIONAL = {
    "output",
    "failure",
    "failureCode",
    "progress",
    "completedAt",
    "output[0]",
    "metrics",
    "error",
    "error_type",
}
OPTIONAL |= {"task_id", "queue_position", "events", "bytes", "metadata.url", "error.message"}
"""Fields that only some states have."""


async def finished(world: World, request: dict[str, Any], address: str) -> str:
    """Let the task of an address end; where the body names a video, put the id of one there."""
    if request["body"] is not None and "multipart" in request["body"]:
        made = await prepared(world, "/videos/video_1")
        for part in request["body"]["multipart"]:
            if part["name"] == "video[id]":
                part["value"] = made.rpartition("/")[2]
    await world.pass_time(300, step=10)
    return address
