"""The servers that are measured, each as a real process on loopback that is ended by its pid."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0
"""Seconds that a server may take to start, and half of them to stop."""


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    pid: int
    port: int


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], *, port: int, ready: str = "/healthz"
) -> Iterator[Server]:
    """Run a server for the length of a ``with``.

    :param ready: a path that answers 200 once it has started
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DOVECOTE_")}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - the commands are our own
            command,
            # In a folder without a dovecote.toml.
            cwd=Path(__file__).parent,
            env={**clean, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}{ready}")
            yield Server(process.pid, port)
        except Exception:
            output.seek(0)
            sys.stderr.write(output.read().decode(errors="replace")[-4000:])
            raise
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"a server ended with {process.returncode} before it was ready")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - loopback
            if answer.status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"a server was not ready within {PATIENCE} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE / 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def uvicorn(app: str, port: int) -> list[str]:
    """Return how a plain application is served: with the loop and the parser that Dovecote has."""
    return [
        *(sys.executable, "-m", "uvicorn", app, "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ]
