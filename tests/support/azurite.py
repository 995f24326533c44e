"""A server that speaks Azure's protocol for the tests: Microsoft's emulator Azurite, on loopback and in a folder of its own."""

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.cli.processes import LOOPBACK, free_ports

PROGRAM = "azurite-blob"
ACCOUNT = "devstoreaccount1"
KEY = base64.b64encode(b"a key for nothing but these tests").decode()
CONTAINER = "dovecote"
_VERSION = "2021-08-06"
_START_WITHIN = 60.0


class Azurite:
    """The process of one server."""

    def __init__(self, folder: Path) -> None:
        [self.port] = free_ports(1)
        self.url = f"http://{LOOPBACK}:{self.port}/{ACCOUNT}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The usual variables of Azure."""
        return {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY}

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        arguments = [PROGRAM, "--blobHost", LOOPBACK, "--blobPort", str(self.port), "--location", str(self._folder)]
        with (self._folder / "azurite.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed program
                [*arguments, "--skipApiVersionCheck", "--disableTelemetry"],
                stdout=log,
                stderr=log,
                env={
                    "PATH": f"{Path(shutil.which(PROGRAM) or '').parent}:/usr/bin:/bin",
                    "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}",
                },
            )
        end = time.monotonic() + _START_WITHIN
        while not self._answers():
            assert time.monotonic() < end, (self._folder / "azurite.log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.url).status_code > 0
        return False

    def kill(self) -> None:
        """Kill the server."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def make_container(self) -> None:
        """Make the container. Dovecote makes none."""
        date = dt.datetime.now(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = f"x-ms-date:{date}\nx-ms-version:{_VERSION}\n"
        signed = "PUT" + "\n" * 12 + headers + f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
        proof = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        authorization = f"SharedKey {ACCOUNT}:{base64.b64encode(proof).decode()}"
        given = {"x-ms-date": date, "x-ms-version": _VERSION, "Authorization": authorization}
        answer = httpx.put(f"{self.url}/{CONTAINER}", params={"restype": "container"}, headers=given)
        assert answer.status_code in {201, 409}, answer.text  # 409: there is one


@contextlib.contextmanager
def azure_server(folder: Path) -> Iterator[Azurite]:
    """Start a server; skip the test where the emulator is not installed."""
    if shutil.which(PROGRAM) is None:
        pytest.skip("there is no Azurite here: npm install -g azurite")
    server = Azurite(folder)
    server.start()
    try:
        server.make_container()
        yield server
    finally:
        server.kill()
