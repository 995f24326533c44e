"""Outgoing calls, measured: how many requests to a local server one process makes, by the client that makes them."""

import asyncio
import json
import subprocess
import sys
import time

import httpx
import uvloop

from bench import upstream
from service.http.transport import PooledTransport

CLIENTS = {
    "dovecote": lambda: httpx.AsyncClient(transport=PooledTransport(), trust_env=False),
    "httpx": lambda: httpx.AsyncClient(trust_env=False),
    "httpx, 200 connections": lambda: httpx.AsyncClient(
        limits=httpx.Limits(max_connections=200, max_keepalive_connections=200), trust_env=False
    ),
}
MEASURED = (
    ("dovecote", 100),
    ("dovecote", 10),
    ("httpx", 100),
    ("httpx, 200 connections", 100),
)
"""Client, and how many requests are under way at once."""
WARM_UP = 0.5


def measure(client: str, at_once: int, upstream_port: int, *, seconds: float) -> float:
    """Return the requests a second that a process of its own makes to a server that answers after 20 ms."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.outgoing"],
        input=json.dumps([client, at_once, upstream_port, seconds]),
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{client} failed: {done.stderr.strip()[-2000:]}")
    return float(done.stdout)


async def _run(name: str, at_once: int, port: int, seconds: float) -> float:
    answered = 0
    until = time.perf_counter() + WARM_UP + seconds
    async with CLIENTS[name]() as client:

        async def keep_asking() -> None:
            nonlocal answered
            while time.perf_counter() < until:
                answer = await client.post(f"http://127.0.0.1:{port}/runway/feed", json={"task_id": "a"})
                assert answer.json()["code"] == upstream.OK
                answered += 1

        asking = [asyncio.create_task(keep_asking()) for _ in range(at_once)]
        await asyncio.sleep(WARM_UP)
        before, began = answered, time.perf_counter()
        await asyncio.sleep(seconds)
        per_second = (answered - before) / (time.perf_counter() - began)
        await asyncio.gather(*asking)
    return per_second


def main() -> None:
    """Read what to measure, and print requests a second."""
    client, at_once, port, seconds = json.load(sys.stdin)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(_run(client, at_once, port, seconds)))


if __name__ == "__main__":
    main()
