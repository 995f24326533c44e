"""``dovecote health``: ask the server of this machine or container whether it is alive."""

import http.client
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from service.cli import exits

TIMEOUT: Final = 4.0
_LOCAL: Final[Mapping[str, tuple[str, ...]]] = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104
"""The address of a server that listens on every address."""


@click.command("health", short_help="Check whether the server is alive.")
@click.option("--ready", is_flag=True, help="Ask whether it can work, instead of whether it is alive.")
def command(*, ready: bool) -> None:
    """Check whether the server with these settings is alive.

    For health checks of containers: it starts fast, and reads only the host and the port from DOVECOTE_HOST,
    DOVECOTE_PORT and the settings file. The exit code is 0 or 69.
    """
    host, port = where(os.environ)
    path = "/readyz" if ready else "/healthz"
    answers = [_ask(each, port, path) for each in _LOCAL.get(host, (host,))]
    click.echo(next((answer for healthy, answer in answers if healthy), answers[0][1]))
    click.get_current_context().exit(exits.OK if any(healthy for healthy, _ in answers) else exits.UNAVAILABLE)


def where(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return the host and the port of the settings, which are checked elsewhere."""
    given = {name: environment.get(f"DOVECOTE_{name}", "").strip() for name in ("HOST", "PORT", "CONFIG")}
    document: dict[str, Any] = {}
    file = Path(given["CONFIG"] or "dovecote.toml")
    if file.is_file():
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    # Kubernetes sets DOVECOTE_PORT to an address where a service has that name.
    port = given["PORT"] if given["PORT"].isdecimal() else str(document.get("port", 8080))
    return given["HOST"] or str(document.get("host", "127.0.0.1")).strip(), int(port)


def _ask(host: str, port: int, path: str) -> tuple[bool, str]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(1000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {host}:{port}: {error}"
    finally:
        connection.close()
    return answer.status == http.HTTPStatus.OK, text
