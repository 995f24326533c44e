"""The commands of the machine that Dovecote runs on: they read its settings, and no key of a client."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.cli.options import AS_JSON, CONFIG
from service.cli.printing import print_json
from service.domain.flows import FLOWS, Flow, parse_flows

if TYPE_CHECKING:
    from service.app import Role


def _flows(_: click.Context, __: click.Parameter, value: str | None) -> frozenset[Flow] | None:
    """Parse ``--flows``."""
    try:
        return None if value is None else parse_flows(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@CONFIG
@click.option(
    "--role",
    type=click.Choice(["all", "web", "callbacks", "worker"]),
    default="all",
    show_default=True,
    help="The work of this process.",
)
@click.option(
    "--flows",
    metavar="LIST",
    callback=_flows,
    help=f"The work of a worker, separated by commas: {', '.join(FLOWS)}.  [default: all]",
)
@click.option("--host", help="Address to listen at.  [default: the setting host]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: the setting port]")
def serve(config: Path | None, role: "Role", flows: frozenset[Flow] | None, host: str | None, port: int | None) -> None:
    """Run the server.

    SIGTERM or Ctrl-C stops it in order: running work ends first. A second signal stops it at once. The role "callbacks"
    serves providers only. A worker listens, for health checks only, where --port or DOVECOTE_PORT is given. With --flows
    a worker does only a part of the work: every flow needs a worker.
    """
    if flows is not None and role != "worker":
        raise click.UsageError(f"--flows is for --role worker only; the role {role} has no choice")
    from service.cli.stopping import Stop
    from service.memory import collect_later

    collect_later()
    stop = Stop()
    stop.install()

    from service.cli.installation import read_settings
    from service.cli.serve import run

    listens = role != "worker" or port is not None or os.environ.get("DOVECOTE_PORT", "").strip().isdecimal()
    run(
        read_settings(config, host=host, port=port),
        role,
        stop,
        flows=FLOWS if flows is None else flows,
        listens=listens,
    )


@click.command()
@CONFIG
@AS_JSON
def migrate(config: Path | None, *, as_json: bool) -> None:
    """Bring the database to this version's schema."""
    from service.cli.installation import read_settings
    from service.cli.serve import run_migrations

    before, after = run_migrations(read_settings(config))
    if as_json:
        print_json({"schema": after, "was": before})
    else:
        click.echo(f"schema {after}, was {before or 'empty'}" if before != after else f"schema {after}, nothing to do")


@click.command()
@CONFIG
@AS_JSON
@click.option("--example", is_flag=True, help="Write an example file with every setting instead.")
def settings(config: Path | None, *, as_json: bool, example: bool) -> None:
    """Check the settings and show them, without secrets."""
    from service.cli.installation import read_settings, shown_settings

    if example:
        from service.settings.example import example as example_file

        click.echo(example_file(), nl=False)
        return
    shown = shown_settings(read_settings(config))
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        click.echo(f"{name} = {'(not set)' if value in (None, {}) else json.dumps(value)}")


@click.group()
def secret() -> None:
    """Print a secret of this installation."""


@secret.command()
@CONFIG
@AS_JSON
@click.option("--client", default="default", show_default=True, help="The client whose secret is printed.")
def webhook(config: Path | None, client: str, *, as_json: bool) -> None:
    """Print the secret that signs a client's completion webhooks.

    Every client has its own. The database is only read: the server may run meanwhile.
    """
    from service.cli.installation import read_settings, read_webhook_secret

    found = read_webhook_secret(read_settings(config), client)
    if as_json:
        print_json({"webhook_secret": found})
    else:
        click.echo(found)
