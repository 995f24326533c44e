"""Replicate's own SDK, unchanged, against Dovecote against the sandbox."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.doors import KEY, doors_on_sockets, run_client
from tests.support.processes import until
from tests.support.serving import served

BEGIN = """
import base64
import io
import json
import os
import replicate

MODEL = "black-forest-labs/flux-schnell"
VERSION = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b"
client = replicate.Client()


def ended(job):
    job.wait()
    return job


def refused(function):
    try:
        function()
    except replicate.exceptions.ReplicateException as error:
        return [type(error).__name__, getattr(error, "status", None)]

"""
SHORT = (
    BEGIN
    + """
made = client.run(MODEL, input={"prompt": "a kite"}, use_file_output=False)
print(json.dumps({
    "made": [type(made).__name__, made[0][:4]],
    "failed": refused(lambda: client.run(MODEL, input={"prompt": "[fail] a kite"})),
    "mistake": refused(lambda: client.predictions.create(version="acme/x/y", input={})),
    "unknown": refused(lambda: client.predictions.get("rrr4z55ocneqzikepnug6xezpe")),
    "key": refused(lambda: replicate.Client(api_token="another-key-of-nobody").predictions.list()),
}))
"""
)
LONG = (
    BEGIN
    + """
from replicate.webhook import Webhooks

HOOK = os.environ["HOOK"]
slow = client.run(MODEL, input={"prompt": "[seconds=3] a kite"}, use_file_output=False)
job = client.predictions.create(version=VERSION, input={"prompt": "a boat"}, webhook=HOOK, webhook_events_filter=["completed"])
first = job.status
job = ended(job)
stuck = client.predictions.create(model=MODEL, input={"prompt": "[stuck] a kite"})
stuck.cancel()
unnoticed = ended(client.predictions.create(model=MODEL, input={"prompt": "[drop] a kite"}))
by_deployment = client.deployments.predictions.create("acme/doves", input={"prompt": "a dove"})
streamed = client.predictions.create(model=MODEL, input={"prompt": "a heron"}, stream=True)
events = [each.event.value for each in streamed.stream()]
by_version = client.run(f"{MODEL}:{VERSION}", input={"prompt": "a crow"}, use_file_output=False)
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
uploaded = client.run(MODEL, input={"prompt": "an owl", "image": io.BytesIO(PNG)}, use_file_output=False)
print(json.dumps({
    "uploaded": len(uploaded),
    "slow": len(slow),
    "job": [first, job.status, job.version == VERSION, len(job.output)],
    "stuck": client.predictions.get(stuck.id).status,
    "unnoticed": unnoticed.status,
    "deployment": by_deployment.status,
    "events": events,
    "by_version": len(by_version),
    "listed": len(client.predictions.list().results),
    "secret": client.webhooks.default.secret().key[:6],
}))
"""
)
VALIDATE = (
    BEGIN
    + """
from replicate.webhook import Webhooks

secret = client.webhooks.default.secret()
message = json.loads(os.environ["MESSAGE"])
Webhooks.validate(headers=message["headers"], body=message["body"], secret=secret)
forged = None
try:
    Webhooks.validate(headers=message["headers"], body=message["body"] + " ", secret=secret)
except Exception as error:
    forged = type(error).__name__
print(json.dumps([json.loads(message["body"])["status"], forged]))
"""
)


def environment(url: str) -> dict[str, str]:
    return {"REPLICATE_BASE_URL": f"{url}/replicate", "REPLICATE_API_TOKEN": KEY, "REPLICATE_POLL_INTERVAL": "0.05"}


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Serve a receiver that keeps whole messages."""
    kept: list[dict[str, Any]] = []

    async def take(request: Request) -> Response:
        kept.append({"headers": dict(request.headers), "body": (await request.body()).decode()})
        return Response()

    async with served(Starlette(routes=[Route("/hook", take, methods=["POST"])])) as port:
        yield f"http://127.0.0.1:{port}/hook", kept


async def test_predictions_succeed_and_fail_with_the_exceptions_of_the_sdk(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand:
        shown = await run_client(SHORT, **environment(stand.url))
    assert shown == {
        "made": ["list", "http"],
        "failed": ["ModelError", None],
        "mistake": ["ReplicateError", 422],
        "unknown": ["ReplicateError", 404],
        "key": ["ReplicateError", 401],
    }


@pytest.mark.long
async def test_every_call_of_the_sdk_works_and_webhooks_are_valid(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand, receiving() as (hook, kept):
        shown = await run_client(LONG, **environment(stand.url), HOOK=hook)

        async def there() -> bool:
            return bool(kept)

        await until(there)
        valid = await run_client(VALIDATE, **environment(stand.url), MESSAGE=json.dumps(kept[0]))
    assert valid == ["succeeded", "InvalidSignatureError"]
    assert shown == {
        "uploaded": 1,
        "slow": 1,
        "job": ["starting", "succeeded", True, 1],
        "stuck": "canceled",
        "unnoticed": "succeeded",
        "deployment": "starting",
        "events": ["output", "done"],
        "by_version": 1,
        "listed": 8,
        "secret": "whsec_",
    }
