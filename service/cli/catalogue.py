"""``dovecote families`` and ``dovecote upstreams``: what can be submitted, and the upstreams that serve it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import click
from click.core import ParameterSource
from rich.table import Table

from dovecote import Family, Operation, Upstream
from service.cli.api_client import open_client
from service.cli.layout import add_last_column, one_line, plain_table, shown
from service.cli.options import server_options
from service.cli.printing import clean, print_json, print_out, say
from service.domain.validation import nearest


@click.command("families", short_help="List families, operations and their fields.")
@click.argument("family", required=False)
@click.argument("operation", required=False)
@server_options
def families(family: str | None, operation: str | None, *, url: str, as_json: bool) -> None:
    """List the families and their operations, or the fields of one operation.

    For example: dovecote families runway text_to_video
    """
    with open_client(url) as client:
        found = _chosen(client.families(), family)
    if family is not None and operation is not None:
        chosen = _operation(found[0], operation)
        if as_json:
            print_json(chosen.document)
        else:
            _print_fields(found[0], chosen)
    elif as_json:
        print_json({"families": [each.document for each in found]})
    else:
        print_out(_operations_table(found))


@click.group("upstreams", short_help="List, pause, drain and resume upstreams.", invoke_without_command=True)
@click.pass_context
@server_options
def upstreams(ctx: click.Context, *, url: str, as_json: bool) -> None:
    """List the configured upstreams: their health, load and credit."""
    if ctx.invoked_subcommand is not None:
        if any(ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("url", "as_json")):
            raise click.UsageError(f"put the options behind the command: dovecote upstreams {ctx.invoked_subcommand} …")
        return
    with open_client(url) as client:
        found = client.upstreams()
    if as_json:
        print_json({"upstreams": [each.document for each in found]})
    elif found:
        print_out(_upstreams_table(found))
    else:
        say("No upstreams are configured. See `dovecote doctor`.")


@upstreams.command()
@click.argument("upstream")
@server_options
def pause(upstream: str, *, url: str, as_json: bool) -> None:
    """Submit no task to an upstream: tasks wait for it until it is resumed."""
    _act(upstream, "pause", "is paused: tasks wait for it", url=url, as_json=as_json)


@upstreams.command()
@click.argument("upstream")
@server_options
def drain(upstream: str, *, url: str, as_json: bool) -> None:
    """Submit no task to an upstream: the next upstream of each route serves them."""
    _act(upstream, "drain", "is drained: the next upstream of each route serves its tasks", url=url, as_json=as_json)


@upstreams.command()
@click.argument("upstream")
@server_options
def resume(upstream: str, *, url: str, as_json: bool) -> None:
    """Submit tasks to an upstream again."""
    _act(upstream, "resume", "is given tasks again", url=url, as_json=as_json)


def _act(upstream: str, act: Literal["pause", "drain", "resume"], said: str, *, url: str, as_json: bool) -> None:
    with open_client(url) as client:
        changed = client.resume(upstream) if act == "resume" else client.hold(upstream, act)
    if as_json:
        print_json(changed.document)
    else:
        say(f"{changed.name} {said}.")


@click.command("models", short_help="List the models that an upstream offers now.")
@click.argument("upstream")
@server_options
def models(upstream: str, *, url: str, as_json: bool) -> None:
    """List the models that an upstream offers now, one a line.

    For example: dovecote models elkapi
    """
    with open_client(url) as client:
        found = client.models(upstream)
    if as_json:
        print_json(found.document)
        return
    for name in found.models:
        click.echo(clean(name))
    if found.error is not None:
        say(f"This list is old: {found.error}")
    if not found.complete:
        say(f"{upstream} has more models than these.")


def _chosen(families: Sequence[Family], name: str | None) -> Sequence[Family]:
    if name is None:
        return families
    found = [each for each in families if each.name == name]
    if not found:
        known = [each.name for each in families]
        raise click.UsageError(f"unknown family {name[:80]!r}{nearest(name, known)}")
    return found


def _operation(family: Family, name: str) -> Operation:
    found = family.operation(name)
    if found is None:
        known = [each.name for each in family.operations]
        raise click.UsageError(f"unknown operation {name[:80]!r} of {family.name}{nearest(name, known)}")
    return found


def _operations_table(families: Sequence[Family]) -> Table:
    table = plain_table("family", "operation", "produces", "required")
    add_last_column(table, "upstreams")
    for family in families:
        for operation in family.operations:
            table.add_row(
                shown(family.name),
                shown(operation.name),
                shown(operation.produces),
                one_line(", ".join(operation.input.get("required", ()))),
                one_line(", ".join(operation.upstreams) or "none is configured"),
            )
    return table


def _print_fields(family: Family, operation: Operation) -> None:
    say(f"{family.title}: {operation.title}. Served by {', '.join(operation.upstreams) or 'no configured upstream'}.")
    if operation.parent is not None:
        say(f"A parent task is {operation.parent} (--parent ID).")
    table = plain_table("field", "value", "")
    add_last_column(table, "description")
    required = operation.input.get("required", ())
    for name, schema in operation.input.get("properties", {}).items():
        table.add_row(
            shown(name),
            one_line(describe(schema)),
            "required" if name in required else "",
            one_line(str(schema.get("description", ""))),
        )
    print_out(table)
    click.echo()
    print_out(_dialects_table(operation))


def _dialects_table(operation: Operation) -> Table:
    """Return a table of the protocols that have an operation: those of configured upstreams, or all where there is none."""
    table = plain_table("dialect", "callback", "cancel", "outputs kept", "state")
    add_last_column(table, "upstreams")
    configured = [each for each in operation.dialects if each.upstreams]
    for each in configured or operation.dialects:
        kept = each.result_lifetime_seconds
        table.add_row(
            shown(each.name),
            "at once" if each.synchronous else "yes" if each.callbacks else "no",
            "yes" if each.cancel else "no",
            "unknown" if kept is None else f"{kept / 3600:g} h",
            "experimental" if each.experimental else "works",
            one_line(", ".join(each.upstreams) or "none is configured"),
        )
    return table


def describe(schema: Mapping[str, Any]) -> str:
    """Return the values that a JSON Schema accepts, in plain words; a regular expression is never shown."""
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " or ".join("none" if value is None else str(value) for value in schema["enum"])
    alternatives = [describe(each) for word in ("anyOf", "oneOf") for each in schema.get(word, ())]
    if alternatives:
        return " or ".join(dict.fromkeys(alternatives))
    stated = schema.get("type", "any")
    return " or ".join(_described(kind, schema) for kind in ([stated] if isinstance(stated, str) else stated))


def _described(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array":
        return " ".join(["list of", describe(schema.get("items", {})), *_range(schema, "minItems", "maxItems")])
    if kind == "string":
        form = {"uri": "URL", "uuid": "id", "date-time": "time"}.get(schema.get("format", ""), "text")
        longer_than_one = {name: value for name, value in schema.items() if (name, value) != ("minLength", 1)}
        return " ".join([form, *_range(longer_than_one, "minLength", "maxLength", unit=" characters")])
    if kind in {"integer", "number"}:
        return " ".join(["whole number" if kind == "integer" else kind, *_range(schema, "minimum", "maximum")])
    return {"boolean": "true or false", "object": "JSON object", "null": "none"}.get(kind, kind)


def _range(schema: Mapping[str, Any], low: str, high: str, *, unit: str = "") -> Iterator[str]:
    match schema.get(low), schema.get(high):
        case None, None:
            return
        case None, most:
            yield f"(up to {most}{unit})"
        case least, None:
            yield f"(from {least}{unit})"
        case least, most:
            yield f"({least} to {most}{unit})"


def _upstreams_table(upstreams: Sequence[Upstream]) -> Table:
    table = plain_table("upstream", "open", "waiting", "credit", "callbacks")
    add_last_column(table, "state")
    for each in upstreams:
        limit = "" if each.limits.open_tasks is None else f" of {each.limits.open_tasks}"
        table.add_row(
            shown(each.name),
            f"{each.open_tasks}{limit}",
            str(each.waiting),
            one_line(_credit(each)),
            _callbacks(each),
            one_line(_health(each)),
        )
    return table


def _credit(upstream: Upstream) -> str:
    credit = upstream.credit
    if credit is None:
        return "unknown"
    if credit.left is None:
        return credit.error or "no limit"
    return f"{credit.left:g} {credit.unit or ''}{' (low)' if credit.low else ''}".strip()


def _callbacks(upstream: Upstream) -> str:
    if not upstream.callbacks:
        return "no"
    return "yes" if upstream.callback_share is None else f"{upstream.callback_share:.0%}"


def _health(upstream: Upstream) -> str:
    broken = [each for each in upstream.circuits if each.state != "closed"]
    return ", ".join(f"{each.dialect}: circuit {each.state.replace('_', ' ')}" for each in broken) or "ok"
