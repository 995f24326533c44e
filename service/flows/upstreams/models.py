"""The models that upstreams offer: requested now and then, shown, and compared with the model of a task."""

import asyncio
import dataclasses
import functools
import re
from typing import Final

from service.domain.errors import UpstreamError
from service.domain.task import Task, TaskWarning
from service.domain.validation import quote
from service.flows.context import Context, KnownModels, Upstream, log
from service.flows.conversation import run_exchange
from service.providers.capabilities import CanListModels
from service.providers.dialect import Dialect
from service.providers.models import listed_at
from service.providers.wire import ModelsExchange

EVERY: Final = 600.0
"""Seconds after which a list is requested again."""
AFTER_ERROR: Final = 60.0
"""Seconds after which a list is requested again that could not be read."""
TIMEOUT: Final = 15.0
"""Seconds for a list. Clients wait for it."""
SUBMIT_WAITS: Final = 1.0
"""Seconds that a submit waits for a list."""
_MAX_ALIKE: Final = 3
"""Names that a warning quotes."""
_SHORTEST: Final = 3
"""Letters and digits from which on a name may be part of a longer one."""


def question(upstream: Upstream) -> tuple[Dialect, ModelsExchange] | None:
    """Return the request for the models of an upstream; None where it has no list that Dovecote knows."""
    listing = next((each for each in upstream.dialects if isinstance(each, CanListModels)), None)
    if listing is not None:
        return listing, listing.list_models()
    if upstream.settings.models_path and upstream.dialects:
        return upstream.dialects[0], listed_at(upstream.settings.models_path)
    return None


async def current(context: Context, upstream: Upstream, *, within: float = TIMEOUT) -> KnownModels | None:
    """Return the models that an upstream offers, at most ten minutes old; None where it has no list.

    Where the latest request failed, the list before it is returned with the error.

    :param within: seconds for the request, and as many for one that another caller has sent with more patience
    """
    if question(upstream) is None:
        return None
    cache = upstream.models
    try:
        async with asyncio.timeout(within):
            await cache.lock.acquire()
    except TimeoutError:
        return cache.known or KnownModels(error=_no_answer(within), asked_at=context.now())
    try:
        if cache.known is None or _is_old(context, cache.known):
            cache.known = await _ask(context, upstream, cache.known, within)
        return cache.known
    finally:
        cache.lock.release()


def _no_answer(within: float) -> str:
    return f"no answer within {within:g} s"


async def warned(context: Context, task: Task) -> Task:
    """Return a new task with a warning where the first upstream of its route does not list its model.

    Where the list is old, the request of the client waits for a new one, for a second at most.
    """
    upstream = context.upstreams.get(task.route[0]) if task.route else None
    dialect = None if upstream is None else upstream.dialect_for(task.family, task.operation)
    if upstream is None or dialect is None or task.model is None or not dialect.facts.models_are_listed:
        return task
    await current(context, upstream, within=SUBMIT_WAITS)
    return task.changed(warnings=with_warning(task, upstream, dialect))


def _is_old(context: Context, known: KnownModels) -> bool:
    age = (context.now() - known.asked_at).total_seconds()
    return not 0 <= age < (EVERY if known.error is None else AFTER_ERROR)


async def _ask(context: Context, upstream: Upstream, before: KnownModels | None, within: float) -> KnownModels:
    asked = question(upstream)
    assert asked is not None  # noqa: S101 - for the type checker: the caller has looked
    now = context.now()
    try:
        async with asyncio.timeout(within):
            return KnownModels(models=await run_exchange(context, upstream, *asked), at=now, asked_at=now)
    except TimeoutError:
        error = _no_answer(within)
    except UpstreamError as refusal:
        error = str(refusal)[:300]
    if before is None or before.error != error:
        log.warning("upstream does not list its models upstream=%s error=%s", upstream.name, error)
    return dataclasses.replace(before or KnownModels(asked_at=now), error=error, asked_at=now)


def with_warning(task: Task, upstream: Upstream, dialect: Dialect) -> tuple[TaskWarning, ...]:
    """Return the task's warnings, with one more where the upstream does not list its model. A warning stops nothing."""
    model, known = upstream.in_its_names(task).model, upstream.models.known
    if model is None or known is None or known.models is None or not known.models.complete:
        return task.warnings
    if not dialect.facts.models_are_listed or any(_may_be(model, name) for name in known.models.names):
        return task.warnings
    message = (
        f"{upstream.name} does not list the model {quote(model)} at present, and may refuse it{_hint(model, known)}"
    )
    warning = TaskWarning("model_not_listed", message)
    return task.warnings if warning in task.warnings else (*task.warnings, warning)


def _hint(model: str, known: KnownModels) -> str:
    """Return the end of a warning: names that begin like the model's."""
    beginning = re.split(r"[^a-z0-9]", model.lower(), maxsplit=1)[0].rstrip("0123456789")
    names = () if known.models is None or len(beginning) < _SHORTEST else known.models.names
    alike = [name for name in names if beginning in name.lower()][:_MAX_ALIKE]
    return f"; it lists {', '.join(map(quote, alike))}" if alike else ""


def _may_be(model: str, listed: str) -> bool:
    """Return whether two names may stand for the same model: gateways put the vendor before a name, or a version behind."""
    one, other = _plain(model), _plain(listed)
    return one == other or (min(len(one), len(other)) >= _SHORTEST and (one in other or other in one))


@functools.lru_cache(maxsize=16_384)
def _plain(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return "".join(filter(str.isalnum, name.lower()))
