"""Account queries at a new-api gateway: the remaining credit and the list of jobs."""

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from service.domain.errors import AccountProblem, UpstreamError
from service.providers.newapi.errors import refusal_in
from service.providers.read import fields, number, word
from service.providers.wire import Balance, BalanceExchange, Call, Reply

UNLIMITED_KEYS = frozenset({-1.0, 999_999_999.0})
"""``remain_quota`` of a key without a limit of its own, in the newer and the older sample (CometAPI, GET /user/quota)."""
UNLIMITED_LIMIT = 100_000_000.0
"""``hard_limit_usd`` of a key without a limit (new-api, GET /v1/dashboard/billing/subscription)."""
PAGE_SIZE = 100
"""More rows are not given at once."""
MAX_PAGES = 20
"""Lists that go on are not read to the end, and so prove nothing."""
_MILLISECONDS = 1e11
"""Unix times above this are milliseconds: some builds keep them so."""
_OK = range(200, 300)


def quota(key_name: str | None = None) -> BalanceExchange:
    """Query the host for balances (GET /user/quota, with a key of its own in the query string).

    :param key_name: name at the gateway of the key that submits: where it has a limit of its own, the smaller of both counts
    """
    reply = yield Call(method="GET", path="/user/quota", asks_quota=True)
    said = fields(reply.document)
    left = number(said.get("total_quota"))
    if reply.status not in _OK or left is None:
        raise refusal_in(reply, creating=False)
    listed = said.get("keys")
    keys = [fields(each) for each in listed] if isinstance(listed, list) else []
    own = [number(each.get("remain_quota")) for each in keys if key_name is not None and each.get("name") == key_name]
    limits = [limit for limit in own if limit is not None and limit not in UNLIMITED_KEYS]
    return Balance(min([left, *limits]), "USD")


def billing() -> BalanceExchange:
    """Query the gateway by its routes for OpenAI's old clients. The amount is in its own currency."""
    limit = _amount((yield Call(method="GET", path="/v1/dashboard/billing/subscription")), "hard_limit_usd")
    if limit >= UNLIMITED_LIMIT:
        return Balance(None, "USD")
    used = _amount((yield Call(method="GET", path="/v1/dashboard/billing/usage")), "total_usage")
    return Balance(round(limit - used / 100, 6), "USD")


def _amount(reply: Reply, name: str) -> float:
    """Read an amount. Errors come with HTTP 200 here."""
    amount = number(fields(reply.document).get(name))
    if reply.status not in _OK or amount is None:
        raise refusal_in(reply, creating=False)
    return amount


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A job as the gateway keeps it."""

    task_id: str
    submitted_at: float
    """Unix seconds."""
    platform: str
    action: str
    """Both in lower case, blank where the row does not say."""
    document: Mapping[str, Any]


def jobs(*, platform: str, since: float, until: float) -> Generator[Call, Reply, list[Row]]:
    """List the account's jobs of a time (GET /api/task/self), all of them or none.

    :param since: Unix seconds, as is ``until``
    :raises UpstreamError: when the list is not shown, or not to its end
    """
    span = {"start_timestamp": int(since), "end_timestamp": int(until) + 1, "platform": platform}
    found: dict[str, Row] = {}
    seen, total = 0, None
    for page in (1, 0, *range(2, MAX_PAGES)):
        if page == 0 and total is not None:
            continue  # the first page is 1; in older builds, which state no total, it is 0
        asked = urlencode({"p": page, "page_size": PAGE_SIZE, **span})
        rows, total = _listed((yield Call(method="GET", path=f"/api/task/self?{asked}", account=True)))
        fresh = {row.task_id: row for row in map(_row, rows) if row is not None}
        over = page > 1 and fresh.keys() <= found.keys()
        found |= fresh
        seen += len(rows)
        if over or (total is not None and seen >= total):
            return list(found.values())
    raise UpstreamError("unreadable", f"the list goes on after {MAX_PAGES} pages")


def _listed(reply: Reply) -> tuple[Sequence[Any], int | None]:
    """Read a page: rows with their total number in newer builds, rows alone in older ones."""
    document = fields(reply.document)
    if reply.status in _OK and document.get("success") is False:
        # Texts of new-api's dashboard routes for a wrong token or account number, with HTTP 200.
        raise AccountProblem("unauthorized", word(document.get("message")))
    data = document.get("data")
    rows = data if isinstance(data, list) else fields(data).get("items")
    if rows is None and isinstance(data, dict) and number(data.get("total")) == 0:
        rows = []
    if reply.status not in _OK or not isinstance(rows, list):
        raise refusal_in(reply, creating=False)
    total = None if isinstance(data, list) else number(fields(data).get("total"))
    return rows, None if total is None else int(total)


def _row(document: Any) -> Row | None:
    """Read a row; return None for a row without an id or a time."""
    said = fields(document)
    task_id, at = word(said.get("task_id")), number(said.get("submit_time")) or number(said.get("created_at"))
    at = at / 1000 if at is not None and at > _MILLISECONDS else at
    if task_id is None or at is None or not 0 < at <= _MILLISECONDS:
        return None
    platform, action = ((word(said.get(name)) or "").lower() for name in ("platform", "action"))
    return Row(task_id, at, platform, action, said)
