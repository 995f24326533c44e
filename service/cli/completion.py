"""``dovecote completion``: print the script by which a shell completes the command."""

from typing import Final

import click
from click.shell_completion import get_completion_class

VARIABLE: Final = "_DOVECOTE_COMPLETE"
"""The variable by which click recognises that a shell asks for completions."""
_SHELLS: Final = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands and options.

    bash: eval "$(dovecote completion bash)" in ~/.bashrc (bash 4.4 or newer). zsh: the same with zsh in ~/.zshrc. fish:
    dovecote completion fish > ~/.config/fish/completions/dovecote.fish
    """
    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101 - click knows these shells
    click.echo(completion(context.find_root().command, {}, "dovecote", VARIABLE).source())
