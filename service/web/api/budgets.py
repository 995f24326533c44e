"""Show, set and remove budgets, and refuse what they have no room for."""

from typing import Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.events import rfc3339
from service.domain.money.amounts import plain
from service.domain.money.budgets import NAME, OverBudget, budget_of, faults_in
from service.domain.validation import Mistake, Schema, quote
from service.flows.money import budgets
from service.flows.money.budgets import NotStored
from service.web.api.models import ref
from service.web.api.money_models import BUDGET
from service.web.api.route import (
    MAX_SMALL_BODY,
    ApiRequest,
    Endpoint,
    Parameter,
    ResponseSpec,
    invalid,
    json_response,
)
from service.web.problems import Problem

TAG: Final = "Money"
_BODY: Final = Schema(BUDGET)
_NAME: Final = Schema({"type": "string", "pattern": NAME})


def over_budget(over: OverBudget) -> Problem:
    """Return the error for a task that a budget has no room for."""
    members = {
        "budget": over.budget.name,
        "unit": over.budget.unit,
        "left": plain(max(over.left, over.left * 0)),
        "held": plain(over.held),
        "renews_at": rfc3339(over.renews_at) or "",
    }
    if over.needed is not None:
        members["needed"] = plain(over.needed)
    return Problem(402, "budget_exceeded", f"{over}. Nothing was bought.", members=members)


async def list_budgets(request: ApiRequest) -> Response:
    """Return the budgets that the caller's tasks count in; an operator's answer has all of them."""
    return json_response({"budgets": await budgets.rows(request.context, client=request.sees_only)})


async def put_budget(request: ApiRequest) -> Response:
    """Set a budget, or change it."""
    name = str(request.http.path_params["name"])
    document = await request.read_json(MAX_SMALL_BODY)
    mistakes = [*_NAME.mistakes(name, below="name"), *_BODY.mistakes(document)]
    if not mistakes:
        given = {field: value for field, value in document.items() if value is not None}
        mistakes = [
            Mistake(field, f"{words} (got {quote(given.get(field))})") for field, words in faults_in(given).items()
        ]
    if mistakes:
        raise invalid(mistakes)
    try:
        await budgets.put(request.context, budget_of(name, given), by=request.client)
    except NotStored as error:
        raise Problem(409, "budget_fixed", str(error)) from None
    return await _rows_of(request, name)


async def delete_budget(request: ApiRequest) -> Response:
    """Remove a budget."""
    name = str(request.http.path_params["name"])
    rows = [row for row in await budgets.rows(request.context, client=None) if row["budget"] == name]
    try:
        if not await budgets.remove(request.context, name, by=request.client):
            raise Problem(404, "not_found", "no budget has this name")
    except NotStored as error:
        raise Problem(409, "budget_fixed", str(error)) from None
    return json_response({"budgets": rows})


async def _rows_of(request: ApiRequest, name: str) -> Response:
    found = await budgets.rows(request.context, client=None)
    return json_response({"budgets": [row for row in found if row["budget"] == name]})


_NAME_PARAMETER: Final = Parameter(
    name="name",
    place="path",
    schema={"type": "string", "pattern": NAME, "examples": ["shop-month"]},
    description="The budget's name.",
)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/budgets",
        handler=list_budgets,
        scope=Scope.READ,
        name="listBudgets",
        tag=TAG,
        summary="List your budgets",
        description="What is spent, held for tasks in progress, and left in the present day or month. An operator sees all.",
        responses={200: ResponseSpec(description="The budgets.", schema=ref("BudgetList"))},
    ),
    Endpoint(
        method="PUT",
        path="/v1/budgets/{name}",
        handler=put_budget,
        scope=Scope.ADMIN,
        name="putBudget",
        tag=TAG,
        summary="Set a budget",
        description=(
            "Creates a budget, or changes it. It counts for every submission that begins from now on, in every process. What is "
            "spent and held in the present period stays. A budget of the settings cannot be changed here."
        ),
        parameters=(_NAME_PARAMETER,),
        body=ref("Budget"),
        example={"limit": "100", "soft": "80", "period": "month", "client": "shop"},
        responses={200: ResponseSpec(description="The budget and its parts.", schema=ref("BudgetList"))},
        problems=(400, 409, 413, 415, 422),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/budgets/{name}",
        handler=delete_budget,
        scope=Scope.ADMIN,
        name="deleteBudget",
        tag=TAG,
        summary="Remove a budget",
        description="From now on it limits nothing. Tasks that wait for it are submitted within a minute.",
        parameters=(_NAME_PARAMETER,),
        responses={200: ResponseSpec(description="The removed budget.", schema=ref("BudgetList"))},
        problems=(404, 409, 422),
    ),
)
