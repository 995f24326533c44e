"""Whole journeys, measured: a task is submitted, handed over, called back and applied, and its completion webhook arrives.

The load is a process of its own, with the client and the receiver in it: 64 connections submit, and a fixed number of
tasks is open at any time. A task that ends makes room for the next.
"""

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

import psutil  # type: ignore[import-untyped]
import uvloop

from bench import seeds, upstream
from bench.databases import Databases, Kind
from bench.requests import Contestant, serving
from bench.servers import Server

CONNECTIONS = 64
OPEN = 128
"""Tasks that are submitted and not yet announced, at any time."""
MAX_WARM_UP = 20.0
"""Seconds until as many journeys must have ended as are open: those before do not count."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The load and its duration."""

    ports: Sequence[int]
    """Those that take submits, in turn."""
    pids: Sequence[int]
    """The processes whose CPU time is read."""
    api_key: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The result of one measurement."""

    per_second: float
    """Journeys that ended."""
    p50: float
    """Milliseconds of a journey, as p99."""
    p99: float
    cpu: float
    """Microseconds of the servers' CPU time for each journey."""
    errors: int
    """Submits that were not accepted, and messages that came twice."""


def contestants(kinds: tuple[Kind, ...]) -> list[Contestant]:
    """List who is measured, those that are compared side by side."""
    listed: list[Contestant] = []
    for kind in kinds:
        listed.append(Contestant("dovecote", kind, "all"))
        if kind == "postgresql":
            listed.append(Contestant("dovecote, two processes", kind, "web+worker"))
            listed.append(Contestant("dovecote, four processes", kind, "web+web+worker+worker"))
        listed.append(Contestant("obvious", kind, hands_over=True))
    return listed


def measure(contestant: Contestant, databases: Databases, upstream_port: int, *, seconds: float) -> Seen:
    """Start a server over a fresh database, load it from a process of its own, and stop it."""
    url = f"http://127.0.0.1:{upstream_port}{upstream.CALLING_BACK}"
    with serving(contestant, databases, url) as (servers, _):
        plan = plan_of(contestant, servers, seconds)
        done = subprocess.run(
            [sys.executable, "-m", "bench.journeys"],
            input=json.dumps(dataclasses.asdict(plan)),
            capture_output=True,
            text=True,
            timeout=seconds + MAX_WARM_UP + 30,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-2000:]}")
    return Seen(**json.loads(done.stdout))


def plan_of(contestant: Contestant, servers: Sequence[Server], seconds: float) -> Plan:
    """Return the load for the servers of a contestant."""
    roles = contestant.role.split("+")
    ports = [each.port for each, role in zip(servers, roles, strict=True) if role != "worker"]
    return Plan(ports=ports, pids=[each.pid for each in servers], api_key=seeds.API_KEY, seconds=seconds)


class _Load:
    """The journeys that are open, and those that have ended."""

    def __init__(self, plan: Plan) -> None:
        self._head = (
            f"POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1:{plan.ports[0]}\r\nUser-Agent: client/1.0\r\n"
            f"Authorization: Bearer {plan.api_key}\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        )
        self._run = time.time_ns()
        self._number = 0
        self._began: dict[int, float] = {}
        self.idle: deque[_Client] = deque()
        self.receiver_port = 0
        self.latencies: list[float] = []
        self.warm = asyncio.Event()
        self.errors = 0
        self.stopping = False

    def next(self) -> bytes | None:
        """Return the next submit, or None when enough tasks are open."""
        if self.stopping or len(self._began) >= OPEN:
            return None
        self._number += 1
        self._began[self._number] = time.perf_counter()
        body = (
            f'{{"family":"runway","operation":"text_to_video","input":{{"prompt":"a dove comes home, take {self._number}",'
            '"duration":5,"aspect_ratio":"16:9"},"labels":{"project":"bench"},'
            f'"callback_url":"http://127.0.0.1:{self.receiver_port}/{self._number}"}}'
        )
        key = f"Idempotency-Key: {self._run}-{self._number}\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"{self._head}{key}{body}".encode()

    def ended(self, number: int) -> None:
        """Count a journey, and begin another."""
        began = self._began.pop(number, None)
        if began is None:
            self.errors += 1
            return
        self.latencies.append(time.perf_counter() - began)
        if len(self.latencies) == OPEN:
            self.warm.set()
        if self.idle:
            self.idle.popleft().send()


class _Connection(asyncio.Protocol):
    """Calls :meth:`took` with each whole message."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            _, _, stated = self._received[:end].lower().partition(b"content-length:")
            whole = end + 4 + int(stated.split(b"\r\n", 1)[0] or 0)
            if len(self._received) < whole:
                return
            message, self._received = self._received[:whole], self._received[whole:]
            self.took(message)

    def took(self, message: bytes) -> None:
        raise NotImplementedError


class _Client(_Connection):
    """Submits one task after the other, as long as not too many are open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send()

    def send(self) -> None:
        request = self._load.next()
        if request is None:
            self._load.idle.append(self)
        else:
            self._transport.write(request)

    def took(self, message: bytes) -> None:
        if message[9:12] != b"202":
            self._load.errors += 1
        self.send()


class _Receiver(_Connection):
    """Takes completion webhooks. The path is the number of the journey."""

    def took(self, message: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self._load.ended(int(message.split(b" ", 2)[1].strip(b"/")))


async def _run(plan: Plan) -> Seen:
    load = _Load(plan)
    loop = asyncio.get_running_loop()
    receiver = await loop.create_server(lambda: _Receiver(load), "127.0.0.1", 0, backlog=1024)
    load.receiver_port = receiver.sockets[0].getsockname()[1]
    for number in range(CONNECTIONS):
        port = plan.ports[number % len(plan.ports)]
        await loop.create_connection(lambda: _Client(load), "127.0.0.1", port)
    servers = [psutil.Process(pid) for pid in plan.pids]
    await asyncio.wait_for(load.warm.wait(), MAX_WARM_UP)
    load.latencies.clear()
    started, before = time.perf_counter(), sum(map(_cpu, servers))
    await asyncio.sleep(plan.seconds)
    took, cpu = time.perf_counter() - started, sum(map(_cpu, servers)) - before
    latencies = sorted(load.latencies)
    load.stopping = True
    if not latencies:
        raise RuntimeError(f"no journey ended; {load.errors} errors")
    return Seen(
        per_second=len(latencies) / took,
        p50=latencies[len(latencies) // 2] * 1000,
        p99=latencies[min(int(len(latencies) * 0.99), len(latencies) - 1)] * 1000,
        cpu=cpu / len(latencies) * 1e6,
        errors=load.errors,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Read a plan, run it, and print what was seen."""
    plan = Plan(**json.load(sys.stdin))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(dataclasses.asdict(runner.run(_run(plan)))))


if __name__ == "__main__":
    main()
