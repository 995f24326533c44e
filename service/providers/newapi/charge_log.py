"""The log of charges of a new-api gateway (GET /api/log/token), which the API key itself may read."""

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any, Final, Literal

from service.providers.newapi.errors import refusal_in
from service.providers.read import fields, number, word
from service.providers.wire import Call, Reply

_KINDS: Final[dict[float, Literal["charge", "refund"]]] = {2.0: "charge", 6.0: "refund"}
MAX_ROWS: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A charge or a refund. Its ``id`` repeats after 1024 rows, so it identifies nothing."""

    kind: Literal["charge", "refund"]
    quota: float
    """Points; positive in both kinds."""
    task_id: str | None = None
    """The job; charges of a submit have none."""
    actual: float | None = None
    """What the job costs after this row, where the row settles it."""
    at: float = 0.0
    """Unix seconds."""
    reason: str | None = None

    @property
    def evidence_id(self) -> str:
        """A text that is the same for the same row only."""
        return f"{self.at:.0f}/{self.task_id}/{self.kind}/{self.quota:g}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """What a job costs by the log."""

    amount: float
    """Points, after refunds."""
    gross: float
    refunded: bool
    evidence: tuple[str, ...]
    reason: str | None = None


def charge_log() -> Generator[Call, Reply, list[LogRow]]:
    """Query the log. Many gateways allow 20 queries in 20 minutes.

    :raises UpstreamError: when the log is not shown
    """
    reply = yield Call(method="GET", path="/api/log/token")
    return read_log(reply)


def read_log(reply: Reply) -> list[LogRow]:
    """Read the rows that are about money."""
    document = fields(reply.document)
    data = document.get("data")
    if not reply.ok or not isinstance(data, list) or document.get("success") is False:
        raise refusal_in(reply, creating=False)
    return [row for row in map(_row, data[:MAX_ROWS]) if row is not None]


def _row(document: Any) -> LogRow | None:
    said = fields(document)
    kind, quota = _KINDS.get(number(said.get("type")) or 0.0), number(said.get("quota"))
    if kind is None or quota is None or quota < 0:
        return None
    other = fields(said.get("other"))
    actual = number(other.get("actual_quota"))
    return LogRow(
        kind=kind,
        quota=quota,
        task_id=word(other.get("task_id")),
        actual=actual if actual is not None and actual >= 0 else None,
        at=number(said.get("created_at")) or 0.0,
        reason=word(other.get("reason")),
    )


def charged(rows: Sequence[LogRow], task_id: str) -> Charged | None:
    """Return what a job costs by the rows that name it; None where none does. A row that is listed twice counts once."""
    found = {row.evidence_id: row for row in rows if row.task_id == task_id}
    if not found:
        return None
    ordered = sorted(found.values(), key=lambda row: row.at)
    settled = next((row.actual for row in reversed(ordered) if row.actual is not None), None)
    refunds = [row for row in ordered if row.kind == "refund" and row.actual is None]
    gross = max([settled or 0.0, *(row.quota for row in refunds)])
    amount = 0.0 if refunds else settled
    if amount is None:
        return None
    refunded = bool(refunds) or any(row.kind == "refund" for row in ordered)
    reason = next((row.reason for row in reversed(ordered) if row.reason is not None), None)
    return Charged(amount=amount, gross=gross, refunded=refunded, evidence=tuple(found), reason=reason)


def usage_of_key(reply: Reply) -> float | None:
    """Read the points that a key has left (GET /api/usage/token/); None where it has no limit of its own."""
    data = fields(fields(reply.document).get("data"))
    left = number(data.get("total_available"))
    if not reply.ok or left is None:
        raise refusal_in(reply, creating=False)
    return None if data.get("unlimited_quota") is True else left
