"""Show the budgets that a client has, and refuse what they have no room for."""

from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.events import rfc3339
from service.domain.money.amounts import plain
from service.domain.money.budgets import Budget, Counter, OverBudget, period_of, renews_at
from service.store.money import counters
from service.web.api.models import ref
from service.web.api.route import ApiRequest, Endpoint, ResponseSpec, json_response
from service.web.problems import Problem

TAG: Final = "Money"


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
    context, now = request.context, request.context.now()
    mine = [budget for budget in context.budgets if _is_visible(budget, request)]
    periods = {period_of(budget.period, now) for budget in mine}
    async with context.database.reading() as connection:
        found = await counters.of_budgets(connection, [budget.name for budget in mine], periods) if mine else {}
    rows: list[dict[str, Any]] = []
    for budget in mine:
        parts = {
            scope: each
            for (name, scope, period), each in found.items()
            if name == budget.name and period == period_of(budget.period, now)
        }
        own = {
            scope: each for scope, each in parts.items() if request.sees_only is None or _is_own(budget, scope, request)
        }
        for scope, counter in sorted(own.items()) or [("", Counter())]:
            rows.append(
                _row(budget, scope, counter, rfc3339(renews_at(budget.period, now)), period_of(budget.period, now))
            )
    return json_response({"budgets": rows})


def _is_visible(budget: Budget, request: ApiRequest) -> bool:
    return request.sees_only is None or budget.client in {"*", request.client}


def _is_own(budget: Budget, scope: str, request: ApiRequest) -> bool:
    return budget.client != "*" or scope.partition("/")[0] == request.client


def _row(budget: Budget, scope: str, counter: Counter, renews: str | None, period: str) -> dict[str, Any]:
    left = budget.limit - counter.used
    return {
        "budget": budget.name,
        "scope": scope,
        "period": period,
        "unit": budget.unit,
        "limit": plain(budget.limit),
        "soft": None if budget.soft is None else plain(budget.soft),
        "spent": plain(max(counter.spent, left * 0)),
        "held": plain(counter.held),
        "left": plain(max(left, left * 0)),
        "overrun": plain(max(-left, left * 0)),
        "renews_at": renews,
    }


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
)
