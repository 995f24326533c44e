"""A real, third-party Cog server completes jobs for Dovecote, only by its webhooks, since it has no poll."""

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.processes import LOOPBACK, ProcessGroup, Served, free_ports
from tests.support.processes import client_of, dovecote, started, task_in, until
from tests.support.waiting import LIMIT

pytest.importorskip("cog", reason="the package cog is not installed: no real Cog server is tested")
pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.long]

MODEL = """
import time
from cog import BaseRunner, Input

class Runner(BaseRunner):
    def run(self, text: str = Input(default="hello"), seconds: float = Input(default=0.0)) -> str:
        print("asked to say", text)
        if text == "fail":
            raise ValueError("made to fail")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
        return f"you said {text}"
"""


@contextlib.asynccontextmanager
async def cog_server(folder: Path) -> AsyncIterator[str]:
    """Run a Cog server with a model that repeats its input, and yield its URL once it is ready."""
    (folder / "predict.py").write_text(MODEL)
    (port,) = free_ports(1)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it starts its worker as `python`
    settings = {"PATH": programs, "COG_PREDICT_TYPE_STUB": "predict.py:Runner", "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cog.server.http", "--host", LOOPBACK),
        cwd=folder,
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://{LOOPBACK}:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

            async def ready() -> bool:
                assert process.returncode is None
                with contextlib.suppress(httpx.TransportError):
                    return bool((await client.get("/health-check")).json()["status"] == "READY")
                return False

            await until(ready)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), LIMIT)


def with_cog(served: Served, url: str) -> Served:
    """Return a server whose upstream ``models`` is a Cog server."""
    upstream = {"BASE_URL": url, "DIALECTS": "replicate/cog", "KEY": "a-cog-server-needs-none"}
    settings = {f"DOVECOTE_UPSTREAMS__MODELS__{name}": value for name, value in upstream.items()}
    return dataclasses.replace(served, environment={**served.environment, **settings})


async def submit(client: httpx.AsyncClient, **given: Any) -> str:
    request = {"family": "replicate", "operation": "run", "input": {"input": given}}
    answer = await client.post("/v1/tasks", json=request)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_cog_server_completes_fails_and_cancels_jobs_by_its_webhooks(sqlite_url: str, tmp_path: Path) -> None:
    async with cog_server(tmp_path) as url:
        served = with_cog(dovecote(tmp_path, sqlite_url, url), url)
        with ProcessGroup() as group:
            await started(group, served)
            async with client_of(served) as client:
                done = await task_in(client, await submit(client, text="a dove"), "succeeded")
                assert [(each["kind"], each["text"]) for each in done["results"]] == [("text", "you said a dove")]
                assert (done["upstream"], done["outcome_source"]) == ("models", "callback")
                assert done["external_id"] == done["id"]

                failed = await task_in(client, await submit(client, text="fail"), "failed")
                assert failed["failure"]["code"] == "provider_error"
                assert "made to fail" in failed["failure"]["message"]

                long = await submit(client, text="slow", seconds=LIMIT)
                await task_in(client, long, "running")
                # The server runs one job at a time: the next one waits, and is not bought in vain.
                waiting = await submit(client, text="next")
                cancelling = await client.post(f"/v1/tasks/{long}/cancel")
                assert cancelling.status_code in {200, 202}, cancelling.text
                cancelled = await task_in(client, long, "cancelled")
                assert (cancelled["outcome_source"], cancelled["results"]) == ("callback", [])
                after = await task_in(client, waiting, "succeeded")
                assert [each["text"] for each in after["results"]] == ["you said next"]
