"""Show what was spent, and the claims for what was charged and not delivered."""

from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.validation import Mistake, Schema, quote
from service.flows.money import claims
from service.flows.money.usage import rows_of
from service.store.money import usage
from service.web.api.lookup import page_size, path_id
from service.web.api.models import ref
from service.web.api.money_models import CLAIM_MARK
from service.web.api.route import (
    ID_SCHEMA,
    LIMIT,
    MAX_SMALL_BODY,
    ApiRequest,
    Endpoint,
    Parameter,
    ResponseSpec,
    invalid,
    json_response,
    read_time,
)
from service.web.problems import Problem
from service.web.spreadsheet import line

TAG: Final = "Money"
_TIME: Final = {"type": "string", "format": "date-time"}
_MARK: Final = Schema(CLAIM_MARK)
MAX_GROUPS: Final = 6
_LABEL: Final = "label:"
_PLAIN_GROUPS: Final = tuple(name for name in usage.GROUPS if name != "label")


async def get_usage(request: ApiRequest) -> Response:
    """Return what was spent."""
    mistakes: list[Mistake] = []
    by = _groups(request, mistakes)
    since, until = (read_time(request.query.get(name), name, mistakes) for name in ("from", "to"))
    if mistakes:
        raise invalid(mistakes)
    client = request.query.get("client", request.sees_only)
    if request.sees_only not in {None, client}:
        raise Problem(
            403, "forbidden", f"a key with the scope `{Scope.ADMIN}` is required for the usage of other clients"
        )
    async with request.context.database.reading() as connection:
        found = await usage.sums(connection, by=by, since=since, until=until, client=client)
    rows = rows_of(found, by)
    if request.query.get("format") == "csv":
        return _csv(rows, [*by, *_COLUMNS])
    return json_response({"group": by, "rows": rows})


_COLUMNS: Final = (
    "unit",
    "charged",
    "probably_charged",
    "returned",
    "probably_returned",
    "undelivered",
    "usd",
    "submissions",
    "computed",
    "unknown",
)


def _csv(rows: list[dict[str, Any]], columns: list[str]) -> Response:
    return Response(
        "".join(map(line, [columns, *([row[name] for name in columns] for row in rows)])), 200, {}, "text/csv"
    )


def _groups(request: ApiRequest, mistakes: list[Mistake]) -> list[str]:
    names = [name for name in request.query.get("group", "upstream").split(",") if name]
    is_known = all(name in _PLAIN_GROUPS or (name.startswith(_LABEL) and name != _LABEL) for name in names)
    if not is_known or not 0 < len(names) <= MAX_GROUPS or len(set(names)) < len(names):
        known = ", ".join((*_PLAIN_GROUPS, f"{_LABEL}NAME"))
        mistakes.append(
            Mistake("group", f"takes up to {MAX_GROUPS} of {known}, each once (got {quote(','.join(names))})")
        )
        return []
    return names


async def list_claims(request: ApiRequest) -> Response:
    """Return the jobs that were charged and not delivered."""
    size = page_size(request)
    before = request.query.get("cursor")
    async with request.context.database.reading() as connection:
        rows = await usage.undelivered(
            connection,
            upstream=request.query.get("upstream"),
            before=None if before is None else int(before),
            most=size + 1,
        )
    shown = [claims.show(claims.claim_of(request.context, row)) for row in rows[:size]]
    return json_response({"claims": shown, "next": str(rows[size - 1].id) if len(rows) > size else None})


async def mark_claim(request: ApiRequest) -> Response:
    """Write what was done about a claim."""
    claim_id = path_id(request, "claim")
    document = await request.read_json(MAX_SMALL_BODY)
    mistakes = _MARK.mistakes(document)
    if mistakes:
        raise invalid(mistakes)
    claim = await claims.mark(request.context, claim_id, document["state"], document.get("note"))
    if claim is None:
        raise Problem(404, "not_found", "there is no claim with this submission's id, or its price was given back")
    return json_response(claims.show(claim))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/usage",
        handler=get_usage,
        scope=Scope.READ,
        name="getUsage",
        tag=TAG,
        summary="Show what was spent",
        description=(
            "Sums the ledger's entries by the time of the purchase. Amounts of different units are in different rows. A client "
            "sees its own usage; a key with the scope `admin` sees that of all clients."
        ),
        parameters=(
            Parameter(
                name="group",
                place="query",
                schema={"type": "string", "maxLength": 400, "default": "upstream", "examples": ["model,day"]},
                description="Up to 6 of `client`, `family`, `operation`, `model`, `upstream`, `day`, `label:NAME`, separated by commas.",
            ),
            Parameter(name="from", place="query", schema=_TIME, description="Only purchases at or after this time."),
            Parameter(name="to", place="query", schema=_TIME, description="Only purchases before this time."),
            Parameter(
                name="client",
                place="query",
                schema={"type": "string", "maxLength": 200},
                description="Only of this client. Keys without the scope `admin` may name their own client only.",
            ),
            Parameter(
                name="format",
                place="query",
                schema={"type": "string", "enum": ["json", "csv"]},
                description="`csv`: the rows as `text/csv`.",
            ),
        ),
        responses={
            200: ResponseSpec(description="The sums.", schema=ref("Usage"), also={"text/csv": {"type": "string"}})
        },
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/claims",
        handler=list_claims,
        scope=Scope.ADMIN,
        name="listClaims",
        tag=TAG,
        summary="List what was charged and not delivered",
        description="Newest first: failed, withheld, cancelled and duplicate jobs, with the evidence for the upstream's support.",
        parameters=(
            Parameter(
                name="upstream",
                place="query",
                schema={"type": "string", "maxLength": 200},
                description="Only of this upstream.",
            ),
            LIMIT,
            Parameter(
                name="cursor",
                place="query",
                schema={"type": "string", "pattern": "^[0-9]{1,18}$", "examples": ["17"]},
                description="`next` of the previous page.",
            ),
        ),
        responses={200: ResponseSpec(description="A page of claims.", schema=ref("ClaimList"))},
        problems=(422,),
    ),
    Endpoint(
        method="POST",
        path="/v1/claims/{id}",
        handler=mark_claim,
        scope=Scope.ADMIN,
        name="markClaim",
        tag=TAG,
        summary="Note what became of a claim",
        description="`paid` books a refund: the upstream gave the price back.",
        parameters=(Parameter(name="id", place="path", schema=ID_SCHEMA, description="The submission's id."),),
        body=ref("ClaimMark"),
        example={"state": "filed", "note": "ticket 1842"},
        responses={200: ResponseSpec(description="The claim.", schema=ref("Claim"))},
        problems=(400, 404, 413, 415, 422),
    ),
)
