"""The ``dovecote`` command."""

from pathlib import Path

import click

from service import __version__

_CONFIG = click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings file; default dovecote.toml."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dovecote")
def main() -> None:
    """Media generation tasks that always come home."""


@main.command()
@_CONFIG
@click.option("--role", type=click.Choice(["all", "web", "worker"]), default="all", help="What this process does.")
def serve(config: Path | None, role: str) -> None:
    """Run the server."""
    from service.cli.serve import read_settings, run

    run(read_settings(config), role)  # type: ignore[arg-type]


@main.command()
@_CONFIG
def migrate(config: Path | None) -> None:
    """Bring the database to this version's schema."""
    from service.cli.serve import read_settings, run_migrations

    run_migrations(read_settings(config))
