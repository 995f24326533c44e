"""``dovecote keys``: who may ask this installation, and for what."""

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
_LONGEST_NAME: Final = 200


@click.group("keys")
def command() -> None:
    """Make, list and revoke API keys.

    They are kept in the database, as hashes, beside those of the settings (api_keys). The server may run meanwhile: it
    takes a new key at once, and a revoked one for five seconds at most.
    """


def _text(_: click.Context, parameter: click.Parameter, value: str) -> str:
    value = value.strip()
    if not value.isprintable() or len(value) > _LONGEST_NAME or (not value and parameter.required):
        raise click.BadParameter(f"is a text of 1 to {_LONGEST_NAME} printable characters")
    return value


@command.command()
@click.argument("client", callback=_text)
@click.option("--name", default="", callback=_text, help="What it is for, as the list shows it.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=_SCOPES,
    help="What it may do; may be repeated.  [default: read, submit]  admin sees and does all, for every client.",
)
@click.option("--expires", metavar="SPAN|TIME", help="When it stops to open anything: 12h, 90d, or a time.")
@CONFIG
@AS_JSON
def create(
    *, client: str, name: str, scopes: tuple[str, ...], expires: str | None, config: Path | None, as_json: bool
) -> None:
    """Make a key for a client, and print it: this once, it is kept nowhere."""
    from service.cli.installation import read_settings
    from service.cli.key_admin import make_key

    now = _now()
    text, key = make_key(
        read_settings(config),
        client=client,
        name=name,
        scopes=frozenset(map(Scope, scopes)) or OWN,
        expires_at=None if expires is None else _future(expires, now),
        now=now,
    )
    if as_json:
        print_json({"key": text, **_document(key, now)})
        return
    click.echo(text)
    until = "" if key.expires_at is None else f", until {key.expires_at:%Y-%m-%d %H:%M} UTC"
    say(f"For {client}: {', '.join(sorted(key.scopes))}{until}. It is shown this once: keep it now.")


@command.command("list")
@click.option("--client", help="Only of this client.")
@CONFIG
@AS_JSON
def list_keys(*, client: str | None, config: Path | None, as_json: bool) -> None:
    """List the keys of the database, newest first; of each its visible beginning."""
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
        say("There are no such keys in the database.")
    if settings.api_keys:
        say(f"In the settings: {', '.join(settings.api_keys)}.")


@command.command()
@click.argument("prefix")
@CONFIG
@AS_JSON
def revoke(*, prefix: str, config: Path | None, as_json: bool) -> None:
    """Revoke a key by its visible beginning, such as dove_ab12cd34. A running server lets it in for five seconds more."""
    from service.cli.installation import read_settings
    from service.cli.key_admin import revoke_key

    now = _now()
    # Whoever has the whole key at hand may give that: its beginning is taken, and nothing repeats the rest.
    beginning = "_".join(prefix.split("_")[:2])
    key = revoke_key(read_settings(config), beginning, now=now)
    if key is None:
        raise click.BadParameter(
            "no key in the database begins like this; see: dovecote keys list", param_hint="PREFIX"
        )
    if as_json:
        print_json(_document(key, now))
    else:
        say(f"{key.prefix} of {key.client} opens nothing any more.")


def _future(written: str, now: dt.datetime) -> dt.datetime:
    seconds = read_seconds(written)
    try:
        moment = dt.datetime.fromisoformat(written) if seconds is None else now + dt.timedelta(seconds=seconds)
        moment = moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise click.UsageError(f"{written!r} is neither a span, such as 12h or 90d, nor a time") from None
    if moment <= now:
        raise click.UsageError(f"{written!r} is over already")
    return moment


def _document(key: ApiKey, now: dt.datetime) -> dict[str, Any]:
    moments = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {
        "id": str(key.id),
        "client": key.client,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(map(str, key.scopes)),
        "good": key.fault(now=now) is None,
        **{name: None if (at := getattr(key, name)) is None else at.isoformat() for name in moments},
    }


def _table(found: list[ApiKey], now: dt.datetime) -> Table:
    table = Table("key", "client", "for", "scopes", "made", "last used", "state", box=None, pad_edge=False)
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
    return "good" if key.expires_at is None else f"good until {key.expires_at:%Y-%m-%d}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
