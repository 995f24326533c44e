"""Look at the upstreams as a new operator would: is the key accepted, the host right, the clock, the credit."""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Generator
from typing import TypeVar

from service.domain.errors import AccountProblem, UpstreamError
from service.flows import credit
from service.flows.exchange import converse
from service.flows.runtime import Runtime, Upstream
from service.providers import account
from service.providers.dialect import NOTHING, Balance, Call, Dialect, Reply, http_date
from service.providers.gateway import refusal_in

PATIENCE = 20.0
"""Seconds that one upstream is waited for."""
_OK = range(200, 300)
REDIRECTS = range(300, 400)
_NO_SUCH_ROUTE = 404

Outcome = TypeVar("Outcome")


@dataclasses.dataclass(slots=True)
class Seen:
    """What was seen of one upstream."""

    upstream: Upstream
    asked: str = ""
    """What was asked with the API key, such as ``GET /v1/models``."""
    error: UpstreamError | None = None
    """Why it did not answer that as it should."""
    reply: Reply | None = None
    """Its first answer, whatever that was."""
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


async def look(runtime: Runtime, upstream: Upstream) -> Seen:
    """Ask an upstream the cheapest questions that want the key. Nothing is bought."""
    seen = Seen(upstream)
    if not upstream.dialects:
        return seen
    try:
        async with asyncio.timeout(PATIENCE):
            await _ask(runtime, seen)
    except TimeoutError:
        seen.error = seen.error or UpstreamError("provider_timeout", f"no answer within {PATIENCE:g} s", broken=True)
    return seen


async def _ask(runtime: Runtime, seen: Seen) -> None:
    upstream = seen.upstream
    telling = next((each for each in upstream.dialects if type(each).balance is not Dialect.balance), None)
    try:
        if telling is not None:
            seen.balance = await converse(runtime, upstream, telling, _watched(runtime, seen, telling.balance()))
        else:
            await converse(runtime, upstream, upstream.dialects[0], _watched(runtime, seen, _models()))
    except UpstreamError as error:
        seen.error = error
    if seen.error is None and telling is None:
        try:
            seen.balance = await credit.ask(runtime, upstream)
        except UpstreamError as error:
            seen.balance_error = error
    if seen.error is None and upstream.settings.account_token is not None:
        now = runtime.now().timestamp()
        try:
            await converse(
                runtime, upstream, upstream.dialects[0], account.jobs(platform="suno", since=now - 1, until=now)
            )
        except UpstreamError as error:
            seen.jobs_error = error


def _models() -> Generator[Call, Reply, None]:
    """Ask a gateway for its models: the cheapest question that wants the key."""
    reply = yield Call(method="GET", path="/v1/models")
    document = reply.document
    if reply.status in _OK and isinstance(document, dict) and isinstance(document.get("data"), list):
        return
    if reply.status in _OK and isinstance(document, dict) and document.get("success") is False:
        raise AccountProblem("unauthorized", str(document.get("message"))[:200])
    raise refusal_in(reply, creating=False)


def _watched(
    runtime: Runtime, seen: Seen, exchange: Generator[Call, Reply, Outcome]
) -> Generator[Call, Reply, Outcome]:
    """Pass a conversation on, and note the first answer and the time by the other's clock."""
    call = next(exchange)
    seen.asked = f"{call.method} {call.path}"
    try:
        while True:
            began = runtime.now()
            reply = yield call
            if seen.reply is None:
                seen.reply, seen.skew = reply, _skew(reply, began, runtime.now())
            call = exchange.send(reply)
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome


def _skew(reply: Reply, began: dt.datetime, ended: dt.datetime) -> float | None:
    """Say how far the other's clock is ahead, counted from the nearest moment at which it may have answered."""
    headers = {name.lower(): value for name, value in reply.headers.items()}
    stated = http_date(headers.get("date", ""))
    if stated is None:
        return None
    latest = stated + dt.timedelta(seconds=1)  # a date of HTTP leaves out the fraction
    if latest < began:
        return (latest - began).total_seconds()
    return max((stated - ended).total_seconds(), 0.0)
