"""Results on the page of a task: the kept copies are shown and played, others are links."""

import dataclasses
from typing import Final

from starlette.responses import Response

from service.domain.kept import Kept
from service.domain.task import Result, Task
from service.flows.assets import keep
from service.store import assets as asset_store
from service.web import kept_files
from service.web.dashboard import words
from service.web.dashboard.acts import find_task
from service.web.dashboard.visit import Visit
from service.web.problems import Problem

_PLAYERS: Final = frozenset({"image", "video", "audio"})
_MAX_DIGITS: Final = 5
_STATES: Final = {
    "pending": "The copy is being fetched.",
    "lost": "The file could not be fetched.",
    "deleted": "The copy was deleted.",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A result as the page shows it."""

    number: int
    kind: str
    role: str
    player: str
    """``image``, ``video`` or ``audio`` for a kept copy; blank for anything else."""
    text: str | None
    link: str
    """The address at the provider; blank where it is none that a browser may open."""
    name: str
    note: str


def shown_results(task: Task) -> tuple[Shown, ...]:
    """Return the results of a task: first those that were asked for."""
    found = [_shown(number, each) for number, each in enumerate(task.results)]
    return tuple(sorted(found, key=lambda each: each.role != "result"))


def _shown(number: int, result: Result) -> Shown:
    url, copy = result.url or "", result.kept
    is_kept = copy is not None and copy.state == "kept"
    note = "" if copy is None else facts_of(copy) if is_kept else _STATES.get(copy.state, "")
    if not is_kept and result.expires_at is not None:
        note = f"{note} The provider deletes it at {words.moment(result.expires_at)} UTC.".strip()
    return Shown(
        number=number,
        kind=result.kind,
        role=result.role,
        player=result.kind if is_kept and result.kind in _PLAYERS else "",
        text=result.text,
        link=url if url.startswith(("https://", "http://")) else "",
        name=url.partition("://")[2].partition("?")[0],
        note=note,
    )


def facts_of(copy: Kept) -> str:
    """Return the facts of a copy, such as ``5 s, 1280 × 720, 4.1 MB, kept``."""
    parts = []
    if copy.duration is not None:
        parts.append(words.duration(copy.duration))
    if copy.width is not None and copy.height is not None:
        parts.append(f"{copy.width}{words.NARROW}×{words.NARROW}{copy.height}")
    if copy.size is not None:
        parts.append(words.size(copy.size))
    return ", ".join([*parts, "kept"])


async def kept_file(visit: Visit) -> Response:
    """Serve the copy of a result to the visitor's browser.

    :raises Problem: 404 when there is none
    """
    task = await find_task(visit)
    stated = visit.http.path_params["n"]
    digits = stated.isascii() and stated.isdecimal() and len(stated) <= _MAX_DIGITS
    number = int(stated) if digits else len(task.results)
    copy = task.results[number].kept if number < len(task.results) else None
    if copy is None or copy.state != "kept":
        raise Problem(404, "not_kept", "there is no copy of this result")
    async with visit.context.database.reading() as connection:
        asset = await asset_store.find(connection, copy.asset)
    if asset is None or asset.state != "kept":
        raise Problem(404, "not_kept", "the copy was deleted")
    file_name = keep.disposition(task, asset.media_type or "")
    return await kept_files.answer(visit.http, visit.context, asset, file_name=file_name)
