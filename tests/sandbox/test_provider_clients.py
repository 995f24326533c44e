"""The providers' own clients, unchanged, complete jobs at the sandbox, so they understand its answers."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from service.sandbox import Sandbox, running
from tests.support.certificates import Authority
from tests.support.waiting import LIMIT

KEY = "id:secret"
REPLICATE = """
import json
import replicate

MODEL = "black-forest-labs/flux-schnell"
client = replicate.Client()
made = client.run(MODEL, input={"prompt": "a kite"}, use_file_output=False)
job = client.predictions.create(version="39ed52f2a78e934b", input={"prompt": "a boat"}, webhook="https://example.com/hook")
job.reload()
ended = job.status
job.cancel()
failed = client.models.predictions.create(MODEL, input={"prompt": "[fail] a kite"})
failed.reload()
try:
    client.run(MODEL, input={"prompt": "[refuse] a kite"})
    refused = None
except replicate.exceptions.ReplicateError as error:
    refused = error.status
shown = {"made": made, "ended": ended, "after": job.status, "failed": [failed.status, failed.error], "refused": refused}
print(json.dumps(shown))
"""
FAL = """
import json
import fal_client

MODEL = "fal-ai/flux/dev"
client = fal_client.SyncClient()
seen = []
made = client.subscribe(MODEL, arguments={"prompt": "a heron"}, on_queue_update=lambda each: seen.append(type(each).__name__))
handle = client.submit(MODEL, arguments={"prompt": "[seconds=3600] a boat"}, webhook_url="https://example.com/hook")
handle.cancel()
try:
    client.subscribe(MODEL, arguments={"prompt": "[refuse] a heron"})
    refused = None
except fal_client.FalClientHTTPError as error:
    refused = error.status_code
print(json.dumps({"made": made, "seen": seen, "refused": refused, "request": handle.request_id}))
"""
RUNWAY = """
import json
import time
import runwayml

time.sleep = lambda _seconds: None  # the client waits for seconds between its queries
client = runwayml.RunwayML(max_retries=0)


def submit(prompt):
    return client.text_to_video.create(model="gen4.5", prompt_text=prompt, ratio="1280:720", duration=5)


made = submit("a kite").wait_for_task_output()
try:
    submit("[fail] a kite").wait_for_task_output()
    failed = None
except runwayml.TaskFailedError as error:
    failed = [error.task_details.status, error.task_details.failure_code]
task = submit("[stuck] a kite")
running = client.tasks.retrieve(task.id).status
client.tasks.delete(task.id)
try:
    submit("[refuse] a kite")
    refused = None
except runwayml.BadRequestError as error:
    refused = error.status_code
left = client.organization.retrieve().credit_balance
print(json.dumps({"made": made.output, "failed": failed, "running": running, "refused": refused, "left": left}))
"""
LUMA = """
import json
import lumaai

client = lumaai.LumaAI(max_retries=0)
IMAGE = {"model": "photon-1", "callback_url": "https://example.com/hook"}


def reads(generation):
    ended = client.generations.get(generation.id)
    assets = None if ended.assets is None else [ended.assets.video, ended.assets.image]
    return [generation.state, generation.generation_type, ended.state, assets, ended.failure_reason]


video = client.generations.create(model="ray-2", prompt="a kite", resolution="720p")
image = client.generations.image.create(prompt="a kite", **IMAGE)
upscaled = client.generations.upscale(video.id, resolution="4k")
failed = client.generations.image.create(prompt="[fail] a kite", **IMAGE)
moderated = client.generations.create(model="ray-2", prompt="[moderate] a kite")
try:
    client.generations.create(model="ray-2", prompt="[refuse] a kite")
    refused = None
except lumaai.BadRequestError as error:
    refused = error.status_code
shown = [reads(each) for each in (video, image, upscaled, failed, moderated)]
listed = client.generations.list(limit=2, offset=1)
page = [listed.has_more, listed.count, [each.id == made.id for each, made in zip(listed.generations, (failed, upscaled))]]
client.generations.delete(video.id)
try:
    client.generations.get(video.id)
    deleted = None
except lumaai.NotFoundError as error:
    deleted = error.status_code
said = {"shown": shown, "refused": refused, "left": client.credits.get().credit_balance, "page": page, "deleted": deleted}
print(json.dumps(said))
"""
VEO = """
import json
import os
from google import genai
from google.genai.types import GenerateVideosConfig, GenerateVideosSource
from google.oauth2.credentials import Credentials

client = genai.Client(
    vertexai=True,
    project="sandbox",
    location="us-central1",
    credentials=Credentials(token=os.environ["TOKEN"]),
    http_options={"base_url": os.environ["BASE_URL"], "api_version": "v1"},
)
BUCKET = "gs://kites/out/"


def ended(prompt):
    source, config = GenerateVideosSource(prompt=prompt), GenerateVideosConfig(output_gcs_uri=BUCKET, duration_seconds=8)
    operation = client.models.generate_videos(model="veo-3.1-generate-001", source=source, config=config)
    return client.operations.get(operation)


made = ended("a kite")
running = ended("[stuck] a kite").done
failed = ended("[fail] a kite").error
filtered = ended("[moderate] a kite").result.rai_media_filtered_count
try:
    ended("[refuse] a kite")
    refused = None
except genai.errors.ClientError as error:
    refused = [error.code, error.status]
urls = [each.video.uri for each in made.result.generated_videos]
shown = {"name": made.name, "made": urls, "running": running, "failed": failed, "filtered": filtered, "refused": refused}
print(json.dumps(shown))
"""


async def run(program: str, **settings: str) -> Any:
    """Run a program with a provider's client in a process of its own; return the JSON that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", program),
        env={**os.environ, "NO_PROXY": "*", **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await asyncio.wait_for(process.communicate(), LIMIT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
    return json.loads(out)


async def test_replicate_client_completes_fails_and_cancels_predictions() -> None:
    sandbox = Sandbox(seconds=0.0, key=KEY)
    async with running(sandbox) as url:
        base_url = url + Sandbox.base_paths()["replicate/official"]
        shown = await run(REPLICATE, REPLICATE_API_TOKEN=KEY, REPLICATE_BASE_URL=base_url)
    first, second, _ = sandbox.ledger.jobs
    assert shown == {
        "made": [first.file_url],
        "ended": "succeeded",
        "after": "succeeded",
        "failed": ["failed", "CUDA out of memory"],
        "refused": 422,
    }
    assert second.callback_url == "https://example.com/hook"


async def test_fal_client_completes_and_cancels_requests(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    sandbox = Sandbox(seconds=0.0, key=KEY)
    async with running(sandbox, tls=authority.certificate("IP:127.0.0.1")) as url:  # the client speaks HTTPS only
        host = url.removeprefix("https://") + Sandbox.base_paths()["fal/queue"]
        shown = await run(FAL, FAL_KEY=KEY, FAL_QUEUE_RUN_HOST=host, SSL_CERT_FILE=str(authority.file))
    first, second = sandbox.ledger.jobs
    assert [each["url"] for each in shown["made"]["images"]] == [first.file_url]
    assert shown["seen"][-1] == "Completed"
    assert (shown["refused"], shown["request"]) == (422, second.id)
    assert (second.callback_url, second.cancelled) == ("https://example.com/hook", True)


async def test_runwayml_client_completes_fails_and_cancels_tasks() -> None:
    sandbox = Sandbox(seconds=0.0, key=KEY)
    async with running(sandbox) as url:
        base_url = url + Sandbox.base_paths()["runway/official"]
        shown = await run(RUNWAY, RUNWAYML_API_SECRET=KEY, RUNWAYML_BASE_URL=base_url)
    first, _, third = sandbox.ledger.jobs
    assert shown == {
        "made": [first.file_url],
        "failed": ["FAILED", "INTERNAL.BAD_OUTPUT.CODE01"],
        "running": "RUNNING",
        "refused": 400,
        "left": 100000 - 3 * 5 * 5,
    }
    assert third.cancelled


async def test_lumaai_client_completes_and_fails_generations() -> None:
    sandbox = Sandbox(seconds=0.0, key=KEY)
    async with running(sandbox) as url:
        base_url = f"{url}{Sandbox.base_paths()['luma/official']}/dream-machine/v1"
        shown = await run(LUMA, LUMAAI_API_KEY=KEY, LUMAAI_BASE_URL=base_url)
    video, image, upscaled, *_ = jobs = sandbox.ledger.jobs
    assert shown["shown"] == [
        ["queued", "video", "completed", [video.file_url, video.file("poster.jpg")], None],
        ["queued", "image", "completed", [None, image.file_url], None],
        ["queued", "video", "completed", [upscaled.file_url, upscaled.file("poster.jpg")], None],
        ["queued", "image", "failed", None, "internal error: the generation failed"],
        ["queued", "video", "failed", None, "prompt not allowed because advanced moderation failed"],
    ]
    assert (shown["refused"], shown["left"], len(jobs)) == (400, 100000 - 5 * 400, 5)
    assert (shown["page"], shown["deleted"]) == ([True, 5, [True, True]], 404)
    assert image.callback_url == "https://example.com/hook"


@pytest.mark.long  # its import alone takes a second
async def test_google_genai_client_completes_and_fails_operations() -> None:
    sandbox = Sandbox(seconds=0.0, key=KEY)
    async with running(sandbox) as url:
        shown = await run(VEO, TOKEN=KEY, BASE_URL=url)  # the client itself adds the path of the project
    jobs = sandbox.ledger.jobs
    path = Sandbox.base_paths()["veo/vertex"].removeprefix("/v1/")
    assert shown == {
        "name": f"{path}/publishers/google/models/veo-3.1-generate-001/operations/{jobs[0].id}",
        "made": [f"gs://kites/out/{jobs[0].id}/sample_0.mp4"],
        "running": None,
        "failed": {"code": 13, "message": "Video generation failed."},
        "filtered": 1,
        "refused": [400, "INVALID_ARGUMENT"],
    }
    assert [job.prompt for job in jobs] == ["a kite", "[stuck] a kite", "[fail] a kite", "[moderate] a kite"]
