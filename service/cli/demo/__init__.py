"""``dovecote demo``: Dovecote at work against a provider with every fault. It needs no key and no network."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from dovecote import DovecoteError
from service.cli import exits
from service.cli.demo.play import Play
from service.cli.demo.screen import print_summary, showing
from service.cli.demo.stage import Stage
from service.cli.demo.verdict import as_document, judge
from service.cli.options import AS_JSON
from service.cli.printing import print_json, say
from service.cli.processes import NotStarted, ProcessGroup, Served, command_name, ended_by_signals


@click.command("demo", short_help="See Dovecote at work against a faulty provider.")
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, for your own requests.")
@AS_JSON
def command(*, keep: bool, as_json: bool) -> None:
    """Play a tour of Dovecote: one Runway task for each fault, and tasks of Midjourney, Suno, Kling and Replicate.

    Starts a sandbox as provider, a receiver of completion webhooks, and Dovecote on SQLite, each as its own process on a
    free port of this machine. It needs no API key and uses none that is set. The exit code is 0 only if every task ended
    as expected, was paid for once, and was reported to its client once.
    """
    began = time.monotonic()
    with ended_by_signals(), _folder() as folder, ProcessGroup() as group:
        stage = Stage(folder.path)
        try:
            stage.open(group)
            with showing(err=as_json) as show:
                seen = Play(stage, show, began=began).run()
        except (NotStarted, DovecoteError) as error:
            say(f"The demo could not run: {error}")
            folder.keep(group.members)
            click.get_current_context().exit(exits.NOT_SUCCEEDED)
        checks = judge(seen)
        held = all(check.held for check in checks)
        if not held:
            folder.keep(group.members)
        if as_json:
            print_json(as_document(seen, checks))
        else:
            print_summary(seen, checks)
        if keep:
            _leave_running(stage)
    click.get_current_context().exit(exits.OK if held else exits.NOT_SUCCEEDED)


class _Folder:
    """The folder of the logs and the database. It is removed at the end, unless the demo failed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = False

    def keep(self, members: Sequence[Served]) -> None:
        """Keep the folder, and print the end of every log."""
        self.kept = True
        for served in members:
            say(f"\n--- {served.log}\n{served.tail()}")
        say(f"\nLogs and database are kept in {self.path}")


@contextlib.contextmanager
def _folder() -> Iterator[_Folder]:
    folder = _Folder(Path(tempfile.mkdtemp(prefix="dovecote-demo-")))
    try:
        yield folder
    finally:
        if not folder.kept:
            shutil.rmtree(folder.path, ignore_errors=True)


def _leave_running(stage: Stage) -> None:
    """Print what can be tried, and wait for Ctrl-C."""
    url = stage.dovecote.url
    request = '{"family":"runway","operation":"text_to_video","input":{"prompt":"a dove [drop]","duration":5}}'
    say(
        f"""
Everything keeps running. Try:

  curl -s {url}/v1/tasks -H 'Content-Type: application/json' -d '{request}'
  curl -s '{url}/v1/tasks?limit=1'
  DOVECOTE_URL={url} {command_name()} submit runway text_to_video prompt='a dove [late=3]' duration=5 --wait

The API: {url}/docs
The jobs that were paid for: {stage.sandbox.url}/sandbox/ledger
The webhooks that the client got: {stage.receiver.url}/receiver/received
Logs and database: {stage.folder}

Ctrl-C stops everything."""
    )
    with contextlib.suppress(KeyboardInterrupt):
        while all(served.alive for served in (stage.sandbox, stage.receiver, stage.dovecote)):
            time.sleep(0.5)
        say("One of the processes has ended.")
