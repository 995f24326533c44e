"""``dovecote sandbox`` and ``dovecote receiver``: a provider and a client to practise with on one machine."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import click

from service.cli import exits
from service.cli.listening import describe
from service.cli.options import AS_JSON
from service.cli.printing import say
from service.providers.registry import PROVIDERS

if TYPE_CHECKING:
    from service.sandbox.server import Served

SANDBOX_KEY: Final = "sandbox-key"
SECRET_VARIABLE: Final = "DOVECOTE_WEBHOOK_SECRET"  # noqa: S105 - its name


class _WithFaults(click.Command):
    """A command whose help ends with a table of faults."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table. Only this imports the sandbox."""
        from service.sandbox.faults import FAULTS

        del ctx
        with formatter.section("Faults"):
            formatter.write_dl(list(FAULTS.items()))


@click.command(cls=_WithFaults, short_help="Run a sandbox of the providers.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--seconds", type=click.FloatRange(min=0), default=5.0, show_default=True, help="How long a job takes.")
@click.option("--fault", "faults", multiple=True, metavar="WORD[=V]", help="A fault of every job; may be repeated.")
@AS_JSON
def sandbox(host: str, port: int, seconds: float, faults: tuple[str, ...], *, as_json: bool) -> None:
    """Run a sandbox of the providers. It implements their protocols, costs nothing, and causes faults on demand.

    A task's prompt can name a fault in brackets: "a cat [drop]", "a cat [late=3]". GET /sandbox/ledger lists the paid jobs.
    """
    from service.sandbox import Faults, Sandbox

    try:
        wanted = Faults.named(faults)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    def announce(url: str) -> None:
        plugged = {**plug(url, seconds, "elkapi", "runwayml"), **plug_account(url, "elkapi")}
        if as_json:
            click.echo(json.dumps({"url": url, "ledger": f"{url}/sandbox/ledger", "environment": plugged}))
            return
        click.echo(f"Sandbox at {url}, its ledger at {url}/sandbox/ledger. Settings of Dovecote for it:\n")
        for name, value in plugged.items():
            click.echo(f"export {name}={value}")
        click.echo("\nFor its callbacks: export DOVECOTE_PUBLIC_URL=http://127.0.0.1:8080")

    _run(Sandbox(seconds=seconds, key=SANDBOX_KEY, faults=wanted), host, port, announce)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8091, show_default=True, help="Port; 0 takes a free one."
)
@AS_JSON
def receiver(host: str, port: int, *, as_json: bool) -> None:
    """Run a receiver of completion webhooks. It verifies and lists them.

    It verifies with the secret in DOVECOTE_WEBHOOK_SECRET (see: dovecote secret webhook). Submit a task with
    --callback-url and the printed URL. GET /receiver/received lists the webhooks that arrived. Dovecote sends to this
    machine only with DOVECOTE_ALLOW_PRIVATE_WEBHOOKS=true.
    """
    from service.sandbox import Receiver

    secret = os.environ.get(SECRET_VARIABLE, "").strip() or None

    def announce(url: str) -> None:
        if as_json:
            click.echo(json.dumps({"url": url, "received": f"{url}/receiver/received", "verifies": secret is not None}))
            return
        click.echo(f"Receiver at {url}, its webhooks at {url}/receiver/received")
        if secret is None:
            click.echo(
                f"It verifies nothing, because {SECRET_VARIABLE} is not set. Try: export {SECRET_VARIABLE}=$(dovecote secret webhook)"
            )

    try:
        served = Receiver(secret)
    except ValueError:
        raise click.UsageError(f"{SECRET_VARIABLE} is not a webhook secret, such as whsec_…") from None
    _run(served, host, port, announce)


def plug(url: str, seconds: float, *upstreams: str) -> Mapping[str, str]:
    """Return the environment in which Dovecote uses the sandbox as its providers.

    :param seconds: duration of a job there; polls start a little later
    :param upstreams: names of the upstreams that the sandbox replaces
    """
    from service.sandbox import Sandbox

    paths = Sandbox.base_paths()
    environment: dict[str, str] = {}
    for name in upstreams:
        played = (paths[dialect] for dialect in PROVIDERS[name].dialects if dialect in paths)
        environment[PROVIDERS[name].key_variable] = SANDBOX_KEY
        environment[f"DOVECOTE_UPSTREAMS__{name.upper()}__BASE_URL"] = url + next(played, "")
        environment[f"DOVECOTE_UPSTREAMS__{name.upper()}__TYPICAL_SECONDS"] = f"{seconds + 1:g}"
    return environment


def plug_account(url: str, upstream: str) -> Mapping[str, str]:
    """Return the environment in which Dovecote queries the sandbox with the credentials of the account's owner, too."""
    from service.sandbox.account import QUERY_KEY, TOKEN, USER

    given = {"QUERY_URL": url, "QUERY_KEY": QUERY_KEY, "ACCOUNT_TOKEN": TOKEN, "ACCOUNT_USER": USER}
    return {f"DOVECOTE_UPSTREAMS__{upstream.upper()}__{name}": value for name, value in given.items()}


def _run(served: "Served", host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM."""
    from service.sandbox import running

    async def go() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with running(served, host, port) as url:
            announce(url)
            await stopped.wait()

    try:
        asyncio.run(go())
    except OSError as error:
        say(f"dovecote: {describe(error, host, port)}")
        click.get_current_context().exit(exits.UNAVAILABLE)
