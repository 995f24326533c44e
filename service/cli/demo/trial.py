"""``dovecote try``: Dovecote with a sandbox instead of providers, for tasks of your own."""

import contextlib
import tempfile
import time
import webbrowser
from pathlib import Path

import click

from service.cli import exits
from service.cli.demo.stage import Stage
from service.cli.printing import say
from service.cli.processes import NotStarted, ProcessGroup, ended_by_signals


@click.command("try", short_help="Try Dovecote with a sandbox instead of providers.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of Dovecote.")
@click.option("--seconds", type=click.FloatRange(min=0), default=5.0, show_default=True, help="How long a job takes.")
@click.option("--open", "opens", is_flag=True, help="Open the dashboard in your browser.")
def command(port: int, seconds: float, *, opens: bool) -> None:
    """Run Dovecote, a sandbox in place of ElkAPI, Runway, Kling and Replicate, and a receiver of webhooks, until Ctrl-C.

    Tasks that you submit cost nothing and take a few seconds. It uses none of your settings and keys. Database and logs
    are removed at the end.
    """
    with (
        tempfile.TemporaryDirectory(prefix="dovecote-try-") as folder,
        ended_by_signals(),
        ProcessGroup() as group,
    ):
        stage = Stage(Path(folder), seconds=seconds, port=port)
        say("Starting Dovecote, a sandbox and a receiver …")
        try:
            stage.open(group)
        except NotStarted as error:
            say(f"{error}\n" + "\n".join(served.tail() for served in group.members))
            click.get_current_context().exit(exits.UNAVAILABLE)
        say(_instructions(stage))
        if opens:
            webbrowser.open(f"{stage.dovecote.url}/ui/start")
        with contextlib.suppress(KeyboardInterrupt):
            while all(served.alive for served in group.members):
                time.sleep(0.5)
            say("One of the processes has ended.")
            click.get_current_context().exit(exits.UNAVAILABLE)


def _instructions(stage: Stage) -> str:
    url = stage.dovecote.url
    body = '{"family":"runway","operation":"text_to_video","input":{"prompt":"a dove","duration":5}}'
    return f"""
Dovecote runs. Its dashboard, where you can submit a first task: {url}/ui/start

In another terminal:

  export DOVECOTE_URL={url}
  dovecote submit runway text_to_video prompt='a dove over the sea' duration=5 --wait
  dovecote tasks list
  curl -s {url}/v1/tasks -H 'Content-Type: application/json' -d '{body}'

To see something go wrong, add a fault to the prompt: 'a dove [drop]'. All faults: dovecote sandbox --help
To see completion webhooks arrive, add --callback-url {stage.receiver.url}/done

API reference, with a form for each request: {url}/docs/try
Jobs that were "paid" for: {stage.sandbox.url}/sandbox/ledger
Webhooks that arrived: {stage.receiver.url}/receiver/received
Logs and database, until Ctrl-C: {stage.folder}
"""
