"""``dovecote openapi``: print the OpenAPI document of this version's API."""

from pathlib import Path

import click

from service.cli.printing import json_text, say


@click.command("openapi", short_help="Print the OpenAPI document.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file instead.")
def command(output: Path | None) -> None:
    """Print the OpenAPI document of this version's API. No server is needed.

    A running server has the same at /openapi.json.
    """
    from service.web.api.openapi import document

    text = json_text(document(), indent=2)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written ({error.strerror})") from None
    say(f"Written to {output}")
