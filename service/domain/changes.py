"""Everything that can happen to a task: a closed union of small values, each with only the fields that it needs."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from service.domain.effects import ChangeOfTask, Effect, essential_update
from service.domain.task import Failure, Source, State, Submission, Update, WaitingFor

_QUEUED = frozenset({State.QUEUED})
_UNCONFIRMED = frozenset({State.UNCONFIRMED})
_ON_ITS_WAY = "Dovecote stopped while the request was on its way"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StatusReported(ChangeOfTask):
    """A provider reported on a job: by callback, or in answer to a poll or a cancel."""

    source: Source
    update: Update
    submission: Submission | None = None
    """The submission that a callback names, or whose job was polled."""

    @property
    def evidence(self) -> Submission | None:
        """The submission whose job was reported on, where the report names one."""
        return self.submission

    def effect(self) -> Effect:
        """Return the report; an answer ends any trouble that was noted."""
        fields: dict[str, Any] = {}
        if self.source is Source.POLL or self.update.state is not None:
            fields["last_error"] = None
        if self.source is Source.POLL:
            fields["missing_since"] = None
        return Effect(source=self.source, update=self.update, fields=fields)

    def essential(self) -> Self:
        """Keep state, id and storable results."""
        return dataclasses.replace(self, update=essential_update(self.update))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionStarted(ChangeOfTask):
    """A submission is about to be sent."""

    submission: Submission
    callback_expected: bool
    lease_until: datetime
    only_if_lease_held: bool = True
    expects: frozenset[State] = _QUEUED

    def effect(self) -> Effect:
        """Point the task at the submission."""
        submission = self.submission
        return Effect(
            source=Source.SUBMIT,
            update=Update(state=State.SUBMITTING),
            fields={
                "upstream": submission.upstream,
                "dialect": submission.dialect,
                "submission_id": submission.id,
                "callback_expected": self.callback_expected,
            },
            details={"upstream": submission.upstream, "submission": str(submission.id)},
            begins=submission,
            submit_at=self.lease_until,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionAccepted(ChangeOfTask):
    """The upstream answered a submission with a job."""

    submission: Submission
    update: Update

    @property
    def evidence(self) -> Submission | None:
        """The answered submission."""
        return self.submission

    def effect(self) -> Effect:
        """Report the state and id of the new job."""
        update = dataclasses.replace(self.update, state=self.update.state or State.SUBMITTED)
        details = {"upstream": self.submission.upstream}
        return Effect(source=Source.SUBMIT, update=update, fields={"last_error": None}, details=details)

    def essential(self) -> Self:
        """Keep state, id and storable results."""
        return dataclasses.replace(self, update=essential_update(self.update))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionFailed(ChangeOfTask):
    """A submission got an error, or no usable answer."""

    submission: Submission
    """As settled: with its outcome, code and message."""
    state: Literal[State.QUEUED, State.FAILED, State.UNCONFIRMED]
    source: Source = Source.SUBMIT
    error: str | None = None
    failure: Failure | None = None
    event_type: str | None = None
    message: str | None = None
    """The provider's own words."""
    retry_at: datetime | None = None
    expects: frozenset[State] = frozenset({State.SUBMITTING})

    def effect(self) -> Effect:
        """Settle the submission; queue the task again, fail it, or leave it unconfirmed."""
        submission = self.submission
        return Effect(
            source=self.source,
            update=Update(state=self.state, failure=self.failure),
            fields={"last_error": self.error},
            event_type=self.event_type,
            details={"upstream": submission.upstream, "code": submission.code, "message": self.message},
            settles=submission,
            submit_at=self.retry_at,
        )

    def essential(self) -> Self:
        """Drop the provider's words."""
        failure = None if self.failure is None else Failure(self.failure.code, retryable=self.failure.retryable)
        submission = dataclasses.replace(self.submission, message=None)
        return dataclasses.replace(self, submission=submission, failure=failure, error=None, message=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionInterrupted(ChangeOfTask):
    """A process stopped while a submission was in flight: the request may have arrived."""

    submission: Submission | None
    """As settled; None where no submission is in flight."""
    only_if_lease_held: bool = True

    def effect(self) -> Effect:
        """Leave the task unconfirmed."""
        return Effect(
            source=Source.SWEEP,
            update=Update(state=State.UNCONFIRMED),
            fields={"last_error": _ON_ITS_WAY},
            settles=self.submission,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForUpstream(ChangeOfTask):
    """A queued task waits for a slot at an upstream, or for its recovery."""

    waits_for: WaitingFor
    reason: str
    retry_at: datetime
    """When the task is planned again even if its turn has not come."""
    only_if_lease_held: bool = True
    expects: frozenset[State] = _QUEUED
    waited_already: bool = False
    """Whether the task has waited for the same before."""

    def effect(self) -> Effect:
        """Note what the task waits for."""
        return Effect(
            source=Source.SUBMIT,
            fields={"waits_for": self.waits_for, "last_error": self.reason},
            event_type=None if self.waited_already else "waiting",
            details={"for": self.waits_for.key, "reason": self.reason},
            submit_at=self.retry_at,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionPostponed(ChangeOfTask):
    """A queued task is planned again at a time."""

    until: datetime
    only_if_lease_held: bool = True
    expects: frozenset[State] = _QUEUED

    def effect(self) -> Effect:
        """Move the task's next claim."""
        return Effect(source=Source.SUBMIT, fields={"waits_for": None}, submit_at=self.until)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KnownJobAdopted(ChangeOfTask):
    """A queued task needs no further submission: the job of an earlier one is known and can serve it."""

    submission: Submission
    only_if_lease_held: bool = True
    expects: frozenset[State] = _QUEUED

    @property
    def evidence(self) -> Submission | None:
        """The submission whose job is known."""
        return self.submission

    def effect(self) -> Effect:
        """Report that the job exists."""
        update = Update(state=State.SUBMITTED, external_id=self.submission.external_id)
        return Effect(source=Source.POLL, update=update, fields={"last_error": None})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LostJobFound(ChangeOfTask):
    """The provider's list shows the job of an unconfirmed task."""

    submission: Submission
    external_id: str
    expects: frozenset[State] = _UNCONFIRMED

    @property
    def evidence(self) -> Submission | None:
        """The submission whose job was found."""
        return self.submission

    def effect(self) -> Effect:
        """Report that the job exists, with its id."""
        return Effect(
            source=Source.POLL,
            update=Update(state=State.SUBMITTED, external_id=self.external_id),
            fields={"last_error": None},
            event_type="found_in_list",
            details={"upstream": self.submission.upstream},
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResubmissionAllowed(ChangeOfTask):
    """An unconfirmed task may be submitted again, by its policy or by an operator, at the risk of a second charge."""

    submission: Submission
    """The one whose job may exist, as superseded."""
    at: datetime
    source: Source
    event_type: str
    """``resubmitted`` or ``retried``."""
    expects: frozenset[State] = _UNCONFIRMED

    def effect(self) -> Effect:
        """Queue the task again; the policy allows it once."""
        submission = self.submission
        words = f"{submission.upstream} may have it already: submitted again, perhaps at a second charge"
        return Effect(
            source=self.source,
            update=Update(state=State.QUEUED),
            fields={"last_error": words, "on_uncertain": "hold"},
            settles=submission,
            event_type=self.event_type,
            details={"submission": str(submission.id), "upstream": submission.upstream},
            submit_at=self.at,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckFailed(ChangeOfTask):
    """A poll, a look-up or a cancel got no usable answer."""

    error: str | None = None
    not_before: datetime | None = None
    """The earliest next poll, where the upstream asked for a pause."""

    def effect(self) -> Effect:
        """Note the error."""
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
    """The provider does not know the job, which may only not be visible yet."""

    since: datetime
    error: str

    def effect(self) -> Effect:
        """Note since when the job is missing."""
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

    def effect(self) -> Effect:
        """Note the first request."""
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
        """Note when the input was sent, before it is sent."""
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

    def effect(self) -> Effect:
        """Report what the provider said."""
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
        """Note the job's state, and write an event at its end."""
        event_type = "extra_job_ended" if self.ended else None
        return Effect(source=Source.POLL, settles=self.submission, event_type=event_type, details=self.details)


Change = (
    StatusReported
    | SubmissionStarted
    | SubmissionAccepted
    | SubmissionFailed
    | SubmissionInterrupted
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
)
"""Everything that can happen to a task."""
