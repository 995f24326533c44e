"""Claims: the jobs that were charged and not delivered, with the evidence for the upstream's support."""

from collections.abc import Mapping
from typing import Final, cast

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.money.claims import STATES, Claim, State
from service.domain.validation import Mistake
from service.flows.money import claims
from service.store.money import usage
from service.web.api.route import invalid
from service.web.dashboard.bodies import json_of
from service.web.dashboard.decisions import Chip
from service.web.dashboard.money import views_of
from service.web.dashboard.task_query import as_id
from service.web.dashboard.visit import Visit
from service.web.problems import Problem
from service.web.spreadsheet import line

PAGE: Final = 50
MAX_ROWS: Final = 10_000
"""Claims of a file."""
MAX_NOTE: Final = 500
_LAST: Final = 10**18
VERDICTS: Final[Mapping[str, Chip]] = {
    "charged": Chip("bad", "buy", "charged"),
    "probably_charged": Chip("doubt", "question", "probably charged"),
    "probably_refunded": Chip("calm", "question", "probably refunded"),
}
CONFIDENCE: Final[Mapping[str, str]] = {"high": "bad", "medium": "doubt", "low": "calm"}
COLUMNS: Final = (
    "upstream", "external_id", "purchased_at", "amount", "unit", "operation", "model", "verdict", "confidence", "basis", "reason",
    "state", "note", "submission", "task", "deadline_at",
)  # fmt: skip


async def claims_page(visit: Visit) -> Response:
    """Return the page."""
    everything, upstream = visit.query("show") == "all", visit.query("upstream")
    before = _cursor(visit)
    async with visit.context.database.reading() as connection:
        rows = await usage.undelivered(connection, upstream=upstream or None, before=before, most=PAGE + 1)
    found = [claims.claim_of(visit.context, row) for row in rows[:PAGE]]
    shown = [each for each in found if everything or is_open(each)]
    return visit.page(
        "claims.html",
        title="Claims",
        views=views_of(visit),
        claims=[(each, json_of("Evidence", each.evidence)) for each in shown],
        hidden=len(found) - len(shown),
        everything=everything,
        upstream=upstream,
        upstreams=list(visit.context.upstreams),
        verdicts=VERDICTS,
        confidence=CONFIDENCE,
        states=STATES,
        older=rows[PAGE - 1].id if len(rows) > PAGE else None,
    )


def is_open(claim: Claim) -> bool:
    """Return whether somebody may still ask for the money."""
    return claim.state in {"open", "filed"} and not claim.lost_by_policy


def _cursor(visit: Visit) -> int | None:
    """Return where the page begins.

    :raises Problem: 403 for anybody but an operator: claims are of all clients
    """
    if not visit.is_operator:
        raise Problem(403, "forbidden", f"a key with the scope {Scope.ADMIN} is required: claims are of all clients")
    stated = visit.query("before")
    number = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < len(str(_LAST)) else None
    return number if number is None or 0 < number < _LAST else None


async def claims_csv(visit: Visit) -> Response:
    """Return the claims as CSV, for an upstream's support."""
    before, upstream = _cursor(visit), visit.query("upstream") or None
    everything = visit.query("show") == "all"
    async with visit.context.database.reading() as connection:
        rows = await usage.undelivered(connection, upstream=upstream, before=before, most=MAX_ROWS)
    found = [claims.claim_of(visit.context, row) for row in rows]
    shown = (claims.show(each) for each in found if everything or is_open(each))
    lines = [COLUMNS, *([row[name] for name in COLUMNS] for row in shown)]
    headers = {"Content-Disposition": 'attachment; filename="claims.csv"'}
    return Response("".join(map(line, lines)), headers=headers, media_type="text/csv; charset=utf-8")


async def mark_claim(visit: Visit) -> Response:
    """Note what became of a claim. A paid one is booked as a refund."""
    submission, state = as_id(visit.http.path_params["id"]), visit.field("state")
    if state not in STATES:
        raise invalid([Mistake("state", f"must be one of {', '.join(STATES)}")])
    note = visit.field("note").strip()
    if len(note) > MAX_NOTE or "\x00" in note:
        raise invalid([Mistake("note", f"must be a text of at most {MAX_NOTE} characters")])
    done = submission is not None and await claims.mark(visit.context, submission, cast("State", state), note or None)
    if not done:
        raise Problem(404, "not_found", "there is no claim of this submission, or its price was given back")
    return visit.redirect("/money/claims", show=visit.field("show"), upstream=visit.field("upstream"))
