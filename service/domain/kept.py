"""Kept results: copies of a task's outputs, since providers delete them. What is kept, until when it is tried, and how it shows."""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

if TYPE_CHECKING:
    from service.domain.task import Result, Task

KeptState = Literal["pending", "kept", "lost", "deleted"]
"""``pending``: it is being fetched, or tried again later; ``lost``: it can be had no more."""

FETCH_BACKOFF: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
"""Seconds before each further attempt to fetch a file; the last one repeats."""
GONE_FOR: Final = 3600.0
"""Seconds for which a provider must have answered without a break that it has no such file, where no expiry is known."""
_SOON: Final = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The copy of one result."""

    asset: UUID
    """The id of the copy. The place of a result in its task's list may change."""
    state: KeptState = "pending"
    sha256: str | None = None
    size: int | None = None
    media_type: str | None = None
    """The type that the content shows."""
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    """Seconds, of videos and sounds."""
    marked: bool = False
    """Whether there is also a copy with the mark "made by AI"."""
    not_marked_because: str | None = None
    """Why there is none, where marks are wanted."""
    lost_because: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as they stand in the JSON object of a result. Those without a value are missing."""
        shown = {name: getattr(self, name) for name in _DETAILS if getattr(self, name) not in (None, False)}
        return {"kept": self.state, "asset": str(self.asset), **shown}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Kept | None":
        """Read what :meth:`as_json` gave from the JSON object of a result."""
        if "kept" not in kept:
            return None
        details = {name: kept[name] for name in _DETAILS if name in kept}
        return cls(asset=UUID(kept["asset"]), state=kept["kept"], **details)


_DETAILS: Final = (
    *("sha256", "size", "media_type", "width", "height", "duration"),
    *("marked", "not_marked_because", "lost_because"),
)


def is_wanted(result: "Result") -> bool:
    """Return whether a result is a file that can be fetched."""
    url = (result.url or "")[:8].lower()
    return result.role != "preview" and url.startswith(("http://", "https://", "data:"))


def begin(task: "Task", *, keeps: Callable[["Task"], bool], new_id: Callable[[], UUID]) -> "Task":
    """Return a task that the provider has ended with a pending copy for each of its files that has none."""
    if task.decided_by != "provider" or all(each.kept is not None or not is_wanted(each) for each in task.results):
        return task
    if not keeps(task):
        return task
    results = tuple(
        dataclasses.replace(each, kept=Kept(asset=new_id())) if each.kept is None and is_wanted(each) else each
        for each in task.results
    )
    return task.changed(results=results)


def renewed_url(task: "Task", result: "Result", reported: "tuple[Result, ...]") -> str | None:
    """Return the URL that a provider reports now for a result whose URL it does not serve any more.

    :param reported: the results of its report
    :returns: None where it reports the same URL, or where it cannot be told which of the results it is
    """
    known = [each for each in task.results if each.url is not None]
    now = [each for each in reported if each.url is not None]
    if [(each.kind, each.role, each.item) for each in known] != [(each.kind, each.role, each.item) for each in now]:
        return None
    url = next((new.url for old, new in zip(known, now, strict=True) if old is result), None)
    return None if url in {each.url for each in known} else url


def settle(task: "Task", copies: Mapping[UUID, Kept]) -> "Task":
    """Return a task with what became of some of its copies."""
    results = tuple(
        dataclasses.replace(each, kept=copies[each.kept.asset])
        if each.kept is not None and each.kept.asset in copies
        else each
        for each in task.results
    )
    return task.changed(results=results)


def delete(task: "Task") -> "Task":
    """Return a task whose copies are deleted, or never will be made."""
    copies = {each.kept.asset: Kept(asset=each.kept.asset, state="deleted") for each in task.results if each.kept}
    return settle(task, copies)


def pending(task: "Task") -> bool:
    """Return whether a copy of a result is still to come."""
    return any(each.kept is not None and each.kept.state == "pending" for each in task.results)


def without_copies(results: "tuple[Result, ...]") -> "tuple[Result, ...]":
    """Return results as the provider gave them."""
    if all(each.kept is None for each in results):
        return results
    return tuple(dataclasses.replace(each, kept=None) for each in results)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt to fetch a file that failed."""

    number: int
    at: datetime
    created_at: datetime
    """When the file was first known."""
    expires_at: datetime | None
    """When the provider deletes it, where that is known."""
    gone_since: datetime | None = None
    """Since when the provider has answered without a break that it has no such file; None for any other failure."""
    ours: bool = False
    """Whether our storage failed, and not the provider."""
    final: bool = False
    """Whether no further attempt can help."""


def next_fetch(attempt: Attempt, *, retry_for: float | None) -> datetime | None:
    """Return when a file is fetched next; None when it is lost.

    :param retry_for: seconds for which a file without a known expiry is tried; None: without an end
    """
    now = attempt.at
    until = None if retry_for is None else attempt.created_at + timedelta(seconds=retry_for)
    is_gone = attempt.gone_since is not None and now - attempt.gone_since >= timedelta(seconds=GONE_FOR)
    has_expired = attempt.expires_at is not None and now >= attempt.expires_at and not attempt.ours
    if attempt.final or is_gone or has_expired or (until is not None and now >= until):
        return None
    wait = timedelta(seconds=FETCH_BACKOFF[min(attempt.number - 1, len(FETCH_BACKOFF) - 1)])
    if attempt.expires_at is not None and now < attempt.expires_at:
        # More often as the end comes near, and once more right before it.
        wait = min(wait, max((attempt.expires_at - now) / 2, timedelta(seconds=_SOON)))
    if attempt.gone_since is not None:
        wait = min(wait, timedelta(seconds=GONE_FOR / 4))
    return now + wait if until is None else min(now + wait, until)
