"""What the upstreams say, and how they stand."""

import asyncio
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from service.cli.doctor.finding import Finding, mistake, ok, warning
from service.domain.callback_token import Tokens
from service.domain.circuit_breaker import Circuit
from service.domain.errors import AccountProblem, NotFound, Unavailable, UpstreamError
from service.domain.statistics import UNRELIABLE_SHARE
from service.flows import statistics as statistics_module
from service.flows.context import Context, Upstream, upstreams_of
from service.flows.upstreams.check import REDIRECTS, Checked, check
from service.flows.upstreams.credit import is_low
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.providers import PROVIDERS
from service.settings.model import Settings
from service.store import upstreams as upstream_store
from service.store.database import Database
from service.store.tasks import recent_endings
from service.store.writer import Writer

ODD_CLOCK: Final = 30.0
WRONG_CLOCK: Final = 300.0
"""Seconds: signatures of callbacks and messages are refused beyond."""
NEVER_OPENED: Final = "sqlite:///never-opened.db"


async def upstreams(settings: Settings, database: Database | None) -> list[Finding]:
    """Ask all upstreams at once, and say of each how it is. Nothing is bought, and nothing is written."""
    http = Http.real(Guard(settings.webhook_rules))
    store = database or Database(NEVER_OPENED)
    context = Context(
        settings=settings,
        database=store,
        writer=Writer(store),
        http=http,
        tokens=Tokens(""),
        webhook_secret="",
        upstreams=upstreams_of(settings),
    )
    try:
        circuits = await _known(context) if database is not None else []
        seen = await asyncio.gather(*(check(context, each) for each in context.upstreams.values()))
    finally:
        await http.close()
    found = [finding for each in seen for finding in _of(context, each, circuits)]
    return [*found, *_clock(seen)]


async def _known(context: Context) -> Sequence[Circuit]:
    """Read what the server has learned."""
    async with context.database.reading() as connection:
        endings = await recent_endings(
            connection, since=context.now() - statistics_module.WINDOW, most=statistics_module.MOST
        )
        circuits = await upstream_store.all_circuits(connection)
    context.statistics.learn(endings)
    return list(circuits.values())


def _of(context: Context, seen: Checked, circuits: Sequence[Circuit]) -> Iterator[Finding]:
    name = seen.upstream.name
    if not seen.upstream.dialects:
        yield mistake(name, "speaks no dialect", f"say what it speaks: upstreams.{name}.dialects")
        return
    yield _key(seen)
    if seen.error is None:
        yield from _credit(seen)
    if seen.jobs_error is not None:
        says = f"does not show the account's list of jobs: {_words(seen.jobs_error)}"
        wrong = isinstance(seen.jobs_error, AccountProblem)
        yield (mistake if wrong else warning)(name, says, "look at account_token and account_user" if wrong else None)
    yield _callbacks(context, seen.upstream)
    for circuit in circuits:
        if circuit.upstream == name and circuit.standing(context.now()) != "closed" and circuit.opened_at is not None:
            since = circuit.opened_at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
            yield warning(
                name, f"keeps failing in {circuit.dialect}: left alone since {since} UTC", "it is tried again by itself"
            )


def _key(seen: Checked) -> Finding:
    """Say whether the key is taken, at the right host."""
    name, error = seen.upstream.name, seen.error
    base = seen.upstream.settings.base_url
    if error is None:
        return ok(name, f"takes the key ({seen.asked})")
    if seen.reply is None or seen.elsewhere:
        return _elsewhere(seen, error)
    if isinstance(error, NotFound) or error.code == "not_found":
        return warning(name, f"does not know {seen.asked}: whether it takes the key shows with the first task")
    if isinstance(error, AccountProblem):
        return _turned_away(seen, error)
    if isinstance(error, Unavailable):
        return warning(name, f"is in trouble: {_words(error)}", "try again in a while")
    says = f"answers {seen.asked} in a way that cannot be read: {_words(error)}"
    return mistake(name, says, f"is {base} its API?")


def _elsewhere(seen: Checked, error: UpstreamError) -> Finding:
    reply = seen.reply
    if reply is None:
        host = urlsplit(seen.upstream.settings.base_url).hostname
        advice = f"can this machine reach {host}? Look at base_url, DNS, firewall"
        return mistake(seen.upstream.name, _words(error), advice)
    known = PROVIDERS.get(seen.upstream.name)
    right = f"; that of {known.title} is {known.base_url}" if known else ""
    what = "a redirect" if reply.status in REDIRECTS else "a web page"
    says = f"{seen.upstream.settings.base_url} answers {seen.asked} with {what}: that is no API{_whither(seen)}"
    return mistake(seen.upstream.name, says, f"base_url is the bare host of the API, without a path{right}")


def _turned_away(seen: Checked, error: AccountProblem) -> Finding:
    name, known = seen.upstream.name, PROVIDERS.get(seen.upstream.name)
    if error.code == "unauthorized":
        where = f"{known.key_variable}, or upstreams.{name}.key" if known else f"upstreams.{name}.key"
        return mistake(name, f"does not take the key: {_words(error)}", f"look at {where}")
    advice = "look at the account there: its credit, and what the key may do"
    return mistake(name, f"turns the account away: {_words(error)}", advice)


def _whither(seen: Checked) -> str:
    """Say where a redirect leads, as far as that holds no path."""
    headers = {} if seen.reply is None else {key.lower(): value for key, value in seen.reply.headers.items()}
    there = urlsplit(headers.get("location", ""))
    return f" (it leads to {there.scheme}://{there.hostname})" if there.hostname else ""


def _credit(seen: Checked) -> Iterator[Finding]:
    upstream, name = seen.upstream, seen.upstream.name
    if seen.balance_error is not None:
        wrong = isinstance(seen.balance_error, AccountProblem)
        advice = "look at query_url and query_key" if upstream.settings.query_key is not None else None
        yield (mistake if wrong else warning)(
            name, f"does not say what is left on the account: {_words(seen.balance_error)}", advice
        )
    elif seen.balance is None:
        yield ok(name, "credit is not asked for: that takes a query_key")
    elif seen.balance.left is None:
        yield ok(name, "credit without a limit")
    elif is_low(upstream, seen.balance.left) or seen.balance.left <= 0:
        yield warning(name, f"only {seen.balance.left:g} {seen.balance.unit} left", "charge the account")
    else:
        yield ok(name, f"{seen.balance.left:g} {seen.balance.unit} left")


def _callbacks(context: Context, upstream: Upstream) -> Finding:
    """Say whether callbacks can come, and whether they do."""
    calling = [dialect for dialect in upstream.dialects if dialect.callbacks]
    if not calling:
        return ok(upstream.name, "has no callbacks: it is polled")
    if upstream.settings.callbacks == "off":
        return ok(upstream.name, "callbacks are switched off: it is polled")
    if context.settings.public_url is None:
        return ok(upstream.name, "could call back, and is polled: there is no public_url")
    shares = {each.key: context.statistics.callback_share(upstream.name, each.key) for each in calling}
    worst = min(shares, key=lambda key: shares[key])
    if shares[worst] < UNRELIABLE_SHARE:
        says = f"callbacks have all but stopped coming: {shares[worst]:.0%} of the last tasks in {worst}"
        return warning(upstream.name, says, "does /callbacks/ get through to Dovecote?")
    return ok(upstream.name, f"callbacks are on ({upstream.settings.callbacks})")


def _clock(seen: Sequence[Checked]) -> Iterator[Finding]:
    """Hold this machine's clock against those of the upstreams."""
    told = [(each.upstream.name, each.skew) for each in seen if each.skew is not None]
    odd = [(name, skew) for name, skew in told if abs(skew) > ODD_CLOCK]
    for name, skew in odd:
        says = f"that of {name} is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
        verdict = mistake if abs(skew) > WRONG_CLOCK else warning
        yield verdict("clock", says, "let this machine keep time (NTP): signatures bear it")
    if told and not odd:
        yield ok("clock", "agrees with those of the upstreams")


def _words(error: UpstreamError) -> str:
    return " ".join(str(error).split())[:300]
