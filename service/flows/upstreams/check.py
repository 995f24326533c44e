"""Check an upstream: whether its key is accepted, its host right, its clock in time, and what credit is left."""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Generator

from service.domain.errors import AccountProblem, UpstreamError
from service.domain.http_dates import http_date
from service.flows.context import Context, Upstream
from service.flows.conversation import run_exchange
from service.flows.upstreams import credit
from service.providers.capabilities import CanTellBalance
from service.providers.newapi import account
from service.providers.newapi.errors import refusal_in
from service.providers.read import NOTHING
from service.providers.wire import Balance, Call, Reply

TIMEOUT = 20.0
"""Seconds for the check of one upstream."""
_OK = range(200, 300)
REDIRECTS = range(300, 400)
_NO_SUCH_ROUTE = 404


@dataclasses.dataclass(slots=True)
class Checked:
    """The result of a check of one upstream."""

    upstream: Upstream
    asked: str = ""
    """The request that was sent with the API key, such as ``GET /v1/models``."""
    error: UpstreamError | None = None
    """Why it did not answer that as it should."""
    reply: Reply | None = None
    """Its first answer."""
    skew: float | None = None
    """Seconds by which its clock is ahead of ours."""
    balance: Balance | None = None
    balance_error: UpstreamError | None = None
    jobs_error: UpstreamError | None = None
    """Why the account's list of jobs is not shown, where the settings say that it may be asked for."""

    @property
    def elsewhere(self) -> bool:
        """Whether it answers as a wrong host or path does: with a redirect, or a page."""
        reply = self.reply
        if reply is None or self.error is None:
            return False
        page = reply.status in _OK and reply.document is NOTHING
        return reply.status in REDIRECTS or page or (reply.status == _NO_SUCH_ROUTE and reply.document is NOTHING)


async def check(context: Context, upstream: Upstream) -> Checked:
    """Send an upstream the cheapest requests that need the key. They cost no money."""
    checked = Checked(upstream)
    if not upstream.dialects:
        return checked
    try:
        async with asyncio.timeout(TIMEOUT):
            await _ask(context, checked)
    except TimeoutError:
        checked.error = checked.error or UpstreamError(
            "provider_timeout", f"no answer within {TIMEOUT:g} s", broken=True
        )
    return checked


async def _ask(context: Context, checked: Checked) -> None:
    upstream, began = checked.upstream, context.now()
    telling = next((each for each in upstream.dialects if isinstance(each, CanTellBalance)), None)

    def note(call: Call, reply: Reply) -> None:
        """Store the first answer and the clock of the upstream."""
        if checked.reply is None:
            checked.asked, checked.reply = f"{call.method} {call.path}", reply
            checked.skew = _skew(reply, began, context.now())

    try:
        if telling is not None:
            checked.balance = await run_exchange(context, upstream, telling, telling.balance(), heard=note)
        else:
            await run_exchange(context, upstream, upstream.dialects[0], _models(), heard=note)
    except UpstreamError as error:
        checked.error = error
        return
    if telling is None:
        await _ask_for_credit(context, checked)
    if upstream.settings.account_token is not None:
        await _ask_for_jobs(context, checked)


async def _ask_for_credit(context: Context, checked: Checked) -> None:
    try:
        checked.balance = await credit.ask(context, checked.upstream)
    except UpstreamError as error:
        checked.balance_error = error


async def _ask_for_jobs(context: Context, checked: Checked) -> None:
    now = context.now().timestamp()
    listing = account.jobs(platform="suno", since=now - 1, until=now)
    try:
        await run_exchange(context, checked.upstream, checked.upstream.dialects[0], listing)
    except UpstreamError as error:
        checked.jobs_error = error


def _models() -> Generator[Call, Reply, None]:
    """Request the models of a gateway: the cheapest request that needs the key."""
    reply = yield Call(method="GET", path="/v1/models")
    document = reply.document
    if reply.status in _OK and isinstance(document, dict) and isinstance(document.get("data"), list):
        return
    if reply.status in _OK and isinstance(document, dict) and document.get("success") is False:
        raise AccountProblem("unauthorized", str(document.get("message"))[:200])
    raise refusal_in(reply, creating=False)


def _skew(reply: Reply, began: dt.datetime, ended: dt.datetime) -> float | None:
    """Return by how much the upstream's clock is ahead, counted from the nearest moment at which it may have answered."""
    headers = {name.lower(): value for name, value in reply.headers.items()}
    stated = http_date(headers.get("date", ""))
    if stated is None:
        return None
    latest = stated + dt.timedelta(seconds=1)  # a date of HTTP leaves out the fraction
    if latest < began:
        return (latest - began).total_seconds()
    return max((stated - ended).total_seconds(), 0.0)
