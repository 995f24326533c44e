#!/usr/bin/env python3
"""Run three PostgreSQL nodes with automatic fail-over on this machine: Patroni, etcd and HAProxy, on loopback only.

    cluster.py start [--asynchronous]    start, print the database URLs, and stay until Ctrl-C or SIGTERM
    cluster.py status                    print the members, as Patroni sees them

It shows how Dovecote runs on replicated PostgreSQL, and the tests use it. It is no production set-up: one machine, one etcd,
known passwords. It needs etcd, HAProxy, PostgreSQL 15 or newer, and Patroni 4.1 or newer. On Debian:

    apt-get install --no-install-recommends etcd-server haproxy postgresql
    pip install --target /opt/patroni 'patroni[etcd3]==4.1.5' 'psycopg[binary]'

Debian's own Patroni 3.0.2 lost acknowledged rows after a frozen primary was thawed: do not use it. PostgreSQL refuses to run
as root, so root starts everything as the user postgres. Files are in $DOVECOTE_HA (default: /var/tmp/dovecote-ha).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

USER, PASSWORD, NAME = "dovecote", "dovecote", "dovecote"
NAMES = ("n1", "n2", "n3")
OK = 200
TTL, LOOP, RETRY = 20, 1, 3
"""Seconds: after the lease of a dead primary another node takes over. Patroni 4 makes a shorter lease 20 seconds."""
WITHIN = 90.0
"""Seconds that a step may take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """The ports of a node. Those by which others reach it differ where a relay is between."""

    name: str
    port: int
    rest: int
    advertised: int
    etcd: int


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Every port of the cluster."""

    nodes: tuple[Node, ...]
    etcd: int = 22379
    etcd_peers: int = 22380
    writes: int = 25430
    """HAProxy's port that leads to the primary."""

    @property
    def url(self) -> str:
        """The database URL with every node: Dovecote asks all at once, and takes the one that accepts writes."""
        hosts = ",".join(f"127.0.0.1:{node.advertised}" for node in self.nodes)
        return f"postgresql://{USER}:{PASSWORD}@{hosts}/{NAME}"

    @property
    def proxied_url(self) -> str:
        """The database URL that leads through HAProxy."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.writes}/{NAME}"


def plain_layout() -> Layout:
    """Return the layout without relays."""
    nodes = [Node(name, 25431 + number, 28011 + number, 25431 + number, 22379) for number, name in enumerate(NAMES)]
    return Layout(tuple(nodes))


def missing() -> list[str]:
    """Return what is not installed."""
    found = {
        "etcd": _program("etcd"),
        "haproxy": _program("haproxy"),
        "postgresql": _postgresql(),
        "patroni": _patroni(),
    }
    return [name for name, there in found.items() if not there]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _postgresql() -> str | None:
    """Return the folder of PostgreSQL's programs: $DOVECOTE_HA_POSTGRESQL, or the newest of Debian's."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return os.environ.get("DOVECOTE_HA_POSTGRESQL") or (str(folders[-1]) if folders else None)


def _patroni() -> list[str] | None:
    """Return the command of Patroni: $DOVECOTE_HA_PATRONI, or that of /opt/patroni."""
    if given := os.environ.get("DOVECOTE_HA_PATRONI"):
        return given.split()
    if not Path("/opt/patroni/patroni").is_dir():
        return None
    # -S: packages of the system are not mixed in. A Python below /root could not be run by the user postgres.
    return ["/usr/bin/env", "PYTHONPATH=/opt/patroni", "/usr/bin/python3", "-S", "-m", "patroni"]


class Cluster:
    """The processes of a cluster, which a test may kill, freeze and resume."""

    def __init__(self, folder: Path, layout: Layout, *, synchronous: bool = True) -> None:
        """Prepare; :meth:`start` begins."""
        self.folder = folder
        self.layout = layout
        self.synchronous = synchronous
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start every process, and wait until both replicas follow."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self.folder.chmod(0o700)
        self._start_etcd()
        for node in self.layout.nodes:
            self._write(f"{node.name}.json", json.dumps(self._configuration(node)))
        first, *others = self.layout.nodes
        self.start_node(first.name)  # alone, so that it is the primary
        self._wait("the first primary", lambda: self._bootstrapped(first.name))
        for node in others:
            self.start_node(node.name)
        self.psql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        self.psql(f"CREATE DATABASE {NAME} OWNER {USER}")
        self._write("haproxy.cfg", self._haproxy())
        self._spawn("haproxy", [_program("haproxy") or "haproxy", "-db", "-f", str(self.folder / "haproxy.cfg")])
        self.wait_until_whole()

    def start_node(self, name: str) -> None:
        """Start a node, also one that was killed."""
        self._spawn(name, [*(_patroni() or []), str(self.folder / f"{name}.json")])

    def _bootstrapped(self, name: str) -> bool:
        """Return whether the first node is the primary. Patroni ends when a bootstrap fails, as on a busy machine: start it again."""
        if self._processes[name].poll() is not None:
            self.start_node(name)
        return self.primary() == name

    def wait_until_whole(self) -> None:
        """Wait until both replicas stream, and one of them may take over: where it must be synchronous, by Patroni's word.

        PostgreSQL calls a replica synchronous before Patroni has written it down in etcd, and only then may it be promoted.
        """
        streaming = (
            f"SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name IN {NAMES}"
        )
        self._wait("both replicas", lambda: self.primary() is not None and self._asked(streaming) == "2")
        if self.synchronous:
            self._wait("a synchronous replica", lambda: self._answering("synchronous") is not None)

    def primary(self, *, other_than: str | None = None) -> str | None:
        """Return the name of the primary by Patroni's word."""
        return self._answering("primary", other_than=other_than)

    def logs(self, lines: int = 20) -> str:
        """Return the last lines of every log."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(
            line
            for file in files
            for line in [f"== {file.name}", *file.read_text(errors="replace").splitlines()[-lines:]]
        )

    def _answering(self, role: str, *, other_than: str | None = None) -> str | None:
        """Return the name of a node that has a role by Patroni's word."""
        nodes = [node for node in self.layout.nodes if node.name != other_than]
        return next((node.name for node in nodes if _status(f"http://127.0.0.1:{node.rest}/{role}") == OK), None)

    def psql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement on the primary, past every relay."""
        port = next(node.port for node in self.layout.nodes if node.name == self.primary())
        command = [f"{_postgresql()}/psql", "-XAtq", "-h", str(self.folder), "-p", str(port), "-U", "postgres"]
        command += ["-d", database, "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = subprocess.run(
            [*_as_postgres(), *command], capture_output=True, text=True, timeout=30, cwd=self.folder, check=True
        )
        return done.stdout.strip()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to Patroni and to every process of PostgreSQL of a node."""
        patroni = self._processes[name].pid
        for pid in [patroni, *self._of_postgresql(name), *_children(patroni)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def hold_replication(self, name: str) -> None:
        """Stop the processes of a primary that send its log to replicas."""
        for pid in self._of_postgresql(name)[1:]:
            with contextlib.suppress(OSError):
                if b"walsender" in (Path("/proc") / str(pid) / "cmdline").read_bytes():
                    os.kill(pid, signal.SIGSTOP)

    def kill(self, name: str) -> None:
        """Kill a node with -9."""
        self.signal(name, signal.SIGKILL)
        self._processes[name].wait()

    def stop(self) -> None:
        """Stop everything that was started."""
        for name in NAMES:
            if name in self._processes:
                self.signal(name, signal.SIGCONT)
        # The nodes first: Patroni stops its PostgreSQL, and needs etcd for it.
        for names in (NAMES, ("haproxy", "etcd")):
            some = {name: self._processes.pop(name) for name in names if name in self._processes}
            for process in some.values():
                process.terminate()
            for name, process in some.items():
                self._reap(name, process)

    def _reap(self, name: str, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *self._of_postgresql(name)]:
                os.kill(pid, signal.SIGKILL)
            process.wait()

    def _of_postgresql(self, name: str) -> list[int]:
        """Return the processes of a node's PostgreSQL."""
        file = self.folder / name / "postmaster.pid"
        if not file.exists():
            return []
        postmaster = int(file.read_text().split()[0])
        return [postmaster, *_children(postmaster)]

    def _asked(self, statement: str) -> str | None:
        try:
            return self.psql(statement)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, StopIteration):
            return None

    def _start_etcd(self) -> None:
        clients, peers = (f"http://127.0.0.1:{port}" for port in (self.layout.etcd, self.layout.etcd_peers))
        options = {
            "name": "e1",
            "data-dir": str(self.folder / "etcd"),
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"e1={peers}",
            "log-level": "warn",
        }
        self._spawn("etcd", [_program("etcd") or "etcd", *(f"--{name}={value}" for name, value in options.items())])
        self._wait("etcd", lambda: _status(f"{clients}/health") == OK)

    def _configuration(self, node: Node) -> dict[str, object]:
        """Return the settings of one node. JSON is YAML, too."""
        parameters = {
            "max_connections": 100,
            "shared_buffers": "32MB",
            "wal_level": "replica",
            "wal_log_hints": "on",
            "hot_standby": "on",
            "wal_keep_size": "128MB",
            "wal_sender_timeout": "5s",
            "wal_receiver_timeout": "5s",
            "wal_retrieve_retry_interval": "500ms",
        }
        shared = {
            "ttl": TTL,
            "loop_wait": LOOP,
            "retry_timeout": RETRY,
            "maximum_lag_on_failover": 1048576,
            "synchronous_mode": self.synchronous,
            "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": parameters},
        }
        rest = f"127.0.0.1:{node.rest}"
        return {
            "scope": "dovecote",
            "name": node.name,
            "restapi": {"listen": rest, "connect_address": rest},
            # With a relay: Patroni is to use no address that etcd itself tells.
            "etcd3": {"hosts": [f"127.0.0.1:{node.etcd}"], "use_proxies": node.etcd != self.layout.etcd},
            "bootstrap": {
                "dcs": shared,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{node.port}",
                "connect_address": f"127.0.0.1:{node.advertised}",
                "data_dir": str(self.folder / node.name),
                "bin_dir": _postgresql(),
                # Else a clone waits for the next spread checkpoint, which takes minutes.
                "basebackup": [{"checkpoint": "fast"}],
                "pgpass": str(self.folder / f"pgpass-{node.name}"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": "super"},
                    "replication": {"username": "replicator", "password": "repl"},
                    "rewind": {"username": "rewinder", "password": "rewind"},
                },
                "parameters": {"unix_socket_directories": str(self.folder)},
                "pg_hba": [
                    "local all postgres trust",
                    "host replication replicator 127.0.0.1/32 scram-sha-256",
                    "host all all 127.0.0.1/32 scram-sha-256",
                ],
            },
        }

    def _haproxy(self) -> str:
        servers = "\n".join(
            f"    server {node.name} 127.0.0.1:{node.advertised} check port {node.rest}" for node in self.layout.nodes
        )
        return (
            "defaults\n    mode tcp\n    timeout connect 500ms\n    timeout client 30m\n    timeout server 30m\n"
            "    timeout check 800ms\n    retries 2\n    option redispatch\n"
            f"listen writes\n    bind 127.0.0.1:{self.layout.writes}\n"
            "    option httpchk OPTIONS /primary\n    http-check expect status 200\n"
            # Without on-marked-down, clients stay on the dead primary.
            "    default-server inter 500ms fastinter 250ms downinter 250ms fall 2 rise 1 on-marked-down shutdown-sessions\n"
            f"{servers}\n"
        )

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(path, "postgres", "postgres")

    def _spawn(self, name: str, command: list[str]) -> None:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": str(self.folder)}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*_as_postgres(), *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )

    def _wait(self, what: str, true: Callable[[], bool]) -> None:
        end = time.monotonic() + WITHIN
        while not true():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {WITHIN:.0f} s; see the logs in {self.folder}")
            time.sleep(0.1)


def _as_postgres() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]


def _children(parent: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        files = Path(f"/proc/{parent}/task").glob("*/children")
        return [int(pid) for file in files for pid in file.read_text().split()]
    return []


def _status(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["start", "status"])
    parser.add_argument("--asynchronous", action="store_true", help="faster writes; a fail-over may lose the last ones")
    given = parser.parse_args()
    layout = plain_layout()
    if given.what == "status":
        for node in layout.nodes:
            with urllib.request.urlopen(f"http://127.0.0.1:{node.rest}/patroni", timeout=2) as answer:
                found = json.load(answer)
            print(f"{node.name}: {found['role']}, {found['state']}, timeline {found.get('timeline')}")
        return
    if absent := missing():
        sys.exit(f"not installed: {', '.join(absent)}; see --help")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(os.environ.get("DOVECOTE_HA", "/var/tmp/dovecote-ha"))
    cluster = Cluster(folder, layout, synchronous=not given.asynchronous)
    try:
        cluster.start()
        print(f"every node:  {layout.url}\nby HAProxy:  {layout.proxied_url}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print("stopping", flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
