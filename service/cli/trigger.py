"""``dovecote trigger``: send a callback about a task as its provider would, with a simulated provider's words."""

import asyncio
import dataclasses
import ipaddress
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from service.cli import exits
from service.cli.options import AS_JSON, CONFIG
from service.cli.printing import clean, print_json, say

if TYPE_CHECKING:
    from service.domain.task import Submission, Task
    from service.settings.model import Settings

EVENTS: Final = ("running", "succeeded", "failed")
_ORDERED: Final = "http://sandbox.invalid"
"""The address at which the sandbox of this process takes the order. Nothing is sent there."""


class CannotTrigger(Exception):
    """There is no such callback; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """A callback that was sent."""

    url: str
    body: bytes
    status: int


@click.command("trigger", short_help="Send a callback as the provider would.")
@click.argument("event", metavar="FAMILY.EVENT")
@click.option("--task", "task_id", type=click.UUID, required=True, metavar="ID", help="The task that it is about.")
@click.option(
    "--to", "address", metavar="URL", help="Where Dovecote is reached.  [default: public_url, else host and port]"
)
@click.option("--force", is_flag=True, help="Send it even if the job is at a real provider.")
@CONFIG
@AS_JSON
def command(
    event: str, task_id: uuid.UUID, address: str | None, config: Path | None, *, force: bool, as_json: bool
) -> None:
    """Send a callback about a task as its provider would: FAMILY.running, FAMILY.succeeded or FAMILY.failed.

    The body comes from the sandbox. The address is the real one of the task's submission, with its token. So the whole way
    is tested: proxy, token, reading, and your own webhook. The command reads the database beside the running server.

    A task whose job is at a real provider would end with invented results: for that, --force is needed.
    """
    from service.cli.installation import give_up, read_settings

    family, _, kind = event.partition(".")
    if kind not in EVENTS:
        raise click.UsageError(f"{event[:80]!r} is not of the form FAMILY.EVENT, where EVENT is {', '.join(EVENTS)}")
    settings = read_settings(config)
    try:
        sent = asyncio.run(_trigger(settings, family, kind, task_id, address, force=force))
    except CannotTrigger as error:
        raise click.UsageError(str(error)) from None
    except LookupError as error:
        give_up(str(error))
    if as_json:
        print_json({"status": sent.status, "body": sent.body.decode("utf-8", "replace")})
    else:
        click.echo(clean(sent.body.decode("utf-8", "replace")))
        answer = f"answered HTTP {sent.status}" if sent.status else "did not answer"
        say(f"{_site(sent.url)}/callbacks/… {answer}")
    click.get_current_context().exit(exits.OK if 200 <= sent.status < 300 else exits.UNAVAILABLE)  # noqa: PLR2004


async def _trigger(
    settings: "Settings", family: str, kind: str, task_id: uuid.UUID, address: str | None, *, force: bool
) -> Sent:
    from service.domain.callback_token import Tokens
    from service.sandbox.callbacks import HttpSender

    task, submission, secret = await _read(settings, task_id)
    if task.family != family:
        raise CannotTrigger(f"task {task.id} is of the family {task.family}: write {task.family}.{kind}")
    upstream = settings.upstreams.get(submission.upstream)
    if not force and (upstream is None or not _is_simulated(upstream.base_url)):
        raise CannotTrigger(
            f"the job of this task is at {submission.upstream}, a real provider: the task would end with invented results. "
            "Use a sandbox, or --force"
        )
    body = await callback_of(settings, task, submission, kind)
    base = address or settings.public_url or f"http://127.0.0.1:{settings.callback_port or settings.port}"
    url = f"{base.rstrip('/')}/callbacks/{Tokens(secret).make(submission.id)}"
    sender = HttpSender()
    try:
        return Sent(url, body, await sender(url, body))
    finally:
        await sender.aclose()


async def callback_of(settings: "Settings", task: "Task", submission: "Submission", kind: str) -> bytes:
    """Return the body of a callback: the sandbox takes the same order, and its job gets the id of the real one.

    :raises CannotTrigger: when the sandbox does not play the dialect, or the dialect has no callbacks
    """
    from service.providers.registry import DIALECTS
    from service.sandbox import Faults, InProcessTransport, Sandbox

    dialect = DIALECTS.get(submission.dialect)
    paths = Sandbox.base_paths()
    if dialect is None or submission.dialect not in paths:
        raise CannotTrigger(f"the sandbox does not play {submission.dialect}")
    if not dialect.facts.callbacks or task.operation in dialect.facts.synchronous:
        raise CannotTrigger(f"{submission.dialect} has no callbacks for {task.operation}")
    if dialect.facts.signs:
        raise CannotTrigger(f"the provider signs the callbacks of {submission.dialect}, which only it can")
    now, bodies = [1_000_000.0], list[bytes]()

    async def keep(_: str, body: bytes) -> int:
        bodies.append(body)
        return 200

    faults = Faults(fail=kind == "failed")
    sandbox = Sandbox(seconds=10.0, clock=lambda: now[0], faults=faults, send=keep, fetch=_fetched)
    await _order(task, submission, InProcessTransport(sandbox.app), _ORDERED + paths[submission.dialect])
    for _ in EVENTS:
        now[0] += 5.0
        await sandbox.deliver_due()
    if not bodies or not sandbox.ledger.jobs:
        raise CannotTrigger(f"the sandbox has no callback for {task.family} {task.operation}")
    job = sandbox.ledger.jobs[-1]
    body = bodies[0] if kind == "running" else bodies[-1]
    upstream = settings.upstreams.get(submission.upstream)
    if upstream is not None:  # the files of a job are where its sandbox is
        body = body.replace(_ORDERED.encode(), _site(upstream.base_url).encode())
    return body.replace(job.id.encode(), (submission.external_id or job.id).encode())


async def _order(task: "Task", submission: "Submission", transport: Any, base_url: str) -> None:
    """Submit the task to the sandbox of this process, in the task's dialect."""
    import httpx
    from pydantic import SecretStr

    from service.cli.practice import SANDBOX_KEY
    from service.domain.callback_token import Tokens
    from service.domain.errors import UpstreamError
    from service.flows.context import Context, upstreams_of
    from service.flows.conversation import run_exchange
    from service.http.client import Http
    from service.providers.registry import DIALECTS
    from service.settings.model import Settings, UpstreamSettings
    from service.store.database import Database
    from service.store.writer import Writers

    dialect = DIALECTS[submission.dialect]
    account = UpstreamSettings(key=SecretStr(SANDBOX_KEY), base_url=base_url, dialects=(submission.dialect,))
    alone = Settings(upstreams={"sandbox": account})
    database = Database("sqlite:///unused.db")
    async with httpx.AsyncClient(transport=transport) as client:
        context = Context(
            settings=alone,
            database=database,
            writers=Writers(database),
            http=Http(purchases=client, questions=client, messages=client, files=client),
            tokens=Tokens(""),
            webhook_secret="",
            upstreams=upstreams_of(alone),
        )
        upstream = context.upstreams["sandbox"]
        try:
            await run_exchange(
                context, upstream, dialect, dialect.submit(_without_faults(task), f"{_ORDERED}/callback")
            )
        except UpstreamError as error:
            raise CannotTrigger(f"the sandbox did not take the order: {error}") from error
    await database.close()


def _without_faults(task: "Task") -> "Task":
    """Return a task without words in brackets, by which a prompt causes faults of the sandbox."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return (
            re.sub(r"\[[^\]]*\]", "", value).strip() or "a dove" if isinstance(value, str) and "[" in value else value
        )

    return dataclasses.replace(task, input=plain(task.input), options=plain(task.options))


async def _fetched(method: str, url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    """Return a file for every URL of the order, without fetching it."""
    del method, url, headers
    return 200, {"content-type": "image/png", "content-length": "1"}, b"x"


async def _read(settings: "Settings", task_id: uuid.UUID) -> "tuple[Task, Submission, str]":
    """Return a task, the submission that serves it, and the secret of its token.

    :raises LookupError: when the database cannot be read
    :raises CannotTrigger: when there is no such task, or it has not been submitted
    """
    from service.cli.installation import read_connection
    from service.store import secrets, submissions
    from service.store import tasks as task_store

    async with read_connection(settings) as connection:
        task = await task_store.find(connection, task_id)
        if task is None:
            raise CannotTrigger(f"there is no task {task_id}")
        if task.large_input:
            task = await task_store.with_whole_input(connection, task)
        history = (await submissions.of_tasks(connection, [task.id]))[task.id]
        kept = await secrets.find(connection, "callback_secret")
    serving = next((each for each in history if each.id == task.submission_id), None) or next(reversed(history), None)
    given = settings.callback_secret
    secret = kept if given is None else given.get_secret_value()
    if serving is None or secret is None:
        raise CannotTrigger(f"task {task_id} has not been submitted yet")
    return task, serving, secret


def _is_simulated(base_url: str) -> bool:
    """Return whether a base URL leads to this machine, where the sandbox is."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _site(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
