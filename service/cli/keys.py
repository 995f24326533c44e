"""``dovecote keys``: create, list and revoke the API keys of this installation."""

import datetime as dt
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from service.cli.arguments import read_seconds
from service.cli.layout import age, one_line
from service.cli.options import AS_JSON, CONFIG
from service.cli.printing import print_json, print_out, say
from service.domain.api_key import OWN, ApiKey, Scope

_SCOPES: Final = click.Choice([str(scope) for scope in Scope])
_MAX_NAME: Final = 200
_FIRST_KEY: Final = (
    "This is the first API key. A running server asks every request for a key within 5 seconds, and permanently, also from this machine: "
    "put it into DOVECOTE_API_KEY for the other commands."
)


@click.group("keys")
def command() -> None:
    """Create, list and revoke API keys.

    The database stores the hashes of the keys. The settings may have more keys (api_keys). The server may run
    meanwhile: it accepts a new key at once, and a revoked one for five seconds at most.
    """


def _text(_: click.Context, parameter: click.Parameter, value: str) -> str:
    value = value.strip()
    if not value.isprintable() or len(value) > _MAX_NAME or (not value and parameter.required):
        raise click.BadParameter(f"must have 1 to {_MAX_NAME} printable characters")
    return value


@command.command()
@click.argument("client", callback=_text)
@click.option("--name", default="", callback=_text, help="The purpose of the key, shown in the list.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=_SCOPES,
    help="A permission; may be repeated.  [default: read, submit]  admin: read and change the tasks of every client.",
)
@click.option("--expires", metavar="SPAN|TIME", help="When the key expires: 12h, 90d, or a time.")
@CONFIG
@AS_JSON
def create(
    *, client: str, name: str, scopes: tuple[str, ...], expires: str | None, config: Path | None, as_json: bool
) -> None:
    """Create a key for a client and print it. It is not stored and not shown again."""
    from service.cli.installation import read_settings
    from service.cli.key_admin import make_key

    now = _now()
    created = make_key(
        read_settings(config),
        client=client,
        name=name,
        scopes=frozenset(map(Scope, scopes)) or OWN,
        expires_at=None if expires is None else _future(expires, now),
        now=now,
    )
    key = created.stored
    if created.is_first:
        say(_FIRST_KEY)
    if as_json:
        print_json({"key": created.text, **_document(key, now)})
        return
    click.echo(created.text)
    until = "" if key.expires_at is None else f", until {key.expires_at:%Y-%m-%d %H:%M} UTC"
    say(f"For {client}: {', '.join(sorted(key.scopes))}{until}. It is shown this once: store it now.")


@command.command("list")
@click.option("--client", help="Only keys of this client.")
@CONFIG
@AS_JSON
def list_keys(*, client: str | None, config: Path | None, as_json: bool) -> None:
    """List the keys of the database, newest first, each by its prefix."""
    from service.cli.installation import read_settings
    from service.cli.key_admin import every_key

    settings, now = read_settings(config), _now()
    found = [key for key in every_key(settings) if client in {None, key.client}]
    if as_json:
        print_json({"keys": [_document(key, now) for key in found]})
        return
    if found:
        print_out(_table(found, now))
    else:
        say("No keys found in the database.")
    if settings.api_keys:
        say(f"In the settings: {', '.join(settings.api_keys)}.")


@command.command()
@click.argument("prefix")
@CONFIG
@AS_JSON
def revoke(*, prefix: str, config: Path | None, as_json: bool) -> None:
    """Revoke a key by its prefix, such as dove_ab12cd34. A running server accepts it for at most five more seconds."""
    from service.cli.installation import read_settings
    from service.cli.key_admin import revoke_key

    now = _now()
    stated = "_".join(prefix.split("_")[:2])  # the whole key is accepted, too; its secret part is never printed
    key = revoke_key(read_settings(config), stated, now=now)
    if key is None:
        raise click.BadParameter("no key in the database has this prefix; see: dovecote keys list", param_hint="PREFIX")
    if as_json:
        print_json(_document(key, now))
    else:
        say(f"{key.prefix} of {key.client} is revoked.")


def _future(written: str, now: dt.datetime) -> dt.datetime:
    seconds = read_seconds(written)
    try:
        moment = dt.datetime.fromisoformat(written) if seconds is None else now + dt.timedelta(seconds=seconds)
        moment = moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise click.UsageError(f"{written!r} is neither a span, such as 12h or 90d, nor a time") from None
    if moment <= now:
        raise click.UsageError(f"{written!r} is in the past")
    return moment


def _document(key: ApiKey, now: dt.datetime) -> dict[str, Any]:
    moments = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {
        "id": str(key.id),
        "client": key.client,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(map(str, key.scopes)),
        "valid": key.fault(now=now) is None,
        **{name: None if (at := getattr(key, name)) is None else at.isoformat() for name in moments},
    }


def _table(found: list[ApiKey], now: dt.datetime) -> Table:
    table = Table("key", "client", "name", "scopes", "created", "last used", "state", box=None, pad_edge=False)
    for key in found:
        used = "never" if key.last_used_at is None else f"{age(key.last_used_at.isoformat(), now=now)} ago"
        cells = (
            f"{key.prefix}_…",
            key.client,
            key.name,
            ", ".join(sorted(key.scopes)),
            f"{age(key.created_at.isoformat(), now=now)} ago",
            used,
            _state(key, now),
        )
        table.add_row(*map(one_line, cells))
    return table


def _state(key: ApiKey, now: dt.datetime) -> str:
    fault = key.fault(now=now)
    if fault is not None:
        return fault
    return "valid" if key.expires_at is None else f"valid until {key.expires_at:%Y-%m-%d}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
