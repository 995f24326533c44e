"""``dovecote record`` and ``dovecote rehearse``: record the answers of an upstream, and play them back without credits."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli import exits
from service.cli.listening import describe
from service.cli.options import CONFIG
from service.cli.printing import say

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from service.cli.assembling import Callback, Exchange
    from service.settings.model import Settings

HOST: Final = "127.0.0.1"
TIMEOUT: Final = 600.0
"""Seconds that the upstream gets for an answer: some answer with their result."""
_PORT = click.option(
    "--port", type=click.IntRange(0, 65535), default=8092, show_default=True, help="Port; 0 takes a free one."
)
_HOP_BY_HOP: Final = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding"})
_METHODS: Final = ["DELETE", "GET", "PATCH", "POST", "PUT"]


@click.command("record", short_help="Record the answers of an upstream.")
@click.argument("upstream")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="The file that is written at the end.",
)
@click.option("--base-url", metavar="URL", help="The upstream's address.  [default: that of its settings]")
@_PORT
@CONFIG
def record(upstream: str, output: Path, base_url: str | None, port: int, config: Path | None) -> None:
    """Record the answers of an upstream, until Ctrl-C. Run Dovecote with the printed setting meanwhile, and submit tasks.

    The requests pass through this process with Dovecote's own key. The file has the answers, and the callbacks that Dovecote has
    stored; without keys, tokens, signatures of URLs, and without the texts of your requests. Read it before you share it.
    `dovecote rehearse FILE` plays it back.
    """
    from service.cli.assembling import assemble
    from service.cli.installation import read_settings

    settings = read_settings(config)
    known = settings.upstreams.get(upstream)
    target = (base_url or _address(upstream, None if known is None else known.base_url)).rstrip("/")
    _reserve(output)
    recorder = Recorder(target)
    _serve(recorder, port, f"DOVECOTE_UPSTREAMS__{upstream.upper()}__BASE_URL", f"Recording {target}")
    callbacks = asyncio.run(_callbacks(settings, recorder.exchanges))
    made = assemble(upstream, recorder.exchanges, callbacks, secrets=recorder.secrets)
    output.write_text(made.model_dump_json(indent=2) + "\n", encoding="utf-8")
    heard = sum(len(job.callbacks) for job in made.jobs)
    say(f"{output}: {len(made.jobs)} jobs, {heard} callbacks, {len(made.others)} other requests")


@click.command("rehearse", short_help="Play a recording back as an upstream.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--speed", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Recorded seconds in one second."
)
@_PORT
def rehearse(file: Path, speed: float, port: int) -> None:
    """Play a recording of `dovecote record` back, until Ctrl-C: tests without credits, with your upstream's own words.

    Each new task takes the next recorded job of its kind, with new ids. Polls are answered as the upstream answered at that age,
    and its callbacks are sent.
    """
    from pydantic import ValidationError

    from service.sandbox.rehearsal import FORMAT, Recording, Rehearsal, base_paths

    try:
        recording = Recording.model_validate_json(file.read_bytes())
    except (ValidationError, OSError):
        raise click.UsageError(f"{file} is not a recording of `dovecote record`") from None
    if recording.format != FORMAT:
        raise click.UsageError(f"{file} has the format {recording.format}; this version reads {FORMAT}")
    for path in base_paths(recording):
        say(f"It answers {path}")
    name = f"DOVECOTE_UPSTREAMS__{recording.upstream.upper()}__BASE_URL"
    _serve(Rehearsal(recording, speed=speed), port, name, f"Playing {file}: {len(recording.jobs)} jobs")


class Recorder:
    """An ASGI application that forwards every request to an upstream, and keeps what was said."""

    def __init__(self, target: str) -> None:
        """Prepare to forward.

        :param target: the base URL of the upstream
        """
        from starlette.applications import Starlette
        from starlette.routing import Route

        self.exchanges: list[Exchange] = []
        self.secrets: set[str] = set()
        self._target = target
        self.app = Starlette(routes=[Route("/{path:path}", self._forward, methods=_METHODS)], lifespan=self._open)

    @contextlib.asynccontextmanager
    async def _open(self, _: Any) -> Any:
        import httpx

        async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False) as client:
            self._client: httpx.AsyncClient = client
            yield

    async def _forward(self, request: "Request") -> "Response":
        """Forward one request, and keep it with its answer. Without an answer the connection fails as the upstream's did."""
        import httpx
        from starlette.responses import Response

        from service.cli.assembling import Exchange

        body = await request.body()
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        self._note_secrets(request)
        began = time.time()
        try:
            answer = await self._client.request(request.method, self._target + path, headers=headers, content=body)
        except httpx.HTTPError as error:
            say(f"{request.method} {request.url.path}: {type(error).__name__}")
            return Response(status_code=502)
        content_type = answer.headers.get("content-type", "application/octet-stream")
        exchange = Exchange(
            began, request.method, path, body.decode("utf-8", "replace"), answer.status_code, content_type, answer.text
        )
        self.exchanges.append(exchange)
        say(f"{request.method} {request.url.path}: HTTP {answer.status_code}")
        kept = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}
        return Response(answer.content, answer.status_code, kept)

    def _note_secrets(self, request: "Request") -> None:
        """Keep the credentials of a request, so that they can be removed from the file."""
        for name, value in request.headers.items():
            if name == "authorization" or "key" in name or "token" in name or "secret" in name:
                self.secrets |= {value, value.rpartition(" ")[2]}
        self.secrets |= {value for name, value in request.query_params.items() if "key" in name.lower()}


def _reserve(output: Path) -> None:
    """Create the file before anything is bought, so that the recording can be written at the end.

    :raises click.UsageError: when it is there already, or cannot be written
    """
    try:
        output.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        raise click.UsageError(f"{output} exists: name another file") from None
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written ({error.strerror})") from None


async def _callbacks(settings: "Settings", exchanges: Sequence["Exchange"]) -> list["Callback"]:
    """Return the stored callbacks of the recorded submissions, as far as the database can be read."""
    from service.cli.assembling import Callback, tokens_in
    from service.cli.installation import read_connection
    from service.domain.callback_token import Tokens
    from service.store import callbacks as callback_store
    from service.store import secrets

    tokens = {token for each in exchanges for token in tokens_in(each.request)}
    if not tokens:
        return []
    try:
        async with read_connection(settings) as connection:
            given = settings.callback_secret
            secret = await secrets.find(connection, "callback_secret") if given is None else given.get_secret_value()
            known = {Tokens(secret or "").read(token): token for token in tokens}
            found = await callback_store.of_submissions(connection, [each for each in known if each is not None])
    except LookupError as error:
        say(f"no callbacks are recorded: {error}")
        return []
    return [
        Callback(known[each.submission_id], each.received_at.timestamp(), each.body.decode("utf-8", "replace"))
        for each in found
    ]


def _address(upstream: str, configured: str | None) -> str:
    """Return the true address of an upstream; its setting may already lead to this recorder."""
    from service.providers.registry import PROVIDERS

    own = PROVIDERS[upstream].base_url if upstream in PROVIDERS else None
    if configured and f"//{HOST}" not in configured and "//localhost" not in configured:
        return configured
    found = own or configured
    if not found:
        raise click.UsageError(f"{upstream[:80]!r} is not configured: give its address with --base-url")
    return found


def _serve(served: Any, port: int, variable: str, title: str) -> None:
    """Serve until SIGINT or SIGTERM, and print the setting of Dovecote for it."""
    from service.sandbox import running

    async def go() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with running(served, HOST, port) as url:
            say(f"{title}. Ctrl-C ends it. The setting of Dovecote for it:")
            click.echo(f"export {variable}={url}")
            await stopped.wait()

    try:
        asyncio.run(go())
    except OSError as error:
        say(f"dovecote: {describe(error, HOST, port)}")
        click.get_current_context().exit(exits.UNAVAILABLE)
