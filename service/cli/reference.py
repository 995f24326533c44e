"""Write the generated tables of the documentation: ``python -m service.cli.reference docs/*.md``."""

import datetime as dt
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from service.cli import COMMANDS, SUMMARIES
from service.domain.errors import Unavailable, UpstreamError
from service.domain.operator_events import KINDS
from service.domain.task import State, Task
from service.domain.transitions import MOVES
from service.flows.metrics.process import Metrics
from service.flows.metrics.rows import ROWS
from service.http.network_errors import FAILURES
from service.providers.capabilities import CanCancel, CanListModels, CanPollMany, CanTellBalance
from service.providers.dialect import Dialect
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import FAILURE_TEXTS
from service.providers.operation import Family, Operation
from service.providers.registry import DIALECTS, FAMILIES, PROVIDERS, Provider
from service.providers.systems import System, all_systems
from service.providers.wire import Reply
from service.web.api import ENDPOINTS

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def support() -> str:
    """Return a table for each family: its operations, dialects and upstreams."""
    return "\n".join(part for family in FAMILIES.values() for part in _family(family))


def metrics() -> str:
    """Return the table of the metrics."""
    rows = (
        (f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.meaning)
        for each in [*ROWS, *Metrics().descriptions]
    )
    return _table(("metric", "type", "labels", "meaning"), rows)


def operator_events() -> str:
    """Return the table of the messages to operators."""
    return _table(("type", "when", "`data`"), ((f"`{each.type}`", each.when, _names(each.data)) for each in KINDS))


def systems() -> str:
    """Return the table of the systems in the gateways' menus, and whether each works here."""
    rows = [
        (
            each.title,
            f"`{each.family}`" if each.support() in _BUILT else "–",
            each.support(),
            _speaks(each) or each.note,
        )
        for each in all_systems()
    ]
    return _table(("system", "family", "state", "dialects"), rows)


_BUILT: Final = ("works", "experimental")


def _speaks(system: System) -> str:
    """Return the names of a system's dialects; those of other families that serve it come last."""
    own = [each for each in system.dialects() if each.facts.family == system.family]
    shared = [each for each in system.dialects() if each.facts.family != system.family]
    return _names(each.facts.key for each in [*own, *shared])


def upstreams() -> str:
    """Return the table of the built-in providers."""
    rows = (
        (f"`{each.name}`", each.title, f"`{each.key_variable}`", each.base_url, _names(each.dialects))
        for each in PROVIDERS.values()
    )
    return _table(("name", "what it is", "its key", "base_url", "dialects"), rows)


def models() -> str:
    """Return the table of the providers whose models can be listed, and the requests."""
    rows = [(f"`{each.name}`", f"`GET {path}`") for each in PROVIDERS.values() if (path := _models_path(each))]
    return _table(
        ("upstream", "request"), [*rows, ("others", "the path in `models_path`, where it answers in OpenAI's form")]
    )


def balances() -> str:
    """Return the table of the providers whose remaining credit can be queried, the requests and the units."""
    billing = "`GET /v1/dashboard/billing/…`, with the API key, where `billing = true`"
    rows = [row for each in PROVIDERS.values() if (row := _balance(each)) is not None]
    return _table(
        ("upstream", "request", "unit"),
        [*rows, ("other new-api gateways", billing, "USD (or the unit of the gateway)")],
    )


def _balance(provider: Provider) -> tuple[str, str, str] | None:
    telling = (each for name in provider.dialects if isinstance(each := DIALECTS[name], CanTellBalance))
    for dialect in telling:
        call = next(dialect.balance())
        return f"`{provider.name}`", f"`{call.endpoint}`, with the API key", dialect.facts.cost_unit
    if provider.query_url:
        return f"`{provider.name}`", "`GET /user/quota` at `query_url`, with `query_key`", "USD"
    return None


def _models_path(provider: Provider) -> str:
    listing = (each for name in provider.dialects if isinstance(each := DIALECTS[name], CanListModels))
    return next((next(each.list_models()).path for each in listing), provider.models_path)


def refusals() -> str:
    """Return the table of a gateway's refusals and their classes, in the order of the rules."""
    rows = [
        (_statuses(rule.statuses), _said(rule), *map(_verdict, (rule.submit, rule.poll)))
        for rule in newapi_errors.RULES
    ]
    page = Reply(200, body=b"<html>")
    rows.append(
        ("any", "anything else", *(_outcome(newapi_errors.refusal_in(page, creating=each)) for each in (True, False)))
    )
    return _table(("HTTP", "it says", "submit", "poll"), rows)


def texts() -> str:
    """Return the table of failure texts and their codes."""
    rows = ((f"`{code}`", ", ".join(_quoted(part) for part in parts)) for code, parts in FAILURE_TEXTS)
    return _table(("code", "a text with"), [*rows, ("`provider_error`", "any other text"), ("`unknown`", "no text")])


def failures() -> str:
    """Return the table of network failures and their classes, in the order of the rules."""
    rows = [
        (
            "any other" if each.error is Exception else f"`{each.error.__name__}`",
            each.meaning,
            f"{each.submit.outcome} · `{each.code}`",
            f"{Unavailable.outcome} · `{each.code}`",
            "yes" if each.counts else "–",
        )
        for each in FAILURES
    ]
    return _table(("failure", "what happened", "submit", "poll", "circuit"), rows)


def commands() -> str:
    """Return the table of the commands."""
    return _table(("command", "effect"), ((f"`dovecote {name}`", SUMMARIES[name]) for name in COMMANDS))


def endpoints() -> str:
    """Return the table of the API's endpoints."""
    rows = ((f"`{each.method} {each.path}`", f"`{each.scope}`", each.summary) for each in ENDPOINTS)
    return _table(("request", "scope", "effect"), rows)


def lifecycle() -> str:
    """Return the table of the moves from each state."""
    rows = ((f"`{state}`", _names(each for each in State if each in MOVES[state]) or "–") for state in State)
    return _table(("from", "to"), rows)


SECTIONS: Final[Mapping[str, Callable[[], str]]] = {
    "commands": commands,
    "endpoints": endpoints,
    "lifecycle": lifecycle,
    "metrics": metrics,
    "operator-events": operator_events,
    "systems": systems,
    "support": support,
    "upstreams": upstreams,
    "models": models,
    "balances": balances,
    "refusals": refusals,
    "texts": texts,
    "failures": failures,
}
"""The content of each ``<!-- made: NAME -->`` … ``<!-- end -->`` section of a page."""

_SECTION: Final = re.compile(r"(<!-- made: (?P<name>[\w-]+) -->).*?(<!-- end -->)", re.DOTALL)


def rewritten(page: str) -> str:
    """Return a page with every generated section up to date.

    :raises KeyError: when a page names an unknown section
    """
    return _SECTION.sub(lambda found: f"{found[1]}\n\n{SECTIONS[found['name']]().strip()}\n\n{found[3]}", page)


def _family(family: Family) -> Iterator[str]:
    head = ("operation", "dialect", "upstreams", "callback", "poll", "batch", "cancel", "deadline")
    yield f"## {family.title}\n"
    yield (
        _table(("dialect", "signed callbacks", "outputs are kept", "price in", "state"), list(_dialects(family))) + "\n"
    )
    yield (
        _table(head, [row for operation in family.operations.values() for row in _operation(family, operation)]) + "\n"
    )


def _dialects(family: Family) -> Iterator[tuple[str, ...]]:
    """Yield a row for each dialect that serves a family."""
    for name, dialect in DIALECTS.items():
        served = [each for each in family.operations if dialect.offers(family.name, each)]
        if served:
            facts = dialect.facts
            lifetimes = sorted({facts.lifetime(each) or 0.0 for each in served} - {0.0})
            state = "experimental" if facts.experimental else "works"
            yield f"`{name}`", _mark(facts.signs), " or ".join(map(_time, lifetimes)) or "?", facts.cost_unit, state


def _time(seconds: float) -> str:
    """Return a time in its largest whole unit."""
    units = (("d", 86400), ("h", 3600), ("min", 60))
    unit, size = next((each for each in units if seconds >= each[1] and seconds % each[1] == 0), ("s", 1))
    return f"{seconds / size:g} {unit}"


def _operation(family: Family, operation: Operation) -> Iterator[tuple[str, ...]]:
    """Yield a row for each dialect that serves an operation; only the first row names the operation."""
    title, deadline = f"`{operation.name}`", f"{operation.deadline / 60:g} min"
    for name, dialect in DIALECTS.items():
        if not dialect.offers(family.name, operation.name):
            continue
        at_once = operation.name in dialect.facts.synchronous
        yield (
            title,
            f"`{name}`{_needs(dialect, family, operation)}",
            ", ".join(_upstreams(name, family, operation)) or "–",
            _callback(dialect, operation),
            "at once" if at_once else "yes",
            f"{dialect.facts.batch_size}" if isinstance(dialect, CanPollMany) and not at_once else "–",
            _mark(isinstance(dialect, CanCancel) and not at_once),
            deadline,
        )
        title = deadline = ""


def _callback(dialect: Dialect, operation: Operation) -> str:
    if not dialect.facts.callbacks or operation.name in dialect.facts.synchronous:
        return "–"
    return "a hint" if dialect.facts.confirms else "yes"


def _upstreams(name: str, family: Family, operation: Operation) -> Iterator[str]:
    """Yield the providers with a dialect. They are in parentheses where another dialect serves the operation."""
    for provider in PROVIDERS.values():
        if name in provider.dialects:
            yield provider.name if _chosen(provider, family, operation) == name else f"({provider.name})"


def _chosen(provider: Provider, family: Family, operation: Operation) -> str | None:
    return next((each for each in provider.dialects if DIALECTS[each].offers(family.name, operation.name)), None)


def _needs(dialect: Dialect, family: Family, operation: Operation) -> str:
    """Return the fields that a dialect requires and the operation's own example lacks."""
    example = Task(
        id=UUID(int=0),
        client="",
        family=family.name,
        operation=operation.name,
        input=operation.input["examples"][0],
        created_at=_EPOCH,
        updated_at=_EPOCH,
        deadline_at=_EPOCH,
    )
    missing = [mistake.path for mistake in dialect.validate(example)]
    return f" with {_names(missing)}" if missing else ""


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _mark(there: bool) -> str:  # noqa: FBT001 - what it marks is its only argument
    return "yes" if there else "–"


def _statuses(statuses: Collection[int] | None) -> str:
    """Return HTTP statuses in short form: a whole class as 5xx."""
    if statuses is None:
        return "any"
    left, written = set(statuses), []
    for hundred in range(100, 600, 100):
        whole = set(range(hundred, hundred + 100))
        if whole <= left:
            written.append(f"{hundred // 100}xx")
            left -= whole
    return ", ".join([*written, *map(str, sorted(left))])


_MARKS: Final = {"(no object)": "no JSON object", "(says no)": "a `code` that is no success"}


def _said(rule: newapi_errors.Rule) -> str:
    said = [_MARKS.get(word, f"`{word}`") for word in sorted(rule.words)] + [_quoted(part) for part in rule.parts]
    text = [] if rule.says is None else [f"a text that reads as `{rule.says}`"]
    if rule.lost:
        text.append("a text or word that speaks of a time-out, a broken connection or a 5xx")
    return " and ".join([*([" or ".join(said)] if said else []), *text]) or "anything"


def _verdict(verdict: newapi_errors.Verdict) -> str:
    error, code = verdict
    return f"{error.outcome} · `{code}`" if code else f"{error.outcome} · by its text"


def _outcome(error: UpstreamError) -> str:
    return f"{error.outcome} · `{error.code}`"


def _quoted(part: str) -> str:
    return f"“{part}”"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(pages: Sequence[str]) -> None:
    """Update the generated sections of the named pages."""
    for path in map(Path, pages):
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
