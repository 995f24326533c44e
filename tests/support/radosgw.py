"""A real S3 server for the tests: Ceph's gateway with one monitor and one disk, all on loopback and in a folder of its own."""

import contextlib
import datetime as dt
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import S3Store

from service.cli.processes import LOOPBACK, free_ports

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool", "setpriv")
BUCKET, KEY, SECRET = "dovecote", "dovecote", "dovecote-secret"
_START_WITHIN = 90.0
_RING = "ring"
"""The second half of Ceph's word for its file of keys, which Dovecote's own texts do not use."""
_CONFIGURATION = """
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = [v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]
public_network = 127.0.0.0/8
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_objectstore = bluestore
bluestore_block_size = 4294967296
bluestore_block_db_create = false
bluestore_block_wal_create = false
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
bluestore_fsck_quick_fix_on_mount = false
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
log_file = {folder}/$name.log
pid_file = {folder}/run/$name.pid
crash_dir = {folder}
key{ring} = {folder}/keys
[mon.a]
mon_data = {folder}/mon
[osd.0]
osd_data = {folder}/osd
[client.rgw.a]
rgw_data = {folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_thread_pool_size = 32
"""


class Radosgw:
    """The processes of one server."""

    def __init__(self, folder: Path) -> None:
        self.port, mon1, mon2 = free_ports(3)
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("mon", "osd", "rgw", "run"):
            (folder / name).mkdir(parents=True)
        (folder / "client.rgw.a.log").touch()  # otherwise the administration, which runs as root, owns it
        values = {"ring": _RING, "fsid": uuid.uuid4(), "folder": folder, "port": self.port, "mon1": mon1, "mon2": mon2}
        (folder / "ceph.conf").write_text(_CONFIGURATION.format(**values))

    def start(self) -> None:
        """Make the cluster, start its three processes, and create the user and the bucket."""
        folder, fsid = self._folder, self._fsid()
        keys = ("ceph-authtool", folder / "keys")
        self._do(*keys, f"--create-key{_RING}", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, rights in {
            "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
            "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
            "client.rgw.a": {"mon": "allow rwx", "osd": "allow rwx"},
        }.items():
            caps = [part for kind, right in rights.items() for part in ("--cap", kind, right)]
            self._do(*keys, "--gen-key", "-n", name, *caps)
        self._own()
        address = next(line for line in (folder / "ceph.conf").read_text().splitlines() if line.startswith("mon_host"))
        monmap = folder / "monmap"
        self._as_ceph("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address.partition("= ")[2], monmap)
        self._as_ceph("ceph-mon", *self._c, "-i", "a", "--mkfs", "--monmap", monmap, f"--key{_RING}", folder / "keys")
        self._run("mon", "ceph-mon", "-i", "a", "-f")
        osd = str(uuid.uuid4())
        self._do("timeout", "30", "ceph", *self._c, "osd", "new", osd)
        self._as_ceph("ceph-osd", *self._c, "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._run("osd", "ceph-osd", "-i", "0", "-f")
        self._until(
            lambda: '"num_up_osds":1' in self._do("timeout", "10", "ceph", *self._c, "osd", "stat", "-f", "json")
        )
        user = ("--uid=dovecote", "--display-name=d", f"--access-key={KEY}", f"--secret-key={SECRET}")
        self._do("timeout", "90", "radosgw-admin", *self._c, "-n", "client.rgw.a", "user", "create", *user)
        self.start_gateway()
        made = httpx.put(self.signed("PUT", ""))
        assert made.status_code == 200, made.text

    def start_gateway(self) -> None:
        """Start the gateway alone, and wait until it answers."""
        self._run("rgw", "radosgw", "-n", "client.rgw.a", "-f")
        self._until(self._answers)

    def kill_gateway(self) -> None:
        """Kill the gateway with SIGKILL."""
        process = self._processes.pop("rgw")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Kill every process by its own id."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def settings(self, url: str | None = None) -> Mapping[str, str]:
        """Return the environment in which Dovecote stores files here.

        :param url: the address of a proxy in front
        """
        return {
            "DOVECOTE_STORAGE__URL": f"s3://{BUCKET}/kept",
            "DOVECOTE_STORAGE__ENDPOINT": url or self.url,
            "DOVECOTE_STORAGE__REGION": "us-east-1",
            "DOVECOTE_STORAGE__ACCESS_KEY_ID": KEY,
            "DOVECOTE_STORAGE__SECRET_ACCESS_KEY": SECRET,
        }

    def store(self) -> S3Store:
        """Return the bucket."""
        return S3Store(
            BUCKET,
            endpoint=self.url,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def signed(self, method: str, name: str) -> str:
        """Return a presigned URL."""
        return str(obstore.sign(self.store(), method, name, dt.timedelta(minutes=5)))  # type: ignore[arg-type]

    @property
    def _c(self) -> tuple[str, str]:
        return "-c", str(self._folder / "ceph.conf")

    def _fsid(self) -> str:
        lines = (self._folder / "ceph.conf").read_text().splitlines()
        return next(line for line in lines if line.startswith("fsid")).partition("= ")[2]

    def _own(self) -> None:
        for path in (self._folder, *self._folder.rglob("*")):
            shutil.chown(path, "ceph", "ceph")

    def _do(self, *command: object) -> str:
        done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)  # noqa: S603
        assert done.returncode == 0, (command, done.stderr[-2000:])
        return done.stdout

    def _as_ceph(self, *command: object) -> None:
        self._do("setpriv", "--reuid=ceph", "--regid=ceph", "--init-groups", "--", *command)

    def _run(self, name: str, program: str, *arguments: str) -> None:
        command = ["setpriv", "--reuid=ceph", "--regid=ceph", "--init-groups", "--", program, *self._c, *arguments]
        with (self._folder / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)  # noqa: S603

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.url).status_code < 500
        return False

    @staticmethod
    def _until(true: object) -> None:
        end = time.monotonic() + _START_WITHIN
        while not true():  # type: ignore[operator]
            assert time.monotonic() < end, f"waited for {_START_WITHIN:g} s"
            time.sleep(0.2)


@contextlib.contextmanager
def s3_server() -> Iterator[Radosgw]:
    """Run a server; skip the test where its programs are not installed, or may not run as another user."""
    missing = [each for each in PROGRAMS if shutil.which(each) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"there is no S3 server here: {', '.join(missing) or 'it needs root'}")
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"dovecote-s3-{uuid.uuid4().hex[:8]}"  # noqa: S108 - ceph must reach it
    server = Radosgw(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
