"""Starts other commands as real processes, each with a log of its own, and ends every one of them by its pid."""

import contextlib
import dataclasses
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, Self

from service.cli.exits import INTERRUPTED
from service.providers.registry import PROVIDERS

LOOPBACK: Final = "127.0.0.1"
START_TIMEOUT: Final = 60.0
"""Seconds in which a process must serve. It needs one or two on an idle machine."""
STOP_TIMEOUT: Final = 8.0
"""Seconds that a process gets to end by itself."""

# Below the ports that systems give to outgoing connections: one of these could take ours while a server is down.
_PORTS: Final = range(20_000, 32_000)
_TAIL_LINES: Final = 25
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def command_name() -> str:
    """Return the command of this environment as it can be typed here: ``dovecote``, or its path where PATH has none."""
    command = Path(sys.executable).with_name("dovecote")
    if shutil.which("dovecote") is not None or not command.exists():
        return "dovecote"
    here = Path.cwd()
    return str(command.relative_to(here) if command.is_relative_to(here) else command)


class NotStarted(Exception):
    """A process has ended, or does not answer, although it should serve by now."""


@dataclasses.dataclass(slots=True)
class Served:
    """A command that serves HTTP on a port of this machine."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    port: int
    folder: Path
    """Its working directory, and where its log is."""
    health: str = "/healthz"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address on which it serves."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def log(self) -> Path:
        """The file with everything that it wrote."""
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it, in a session of its own: a Ctrl-C in the terminal is for us, and we end it in order."""
        with self.log.open("ab") as log, _held_back():
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "service.cli", *self.arguments],
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def ready(self, timeout: float = 2.0) -> bool:
        """Return whether it serves requests.

        :param timeout: seconds until no answer counts as a no
        :raises NotStarted: when its process has ended
        """
        if not self.alive:
            raise NotStarted(f"{self.name} has ended by itself")
        with contextlib.closing(http.client.HTTPConnection(LOOPBACK, self.port, timeout=timeout)) as connection:
            try:
                connection.request("GET", self.health)
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def wait_ready(self) -> None:
        """Wait until it serves.

        :raises NotStarted: when it does not
        """
        until = time.monotonic() + START_TIMEOUT
        while not self.ready():
            if time.monotonic() > until:
                raise NotStarted(f"{self.name} does not answer at {self.url} after {START_TIMEOUT:g} s")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it as nothing can be caught: no clean-up, no last word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        """Return the end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        return ""


class ProcessGroup:
    """Several processes that end together, even when the block fails."""

    def __init__(self) -> None:
        """Begin with none."""
        self._members: list[Served] = []

    def start(self, served: Served) -> None:
        """Start one."""
        self._members.append(served)
        served.start()

    @property
    def members(self) -> Sequence[Served]:
        """All that were started."""
        return tuple(self._members)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes: send SIGTERM, wait, then kill those that still run. A second interrupt does not shorten the wait."""
        with _held_back():
            running = [served.process for served in self._members if served.alive and served.process is not None]
            for process in running:
                process.terminate()
            until = time.monotonic() + STOP_TIMEOUT
            for process in running:
                try:
                    process.wait(max(until - time.monotonic(), 0.0))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the user's settings and keys, so that nothing spends real credit."""
    keys = {provider.key_variable for provider in PROVIDERS.values()}
    return {name: value for name, value in os.environ.items() if not name.startswith("DOVECOTE_") and name not in keys}


def free_ports(count: int) -> list[int]:
    """Return free ports of this machine."""
    found: set[int] = set()
    while len(found) < count:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            found.add(port)
    return list(found)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that started processes are ended."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(INTERRUPTED - signal.SIGINT + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Block signals while a process is being started or ended, so that no process is left behind."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
