"""A real server sends its traces by OTLP, all of them at the latest when it stops; and stops in time without a collector."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from service.cli.processes import LOOPBACK, ProcessGroup, free_ports
from tests.support.processes import client_of, dovecote, started, submit, task_in

pytestmark = pytest.mark.long


class Collector(http.server.BaseHTTPRequestHandler):
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.bodies.clear()
    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{LOOPBACK}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("away", [False, True], ids=["collector", "no-collector"])
async def test_traces_are_sent_and_a_stop_needs_no_collector(
    tmp_path: Path,
    sqlite_url: str,
    collector: str,
    away: bool,  # noqa: FBT001 - a case of the table
) -> None:
    [closed, nowhere] = free_ports(2)
    server = dovecote(tmp_path, sqlite_url, f"http://{LOOPBACK}:{closed}")
    traces = {
        "DOVECOTE_OBSERVABILITY__TRACES": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{nowhere}" if away else collector,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    }
    server.environment = {**server.environment, **traces}
    with ProcessGroup() as group:
        await started(group, server)
        async with client_of(server) as api:
            await submit(api)
            await task_in(api, await submit(api), "queued")
        assert server.process is not None
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 15
    told = b"".join(Collector.bodies)
    assert (b"dovecote accept" in told) is not away
    assert (b"dovecote submit" in told) is not away
    assert b"a dove" not in told
    assert "Traceback" not in server.log.read_text()
