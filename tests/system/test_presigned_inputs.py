"""Media as input by a presigned URL of a real S3 server: the provider fetches them without Dovecote's help."""

import asyncio
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup
from service.sandbox import Sandbox, running
from service.sandbox.files import FILES
from tests.support.processes import LIMIT, client_of, dovecote, started
from tests.support.radosgw import Radosgw, s3_server

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("s3")]
PNG = FILES["png"][1]


@pytest.fixture(scope="module")
def server() -> Iterator[Radosgw]:
    with s3_server() as started_server:
        yield started_server


async def submitted(client: httpx.AsyncClient, image: Any) -> dict[str, Any]:
    """Submit a task with a picture, and return it when it has ended."""
    request = {
        "family": "runway",
        "operation": "image_to_video",
        "input": {"prompt": "[fetch] a dove comes home", "image": image},
    }
    answer = await client.post("/v1/tasks", json=request)
    assert answer.status_code == 202, answer.text
    async with asyncio.timeout(LIMIT):
        while True:
            task = (await client.get(f"/v1/tasks/{answer.json()['id']}")).json()
            if task["finished_at"] is not None:
                return dict(task)
            await asyncio.sleep(0.1)


async def test_provider_fetches_an_upload_from_the_bucket(tmp_path: Path, server: Radosgw) -> None:
    sandbox = Sandbox(seconds=0.2, key=SANDBOX_KEY)
    async with running(sandbox) as upstream, httpx.AsyncClient() as anybody:
        served = dovecote(tmp_path, f"sqlite:///{tmp_path / 'dovecote.db'}", upstream)
        presigned = {"DOVECOTE_UPLOADS__LINKS": "presigned", "DOVECOTE_UPLOADS__KEEP": "1h"}
        served.environment = {**served.environment, **server.settings(), **presigned}
        with ProcessGroup() as group:
            await started(group, served)
            async with client_of(served) as client:
                upload = (await client.post("/v1/uploads", params={"name": "cat.png"}, content=PNG)).json()
                task = await submitted(client, {"upload": upload["id"]})
        assert task["state"] == "succeeded"
        [fetched] = sandbox.ledger.fetched
        assert fetched.url.startswith(server.url)
        assert (fetched.status, fetched.range_status, fetched.content_type) == (200, 206, "image/png")
        assert fetched.sha256 == hashlib.sha256(PNG).hexdigest()
        assert expiry_of(fetched.url) >= dt.datetime.fromisoformat(task["deadline_at"])
        longer = fetched.url.replace("X-Amz-Expires=", "X-Amz-Expires=9")
        assert (await anybody.get(longer)).status_code == 403
    assert sandbox.ledger.paid() == 1


def expiry_of(url: str) -> dt.datetime:
    """Return until when a presigned URL is valid."""
    given = httpx.URL(url).params
    signed_at = dt.datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    return signed_at + dt.timedelta(seconds=int(given["X-Amz-Expires"]))
