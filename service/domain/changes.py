"""Everything that can happen to a task: a closed union of small values, each with only the fields that it needs."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from service.domain.effects import ChangeOfTask, Effect, essential_update
from service.domain.kept import Kept
from service.domain.money.evidence import CostEvidence
from service.domain.submission_changes import (
    DatabaseRestored,
    KnownJobAdopted,
    LostJobFound,
    ResubmissionAllowed,
    SubmissionAccepted,
    SubmissionFailed,
    SubmissionInterrupted,
    SubmissionNotSent,
    SubmissionPostponed,
    SubmissionStarted,
    WaitingForUpstream,
)
from service.domain.task import ENDED, OPEN, Failure, Source, State, Submission, Update


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StatusReported(ChangeOfTask):
    """A provider reported on a job: by callback, or in answer to a poll or a cancel."""

    source: Source
    update: Update
    submission: Submission | None = None
    """The submission that a callback names."""
    submission_id: UUID | None = None
    """The submission whose job was polled or cancelled. The task may have another job by the time the answer is there."""

    @property
    def evidence(self) -> Submission | None:
        """The submission whose job was reported on, where the report names one."""
        return self.submission

    @property
    def evidence_id(self) -> UUID | None:
        """The id of the submission whose job was reported on."""
        return self.submission_id if self.submission is None else self.submission.id

    def effect(self) -> Effect:
        """Return the report; an answer ends any trouble that was noted."""
        fields: dict[str, Any] = {}
        word = self.update.unknown_word
        if word is not None:
            fields["last_error"] = f"the provider reports the status {word[:80]!r}, which Dovecote does not know"
        elif self.source is Source.POLL or self.update.state is not None:
            fields["last_error"] = None
        if self.source is Source.POLL:
            fields["missing_since"] = None
        return Effect(source=self.source, update=self.update, fields=fields)

    def essential(self) -> Self:
        """Keep state, id and storable results."""
        return dataclasses.replace(self, update=essential_update(self.update))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckFailed(ChangeOfTask):
    """A poll, a search or a cancel got no usable answer."""

    error: str | None = None
    not_before: datetime | None = None
    """The earliest next poll, where the upstream asked for a pause."""

    def effect(self) -> Effect:
        """Set the error."""
        fields = {} if self.error is None else {"last_error": self.error}
        return Effect(source=Source.POLL, fields=fields, not_before=self.not_before)

    def essential(self) -> Self:
        """Drop the words."""
        return dataclasses.replace(self, error=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckPostponed(ChangeOfTask):
    """A claimed task was not polled."""

    until: datetime | None = None
    """When to poll; None: by its schedule."""

    def effect(self) -> Effect:
        """Move the next poll."""
        return Effect(source=Source.POLL, poll_at=self.until)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobMissing(ChangeOfTask):
    """The provider reports that it has no such job. A new job may not be visible yet."""

    since: datetime
    error: str

    def effect(self) -> Effect:
        """Set the time since which the job is missing."""
        return Effect(source=Source.POLL, fields={"missing_since": self.since, "last_error": self.error})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended(ChangeOfTask):
    """The task is over without a report on a job: refused, expired, cancelled, or lost."""

    state: Literal[State.FAILED, State.CANCELLED, State.EXPIRED]
    failure: Failure
    source: Source = Source.SWEEP
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def effect(self) -> Effect:
        """End the task."""
        update = Update(state=self.state, failure=self.failure)
        return Effect(source=self.source, update=update, details=self.details)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(ChangeOfTask):
    """A client asked to cancel."""

    at: datetime
    repeated: bool = False
    """Whether the client had asked before."""
    expects: frozenset[State] = OPEN

    def effect(self) -> Effect:
        """Set the time of the first request."""
        if self.repeated:
            return Effect(source=Source.CLIENT)
        return Effect(source=Source.CLIENT, fields={"cancel_requested_at": self.at}, event_type="cancel_requested")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InputSending(ChangeOfTask):
    """The client's input is about to be sent to the provider."""

    at: datetime
    names: tuple[str, ...]
    """Names of the fields that the client gave."""
    expects: frozenset[State] = frozenset({State.AWAITING_INPUT})

    def effect(self) -> Effect:
        """Set the time of the input before it is sent."""
        update = Update(state=State.SUBMITTED)
        return Effect(
            source=Source.CLIENT, update=update, fields={"answered_at": self.at}, details={"input": list(self.names)}
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InputSent(ChangeOfTask):
    """The provider answered the client's input, or gave no usable answer."""

    update: Update = dataclasses.field(default_factory=Update)
    error: str | None = None
    still_awaited: bool = False
    """Whether the provider did not take the input."""
    expects: frozenset[State] = OPEN

    def effect(self) -> Effect:
        """Apply the provider's report."""
        fields: dict[str, Any] = {"last_error": self.error}
        update = self.update
        if self.still_awaited:
            fields["answered_at"], update = None, Update(state=State.AWAITING_INPUT)
        return Effect(source=Source.SUBMIT, update=update, fields=fields, event_type="input_sent")

    def essential(self) -> Self:
        """Keep state, id and storable results."""
        return dataclasses.replace(self, update=essential_update(self.update), error=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateChecked(ChangeOfTask):
    """A job that does not serve its task was polled or cancelled."""

    submission: Submission
    """Its submission, with the job's state and the time of its next check."""
    ended: bool
    """Whether the job is not checked again."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def effect(self) -> Effect:
        """Set the state of the job, and write an event when it ends."""
        event_type = "duplicate_job_ended" if self.ended else None
        return Effect(source=Source.POLL, settles=self.submission, event_type=event_type, details=self.details)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContentErased(ChangeOfTask):
    """A client asked to erase the content of an ended task."""

    at: datetime
    expects: frozenset[State] = ENDED

    def effect(self) -> Effect:
        """Set the time of the erasure."""
        return Effect(source=Source.CLIENT, fields={"erased_at": self.at}, event_type="erased")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CostDue(ChangeOfTask):
    """It is checked whether the price of a submission was booked: an older process may have ended its task."""

    submission: Submission

    def effect(self) -> Effect:
        """Book the price, where the submission has ended."""
        return Effect(source=Source.SWEEP, cost_due=self.submission)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CostLearned(ChangeOfTask):
    """Another source than the answers about a job says what a submission cost."""

    found: CostEvidence

    def effect(self) -> Effect:
        """Correct the price."""
        return Effect(source=Source.SWEEP, cost_evidence=self.found)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResultKept(ChangeOfTask):
    """The copy of a result was made, or cannot be made any more."""

    copy: Kept

    def effect(self) -> Effect:
        """Set the facts of the copy. It changes nothing of the outcome."""
        return Effect(source=Source.SWEEP, copies={self.copy.asset: self.copy})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResultsDeleted(ChangeOfTask):
    """Somebody asked to delete the copies of the results."""

    source: Source = Source.CLIENT

    def effect(self) -> Effect:
        """Set the copies to deleted."""
        return Effect(source=self.source, deletes_copies=True, event_type="results_deleted")


Change = (
    StatusReported
    | CostDue
    | CostLearned
    | SubmissionStarted
    | SubmissionAccepted
    | SubmissionFailed
    | SubmissionInterrupted
    | SubmissionNotSent
    | DatabaseRestored
    | WaitingForUpstream
    | SubmissionPostponed
    | KnownJobAdopted
    | LostJobFound
    | ResubmissionAllowed
    | CheckFailed
    | CheckPostponed
    | JobMissing
    | Ended
    | CancelRequested
    | InputSending
    | InputSent
    | DuplicateChecked
    | ContentErased
    | ResultKept
    | ResultsDeleted
)
"""Everything that can happen to a task."""
