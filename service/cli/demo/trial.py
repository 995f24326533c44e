"""``dovecote try``: Dovecote with a sandbox instead of providers, in one process, for tasks of your own."""

import asyncio
import base64
import contextlib
import secrets
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import httpx

from service.cli import exits
from service.cli.demo.stage import settings_for
from service.cli.listening import describe, listen
from service.cli.practice import SANDBOX_KEY, SECRET_VARIABLE
from service.cli.printing import say
from service.cli.processes import LOOPBACK, clean_environment, command_name
from service.domain.webhook_secret import derive_secret

BETWEEN_CHECKS: Final = 0.1
"""Seconds between two checks whether Dovecote serves."""


@click.command("try", short_help="Try Dovecote with a sandbox instead of providers.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of Dovecote.")
@click.option("--seconds", type=click.FloatRange(min=0), default=5.0, show_default=True, help="How long a job takes.")
@click.option("--open", "opens", is_flag=True, help="Open the dashboard in your browser.")
def command(port: int, seconds: float, *, opens: bool) -> None:
    """Run Dovecote, a sandbox in place of ElkAPI, Runway, Kling and Replicate, and a receiver of webhooks, until Ctrl-C.

    All of it is one process. Tasks that you submit cost nothing and take a few seconds. It uses none of your settings and
    keys. The database and the results are removed at the end.
    """
    from service.cli.serve import run
    from service.cli.stopping import Stop
    from service.memory import collect_later
    from service.settings.load import load

    collect_later()
    stop = Stop()
    stop.install()
    _require_free(port)
    installation = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    with tempfile.TemporaryDirectory(prefix="dovecote-try-") as name:
        folder = Path(name)
        say("Starting Dovecote, a sandbox and a receiver …")
        with _partners(seconds, derive_secret(installation, "default", 1)) as partners:
            file = folder / "dovecote.toml"
            file.touch()
            (folder / "dovecote.db").touch()  # a file that is there is not logged as created
            given = settings_for(folder, partners.sandbox, port, seconds)
            more = {
                SECRET_VARIABLE: installation,
                "DOVECOTE_LOG_LEVEL": "warning",
                "DOVECOTE_STORAGE__URL": f"file://{folder / 'kept'}",  # so that the dashboard can play results
            }
            settings = load({**clean_environment(), **given, **more}, file)
            partners.announce(f"http://{LOOPBACK}:{port}", folder, opens=opens)
            run(settings, "all", stop)


class _Partners:
    """The sandbox and the receiver: an event loop of their own in a thread of this process."""

    def __init__(self, seconds: float, secret: str) -> None:
        """Prepare both.

        :param seconds: how long a job takes
        :param secret: verifies the messages that the receiver gets
        """
        self.sandbox = self.receiver = ""
        self.ready = threading.Event()
        self.failure: OSError | None = None
        self._seconds, self._secret = seconds, secret
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)

    def start(self) -> None:
        """Start both, and wait until they serve."""
        self._thread.start()
        self.ready.wait()

    def end(self) -> None:
        """End both."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def announce(self, url: str, folder: Path, *, opens: bool) -> None:
        """Print what can be done as soon as Dovecote serves."""
        asyncio.run_coroutine_threadsafe(self._announce(url, folder, opens=opens), self._loop)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except OSError as error:
                self.failure = error
            finally:
                self.ready.set()

    async def _serve(self) -> None:
        from service.sandbox import Receiver, Sandbox, running

        sandbox, receiver = Sandbox(seconds=self._seconds, key=SANDBOX_KEY), Receiver(self._secret)
        async with running(sandbox) as self.sandbox, running(receiver) as self.receiver:
            self.ready.set()
            await self._ended.wait()

    async def _announce(self, url: str, folder: Path, *, opens: bool) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            while not await _serves(client, url):  # noqa: ASYNC110 - the server has no event in this loop
                await asyncio.sleep(BETWEEN_CHECKS)
        say(_instructions(url, self, folder))
        if opens:
            webbrowser.open(f"{url}/ui/start")


async def _serves(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/readyz")).is_success
    except httpx.TransportError:
        return False


def _require_free(port: int) -> None:
    """End the command when Dovecote cannot listen on its port: another server there would look like this one."""
    try:
        listen(LOOPBACK, port).close()
    except OSError as error:
        say(f"dovecote: {describe(error, LOOPBACK, port)} (--port)")
        click.get_current_context().exit(exits.UNAVAILABLE)


@contextlib.contextmanager
def _partners(seconds: float, secret: str) -> Iterator[_Partners]:
    """Run the sandbox and the receiver while the block runs."""
    partners = _Partners(seconds, secret)
    partners.start()
    if partners.failure is not None:
        say(f"dovecote: cannot start the sandbox: {partners.failure.strerror or partners.failure}")
        click.get_current_context().exit(exits.UNAVAILABLE)
    try:
        yield partners
    finally:
        partners.end()


def _instructions(url: str, partners: _Partners, folder: Path) -> str:
    body = '{"family":"runway","operation":"text_to_video","input":{"prompt":"a dove","duration":5}}'
    dovecote = command_name()
    return f"""
Dovecote runs. Its dashboard, where you can submit a first task: {url}/ui/start

In another terminal:

  export DOVECOTE_URL={url}
  {dovecote} submit runway text_to_video prompt='a dove over the sea' duration=5 --wait
  {dovecote} tasks list
  curl -s {url}/v1/tasks -H 'Content-Type: application/json' -d '{body}'

To see something go wrong, add a fault to the prompt: 'a dove [drop]'. All faults: {dovecote} sandbox --help
To see completion webhooks arrive, add --callback-url {partners.receiver}/done

API reference, with a form for each request: {url}/docs/try
Jobs that were "paid" for: {partners.sandbox}/sandbox/ledger
Webhooks that arrived: {partners.receiver}/receiver/received
The database and the kept results: {folder}

Ctrl-C stops everything and removes the folder.
"""
