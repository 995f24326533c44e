"""Claims: jobs that were charged and not delivered. Pure."""

import dataclasses
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

from service.domain.money.settlement import Verdict

State = Literal["open", "filed", "paid", "denied"]
STATES: Final = ("open", "filed", "paid", "denied")
Confidence = Literal["high", "medium", "low"]
DEADLINES: Final = {
    "kie": timedelta(days=60),
    "fal": timedelta(days=90),
    "runwayml": timedelta(days=90),
    "replicate": timedelta(days=30),
}
"""How long upstreams keep the records that a claim needs, by kind; others do not say."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job without a result whose price was, or perhaps was, not given back."""

    submission_id: UUID
    task_id: UUID
    client: str
    upstream: str
    operation: str
    model: str | None
    external_id: str | None
    verdict: Verdict
    basis: str
    amount: Decimal | None
    """The price that is not given back."""
    unit: str | None
    reason: str
    evidence: dict[str, Any]
    purchased_at: datetime
    deadline_at: datetime | None
    state: State = "open"
    note: str | None = None
    marked_at: datetime | None = None

    @property
    def confidence(self) -> Confidence:
        """The certainty that the price was taken and not given back."""
        if self.verdict == "charged":
            return "high" if self.basis in {"record", "provider", "operator"} else "medium"
        return "medium" if self.verdict == "probably_charged" and self.basis == "balance" else "low"

    @property
    def lost_by_policy(self) -> bool:
        """Whether the upstream's pages say that such jobs are charged: there is nothing to claim."""
        return self.basis == "rule" and self.verdict == "charged"


def deadline_of(kind: str, purchased_at: datetime) -> datetime | None:
    """Return until when the upstream can look a job up; None where it does not say."""
    kept = DEADLINES.get(kind)
    return None if kept is None else purchased_at + kept
