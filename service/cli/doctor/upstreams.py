"""Check every upstream: host, key, credit, callbacks, circuits and clock."""

import asyncio
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from service.cli.doctor.finding import Finding, error, ok, warning
from service.domain.callback_token import Tokens
from service.domain.circuit_breaker import Circuit
from service.domain.errors import AccountProblem, NotFound, Unavailable, UpstreamError
from service.domain.statistics import UNRELIABLE_SHARE
from service.domain.task import Result
from service.flows import statistics as statistics_module
from service.flows.context import Context, Upstream, upstreams_of
from service.flows.upstreams.check import REDIRECTS, Checked, check
from service.flows.upstreams.credit import is_low
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.providers.outputs import is_internal
from service.providers.registry import PROVIDERS
from service.settings.model import Settings
from service.settings.values import parts_of
from service.store import circuits as circuit_store
from service.store.database import Database
from service.store.endings import recent_endings, recent_results
from service.store.writer import Writers

RESULTS_SINCE: Final = dt.timedelta(days=7)
MAX_RESULTS: Final = 500
"""Tasks whose results are looked through."""
SKEW_WARNING: Final = 30.0
SKEW_ERROR: Final = 300.0
"""Seconds beyond which signatures are refused."""
UNUSED_DATABASE: Final = "sqlite:///unused.db"


async def check_upstreams(settings: Settings, database: Database | None) -> list[Finding]:
    """Check all upstreams at once. Nothing is bought, and nothing is written."""
    http = Http.real(Guard(settings.webhook_rules))
    store = database or Database(UNUSED_DATABASE)
    context = Context(
        settings=settings,
        database=store,
        writers=Writers(store),
        http=http,
        tokens=Tokens(""),
        webhook_secret="",
        upstreams=upstreams_of(settings),
    )
    results: Sequence[tuple[UUID, str, tuple[Result, ...]]] = []
    try:
        circuits = await _stored_circuits(context) if database is not None else []
        if database is not None:
            async with database.reading() as connection:
                results = await recent_results(connection, since=context.now() - RESULTS_SINCE, most=MAX_RESULTS)
        seen = await asyncio.gather(*(check(context, each) for each in context.upstreams.values()))
    finally:
        await http.close()
    found = [finding for each in seen for finding in _of(context, each, circuits)]
    return [*found, *internal_results(context.upstreams, results), *_clock(seen)]


def internal_results(
    upstreams: Mapping[str, Upstream], recent: Sequence[tuple[UUID, str, tuple[Result, ...]]]
) -> Iterator[Finding]:
    """Warn of upstreams whose results have addresses that lead nowhere outside their own network."""
    found: dict[str, list[tuple[UUID, str]]] = {}
    for task_id, name, results in recent:
        own = urlsplit(upstreams[name].settings.base_url).hostname if name in upstreams else None
        hosts = [
            urlsplit(each.url).hostname or "" for each in results if each.url is not None and is_internal(each.url)
        ]
        if any(host != own for host in hosts):
            found.setdefault(name, []).append((task_id, next(host for host in hosts if host != own)))
    for name, tasks in found.items():
        task_id, host = tasks[0]
        yield warning(
            name,
            f"returned results with an internal address ({host[:80]}) for {len(tasks)} of the last tasks, such as {task_id}",
            "clients cannot fetch them: set the public address in the gateway's own settings (new-api: ServerAddress)",
        )


async def _stored_circuits(context: Context) -> Sequence[Circuit]:
    """Read the statistics and the circuits that the server has stored."""
    async with context.database.reading() as connection:
        endings = await recent_endings(
            connection, since=context.now() - statistics_module.WINDOW, most=statistics_module.MAX_ENDINGS
        )
        circuits = await circuit_store.all_known(connection)
    context.statistics.replace(endings)
    return list(circuits.values())


def _of(context: Context, seen: Checked, circuits: Sequence[Circuit]) -> Iterator[Finding]:
    name = seen.upstream.name
    if not seen.upstream.dialects:
        yield error(name, "has no dialect", f"set upstreams.{name}.dialects")
        return
    yield _key(seen)
    if seen.error is None:
        yield from _credit(seen)
    if seen.jobs_error is not None:
        message = f"does not return the account's list of jobs: {_words(seen.jobs_error)}"
        wrong = isinstance(seen.jobs_error, AccountProblem)
        yield (error if wrong else warning)(name, message, "check account_token and account_user" if wrong else None)
    yield _callbacks(context, seen.upstream)
    for circuit in circuits:
        if circuit.upstream == name and circuit.state(context.now()) != "closed" and circuit.opened_at is not None:
            since = circuit.opened_at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
            yield warning(
                name,
                f"keeps failing in {circuit.dialect}: not used since {since} UTC",
                "Dovecote tries it again by itself",
            )


def _key(seen: Checked) -> Finding:
    """Report whether the host is right and accepts the key."""
    name, problem = seen.upstream.name, seen.error
    base = seen.upstream.settings.base_url
    if problem is None:
        return ok(name, f"accepts the key ({seen.asked})")
    if seen.reply is None or seen.elsewhere:
        return _wrong_host(seen, problem)
    if isinstance(problem, NotFound) or problem.code == "not_found":
        return warning(name, f"does not know {seen.asked}: the first task will show whether it accepts the key")
    if isinstance(problem, AccountProblem):
        return _account_refused(seen, problem)
    if isinstance(problem, Unavailable):
        return warning(name, f"is unavailable: {_words(problem)}", "try again in a while")
    message = f"sends an unreadable answer to {seen.asked}: {_words(problem)}"
    return error(name, message, f"is {base} its API?")


def _wrong_host(seen: Checked, problem: UpstreamError) -> Finding:
    reply = seen.reply
    if reply is None:
        host = urlsplit(seen.upstream.settings.base_url).hostname
        advice = f"can this machine reach {host}? Check base_url, DNS and firewall"
        return error(seen.upstream.name, _words(problem), advice)
    known = PROVIDERS.get(seen.upstream.name)
    right = f"; for {known.title} it is {known.base_url}" if known else ""
    what = "a redirect" if reply.status in REDIRECTS else "a web page"
    message = f"{seen.upstream.settings.base_url} answers {seen.asked} with {what}, so it is not an API{_redirect_target(seen)}"
    return error(seen.upstream.name, message, f"base_url is the bare host of the API, without a path{right}")


def _account_refused(seen: Checked, problem: AccountProblem) -> Finding:
    name, known = seen.upstream.name, PROVIDERS.get(seen.upstream.name)
    if problem.code == "unauthorized":
        where = f"{known.key_variable}, or upstreams.{name}.key" if known else f"upstreams.{name}.key"
        return error(name, f"rejects the key: {_words(problem)}", f"check {where}")
    advice = "check the account there: its credit, and the permissions of the key"
    return error(name, f"refuses the account: {_words(problem)}", advice)


def _redirect_target(seen: Checked) -> str:
    """Return the scheme and host to which a redirect leads."""
    headers = {} if seen.reply is None else {key.lower(): value for key, value in seen.reply.headers.items()}
    there = parts_of(headers.get("location", ""))
    return f" (to {there.scheme}://{there.hostname})" if there is not None and there.hostname else ""


def _credit(seen: Checked) -> Iterator[Finding]:
    upstream, name = seen.upstream, seen.upstream.name
    if seen.balance_error is not None:
        wrong = isinstance(seen.balance_error, AccountProblem)
        advice = "check query_url and query_key" if upstream.settings.query_key is not None else None
        yield (error if wrong else warning)(name, f"does not report the credit: {_words(seen.balance_error)}", advice)
    elif seen.balance is None:
        yield ok(name, "credit is not checked: that needs a query_key")
    elif seen.balance.left is None:
        yield ok(name, "unlimited credit")
    elif is_low(upstream, seen.balance.left) or seen.balance.left <= 0:
        yield warning(name, f"only {seen.balance.left:g} {seen.balance.unit} left", "top up the account")
    else:
        yield ok(name, f"{seen.balance.left:g} {seen.balance.unit} left")


def _callbacks(context: Context, upstream: Upstream) -> Finding:
    """Report whether callbacks can arrive, and whether they do."""
    calling = [dialect for dialect in upstream.dialects if dialect.facts.callbacks]
    if not calling:
        return ok(upstream.name, "has no callbacks: it is polled")
    if upstream.settings.callbacks == "off":
        return ok(upstream.name, "callbacks are switched off: it is polled")
    if context.settings.public_url is None:
        return ok(upstream.name, "could call back, but there is no public_url: it is polled")
    keys = [each.facts.key for each in calling]
    shares = {key: context.statistics.callback_share(upstream.name, key) for key in keys}
    worst = min(shares, key=lambda key: shares[key])
    if shares[worst] < UNRELIABLE_SHARE:
        message = f"callbacks hardly arrive: {shares[worst]:.0%} of the last tasks in {worst}"
        return warning(upstream.name, message, "does the proxy forward /callbacks/ to Dovecote?")
    return ok(upstream.name, f"callbacks are on ({upstream.settings.callbacks})")


def _clock(seen: Sequence[Checked]) -> Iterator[Finding]:
    """Compare this machine's clock with those of the upstreams."""
    told = [(each.upstream.name, each.skew) for each in seen if each.skew is not None]
    odd = [(name, skew) for name, skew in told if abs(skew) > SKEW_WARNING]
    for name, skew in odd:
        message = f"the clock of {name} is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
        report = error if abs(skew) > SKEW_ERROR else warning
        yield report("clock", message, "synchronise this machine's clock (NTP): signatures contain the time")
    if told and not odd:
        yield ok("clock", "agrees with those of the upstreams")


def _words(problem: UpstreamError) -> str:
    return " ".join(str(problem).split())[:300]
