"""The ``dovecote`` command."""

import importlib
from collections.abc import Mapping
from typing import Any, Final

import click

from service import __version__
from service.cli import exits

COMMANDS: Final[Mapping[str, str]] = {
    "serve": "service.cli.server:serve",
    "migrate": "service.cli.server:migrate",
    "settings": "service.cli.server:settings",
    "secret": "service.cli.server:secret",
    "keys": "service.cli.keys:command",
    "health": "service.cli.health:command",
    "demo": "service.cli.demo:command",
    "try": "service.cli.demo.trial:command",
    "sandbox": "service.cli.practice:sandbox",
    "record": "service.cli.record:record",
    "rehearse": "service.cli.record:rehearse",
    "receiver": "service.cli.practice:receiver",
    "submit": "service.cli.submit:command",
    "quote": "service.cli.quote:command",
    "upload": "service.cli.upload:command",
    "adopt": "service.cli.adopt:command",
    "tasks": "service.cli.tasks:command",
    "results": "service.cli.results:command",
    "families": "service.cli.catalogue:families",
    "upstreams": "service.cli.catalogue:upstreams",
    "models": "service.cli.catalogue:models",
    "callbacks": "service.cli.callbacks:command",
    "endpoints": "service.cli.endpoints:command",
    "listen": "service.cli.listen:command",
    "trigger": "service.cli.trigger:command",
    "verify": "service.cli.verify:command",
    "webhook-secret": "service.cli.webhook_secret:command",
    "messages": "service.cli.messages:command",
    "mcp": "service.cli.mcp_server:command",
    "explain": "service.cli.explain:command",
    "ledger": "service.cli.ledger:command",
    "prices": "service.cli.prices:command",
    "usage": "service.cli.spending:usage",
    "claims": "service.cli.spending:claims",
    "budgets": "service.cli.budgets:command",
    "prune": "service.cli.prune:command",
    "backup": "service.cli.backup:backup",
    "restored": "service.cli.backup:restored",
    "doctor": "service.cli.doctor:command",
    "openapi": "service.cli.openapi:command",
    "completion": "service.cli.completion:command",
}
"""The module and function of each command: imported only when the command runs, so that every command starts fast."""

SUMMARIES: Final[Mapping[str, str]] = {
    "serve": "Run the server.",
    "migrate": "Bring the database to this version's schema.",
    "settings": "Check the settings and show them, without secrets.",
    "secret": "Print a secret of this installation.",
    "keys": "Create, list and revoke API keys.",
    "health": "Check whether the server is alive.",
    "demo": "See Dovecote at work against a faulty provider.",
    "try": "Try Dovecote with a sandbox instead of providers.",
    "sandbox": "Run a sandbox of the providers.",
    "record": "Record the answers of an upstream.",
    "rehearse": "Play a recording back as an upstream.",
    "receiver": "Run a receiver of completion webhooks.",
    "submit": "Submit a task.",
    "quote": "Show what a task is expected to cost.",
    "upload": "Upload files that tasks take as their media.",
    "adopt": "Follow a job that was bought elsewhere.",
    "tasks": "List, show, watch, cancel, refresh, retry and erase tasks.",
    "results": "Save, link and delete the results of tasks.",
    "families": "List families, operations and their fields.",
    "upstreams": "List, pause, drain and resume upstreams.",
    "models": "List the models that an upstream offers now.",
    "callbacks": "List, show and run again the callbacks of providers.",
    "endpoints": "Register, list, change, test and delete webhook endpoints.",
    "listen": "Forward your messages to a local server, signed.",
    "trigger": "Send a callback as the provider would.",
    "verify": "Verify the signature of a webhook.",
    "webhook-secret": "Show and rotate your webhook secret.",
    "messages": "List, show and replay messages to clients.",
    "mcp": "Serve the tools of Dovecote to agents, by MCP.",
    "explain": "Show how Dovecote reads a provider's message, as one JSON object.",
    "ledger": "Show what was paid for.",
    "prices": "Show prices, and read those of gateways.",
    "usage": "Show what was spent.",
    "claims": "List what was charged and not delivered.",
    "budgets": "List, set and remove budgets.",
    "prune": "Remove data that is older than the retention settings allow.",
    "backup": "Copy the database to FILE while the server runs.",
    "restored": "Protect a restored database from second payments.",
    "doctor": "Check this installation.",
    "openapi": "Print the OpenAPI document.",
    "completion": "Print the completion script of a shell.",
}
"""The first sentence of each command's help, so that the list of commands imports none. A new command gets a line here, too."""


class _Commands(click.Group):
    """The commands of the table, in its order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        del ctx
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it; None where there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; the error about an unknown one suggests the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an interrupt has its own exit code, different from that of a failed task."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(exits.INTERRUPTED)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the exit codes."""
        del ctx
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in exits.MEANINGS.items()])
        formatter.write_paragraph()
        formatter.write_text(
            "Commands that call a server read its URL from DOVECOTE_URL and the API key from DOVECOTE_API_KEY."
        )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dovecote")
def main() -> None:
    """Submit media generation tasks, follow them, and receive their results by webhook."""
