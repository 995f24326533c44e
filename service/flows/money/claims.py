"""Claims: the jobs that were charged and not delivered, with the evidence for the upstream's support."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import CostLearned
from service.domain.events import rfc3339
from service.domain.money.amounts import plain
from service.domain.money.claims import Claim, State, deadline_of
from service.domain.money.evidence import CostEvidence
from service.domain.money.settlement import ZERO, Settlement
from service.flows.apply import Applied, announce, apply
from service.flows.context import Context
from service.store.money import usage


def claim_of(context: Context, row: Any) -> Claim:
    """Return the claim of an entry."""
    upstream = context.upstreams.get(row.upstream)
    kind = "" if upstream is None else upstream.kind or upstream.name
    return Claim(
        submission_id=row.submission_id,
        task_id=row.task_id,
        client=row.client,
        upstream=row.upstream,
        operation=f"{row.family} {row.operation}",
        model=row.model,
        external_id=row.external_id,
        verdict=row.verdict,
        basis=row.basis,
        amount=row.gross if row.verdict == "probably_refunded" else row.amount,
        unit=row.unit,
        reason=row.reason,
        evidence=dict(row.evidence),
        purchased_at=row.purchased_at,
        deadline_at=deadline_of(kind, row.purchased_at),
        state=row.claim_state or "open",
        note=row.note,
        marked_at=row.marked_at,
    )


def show(claim: Claim) -> dict[str, Any]:
    """Return a claim as the API shows it."""
    return {
        "submission": str(claim.submission_id),
        "task": str(claim.task_id),
        "client": claim.client,
        "upstream": claim.upstream,
        "operation": claim.operation,
        "model": claim.model,
        "external_id": claim.external_id,
        "verdict": claim.verdict,
        "basis": claim.basis,
        "confidence": claim.confidence,
        "lost_by_policy": claim.lost_by_policy,
        "amount": None if claim.amount is None else plain(claim.amount),
        "unit": claim.unit,
        "reason": claim.reason or None,
        "evidence": claim.evidence,
        "purchased_at": rfc3339(claim.purchased_at),
        "deadline_at": rfc3339(claim.deadline_at),
        "state": claim.state,
        "note": claim.note,
        "marked_at": rfc3339(claim.marked_at),
    }


async def mark(context: Context, claim_id: UUID, state: State, note: str | None) -> Claim | None:
    """Write what was done about a claim, and return it; None where there is no such job. A paid claim is a refund."""
    applied, claim = await context.writers.journeys.run(_mark, context, claim_id, state, note)
    announce(context, applied)
    return claim


async def _mark(
    connection: AsyncConnection, context: Context, claim_id: UUID, state: State, note: str | None
) -> tuple[list[Applied], Claim | None]:
    row = await usage.find_claim(connection, claim_id)
    if row is None or row.verdict == "refunded":
        return [], None
    await usage.mark(connection, claim_id, state=state, note=note, at=context.now())
    changed = await usage.find_claim(connection, claim_id)
    claim = claim_of(context, changed or row)
    if state != "paid":
        return [], claim
    found = CostEvidence(
        submission_id=row.submission_id,
        upstream=row.upstream,
        dialect=row.dialect,
        settlement=Settlement(
            verdict="refunded",
            basis="operator",
            amount=ZERO,
            gross=row.gross,
            unit=row.unit,
            delivered=row.delivered,
            reason="an operator says that the upstream gave it back",
        ),
        source="operator",
        details={"note": note},
    )
    return await apply(context, connection, [CostLearned(task_id=row.task_id, found=found)]), claim
