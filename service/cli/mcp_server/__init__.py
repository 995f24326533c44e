"""``dovecote mcp``: the tools of Dovecote for agents, by the Model Context Protocol."""

from pathlib import Path
from typing import Any

import click

from service.cli.options import URL

_EXTRA_MISSING = "dovecote mcp needs an extra: pip install 'dovecote[mcp]'"


@click.command("mcp", short_help="Serve the tools of Dovecote to agents, by MCP.")
@click.option(
    "--http", "over_http", is_flag=True, help="Serve streamable HTTP at /mcp instead of standard input and output."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: the address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=8090,
    show_default=True,
    help="With --http: the port to listen on.",
)
@click.option(
    "--allow-host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="With --http: a host name, such as mcp.example.com, in the URL of agents. Repeat it for several.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Save the results that an agent fetches into this folder. Not with --http.",
)
@URL
def command(*, over_http: bool, host: str, port: int, hosts: tuple[str, ...], output: Path | None, url: str) -> None:
    """Serve the tools of Dovecote to agents, by MCP.

    MCP is the Model Context Protocol. Without --http the agent's program starts this command and speaks by standard input and output. The API key is that of
    DOVECOTE_API_KEY.

    With --http each agent sends its own API key as "Authorization: Bearer KEY". An agent without one gets that of
    DOVECOTE_API_KEY only if the command listens on a loopback address, without --allow-host, and the request passed no proxy.
    """
    if over_http and output is not None:
        raise click.UsageError("--output is for agents of this machine only: leave it out with --http")
    server = _server(url, shared_key=not over_http or _is_private(host, hosts), output=output)
    if not over_http:
        server.run("stdio")
        return
    server.run(
        "streamable-http", host=host, port=port, stateless_http=True, transport_security=_security(host, port, hosts)
    )


def _server(url: str, *, shared_key: bool, output: Path | None) -> Any:
    try:
        from service.cli.mcp_server.server import build
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"mcp", "mcp_types"}:
            raise
        raise click.ClickException(_EXTRA_MISSING) from error
    return build(url, shared_key=shared_key, output=output)


def _security(host: str, port: int, hosts: tuple[str, ...]) -> Any:
    """Return the accepted values of the headers Host and Origin: a page in a browser cannot reach the tools otherwise."""
    from mcp.server.transport_security import TransportSecuritySettings

    names = {*hosts, host, *(("localhost", "127.0.0.1", "[::1]") if _is_loopback(host) else ())}
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[each for name in sorted(names) for each in (name, f"{name}:{port}")],
        allowed_origins=[
            f"{scheme}://{name}{end}"
            for name in sorted(names)
            for scheme in ("http", "https")
            for end in ("", f":{port}")
        ],
    )


def _is_private(host: str, hosts: tuple[str, ...]) -> bool:
    """Return whether only programs on this machine are to reach the tools. Another allowed name is that of a proxy."""
    return _is_loopback(host) and all(map(_is_loopback, hosts))


def _is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
