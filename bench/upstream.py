"""A fake upstream in its own process: it accepts every job, answers 20 ms later, and counts the jobs.

It is written by hand, like the load generator, because its answers must not limit the calls.
"""

import asyncio
import contextlib
import sys
import urllib.request
from collections.abc import Iterator
from typing import cast
from uuid import uuid4

import uvloop

from bench import servers

ANSWER_SECONDS = 0.02
OK = 200
"""The code in every answer."""


class _Desk:
    """The state that the connections share."""

    jobs = 0


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
            self._received = self._received[whole:]
            if head.startswith(b"get "):
                self._answer(b"%d" % _Desk.jobs)
            else:
                _Desk.jobs += 1
                answer = b'{"code":%d,"msg":"success","data":{"task_id":"%b"}}' % (OK, str(uuid4()).encode())
                asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._answer, answer)

    def _answer(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


@contextlib.contextmanager
def running() -> Iterator[int]:
    """Run a fake upstream while the block runs, and yield its port."""
    port = servers.free_port()
    with servers.running([sys.executable, "-m", "bench.upstream", str(port)], {}, port=port):
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
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
