"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_URL = "http://127.0.0.1:8080"

Decorated = Callable[..., Any]

AS_JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only JSON to standard output.",
)
CONFIG = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file.  [env var: DOVECOTE_CONFIG; default: dovecote.toml]",
)
OUTPUT = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Wait for the end, and save the results into this folder.",
)
URL = click.option(
    "--url", envvar="DOVECOTE_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="URL of Dovecote."
)


def server_options(function: Decorated) -> Decorated:
    """Add the options of every command that calls a server: ``--url`` and ``--json``."""
    return URL(AS_JSON(function))
