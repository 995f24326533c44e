"""The processes and the database of a round, and a small file system whose disk can be filled."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from service.cli.practice import plug
from service.cli.processes import LOOPBACK, ProcessGroup, Served, clean_environment, free_ports
from service.providers.registry import PROVIDERS
from tests.chaos.outside import KEYS
from tests.support.cluster import Cluster
from tests.support.world import INSTALLATION_SECRET

Kind = Literal["sqlite", "postgresql"]
HERE: Final = Path(__file__).resolve().parents[2]
DISK: Final = {"sqlite": "48m", "postgresql": "700m"}
"""Size of the small disk that holds the database."""
MAX_LOG_MB: Final = 192
"""The log that PostgreSQL keeps before a checkpoint. Its default, 1 GB, is more than the disk holds."""
START_WITHIN: Final = 120.0
"""Seconds in which the processes must serve, on a machine that does other work, too."""
STOPPED_WITHIN: Final = 40.0
"""Seconds in which a process must stop after SIGTERM: its drain takes 5, and the machine may be busy."""
DOORS: Final = ("MIDJOURNEY", "SUNO", "RUNWAY_GATEWAY")


def path_of(tree: Path) -> str:
    """Return the PYTHONPATH that runs the code of a checkout, and not the installed one."""
    return os.pathsep.join([str(tree), str(tree / "clients" / "python")])


@dataclasses.dataclass(slots=True, kw_only=True)
class Server(Served):
    """A ``dovecote`` process that the launcher runs, with a clock of its own."""

    tree: Path = HERE
    """The checkout whose code it runs."""
    ahead: float = 0.0
    """By how many seconds its clock is wrong."""
    down: bool = False
    """Whether it is meant to be down."""

    def start(self) -> None:
        """Start it with the launcher of this checkout and the code of its tree."""
        launcher = HERE / "tests" / "chaos" / "launch.py"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, str(launcher), *self.arguments],
                cwd=self.folder,
                env={**self.environment, "PYTHONPATH": path_of(self.tree)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def freeze(self) -> None:
        """Stop it where it is."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def set_clock(self, ahead: float) -> None:
        """Set its clock, in seconds ahead of the right time."""
        self.ahead = ahead
        written = self.folder / f"{self.name}.clock.new"
        written.write_text(f"{ahead:+.0f}")
        written.replace(self.folder / f"{self.name}.clock")


class Disk:
    """A small file system in memory, where this user may mount one; else an ordinary folder that cannot be filled."""

    def __init__(self, folder: Path, size: str) -> None:
        """Mount it."""
        self.folder = folder
        mount = shutil.which("mount")
        command = [mount or "mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "chaos", str(folder)]
        self.mounted = os.geteuid() == 0 and mount is not None and _succeeds(command)

    def fill(self) -> None:
        """Write until nothing fits any more."""
        with (self.folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                if not file.write(b"\0" * 65536):
                    break

    def free(self) -> None:
        """Delete what fills it."""
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        if self.mounted:
            _succeeds([shutil.which("umount") or "umount", "-l", str(self.folder)])


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - a program of the system


class Installation:
    """Dovecote as it runs in a round: one process on SQLite, two web and two worker processes on PostgreSQL."""

    def __init__(
        self, kind: Kind, folder: Path, group: ProcessGroup, *, plant: str = "", more: Mapping[str, str] | None = None
    ) -> None:
        """Prepare; :meth:`start` starts the processes.

        :param more: further settings
        """
        self.kind, self.folder, self._group, self._plant, self._more = kind, folder, group, plant, more or {}
        self.url = self.direct_url = ""
        self.cluster: Cluster | None = None
        self.disk: Disk | None = None
        self.objects = folder / "objects"
        self.servers: list[Server] = []
        self.did_not_stop: list[str] = []
        """What took longer to stop than any order allows."""

    @property
    def web(self) -> list[Server]:
        """The processes that serve requests."""
        return [each for each in self.servers if "worker" not in each.name]

    @property
    def workers(self) -> list[Server]:
        """The processes that do the work."""
        return [each for each in self.servers if "web" not in each.name]

    def addresses(self) -> list[str]:
        """Return the addresses that a load balancer would choose from."""
        return [each.url for each in self.web]

    def clock_off(self, address: str) -> bool:
        """Return whether the clock of a web process is wrong, or has just been."""
        return any(each.url == address and each.ahead for each in self.web)

    def build(self, upstreams: Mapping[str, str], *, tree: Path = HERE) -> None:
        """Prepare the processes.

        :param upstreams: the addresses of the sandboxes, by name
        :param tree: the checkout whose code they run
        """
        names = ["server"] if self.kind == "sqlite" else ["web-1", "web-2", "worker-1", "worker-2"]
        ports = free_ports(len(names))
        public = f"http://{LOOPBACK}:{ports[0]}"
        settings = self._settings(upstreams, public)
        for name, port in zip(names, ports, strict=True):
            role = name.partition("-")[0].replace("server", "all")
            environment = {**clean_environment(), **settings, "DOVECOTE_PORT": str(port)}
            environment["CHAOS_CLOCK"] = str(self.folder / f"{name}.clock")
            server = Server(name, ("serve", "--role", role), environment, port, self.folder, "/readyz", tree=tree)
            server.set_clock(0)
            self.servers.append(server)

    def _settings(self, upstreams: Mapping[str, str], public: str) -> dict[str, str]:
        routes = ("RUNWAY", "MIDJOURNEY", "SUNO")
        return {
            **{name: value for each, url in upstreams.items() for name, value in plug(url, 3.0, each).items()},
            **{f"DOVECOTE_ROUTES__{name}": ",".join(upstreams) for name in routes},
            **{f"DOVECOTE_DOORS__{name}": "true" for name in DOORS},
            "DOVECOTE_DATABASE_URL": self.url,
            "DOVECOTE_HOST": LOOPBACK,
            "DOVECOTE_PUBLIC_URL": public,
            "DOVECOTE_API_KEYS": ",".join(f"{name}={key}" for name, key in KEYS.items()),
            "DOVECOTE_WEBHOOK_SECRET": INSTALLATION_SECRET,
            "DOVECOTE_CALLBACK_SECRET": "callback-secret-of-the-tests",
            "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
            "DOVECOTE_STORAGE__URL": f"file://{self.objects}",
            "DOVECOTE_STORAGE__MIN_FREE": "0",
            "DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "40",
            "DOVECOTE_UPSTREAMS__ELKAPI__WHEN_FULL": "next",
            "DOVECOTE_SHUTDOWN_TIMEOUT": "5",
            "CHAOS_PLANT": self._plant,
            **self._more,
        }

    async def start(self, *servers: Server) -> None:
        """Start processes, by default all, and wait until they serve."""
        for each in servers or self.servers:
            if each in self._group.members:
                each.start()
            else:
                self._group.start(each)
        for each in servers or self.servers:
            async with asyncio.timeout(START_WITHIN):
                while not await asyncio.to_thread(each.ready, 10.0):  # noqa: ASYNC110 - it happens in another process
                    await asyncio.sleep(0.2)


@contextlib.contextmanager
def prepared(
    kind: Kind, folder: Path, *, plant: str = "", more: Mapping[str, str] | None = None, disk_size: str = ""
) -> Iterator[Installation]:
    """Open a database on a small disk, and end everything with the block, whatever has become of it.

    :param more: further settings
    :param disk_size: by default :data:`DISK`
    """
    data = Path(tempfile.mkdtemp(prefix="dovecote-chaos-"))
    disk = Disk(data, disk_size or DISK[kind])
    try:
        with _database(kind, data) as (cluster, url), ProcessGroup() as group:
            installation = Installation(kind, folder, group, plant=plant, more=more)
            installation.disk = disk if disk.mounted else None
            installation.cluster = cluster
            installation.url = installation.direct_url = url
            installation.objects.mkdir()
            try:
                yield installation
            finally:
                for each in installation.servers:
                    each.thaw()
                disk.free()
    finally:
        disk.close()
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def _database(kind: Kind, data: Path) -> Iterator[tuple[Cluster | None, str]]:
    if kind == "sqlite":
        yield None, f"sqlite:///{data / 'dovecote.db'}"
        return
    cluster = Cluster(data, max_log_mb=MAX_LOG_MB)
    try:
        yield cluster, cluster.url
    finally:
        with contextlib.suppress(Exception):
            cluster.start()
        cluster._server.cleanup()


def isolate_environment() -> None:
    """Remove the settings of this machine from the environment, as the tests do."""
    keys = {provider.key_variable for provider in PROVIDERS.values()}
    for name in list(os.environ):
        if name.startswith("DOVECOTE_") or name in keys:
            del os.environ[name]
    os.environ["SSL_CERT_FILE"] = str(HERE / "tests" / "support" / "authority.pem")
    runtime = Path(tempfile.gettempdir()) / f"dovecote-tests-{os.getuid()}"
    runtime.mkdir(mode=0o700, exist_ok=True)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
