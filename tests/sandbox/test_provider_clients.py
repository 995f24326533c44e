"""The providers' own clients, unchanged, complete jobs at the sandbox, so they understand its answers."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

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
