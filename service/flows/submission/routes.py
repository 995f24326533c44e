"""Choose the upstreams that may serve a task, with the reasons why the others cannot."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import MAX_QUOTED, Mistake, nearest, shorten
from service.flows.context import Context
from service.providers.registry import DIALECTS, PROVIDERS, Provider


def requested_route(request: Mapping[str, Any], mistakes: list[Mistake]) -> tuple[str, ...] | None:
    """Return the upstreams that the client requests; None where it leaves the choice."""
    if "upstream" in request and "route" in request:
        mistakes.append(Mistake("route", "leave out either upstream or route: they set the same"))
    if "upstream" in request:
        return (request["upstream"],)
    return tuple(request["route"]) if "route" in request else None


def choose_route(
    context: Context, task: Task, requested: tuple[str, ...] | None, mistakes: list[Mistake]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the upstreams that can serve a task, in order, and why the others cannot."""
    if requested is not None:
        mistakes += [not_configured(context, name) for name in requested if name not in context.upstreams]
        if mistakes:
            return (), {}
    names = requested or context.settings.routes.get(task.family) or tuple(context.upstreams)
    candidates = [context.upstreams[name] for name in names if name in context.upstreams]
    checked = [(upstream.name, *upstream.validated(task)) for upstream in candidates]
    complaints = {name: found for name, dialect, found in checked if dialect is not None}
    if not complaints:
        mistakes.append(not_served(task, names, requested=requested is not None))
        return (), {}
    route = tuple(name for name, found in complaints.items() if not found)
    if not route:
        mistakes += next(iter(complaints.values()))
    return route, {name: _complaint(found) for name, found in complaints.items() if found}


def quoted(name: str) -> str:
    """Return a client's name in quotes, for a message."""
    return shorten(repr(name), MAX_QUOTED)


def _complaint(found: list[Mistake]) -> str:
    return "; ".join(f"{mistake.path}: {mistake.message}" for mistake in found)


def not_configured(context: Context, name: str) -> Mistake:
    known = PROVIDERS.get(name)
    hint = (
        f"; it is known, and switched on by its key: set {known.key_variable}"
        if known
        else nearest(name, context.upstreams)
    )
    return Mistake("upstream", f"no upstream {quoted(name)} is configured{hint}")


def not_served(task: Task, names: tuple[str, ...], *, requested: bool) -> Mistake:
    keys = ", ".join(provider.key_variable for provider in PROVIDERS.values() if _could_serve(provider, task))
    hint = f"set one of {keys}" if keys else "give an upstream a dialect that does"
    which = f"upstream {', '.join(map(repr, names))}" if requested else "none of the configured upstreams"
    verb = "serves" if not requested else "does not serve" if len(names) == 1 else "do not serve"
    where = "upstream" if requested else "operation"
    return Mistake(where, f"{which} {verb} {task.family} {task.operation}; {hint}")


def _could_serve(provider: Provider, task: Task) -> bool:
    return any(DIALECTS[name].offers(task.family, task.operation) for name in provider.dialects)
