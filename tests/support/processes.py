"""Real `dovecote` processes: start them, send requests to them, and wait for a condition."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from service.cli.practice import plug
from service.cli.processes import LOOPBACK, ProcessGroup, Served, clean_environment, free_ports
from tests.support.waiting import LIMIT
from tests.support.world import INSTALLATION_SECRET

NEVER_POLLED = 3600.0
"""The usual duration of a task. No poll finds the end before its callback."""


def dovecote(folder: Path, database_url: str, upstream: str, role: str = "all", *, public: str = "") -> Served:
    """Return a server that is not started yet."""
    (port,) = free_ports(1)
    settings = {
        **plug(upstream, NEVER_POLLED, "elkapi"),
        "DOVECOTE_DATABASE_URL": database_url,
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": public or f"http://{LOOPBACK}:{port}",
        "DOVECOTE_WEBHOOK_SECRET": INSTALLATION_SECRET,
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
    }
    return Served(role, ("serve", "--role", role), {**clean_environment(), **settings}, port, folder, "/readyz")


async def started(group: ProcessGroup, *served: Served) -> None:
    for each in served:
        group.start(each)
    for each in served:
        async with asyncio.timeout(LIMIT):
            while not await asyncio.to_thread(each.ready):  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def client_of(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=LIMIT, trust_env=False) as client:
        yield client


async def submit(client: httpx.AsyncClient, **more: str) -> str:
    request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove", "duration": 5}, **more}
    answer = await client.post("/v1/tasks", json=request)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT):
        while not await true():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.02)


async def task_in(client: httpx.AsyncClient, task_id: str, state: str) -> dict[str, Any]:
    """Wait until a task is in a state, and return it."""
    found: dict[str, Any] = {}

    async def there() -> bool:
        found.update((await client.get(f"/v1/tasks/{task_id}")).json())
        return bool(found["state"] == state)

    await until(there)
    return found


async def run(folder: Path, database_url: str, *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end. Return its exit code and its output."""
    (port,) = free_ports(1)
    settings = {"DOVECOTE_DATABASE_URL": database_url, "DOVECOTE_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.cli", *arguments),
        cwd=folder,
        env={**clean_environment(), **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await asyncio.wait_for(process.communicate(), LIMIT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), said.decode()
