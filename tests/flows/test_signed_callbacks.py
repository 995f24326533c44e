"""Signed callbacks, from the request to the task: a wrong signature changes nothing, the right one ends the task."""

import base64
import dataclasses
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.domain.task import Source, State
from service.sandbox import Faults, Sandbox
from tests.support.dialects import DIALECTS, example_of
from tests.support.world import World

FILE = "https://files.example.com/a.png"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.urlsafe_b64encode(KEY.public_key().public_bytes_raw()).decode().rstrip("=")
KEY_SET = json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": PUBLIC}]})
SECRET = b"a-secret-of-some-length"
Sign = Callable[[str, str, bytes], Mapping[str, str]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """How a provider signs, and what it sends about a job that has succeeded."""

    key: str
    body: Callable[[str], Any]
    sign: Sign


def standard(job: str, at: str, body: bytes) -> Mapping[str, str]:
    signature = base64.b64encode(hmac.digest(SECRET, f"msg_{job}.{at}.".encode() + body, hashlib.sha256)).decode()
    return {"webhook-id": f"msg_{job}", "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}


def ed25519(prefix: str, name: str) -> Sign:
    def sign(job: str, at: str, body: bytes) -> Mapping[str, str]:
        message = f"{job}\nuser\n{at}\n{hashlib.sha256(body).hexdigest()}".encode()
        signature = KEY.sign(message).hex()
        return {
            f"{prefix}{name}": job,
            f"{prefix}user-id": "user",
            f"{prefix}timestamp": at,
            f"{prefix}signature": signature,
        }

    return sign


SIGNERS = {
    "replicate/official": Signer(
        key="whsec_" + base64.b64encode(SECRET).decode(),
        body=lambda job: {"id": job, "status": "succeeded", "output": FILE},
        sign=standard,
    ),
    "fal/queue": Signer(
        key=KEY_SET,
        body=lambda job: {"request_id": job, "status": "OK", "payload": {"images": [{"url": FILE}]}},
        sign=ed25519("x-fal-webhook-", "request-id"),
    ),
    "ideogram/official": Signer(
        key=KEY_SET,
        body=lambda job: {"generation_id": job, "data": [{"url": FILE, "is_image_safe": True}]},
        sign=ed25519("x-ideogram-webhook-", "generation-id"),
    ),
    "flux/official": Signer(
        key=SECRET.decode(),
        body=lambda job: {"id": job, "status": "Ready", "result": {"sample": FILE}},
        sign=lambda _job, _at, body: {"x-bfl-signature": "sha256=" + hmac.digest(SECRET, body, hashlib.sha256).hex()},
    ),
}


@pytest.mark.parametrize("name", SIGNERS)
async def test_wrong_signature_changes_nothing_and_the_right_one_ends_the_task(sqlite_url: str, name: str) -> None:
    signer = SIGNERS[name]
    settings = {
        "DIALECTS": name,
        "BASE_URL": f"http://sandbox.test{Sandbox.base_paths()[name]}",
        "CALLBACK_KEY": signer.key,
    }
    upstream = {f"DOVECOTE_UPSTREAMS__ELKAPI__{key}": value for key, value in settings.items()}
    async with World.opened(sqlite_url, faults=Faults.named(("drop",)), **upstream) as world:
        task = await world.submit(**example_of(DIALECTS[name]))
        await world.work()
        [job] = world.sandbox.ledger.jobs
        path = urlsplit(job.callback_url or "").path
        body = json.dumps(signer.body(job.id)).encode()
        signed = signer.sign(job.id, str(int(world.clock.seconds())), body)
        for tampered, headers in ((body.replace(b"a.png", b"b.png"), signed), (body + b" ", signed)):
            assert (await world.client.post(path, content=tampered, headers=headers)).status_code == 200
        await world.work()
        assert (await world.task(task)).state is State.SUBMITTED
        assert (await world.client.post(path, content=body, headers=signed)).status_code == 200
        await world.work()
        assert [each.decision for each in await world.callbacks(task)] == ["forged", "forged", "applied"]
        ended = await world.task(task)
        assert (ended.state, ended.outcome_source) == (State.SUCCEEDED, Source.CALLBACK)
        assert [each.url for each in ended.results] == [FILE]


async def test_job_is_created_with_the_key_that_signs_its_callbacks(sqlite_url: str) -> None:
    settings = {
        "DIALECTS": "flux/official",
        "BASE_URL": f"http://sandbox.test{Sandbox.base_paths()['flux/official']}",
        "CALLBACK_KEY": SECRET.decode(),
    }
    upstream = {f"DOVECOTE_UPSTREAMS__ELKAPI__{key}": value for key, value in settings.items()}
    async with World.opened(sqlite_url, **upstream) as world:
        task = await world.submit(**example_of(DIALECTS["flux/official"]))
        await world.work()
        [job] = world.sandbox.ledger.jobs
        assert job.order.document["webhook_secret"] == SECRET.decode()
        shown = (await world.client.get(f"/v1/tasks/{task}")).text + (
            await world.client.get(f"/v1/tasks/{task}/events")
        ).text
        assert SECRET.decode() not in shown
        refused = await world.client.post(
            "/v1/tasks", json={**example_of(DIALECTS["flux/official"]), "options": {"webhook_secret": "x"}}
        )
        assert (refused.status_code, "options.webhook_secret" in refused.text) == (422, True)


async def test_job_without_a_callback_key_states_no_secret(sqlite_url: str) -> None:
    settings = {"DIALECTS": "flux/official", "BASE_URL": f"http://sandbox.test{Sandbox.base_paths()['flux/official']}"}
    upstream = {f"DOVECOTE_UPSTREAMS__ELKAPI__{key}": value for key, value in settings.items()}
    async with World.opened(sqlite_url, **upstream) as world:
        await world.submit(**example_of(DIALECTS["flux/official"]))
        await world.work()
        assert "webhook_secret" not in world.sandbox.ledger.jobs[0].order.document
