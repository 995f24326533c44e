"""The load generator: a separate process that keeps a number of connections busy, and reports its results as one JSON line.

Its HTTP client is written by hand, because the generator must not limit the measurement. It sends some 20,000 requests a
second; httpx sends a few hundred.
"""

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import cast

import psutil  # type: ignore[import-untyped]
import uvloop

Requests = Callable[[int], bytes]
"""Makes the request with a number, ready to be written to a socket."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The requests and their destination."""

    kind: str
    """``callbacks``, ``submits``, ``door_submits`` or ``templates``."""
    port: int
    pid: int
    """The process whose CPU time is read."""
    tokens: Sequence[str] = ()
    external_ids: Sequence[str] = ()
    api_key: str = ""
    head: str = ""
    """Of ``templates``: the head of every request without its length, with ``@@`` where its number stands."""
    body: str = ""
    """Of ``templates``: its body, with ``@@`` where the number stands."""
    connections: int = 64
    warm_up: float = 0.5
    """Seconds that do not count."""
    seconds: float = 2.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The result of one measurement."""

    requests: int
    errors: int
    """Answers other than 2xx, and connections that broke."""
    per_second: float
    p50: float
    """Milliseconds, as p99."""
    p99: float
    cpu: float
    """Microseconds of the server's CPU time for each request."""


def measure(plan: Plan) -> Seen:
    """Run a plan in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(dataclasses.asdict(plan)),
        capture_output=True,
        text=True,
        timeout=plan.warm_up + plan.seconds + 30,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-2000:]}")
    return Seen(**json.loads(done.stdout))


def callbacks(plan: Plan) -> Requests:
    """Return Runway callbacks of about 1 kB as the gateways send them: three for each task.

    Tasks alternate in blocks, so that two callbacks of one task are never concurrent. No two bodies are equal.
    """
    block, news = 256, 3
    filler = "a white dove leaves its cote at dawn, circles the harbour, and comes home at dusk; " * 3
    heads = [
        f"POST /callbacks/{token} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nUser-Agent: gateway/1.0\r\n"
        "Accept: */*\r\nContent-Type: application/json\r\nContent-Length: ".encode()
        for token in plan.tokens
    ]

    def request(number: int) -> bytes:
        turn, place = divmod(number, block * news)
        which = (turn * block + place % block) % len(heads)
        body = callback_body(plan.external_ids[which], place // block, number, filler)
        return b"%b%d\r\n\r\n%b" % (heads[which], len(body), body)

    return request


def callback_body(external_id: str, step: int, number: int, filler: str) -> bytes:
    """Return the body of a callback: the first steps report progress, the last one a success."""
    url = f"https://cdn.example.com/attachments/video/runway/20261011/{number:032x}"
    ended = step == 2
    return (
        f'{{"task_id":"{external_id}","status":"{3 if ended else 1}","progress":{(10, 60, 100)[step]},'
        f'"prompt":"{filler}","prompt_en":"{filler}",'
        f'"video_url":"{url + ".mp4" if ended else ""}","poster":"{url + ".png" if ended else ""}",'
        f'"last_frame":"{url + "-last.png" if ended else ""}","msg":null,"point":"320","refund":"0",'
        f'"create_time":"1728622596","update_time":"{1728622596 + number}"}}'
    ).encode()


def submits(plan: Plan) -> Requests:
    """Make submits with a key of the client and an idempotency key of their own."""
    run = time.time_ns()
    head = (
        f"POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nUser-Agent: client/1.0\r\n"
        f"Authorization: Bearer {plan.api_key}\r\nAccept: */*\r\nContent-Type: application/json\r\n"
    )

    def request(number: int) -> bytes:
        body = (
            f'{{"family":"runway","operation":"text_to_video","input":{{"prompt":"a dove comes home, take {number}",'
            '"duration":5,"aspect_ratio":"16:9"},"labels":{"project":"bench"}}'
        )
        return f"{head}Idempotency-Key: {run}-{number}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    return request


def door_submits(plan: Plan) -> Requests:
    """Make submits as Runway's SDK sends them, to the door of its API."""
    run = time.time_ns()
    head = (
        f"POST /runwayml/v1/text_to_video HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nUser-Agent: RunwayML/Python 5.24.0\r\n"
        f"Authorization: Bearer {plan.api_key}\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        "X-Runway-Version: 2024-11-06\r\nx-stainless-retry-count: 0\r\n"
    )

    def request(number: int) -> bytes:
        body = f'{{"model":"gen4.5","promptText":"a dove comes home, take {run}-{number}","ratio":"1280:720","duration":5}}'
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    return request


def templates(plan: Plan) -> Requests:
    """Make requests of one form, with the number of each."""
    run = time.time_ns()

    def request(number: int) -> bytes:
        body = plan.body.replace("@@", f"{run}-{number}").encode()
        head = plan.head.replace("@@", f"{run}-{number}").encode()
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    return request


KINDS: dict[str, Callable[[Plan], Requests]] = {
    "callbacks": callbacks,
    "submits": submits,
    "door_submits": door_submits,
    "templates": templates,
}


class _Load:
    """The state that the connections share."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._number = 0
        self.latencies: list[float] = []
        self.errors = 0
        self.stopping = False

    def next(self) -> bytes:
        self._number += 1
        return self._requests(self._number - 1)


class _Connection(asyncio.Protocol):
    """Sends one request after the other."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = b""
        self._sent_at = 0.0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        if self._load.stopping:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._load.next())

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or len(self._received) < end + 4 + _length(self._received[:end]):
            return
        self._load.latencies.append(time.perf_counter() - self._sent_at)
        if self._received[9:10] != b"2":
            self._load.errors += 1
        self._received = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self._load.stopping:
            self._load.errors += 1
        if not self.closed.done():
            self.closed.set_result(None)


def _length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.split(b"\r\n", 1)[0] or 0)


async def _run(plan: Plan) -> Seen:
    load = _Load(KINDS[plan.kind](plan))
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Connection(load), "127.0.0.1", plan.port))[1]
        for _ in range(plan.connections)
    ]
    server = psutil.Process(plan.pid)
    await asyncio.sleep(plan.warm_up)
    load.latencies.clear()
    load.errors = 0
    started, cpu_before = time.perf_counter(), _cpu(server)
    await asyncio.sleep(plan.seconds)
    took, cpu = time.perf_counter() - started, _cpu(server) - cpu_before
    latencies, errors = sorted(load.latencies), load.errors
    load.stopping = True
    await asyncio.wait([connection.closed for connection in connections], timeout=10)
    answered = len(latencies) - errors
    if answered <= 0:
        raise RuntimeError(f"no request was answered with 2xx; {errors} errors")
    return Seen(
        requests=answered,
        errors=errors,
        per_second=answered / took,
        p50=_percentile(latencies, 0.5),
        p99=_percentile(latencies, 0.99),
        cpu=cpu / answered * 1e6,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _percentile(sorted_seconds: list[float], share: float) -> float:
    return sorted_seconds[min(int(len(sorted_seconds) * share), len(sorted_seconds) - 1)] * 1000


def main() -> None:
    """Read a plan, run it, and print the results."""
    plan = Plan(**json.load(sys.stdin))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(dataclasses.asdict(runner.run(_run(plan)))))


if __name__ == "__main__":
    main()
