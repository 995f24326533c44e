"""Changes of the submissions of a task."""

import dataclasses
from datetime import datetime
from typing import Any, Final, Literal, Self

from service.domain.effects import ChangeOfTask, Effect, essential_update
from service.domain.task import TO_SUBMIT, Failure, Source, State, Submission, TaskWarning, Update, WaitingFor

_QUEUED = frozenset({State.QUEUED})
_UNCONFIRMED = frozenset({State.UNCONFIRMED})
INTERRUPTED: Final = "Dovecote stopped while the request was on its way"
RESTORED: Final = "the database was restored from a backup, and the task may have been submitted after that backup"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionStarted(ChangeOfTask):
    """A submission is about to be sent."""

    submission: Submission
    callback_expected: bool
    lease_until: datetime
    warnings: tuple[TaskWarning, ...] = ()
    """The task's warnings from now on."""
    only_if_lease_held: bool = True
    expects: frozenset[State] = _QUEUED

    def effect(self) -> Effect:
        """Make the task refer to the submission."""
        submission = self.submission
        return Effect(
            source=Source.SUBMIT,
            update=Update(state=State.SUBMITTING),
            fields={
                "upstream": submission.upstream,
                "dialect": submission.dialect,
                "submission_id": submission.id,
                "callback_expected": self.callback_expected,
                "warnings": self.warnings,
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
            fields={"last_error": INTERRUPTED},
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
        """Set the reason why the task waits."""
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
    reason: str | None = None
    """The reason why it waits, where no upstream is one."""
    waited_already: bool = False
    """Whether the task has waited for the same before."""

    def effect(self) -> Effect:
        """Move the task's next claim."""
        if self.reason is None:
            return Effect(source=Source.SUBMIT, fields={"waits_for": None}, submit_at=self.until)
        return Effect(
            source=Source.SUBMIT,
            fields={"waits_for": None, "last_error": self.reason},
            event_type=None if self.waited_already else "waiting",
            details={"reason": self.reason},
            submit_at=self.until,
        )


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

    submission: Submission | None
    """The one whose job may exist, as superseded; None where it is not known, after a restore."""
    at: datetime
    source: Source
    event_type: str
    """``resubmitted`` or ``retried``."""
    expects: frozenset[State] = _UNCONFIRMED

    def effect(self) -> Effect:
        """Queue the task again; the policy allows it once."""
        submission = self.submission
        who = "an upstream" if submission is None else submission.upstream
        words = f"{who} may have the first job; the task is submitted again, perhaps at a second charge"
        details = {} if submission is None else {"submission": str(submission.id), "upstream": submission.upstream}
        return Effect(
            source=self.source,
            update=Update(state=State.QUEUED),
            fields={"last_error": words, "on_uncertain": "hold"},
            settles=submission,
            event_type=self.event_type,
            details=details,
            submit_at=self.at,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionNotSent(ChangeOfTask):
    """A submission was written and never sent: its claim was too old by the time it could be."""

    submission: Submission
    """As settled."""
    paid_before: bool
    """Whether an earlier submission of the task may have created a job."""
    retry_at: datetime
    expects: frozenset[State] = frozenset({State.SUBMITTING, State.UNCONFIRMED})

    def effect(self) -> Effect:
        """Queue the task again: this submission created no job, even if another conclusion was stored meanwhile."""
        fields: dict[str, Any] = {"last_error": f"{self.submission.upstream}: {self.submission.message}"}
        if not self.paid_before:
            fields["unconfirmed_since"] = None
        return Effect(
            source=Source.SWEEP,
            update=Update(state=State.QUEUED),
            fields=fields,
            details={"upstream": self.submission.upstream, "submission": str(self.submission.id)},
            settles=self.submission,
            is_certain=True,
            submit_at=self.retry_at,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRestored(ChangeOfTask):
    """The database was restored from a backup: the task may have been submitted after the backup was made."""

    submission: Submission | None = None
    """The one that was in flight in the backup, as settled."""
    was_unconfirmed: bool = False
    """Whether it was unconfirmed in the backup: then its one resubmission may have been used since."""
    expects: frozenset[State] = TO_SUBMIT | _UNCONFIRMED

    def effect(self) -> Effect:
        """Leave the task unconfirmed; its policy decides."""
        spent = {"on_uncertain": "hold"} if self.was_unconfirmed else {}
        return Effect(
            source=Source.SWEEP,
            update=Update(state=State.UNCONFIRMED),
            fields={"last_error": RESTORED, **spent},
            event_type="restored",
            settles=self.submission,
        )
