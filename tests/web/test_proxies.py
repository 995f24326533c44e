"""Dovecote behind a real nginx: paths keep their prefix, waits end in time, and a request without a key is refused."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.app import application
from service.settings.model import Settings
from service.web.api import events, tasks
from tests.support.clients import ALICE, bearer
from tests.support.serving import served
from tests.support.waiting import LIMIT
from tests.support.world import TASK_REQUEST, World

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light"),
    pytest.mark.xdist_group("nginx"),
]
CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream dovecote {{ server 127.0.0.1:{port}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{listen};
    proxy_read_timeout 3s;
    location / {{ proxy_pass http://127.0.0.1:{port}; }}
    location /dovecote/ {{
      proxy_pass http://dovecote/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
    location /plain/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_http_version 1.1; proxy_set_header X-Real-IP $remote_addr; }}
  }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.asynccontextmanager
async def behind_nginx(world: World, folder: Path, listen: int) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a world's application behind nginx, and yield a client of nginx."""
    async with served(application(world.context)) as port:
        configuration = folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=folder, port=port, listen=listen))
        process = await asyncio.create_subprocess_exec(
            str(NGINX), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)
        )
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{listen}", trust_env=False, timeout=LIMIT
            ) as client:
                await until_answered(client)
                yield client
        finally:
            process.terminate()
            await process.wait()


async def until_answered(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/healthz")).status_code == 200:
                    return
            await asyncio.sleep(0.02)


@pytest.fixture
async def keyed(sqlite_url: str, tmp_path: Path) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    listen = free_port()
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE}", "DOVECOTE_API_URL": f"http://127.0.0.1:{listen}/dovecote"}
    async with World.opened(sqlite_url, **settings) as world, behind_nginx(world, tmp_path, listen) as client:
        client.headers.update(bearer(ALICE))
        yield world, client


async def test_request_through_a_proxy_is_refused_without_keys(sqlite_url: str, tmp_path: Path) -> None:
    async with World.opened(sqlite_url) as world, behind_nginx(world, tmp_path, free_port()) as client:
        for prefix in ("", "/dovecote", "/plain"):
            for answer in (
                await client.get(f"{prefix}/v1/tasks"),
                await client.post(f"{prefix}/v1/tasks", json=TASK_REQUEST),
                await client.get(f"{prefix}/v1/events/stream"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (421, "misdirected"), prefix


async def test_addresses_keep_the_prefix_of_a_proxy(keyed: tuple[World, httpx.AsyncClient]) -> None:
    _, client = keyed
    for slash in ("", "/"):
        accepted = await client.post(f"/dovecote/v1/tasks{slash}", json=TASK_REQUEST)
        address = accepted.url.join(accepted.headers["location"])
        assert address.path.startswith("/dovecote/v1/tasks/")
        assert (await client.get(address)).json()["id"] == accepted.json()["id"]
        assert (await client.get(f"/dovecote/v1/tasks{slash}")).status_code == 200
    document = await client.get("/dovecote/openapi.json")
    assert document.url.join(document.json()["servers"][0]["url"]).path == "/dovecote/"
    assert (await client.get("/dovecote/", follow_redirects=True)).url.path == "/dovecote/ui/sign-in"


async def test_link_in_a_truncated_task_leads_through_the_proxy(keyed: tuple[World, httpx.AsyncClient]) -> None:
    world, client = keyed
    picture = "data:image/png;base64," + "QUJD" * 10_000
    large = {**TASK_REQUEST, "operation": "image_to_video", "input": {"prompt": "[drop] a dove", "image": picture}}
    accepted = await client.post("/dovecote/v1/tasks", json=large)
    await world.work()
    [event] = (await client.get("/dovecote/v1/events")).json()["events"]
    whole = await client.get(event["data"]["url"])
    assert (whole.status_code, whole.json()["id"]) == (200, accepted.json()["id"])
    assert whole.json()["input"]["image"] == picture


async def test_wait_ends_before_the_proxy_gives_up(
    keyed: tuple[World, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, client = keyed
    monkeypatch.setattr(tasks, "LONGEST_WAIT", 0.3)
    monkeypatch.setattr(events, "LONGEST_WAIT", 0.3)
    task = await world.submit_as("alice")
    after = (await client.get("/v1/events")).json()["next"]
    for path in (f"/v1/tasks/{task.id}?wait=60", f"/v1/events?after={after}&wait=60"):
        assert (await client.get(path)).status_code == 200
    answer = await client.post("/v1/tasks", json=TASK_REQUEST, headers={"Prefer": "wait=60"})
    assert answer.status_code == 202


def test_waits_and_idle_connections_fit_the_usual_sixty_seconds_of_proxies() -> None:
    assert tasks.LONGEST_WAIT < 60
    assert Settings().keep_alive > 60


async def test_stream_passes_the_proxy_event_by_event(keyed: tuple[World, httpx.AsyncClient]) -> None:
    world, client = keyed
    async with client.stream("GET", "/dovecote/v1/events/stream") as stream:
        lines = stream.aiter_lines()
        assert (await anext(lines)).startswith("retry:")
        await world.submit_as("alice")
        await world.work()
        async with asyncio.timeout(LIMIT):
            async for line in lines:
                if line == "event: task.submitted":
                    break
