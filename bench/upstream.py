"""A fake upstream in its own process: it accepts every job, answers a moment later (20 ms), and counts the jobs.

Below :data:`CALLING_BACK` a job also ends: the upstream posts one callback, over connections that it keeps.
It is written by hand, like the load generator, because its answers must not limit the calls.
"""

import asyncio
import contextlib
import re
import sys
import urllib.request
from collections.abc import Iterator
from typing import ClassVar, cast
from urllib.parse import urlsplit
from uuid import uuid4

import uvloop

from bench import servers

ANSWER_MS = 20.0
"""Milliseconds until an answer, unless another number is asked for."""
OK = 200
"""The code in every answer."""
JOB_SECONDS = 0.05
"""From the answer to the callback."""
CALLING_BACK = "/calls-back"
"""The path below which jobs end with a callback."""

_CALLBACK_URL = re.compile(rb'"callback_url": ?"([^"]+)"')


class _Desk:
    """The state that the connections share."""

    jobs = 0
    answer_seconds = ANSWER_MS / 1000


class _Connection(asyncio.Protocol):
    """Answers one request after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            _, _, stated = head.partition(b"content-length:")
            whole = end + 4 + int(stated.split(b"\r\n", 1)[0] or 0)
            if len(self._received) < whole:
                return
            request, self._received = self._received[:whole], self._received[whole:]
            if head.startswith(b"get "):
                self._answer(b"%d" % _Desk.jobs)
            else:
                _Desk.jobs += 1
                job, loop = str(uuid4()), asyncio.get_running_loop()
                answer = b'{"code":%d,"msg":"success","data":{"task_id":"%b"}}' % (OK, job.encode())
                loop.call_later(_Desk.answer_seconds, self._answer, answer)
                if request.startswith(b"POST " + CALLING_BACK.encode()) and (url := _CALLBACK_URL.search(request)):
                    loop.call_later(_Desk.answer_seconds + JOB_SECONDS, _call_back, url[1].decode(), job)

    def _answer(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


_background: set[asyncio.Task[None]] = set()


def _call_back(url: str, job: str) -> None:
    task = asyncio.create_task(_Caller.post(url, job))
    _background.add(task)
    task.add_done_callback(_background.discard)


class _Caller(asyncio.Protocol):
    """A kept connection that posts one callback after the other."""

    idle: ClassVar[list["_Caller"]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def write(self, request: bytes) -> None:
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 200"):
            self.idle.append(self)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self in self.idle:
            self.idle.remove(self)

    @classmethod
    async def post(cls, url: str, job: str) -> None:
        """Report that a job has succeeded."""
        parts = urlsplit(url)
        if cls.idle:
            caller = cls.idle.pop()
        else:
            _, caller = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", parts.port or 80)
        result = f"https://cdn.example.com/attachments/video/runway/{job}"
        body = (
            f'{{"task_id":"{job}","status":3,"progress":100,"prompt":"a dove comes home",'
            f'"video_url":"{result}.mp4","poster":"{result}.png","msg":null,"point":"320","refund":"0"}}'
        )
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: gateway/1.0\r\n"
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.write(f"{head}{kind}{body}".encode())


@contextlib.contextmanager
def running(answer_ms: float = ANSWER_MS) -> Iterator[int]:
    """Run a fake upstream while the block runs, and yield its port.

    :param answer_ms: milliseconds until it answers
    """
    port = servers.free_port()
    with servers.running([sys.executable, "-m", "bench.upstream", str(port), str(answer_ms)], {}, port=port):
        yield port


def jobs_taken(port: int) -> int:
    """Return the number of jobs of a running fake upstream."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/jobs", timeout=5) as answer:
        return int(answer.read())


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    _Desk.answer_seconds = float(sys.argv[2]) / 1000
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
