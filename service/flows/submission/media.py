"""Bring the media of a task into the form that its provider takes, before anything is bought."""

import asyncio
from typing import Any, Final

from service.domain.errors import Refused, Unavailable
from service.domain.media_references import Path, replaced
from service.domain.task import Task
from service.flows.context import Context, Upstream
from service.flows.submission.media_sources import Sources
from service.object_errors import StorageError
from service.providers.dialect import Dialect
from service.providers.media import Form, Medium, choose, media_in, mistakes_at
from service.store.database import StoreUnavailable

WITHIN: Final = 60.0
"""Seconds for all media of a task. A submission with media to prepare has so much more time until it is sent."""
_REMOTE: Final = ("http://", "https://")


def seconds_for(upstream: Upstream, dialect: Dialect, task: Task) -> float:
    """Return how much later a submission may be sent because of its media."""
    media = list(media_in(task.input))
    files = dialect.facts.uploads.get(task.operation, ())
    waits = (each.is_reference or (each.is_inline and upstream.gives_links) or each.field in files for each in media)
    return WITHIN if any(waits) else 0.0


async def with_media(context: Context, upstream: Upstream, dialect: Dialect, task: Task) -> Task:
    """Return a task whose media are in the form that the dialect takes. The stored task is not changed.

    A medium that was uploaded or given as ``data:`` becomes a URL where the provider fetches media, and one at a URL becomes
    ``data:`` where the provider takes files.

    :raises Refused: when a medium cannot be had: its URL is not allowed, there is nothing, or it is too large
    :raises Unavailable: when its host, the storage or the database has trouble; nothing was sent to the provider
    """
    wanted = _wanted(upstream, dialect, task)
    if not wanted:
        return task
    try:
        async with context.large.downloads, asyncio.timeout(WITHIN):
            sources = Sources(context, upstream, dialect, task)
            values: dict[Path, Any] = {each.path: await sources.value(each, form) for each, form in wanted}
    except TimeoutError:
        raise Unavailable("provider_timeout", f"the media could not be prepared within {WITHIN:g} s") from None
    except (StorageError, StoreUnavailable) as error:
        raise Unavailable("overloaded", f"the media could not be read or stored: {error}"[:300]) from error
    prepared = task.changed(input=replaced(task.input, values.get))
    _check(upstream, dialect, prepared, {str(each.path[0]) for each, _ in wanted})
    return prepared


def _wanted(upstream: Upstream, dialect: Dialect, task: Task) -> list[tuple[Medium, Form]]:
    """Return the media that are sent in another form than the one in which they were given, and that form."""
    media = list(media_in(task.input))
    if not media:
        return []
    forms = choose(dialect, upstream.in_its_names(task), links=upstream.gives_links).forms
    files = dialect.facts.uploads.get(task.operation, ())
    downloads: dict[Path, Form] = {
        each.path: "inline" for each in media if each.field in files and each.value[:8].lower().startswith(_REMOTE)
    }
    wanted = {**downloads, **forms}
    return [(each, wanted[each.path]) for each in media if each.path in wanted]


def _check(upstream: Upstream, dialect: Dialect, task: Task, fields: set[str]) -> None:
    """Check the media as they are sent. Their sizes were not known before.

    :raises Refused: when the dialect is known to refuse one
    """
    found = dialect.validate(upstream.in_its_names(task))
    for mistake in (each for name in fields for each in mistakes_at(found, name)):
        raise Refused("invalid_input", f"{mistake.path}: {mistake.message}")
