"""Options that several commands have, so that they are spelled and explained the same everywhere."""

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
    help="Write JSON to standard output, and nothing else there.",
)
CONFIG = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file.  [env var: DOVECOTE_CONFIG; default: dovecote.toml]",
)
URL = click.option(
    "--url", envvar="DOVECOTE_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="Where Dovecote is."
)


def asks_a_server(function: Decorated) -> Decorated:
    """Give a command what it takes to ask a server: ``--url`` and ``--json``."""
    return URL(AS_JSON(function))
