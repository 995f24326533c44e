"""``dovecote explain``: what Dovecote makes of a provider's message, without a server, a key or a network."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, get_args

import click

from service.cli.printing import clean, json_text
from service.domain.errors import UpstreamError
from service.domain.validation import nearest
from service.providers.dialect import Dialect
from service.providers.read import fields, number
from service.providers.recordings import read_message, reading, refusal
from service.providers.registry import DIALECTS
from service.providers.wire import Callback, MessageKind, Reply

KINDS: tuple[MessageKind, ...] = get_args(MessageKind)
_ASSUMED_OK = 200
_ASSUMED_ERROR = 400
_STATUSES = range(100, 600)


def explain(message: Mapping[str, Any]) -> dict[str, Any]:
    """Read a provider's message as the journeys would.

    :param message: ``family``, ``dialect`` and ``kind``; ``endpoint``, ``http_status`` and ``headers`` where they are
        known; and ``body``, a string when it is not JSON
    :returns: ``state``, ``external_id``, ``progress``, ``results``, ``failure``; or ``error``, ``code``, ``message``
    :raises ValueError: when the message names no family, dialect or kind that there is
    """
    body = message.get("raw_body", message.get("body"))
    raw = body if isinstance(body, str) else json.dumps(body)
    return _explain(message, raw.encode("utf-8", "surrogatepass"))


def explain_lines(lines: Iterable[str | bytes]) -> Iterator[str]:
    """Read messages as JSON lines and give a JSON line for each: its reading, or a ``problem``. Blank lines are skipped."""
    for line in lines:
        if not line.strip():
            continue
        try:
            shown = explain(_object(line))
        except (ValueError, RecursionError) as error:
            shown = {"problem": str(error)}
        yield _json(shown)


@click.command("explain")
@click.option("--family", help="The family, such as runway.")
@click.option("--dialect", help="The wire protocol, such as aggregator.")
@click.option("--kind", help=f"The kind of the message: {', '.join(KINDS)}.")
@click.option("--status", type=click.IntRange(100, 599), help="HTTP status it came with.  [default: by its kind]")
@click.option("--endpoint", default="", help='Method and path that it answers, such as "POST /runway/feed".')
@click.option("--batch", is_flag=True, help="Read messages as JSON lines; write one reading a line.")
@click.argument("file", type=click.File("rb"), default="-")
def command(
    family: str | None,
    dialect: str | None,
    kind: str | None,
    status: int | None,
    endpoint: str,
    *,
    batch: bool,
    file: BinaryIO,
) -> None:
    """Show how Dovecote reads a provider's message, as one JSON object.

    FILE holds the body as it came, or - for standard input. Without --family, --dialect and --kind it holds
    a JSON object with these and endpoint, http_status, headers and body, as every line does with --batch.
    """
    if batch:
        problems = 0
        for line in explain_lines(file):
            problems += line.startswith('{"problem"')
            click.echo(line)
        click.get_current_context().exit(1 if problems else 0)
    described = {"family": family, "dialect": dialect, "kind": kind}
    body = file.read()
    try:
        if any(described.values()):
            shown = _explain({**described, "http_status": status, "endpoint": endpoint}, body)
        else:
            shown = explain(_described(body))
    except (ValueError, RecursionError) as error:
        raise click.UsageError(clean(str(error))) from error
    click.echo(_json(shown))


def _described(body: bytes) -> Mapping[str, Any]:
    """Parse a body that states its own kind.

    :raises ValueError: for a plain body, which the options have to describe
    """
    advice = "give --family, --dialect and --kind, or a JSON object with family, dialect, kind and body"
    try:
        message = _object(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"FILE does not state the kind of the message ({str(error)[:80]}): {advice}") from error
    missing = [name for name in ("family", "dialect", "kind") if not message.get(name)]
    if missing:
        raise ValueError(f"FILE has no {', '.join(missing)}, so it seems to be a plain body: {advice}")
    return message


def _explain(message: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    dialect, kind = _dialect(message), _kind(message)
    headers = message.get("headers") or {}
    endpoint = message.get("endpoint") or ""
    if not isinstance(headers, Mapping):
        raise ValueError("headers is an object of texts")  # noqa: TRY004 - a mistake in the input, not in our code
    told = {str(name): str(value) for name, value in headers.items()}
    reply = Reply(_status(message, kind), told, body, str(endpoint))
    try:
        shown = reading(read_message(dialect, kind, reply))
    except UpstreamError as error:
        shown = refusal(error)
    secret = message.get("secret")
    callback = Callback(reply.headers, body, number(message.get("received_at")))
    verified = dialect.verify_signature(callback, secret) if isinstance(secret, str) else None
    return shown if verified is None else {**shown, "verified": verified}


def _dialect(message: Mapping[str, Any]) -> Dialect:
    missing = [name for name in ("family", "dialect", "kind") if not message.get(name)]
    if missing:
        raise ValueError(f"missing: {', '.join(f'--{name}' for name in missing)}")
    family, name = (str(message.get(key) or "") for key in ("family", "dialect"))
    families = sorted({dialect.facts.family for dialect in DIALECTS.values()})
    if family not in families:
        raise ValueError(f"unknown family {family[:80]!r}{nearest(family, families)}")
    if f"{family}/{name}" not in DIALECTS:
        names = [dialect.facts.name for dialect in DIALECTS.values() if dialect.facts.family == family]
        raise ValueError(f"unknown dialect {name[:80]!r} of {family}{nearest(name, names)}")
    return DIALECTS[f"{family}/{name}"]


def _kind(message: Mapping[str, Any]) -> MessageKind:
    stated = str(message.get("kind") or "")
    found = next((kind for kind in KINDS if kind == stated), None)
    if found is None:
        raise ValueError(f"unknown kind {stated[:80]!r}{nearest(stated, KINDS)}")
    return found


def _status(message: Mapping[str, Any], kind: MessageKind) -> int:
    """Return the HTTP status. Where the source of a message has none, use the error's own code, if it is a status."""
    status = message.get("http_status")
    if status is not None:
        if isinstance(status, bool) or not isinstance(status, int) or status not in _STATUSES:
            raise ValueError(f"http_status {status!r} is no HTTP status: it is a number from 100 to 599, or null")
        return status
    if kind != "error":
        return _ASSUMED_OK
    code = fields(message.get("body")).get("code")
    if isinstance(code, int) and code in _STATUSES and code >= _ASSUMED_ERROR:
        return code
    return _ASSUMED_ERROR


def _object(text: str | bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")  # noqa: TRY004 - a mistake in the input, not in our code
    return message


def _json(shown: Mapping[str, Any]) -> str:
    return json_text(shown)
