"""Dovecote with its doors on real sockets: the sandbox behind it, and before it a relay that loses answers."""

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from service.app import application, at_work, opened
from service.cli.processes import free_ports
from service.cli.serve import _server
from service.sandbox import Faults, Sandbox, running
from service.settings.load import load
from tests.support.waiting import LIMIT
from tests.support.world import INSTALLATION_SECRET

KEY = "a-key-of-the-doors-1"
SANDBOX_KEY = "sandbox-key"
UPSTREAMS: Mapping[str, str] = {
    "runway": "runway/official",
    "openai_like": "openai/images,openai/chat,openai/responses,openai/audio,openai/models,openai/videos",
    "replicate_like": "replicate/official",
    "fal_like": "fal/queue",
}
"""The dialects of each upstream: all of one host."""
DOORS = ("RUNWAYML", "OPENAI", "REPLICATE", "FAL", "ELKAPI", "NEWAPI_VIDEO", "MIDJOURNEY", "SUNO", "RUNWAY_GATEWAY")


RUNWAY_CLIENT = """
import base64
import json
import time
import runwayml

pause = time.sleep
time.sleep = lambda _seconds: pause(0.05)  # the client waits for seconds between its queries
client = runwayml.RunwayML()


def submit(prompt, **more):
    return client.text_to_video.create(model="gen4.5", prompt_text=prompt, ratio="1280:720", duration=5, **more)


def refused(function):
    try:
        function()
    except runwayml.APIStatusError as error:
        return [type(error).__name__, error.status_code]

"""
"""The beginning of a program with Runway's SDK."""


class LossyRelay:
    """A TCP relay. It loses some answers: it reads them from the server, and closes the client's connection instead."""

    def __init__(self, port: int) -> None:
        """Prepare.

        :param port: the port of the server behind
        """
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.lose = 0
        """How many of the next answers to a POST are lost."""
        self.posts = 0
        self.port = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator["LossyRelay"]:
        """Relay from a free port while the block runs."""
        relay = cls(target)
        server = await asyncio.start_server(relay._serve, "127.0.0.1", 0, ssl=tls)
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            server.close()
            for task in relay._tasks:
                task.cancel()
            await asyncio.gather(*relay._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        losing = asyncio.Event()
        passing = [
            asyncio.create_task(self._forth(reader, back, losing)),
            asyncio.create_task(self._back(there, writer, losing)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._tasks.discard(task)
            for each in passing:
                each.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            for each in (writer, back):
                each.close()

    async def _forth(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                if piece.startswith(b"POST "):
                    self.posts += 1
                    if self.lose:
                        self.lose -= 1
                        losing.set()
                back.write(piece)
                await back.drain()

    async def _back(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await there.read(65536):
                if losing.is_set():
                    return
                writer.write(piece)
                await writer.drain()


@dataclasses.dataclass(frozen=True, slots=True)
class Stand:
    """Dovecote with its doors, and what surrounds it."""

    sandbox: Sandbox
    relay: LossyRelay
    url: str
    """The address of the relay."""
    port: int
    """The port of Dovecote itself."""

    def paid(self, prompt: str) -> int:
        """Return how many jobs with a text in their prompt were paid."""
        return sum(prompt in (job.prompt or "") for job in self.sandbox.ledger.jobs)

    async def paid_before(self, prompt: str, *, last: str) -> int:
        """Wait for the job of a later request, and return how many jobs of an earlier one were paid."""
        async with asyncio.timeout(LIMIT):
            while not self.paid(last):  # noqa: ASYNC110 - the worker buys it
                await asyncio.sleep(0.02)
        return self.paid(prompt)


@contextlib.asynccontextmanager
async def doors_on_sockets(
    database_url: str, *, tls: ssl.SSLContext | None = None, upstream_url: str = "", **settings: str
) -> AsyncIterator[Stand]:
    """Serve Dovecote with every door on.

    :param upstream_url: the address of the upstreams; default: a sandbox that runs
    """
    sandbox = Sandbox(seconds=0.1, key=SANDBOX_KEY, faults=Faults())
    async with contextlib.AsyncExitStack() as stack:
        behind = upstream_url or await stack.enter_async_context(running(sandbox))
        (port,) = free_ports(1)
        relay = await stack.enter_async_context(LossyRelay.running(port, tls))
        url = f"http{'' if tls is None else 's'}://127.0.0.1:{relay.port}"
        environment = {
            "DOVECOTE_DATABASE_URL": database_url,
            "DOVECOTE_HOST": "127.0.0.1",
            "DOVECOTE_PORT": str(port),
            "DOVECOTE_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "DOVECOTE_API_URL": url,
            "DOVECOTE_API_KEYS": f"app={KEY}",
            "DOVECOTE_WEBHOOK_SECRET": INSTALLATION_SECRET,
            "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
            **{f"DOVECOTE_DOORS__{name}": "true" for name in DOORS},
            **upstreams(behind),
            **settings,
        }
        context = await stack.enter_async_context(opened(load(environment, None)))
        await stack.enter_async_context(at_work(context))
        await stack.enter_async_context(_serving(application(context), context, port))
        yield Stand(sandbox, relay, url, port)


def upstreams(behind: str) -> dict[str, str]:
    """Return the settings of the upstreams."""
    found: dict[str, str] = {}
    for name, dialects in UPSTREAMS.items():
        prefix = f"DOVECOTE_UPSTREAMS__{name.upper()}__"
        path = Sandbox.base_paths()[dialects.partition(",")[0]]
        found |= {
            f"{prefix}BASE_URL": f"{behind}{path}",
            f"{prefix}KEY": SANDBOX_KEY,
            f"{prefix}DIALECTS": dialects,
            f"{prefix}TYPICAL_SECONDS": "0.4",
        }
    found["DOVECOTE_UPSTREAMS__OPENAI_LIKE__MODELS_PATH"] = "/v1/models"
    return found


@contextlib.asynccontextmanager
async def _serving(app: Any, context: Any, port: int) -> AsyncIterator[None]:
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = _server(app, context.signals)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        try:
            yield
        finally:
            server.should_exit = True
            await serving


async def run_client(program: str, *, python: str = sys.executable, **environment: str) -> Any:
    """Run a program with a client in a process of its own, as its users do; return the JSON that its last line has."""
    process = await asyncio.create_subprocess_exec(
        *(python, "-W", "ignore", "-c", program),
        env={**os.environ, "NO_PROXY": "*", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await asyncio.wait_for(process.communicate(), LIMIT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()[-3000:]
    return json.loads(out.decode().strip().rpartition("\n")[2])


def runway_environment(url: str) -> dict[str, str]:
    """Return the environment of a program that begins with :data:`RUNWAY_CLIENT`."""
    return {"RUNWAYML_BASE_URL": f"{url}/runwayml", "RUNWAYML_API_SECRET": KEY}
