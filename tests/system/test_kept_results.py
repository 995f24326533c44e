"""Two hundred results with every trouble: each is kept with the right hash or lost with the reason, whatever is killed."""

import asyncio
import contextlib
import hashlib
import re
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import LOOPBACK, ProcessGroup, Served
from service.sandbox import Sandbox, running
from service.sandbox.served_files import content
from tests.support.processes import client_of, dovecote, started
from tests.support.radosgw import Radosgw, s3_server

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("s3")]

TASKS = 66
"""Each has three files: 198 in all."""
WITHIN = 240.0
MAX_RSS = 250 * 1024
"""KiB of memory that the process may take."""
LIMIT = 4_000_000
SLOW = "10000000"
"""Bytes a second: all tasks have ended long before their files are fetched."""
KEPT = {
    "[filebytes=3000000]": 3_000_000,
    "[filebytes=2500000][filereset=2]": 2_500_000,
    "[filebytes=1500000][file503=2]": 1_500_000,
    "[filebytes=1200000][filechunked]": 1_200_000,
    "[filebytes=900000][filechunked][filereset=1]": 900_000,
    "[filebytes=3900000]": 3_900_000,
}
LOST = {
    "[filegone=0]": "HTTP 404",
    "[filepage]": "it is of the type text/html",
    "[fileshort][filebytes=300000]": "broke off",
    "[filebytes=60000000]": "more than the limit",
    "[filebytes=60000000][filechunked]": "more bytes than the limit",
}
PROMPTS = [*KEPT, *LOST]
FASTER = """
from service.domain import kept
from service.settings.results import ResultsSettings
kept.FETCH_BACKOFF, kept.GONE_FOR = (0.3, 0.5, 1.0), 4.0
ResultsSettings.retry_seconds = property(lambda self: 60.0)
"""
"""The same schedule in seconds: it is read at the start of the process."""


class Proxy:
    """Stands before the storage: passes bytes on, answers 503, or hangs up."""

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self.counted: Counter[str] = Counter()
        self._port = port

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        async with server:
            yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counted[self.mode] += 1
        with contextlib.suppress(OSError), contextlib.closing(writer):
            if self.mode == "503":
                await reader.read(65_536)
                writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
            elif self.mode == "pass":
                there, back = await asyncio.open_connection(LOOPBACK, self._port)
                await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(target):
            while self.mode == "pass" and (data := await source.read(65_536)):
                target.write(data)
                await target.drain()


@contextlib.asynccontextmanager
async def keeping(folder: Path, **settings: str) -> AsyncIterator[tuple[ProcessGroup, Served, httpx.AsyncClient]]:
    """Run Dovecote over a sandbox, and submit all tasks."""
    sandbox = Sandbox(seconds=0.2, key=SANDBOX_KEY)
    (folder / "sitecustomize.py").write_text(FASTER)
    async with running(sandbox) as upstream:
        served = dovecote(folder, f"sqlite:///{folder / 'dovecote.db'}", upstream)
        limits = {
            "DOVECOTE_RESULTS__MAX_FILE": str(LIMIT),
            "DOVECOTE_RESULTS__BANDWIDTH": SLOW,
            "PYTHONPATH": str(folder),
        }
        served.environment = {**served.environment, **limits, **settings}
        with ProcessGroup() as group:
            await started(group, served)
            async with client_of(served) as client:
                for number in range(TASKS):
                    prompt = f"dove {number} {PROMPTS[number % len(PROMPTS)]}"
                    request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": prompt}}
                    assert (await client.post("/v1/tasks", json=request)).status_code == 202
                await until_ended(client)
                yield group, served, client
    assert sandbox.ledger.paid() == TASKS


async def results_of(client: httpx.AsyncClient) -> list[tuple[dict[str, Any], int, dict[str, Any]]]:
    tasks = (await client.get("/v1/tasks", params={"limit": 100})).json()["tasks"]
    return [(task, number, each) for task in tasks for number, each in enumerate(task["results"])]


async def until_ended(client: httpx.AsyncClient) -> None:
    """Wait until all tasks have ended: a kill concerns their files only."""
    async with asyncio.timeout(WITHIN):
        while True:
            tasks = (await client.get("/v1/tasks", params={"limit": 100})).json()["tasks"]
            if all(task["state"] == "succeeded" for task in tasks):
                return
            await asyncio.sleep(0.1)


async def until_settled(client: httpx.AsyncClient, share: float) -> list[tuple[dict[str, Any], int, dict[str, Any]]]:
    """Wait until a share of all files is kept or lost."""
    async with asyncio.timeout(WITHIN):
        while True:
            found = await results_of(client)
            if sum(each["kept"] != "pending" for _, _, each in found) >= share * 3 * TASKS:
                return found
            await asyncio.sleep(1.0)  # a list of all tasks takes memory of the process, too


def kill(served: Served) -> None:
    assert served.process is not None
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()


def peak(served: Served) -> int:
    """Return the most memory that a process has taken, in KiB."""
    assert served.process is not None
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


async def check_all(client: httpx.AsyncClient, names: list[str]) -> None:
    """Check each result against what the sandbox serves, and that the storage holds nothing else."""
    found = await results_of(client)
    assert len(found) == 3 * TASKS
    for task, number, each in found:
        assert task["state"] == "succeeded"
        words = task["input"]["prompt"].partition("[")[1] + task["input"]["prompt"].partition("[")[2]
        answer = await client.get(f"/v1/tasks/{task['id']}/results/{number}/content")
        if words in KEPT:
            whole = content("mp4" if each["kind"] == "video" else "png", KEPT[words])
            assert each["kept"] == "kept", (words, each)
            assert each["size"] == len(whole)
            assert each["sha256"] == hashlib.sha256(whole).hexdigest()
            assert answer.content == whole
        else:
            reason = each.get("lost_because", "")
            expected = LOST[words]
            assert each["kept"] == "lost", (words, each)
            assert expected in reason, (words, reason)
            assert answer.status_code == 404
    kept = [name for name in names if not name.endswith(".json")]
    assert len(kept) == len({name.rpartition("-")[0] for name in kept})
    assert len(kept) == sum(each["kept"] == "kept" for _, _, each in found)
    assert not [name for name in names if "#" in name]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def test_local_folder_survives_kills(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (group, served, client):
        for share in (0.2, 0.5):
            await until_settled(client, share)
            kill(served)
            await started(group, served)
        await until_settled(client, 1)
        assert peak(served) < MAX_RSS
        folder = tmp_path / "dovecote-objects"
        for path in folder.rglob("*#*"):  # left by the kills: the sweep takes them after an hour
            path.unlink()
        await check_all(client, files_in(folder))
    assert "Traceback" not in served.log.read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[Radosgw]:
    with s3_server() as started_server:
        yield started_server


async def test_s3_survives_kills_and_a_storage_that_fails(tmp_path: Path, server: Radosgw) -> None:
    proxy = Proxy(server.port)
    async with (
        proxy.running() as address,
        keeping(tmp_path, **server.settings(address)) as (group, served, client),
    ):
        await until_settled(client, 0.15)
        proxy.mode = "503"
        await asyncio.sleep(3)
        proxy.mode = "away"
        await asyncio.to_thread(server.kill_gateway)
        await asyncio.to_thread(server.start_gateway)
        proxy.mode = "pass"
        await until_settled(client, 0.4)
        kill(served)
        await started(group, served)
        await until_settled(client, 1)
        assert peak(served) < MAX_RSS
        names = [each["path"] for page in server_list(server) for each in page]
        await check_all(client, sorted(names))
        assert proxy.counted["503"] > 0
        assert proxy.counted["away"] > 0


def server_list(server: Radosgw) -> Any:
    import obstore

    return obstore.list(server.store(), "kept")


def command(*arguments: str) -> int:
    return subprocess.run(arguments, check=False, capture_output=True).returncode  # noqa: S603


async def test_full_disk_is_waited_out(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = await asyncio.to_thread(command, "mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder))
    if mounted:
        pytest.skip("no small disk can be mounted here")
    try:
        async with keeping(tmp_path, DOVECOTE_STORAGE__URL=f"file://{folder}/kept", DOVECOTE_STORAGE__MIN_FREE="0") as (
            _,
            served,
            client,
        ):

            def full() -> bool:
                return "No space left" in served.log.read_text()

            async with asyncio.timeout(WITHIN):
                while not full():  # noqa: ASYNC110 - another process writes the log
                    await asyncio.sleep(0.1)
            assert not command("mount", "-o", "remount,size=600m", str(folder))
            await until_settled(client, 1)
            await check_all(client, files_in(folder / "kept"))
    finally:
        command("umount", str(folder))
