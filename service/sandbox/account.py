"""Account queries of a gateway: the remaining credit (at the host for balances too), and its list of jobs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox import midjourney, suno
from service.sandbox.desk import Answer, Desk
from service.sandbox.gateway import GATEWAY
from service.sandbox.jobs import Job

QUERY_KEY: Final = "sandbox-query-key"
"""Admits to the balance, and to nothing else."""
TOKEN: Final = "sandbox-account-token"  # noqa: S105 - a provider to practise with has no secrets
USER: Final = "7"
"""The account's number, which its token is shown with."""

_QUOTA: Final = 500.0  # US dollars at the start
_POINTS_A_DOLLAR: Final = 100
_PAGE: Final = 100  # rows at most
_ACCOUNTS: Final = {each.account for each in (GATEWAY, midjourney.MIDJOURNEY, suno.SUNO)} | {"elk-task", "suno-raw"}
_LISTED: Final = suno.SUNO.account
_AT_ONCE: Final = ("persona/create", "act/tags")  # no jobs
_OFFICE: Final = replace(  # the accounts of the dashboard routes
    GATEWAY, unauthorized=Answer(200, {"success": False, "message": "无权进行此操作，access token 无效"})
)
_MODELS: Final = ("gen4_turbo", "suno_music", "mj_imagine")


def routes(desk: Desk) -> list[Route]:
    """Return the routes of the gateway's account."""

    async def quota(_request: Request) -> Response:
        return Answer(200, _quota(desk)).response()

    async def limit(_request: Request) -> Response:
        amounts = dict.fromkeys(("hard_limit_usd", "soft_limit_usd", "system_hard_limit_usd"), _QUOTA)
        more = {"object": "billing_subscription", "has_payment_method": True, "access_until": 0}
        return Answer(200, {**more, **amounts}).response()

    async def usage(_request: Request) -> Response:
        return Answer(200, {"object": "list", "total_usage": _spent(desk) * 100}).response()

    async def models(_request: Request) -> Response:
        listed = [{"id": name, "object": "model", "owned_by": "sandbox"} for name in _MODELS]
        return Answer(200, {"object": "list", "data": listed}).response()

    async def jobs(request: Request) -> Response:
        return Answer(200, _jobs(desk, request.query_params)).response()

    return [
        desk.route(GATEWAY, "GET", "/user/quota", quota, _asks_quota),
        desk.route(GATEWAY, "GET", "/v1/dashboard/billing/subscription", limit),
        desk.route(GATEWAY, "GET", "/v1/dashboard/billing/usage", usage),
        desk.route(GATEWAY, "GET", "/v1/models", models),
        desk.route(_OFFICE, "GET", "/api/task/self", jobs, _is_owner),
    ]


def _asks_quota(request: Request) -> bool:
    return request.query_params.get("key") == QUERY_KEY


def _is_owner(request: Request) -> bool:
    """Return whether the request has the account's token and number: an API key is not enough."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    return token == TOKEN and request.headers.get("new-api-user") == USER


def _spent(desk: Desk) -> float:
    return sum(map(desk.ledger.spent, _ACCOUNTS)) / _POINTS_A_DOLLAR


def _quota(desk: Desk) -> dict[str, Any]:
    spent = _spent(desk)
    keys = [
        {"name": "default", "remain_quota": -1, "used_quota": spent},
        {"name": "query", "remain_quota": 0, "used_quota": 0},
    ]
    requests = sum(desk.ledger.requests.values())
    totals = {"total_quota": _QUOTA - spent, "total_used_quota": spent, "request_count": requests}
    return {"username": "sandbox", **totals, "keys": keys}


def _jobs(desk: Desk, asked: Mapping[str, str]) -> dict[str, Any]:
    """List the account's jobs, newest first: those of a time and a platform, a page of them."""
    now, since, until = desk.clock(), _number(asked, "start_timestamp"), _number(asked, "end_timestamp")
    page, size = max(_number(asked, "p"), 1), min(_number(asked, "page_size") or 10, _PAGE)
    rows = [
        _row(desk, job, number, now)
        for number, job in enumerate(desk.ledger.jobs, 1)
        if job.account == _LISTED
        and not job.route.endswith(_AT_ONCE)
        and now - job.created_at >= (job.faults.ghost or 0)
    ]
    rows = [
        row
        for row in reversed(rows)
        if (not asked.get("platform") or row["platform"] == asked["platform"])
        and row["submit_time"] >= since
        and (not until or row["submit_time"] <= until)
    ]
    items = rows[(page - 1) * size : page * size]
    data = {"page": page, "page_size": size, "total": len(rows), "items": items}
    return {"success": True, "message": "", "data": data}


def _number(asked: Mapping[str, str], name: str) -> int:
    text = asked.get(name, "")
    return int(text) if text.isdecimal() else 0


def _row(desk: Desk, job: Job, number: int, now: float) -> dict[str, Any]:
    """Return a job as the gateway's own record: the protocol's task and the gateway's fields."""
    more = {"id": number, "platform": "suno", "user_id": int(USER), "quota": job.points}
    seen = now - desk.seconds * 0.1  # the gateway's copy is a little late
    return {**suno.row(job, job.state_at(seen), seen), **more, "properties": {"input": ""}}
