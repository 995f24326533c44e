"""``dovecote verify``: check the signature of a webhook that was received, and name what is wrong."""

import datetime as dt
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
from standardwebhooks import Webhook

from service.cli import exits
from service.cli.options import AS_JSON
from service.cli.printing import clean, print_json

SECRET_VARIABLE: Final = "DOVECOTE_WEBHOOK_SECRET"  # noqa: S105 - its name
TOLERANCE: Final = 300
"""Seconds of age that libraries for Standard Webhooks accept."""
NAMES: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


@click.command("verify", short_help="Verify the signature of a webhook.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), default=Path("-"))
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header; repeat for all three."
)
@click.option(
    "--any-age", is_flag=True, help=f"Accept a message that is older than {TOLERANCE} s, such as a stored one."
)
@AS_JSON
def command(file: Path, headers: tuple[str, ...], *, any_age: bool, as_json: bool) -> None:
    """Verify the signature of a webhook as its receiver does, and say what is wrong with it.

    FILE has the raw body, or - for standard input. The secret comes from DOVECOTE_WEBHOOK_SECRET; during a rotation, both secrets
    separated by a blank. The headers are webhook-id, webhook-timestamp and webhook-signature:

    dovecote verify body.json -H "webhook-id: 0198…" -H "webhook-timestamp: 1795262479" -H "webhook-signature: v1,oJzt…"
    """
    secrets = os.environ.get(SECRET_VARIABLE, "").split()
    if not secrets:
        raise click.UsageError(f"set {SECRET_VARIABLE} to the secret: dovecote webhook-secret show prints it")
    fault = fault_in(_body(file), _read(headers), secrets, now=_now(), any_age=any_age)
    if as_json:
        print_json({"valid": fault is None, "reason": fault})
    else:
        click.echo("The signature is valid." if fault is None else clean(f"Not valid: {fault}"))
    click.get_current_context().exit(exits.OK if fault is None else exits.NOT_SUCCEEDED)


def fault_in(
    body: bytes, headers: Mapping[str, str], secrets: list[str], *, now: dt.datetime, any_age: bool = False
) -> str | None:
    """Return why a webhook is not valid; None when it is.

    :param headers: by their names in lower case
    :raises click.UsageError: when a header is missing, or a secret does not have the form ``whsec_…``
    """
    missing = [name for name in NAMES if name not in headers]
    if missing:
        raise click.UsageError(f"missing header {', '.join(missing)}: give it with -H 'NAME: VALUE'")
    stated = headers["webhook-timestamp"]
    if not re.fullmatch(r"[0-9]{1,12}", stated, re.ASCII):
        return "webhook-timestamp is not a number of seconds since 1970"
    at = dt.datetime.fromtimestamp(int(stated), dt.UTC)
    given = headers["webhook-signature"].split()
    if not any(each.startswith("v1,") for each in given):
        return "webhook-signature has no signature of version v1, such as v1,oJzt…"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "the body is not UTF-8: it is not the raw body that was received"
    if not {_sign(secret, headers["webhook-id"], at, text) for secret in secrets} & set(given):
        return _why(text, headers, at, secrets, set(given))
    age = round((now - at).total_seconds())
    if abs(age) > TOLERANCE and not any_age:
        return f"the signature is right, but the message is {age} s old; receivers accept {TOLERANCE} s (--any-age ignores that)"
    return None


def _why(text: str, headers: Mapping[str, str], at: dt.datetime, secrets: list[str], given: set[str]) -> str:
    """Return the most likely mistake: a body that was changed on its way is the usual one."""
    for changed, what in (
        (text.rstrip("\r\n"), "a line end was added"),
        (f"{text}\n", "the last line end was removed"),
    ):
        if changed != text and {_sign(secret, headers["webhook-id"], at, changed) for secret in secrets} & given:
            return f"the body is not the raw one: {what}"
    return (
        "the signature does not match: the secret is another one, or the body or a header is not exactly what was received "
        "(JSON that was parsed and written again differs)"
    )


def _sign(secret: str, message_id: str, at: dt.datetime, text: str) -> str:
    try:
        return Webhook(secret).sign(message_id, at, text)
    except Exception:  # noqa: BLE001 - the library's error may repeat the secret
        raise click.UsageError(f"{SECRET_VARIABLE} is not a webhook secret, such as whsec_…") from None


def _read(written: tuple[str, ...]) -> dict[str, str]:
    pairs = [each.partition(":") for each in written]
    if not all(sign for _, sign, _ in pairs):
        raise click.UsageError("a header is written NAME: VALUE")
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _body(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read ({error.strerror})") from None


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
