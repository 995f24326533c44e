"""The effect of a change on its task, and the fields that all changes share."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from service.domain.kept import Kept
from service.domain.money.evidence import CostEvidence
from service.domain.task import WITHOUT_RESULT, Failure, Result, Source, State, Submission, Update
from service.domain.text import storable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The effect of a change on its task, before the evidence is assessed and the table of moves is applied."""

    source: Source
    update: Update = dataclasses.field(default_factory=Update)
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the task besides those that the update carries."""
    event_type: str | None = None
    """Type of an event that is written even where nothing else changes."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The details of the event besides the changed fields."""
    begins: Submission | None = None
    settles: Submission | None = None
    supersedes_others: bool = False
    """Whether the settled submission serves the task from now on, in place of every other one."""
    is_certain: bool = False
    """Whether the settled submission is known to have created no job, whatever was concluded before."""
    is_duplicate: bool = False
    """Whether this is about a job that does not serve the task."""
    copies: Mapping[UUID, Kept] = dataclasses.field(default_factory=dict)
    """The new facts of copies of results, by the id of the copy."""
    deletes_copies: bool = False
    submit_at: datetime | None = None
    """When a queued task is claimed next, or when the lease of a submission ends."""
    poll_at: datetime | None = None
    """When to poll next, where the claimed task was not polled now."""
    not_before: datetime | None = None
    """The earliest next poll, where the upstream asked for a pause."""
    cost_due: Submission | None = None
    """A submission of which it is checked whether its price was booked."""
    cost_evidence: CostEvidence | None = None
    """Later evidence of a submission's price."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOfTask:
    """The fields that all changes share."""

    task_id: UUID
    attempt: int | None = None
    """The claim that this completes. The schedule changes only while the claim is held; what a provider said counts
    whoever brings it."""
    only_if_lease_held: bool = False
    """Whether the change is dropped once the claim is lost."""
    expects: frozenset[State] = frozenset(State)
    """The states in which the change counts. In any other state something stronger is known already."""

    @property
    def evidence(self) -> Submission | None:
        """The submission of which this proves that it created a job."""
        return None

    @property
    def evidence_id(self) -> UUID | None:
        """The id of that submission."""
        return None if self.evidence is None else self.evidence.id

    def effect(self) -> Effect:
        """Return the effect of the change on its task."""
        raise NotImplementedError

    def essential(self) -> Self:
        """Return the change without anything that a database may refuse and that can be done without."""
        return self


def essential_update(update: Update) -> Update:
    """Return an update with state, id and storable results only."""
    results = tuple(_storable(each) for each in update.results if each.url is None or storable(each.url) == each.url)
    if update.state in WITHOUT_RESULT:
        update = dataclasses.replace(update, failure=Failure("unknown"))
    return dataclasses.replace(update, results=results, actions=(), unknown_word=None)


def _storable(result: Result) -> Result:
    text, item = (None if each is None else storable(each) for each in (result.text, result.item))
    return dataclasses.replace(result, text=text, item=item)
