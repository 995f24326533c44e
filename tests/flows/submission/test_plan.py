"""Properties of the plan: the next upstream, skipped upstreams, the number of tries, and the order of clients."""

import dataclasses
import datetime as dt
import itertools
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.circuit_breaker import FAILURES, OPEN_FOR, WINDOW, Circuit
from service.domain.fair_share import NEVER, allocate, position, tied_clients
from service.domain.rate_limit import Rate
from service.domain.routing import TRIES, choose, ranked, tries
from service.domain.task import Outcome, Submission

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
OUTCOMES = ("sending", "taken", "refused", "account", "unavailable", "uncertain")


def later(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def submission(upstream: str, outcome: str, retry_in: float | None = None) -> Submission:
    retry_at = None if retry_in is None else later(retry_in)
    return Submission(
        id=UUID(int=1),
        task_id=UUID(int=2),
        upstream=upstream,
        dialect="d",
        outcome=Outcome(outcome),
        sent_at=NOW,
        retry_at=retry_at,
    )


# ── routes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

names = st.sampled_from("abcd")
routes = st.lists(names, unique=True, max_size=4)
histories = st.lists(
    st.builds(submission, names, st.sampled_from(OUTCOMES), st.none() | st.sampled_from([-10.0, 0.0, 10.0])),
    max_size=14,
)


@given(routes, histories)
def test_plan_ranks_each_upstream_once_without_account_failures(route: list[str], history: list[Submission]) -> None:
    away = {each.upstream for each in history if each.outcome == "account"}
    order = ranked(route, history, now=NOW)
    assert sorted(order) == sorted(set(route) - away)
    assert choose(route, history, now=NOW) == (order[0] if order else None)


@given(routes, histories)
def test_resting_upstreams_are_ranked_last(route: list[str], history: list[Submission]) -> None:
    resting = {each.upstream for each in history if each.retry_at is not None and each.retry_at > NOW}
    perhaps = {each.upstream for each in history if each.outcome == "uncertain"}
    order = [(name in resting, name in perhaps) for name in ranked(route, history, now=NOW)]
    assert order == sorted(order)


def test_uncertain_upstream_is_ranked_before_a_resting_one() -> None:
    history = [
        submission("a", "unavailable", 10.0),
        submission("b", "uncertain"),
        submission("c", "unavailable", -10.0),
    ]
    assert ranked("abc", history, now=NOW) == ["c", "b", "a"]


@given(routes, histories)
def test_first_upstream_is_used_until_its_tries_are_spent(route: list[str], history: list[Submission]) -> None:
    plain = [each for each in history if each.outcome not in {"account", "uncertain"} and each.retry_at is None]
    order = ranked(route, plain, now=NOW)
    fresh = [name for name in route if tries(name, plain) < TRIES]
    assert order[: len(fresh)] == fresh
    used = [tries(name, plain) for name in order[len(fresh) :]]
    assert used == sorted(used)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_upstreams_alternate_after_three_tries_each(count: int) -> None:
    route, history = list("abc")[:count], []
    asked = []
    for _ in range(5 * count):
        name = choose(route, history, now=NOW)
        assert name is not None
        asked.append(name)
        history.append(submission(name, "unavailable"))
    assert "".join(asked) == "".join(name * 3 for name in route) + "".join(route) * 2


# ── circuits ───────────────────────────────────────────────────────────────────────────────────────────────────────

CLOSED = Circuit(upstream="elkapi", dialect="runway/aggregator")


def failing(*seconds: float) -> Circuit:
    circuit = CLOSED
    for each in seconds:
        circuit = circuit.failed(later(each))
    return circuit


@given(st.lists(st.integers(0, 300), max_size=12))
def test_circuit_opens_at_the_fifth_failure_within_a_minute(moments: list[int]) -> None:
    circuit, counted = CLOSED, []
    for moment in sorted(moments):
        circuit = circuit.failed(later(moment))
        counted = [each for each in counted if each > moment - WINDOW] + [moment]
        if len(counted) >= FAILURES:
            assert circuit.state(later(moment)) == "open"
            assert (circuit.opened_at, circuit.open_until) == (later(moment), later(moment + OPEN_FOR))
            return
        assert circuit.state(later(moment)) == "closed"


@given(st.floats(0, OPEN_FOR - 0.001), st.floats(0, 1000))
def test_circuit_is_half_open_after_thirty_seconds(within: float, after: float) -> None:
    circuit = failing(0, 0, 0, 0, 0)
    assert circuit.state(later(within)) == "open"
    assert circuit.failed(later(within)) == circuit, "what was sent before it opened says nothing new"
    tried = later(OPEN_FOR + after)
    assert circuit.state(tried) == "half_open"
    probing = dataclasses.replace(circuit, probe_until=tried + dt.timedelta(seconds=60))
    assert probing.state(tried) == "probing"
    assert probing.state(tried + dt.timedelta(seconds=60)) == "half_open", "whoever tried is not waited for for ever"


@given(after=st.floats(OPEN_FOR, 1000), claimed=st.booleans())
def test_probe_outcome_closes_or_reopens_the_circuit(after: float, *, claimed: bool) -> None:
    circuit = failing(0, 0, 0, 0, 0)
    probing = dataclasses.replace(circuit, probe_until=later(after + 60) if claimed else None)
    again = probing.failed(later(after))
    assert again.state(later(after)) == "open"
    assert (again.opened_at, again.open_until, again.probe_until) == (NOW, later(after + OPEN_FOR), None)
    assert probing.answered() == CLOSED


# ── rate limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────

rate_limits = st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 7.0, 10.0, 100.0])


@given(rate_limits, st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 300)), max_size=40))
def test_rate_limit_never_exceeds_its_window(per_second: float, requests: list[tuple[int, int]]) -> None:
    """At each request as many are taken as the window allows."""
    rate, now, taken = Rate(per_second), NOW, []
    for microseconds, wanted in requests:
        now += dt.timedelta(microseconds=microseconds)
        count = min(rate.free(now), wanted)
        assert (rate.free(now) >= 1) == (rate.wait(now) <= 1e-6)
        rate = rate.taken(now, count) if count else rate
        taken.append((now, count))
    burst = max(int(per_second), 1)
    for start, end in itertools.combinations_with_replacement(range(len(taken)), 2):
        seconds = (taken[end][0] - taken[start][0]).total_seconds()
        assert sum(count for _, count in taken[start : end + 1]) <= per_second * seconds + burst + 1e-3


@given(rate_limits, st.integers(1, 20), st.floats(0, 5))
def test_rate_limit_admits_after_the_stated_wait(per_second: float, takes: int, after: float) -> None:
    rate, now = Rate(per_second), later(after)
    for _ in range(takes):
        now += dt.timedelta(seconds=rate.wait(now), microseconds=1)
        assert rate.free(now) >= 1
        rate = rate.taken(now, rate.free(now))
        assert rate.free(now) == 0
        assert 0 < rate.wait(now) <= 1 / per_second + 1e-6


def test_rate_limit_saves_up_one_second_only() -> None:
    rate = Rate(5.0).taken(NOW, 5)
    assert [rate.free(later(seconds)) for seconds in (0, 0.2, 1, 1000)] == [0, 1, 5, 5]


# ── clients ────────────────────────────────────────────────────────────────────────────────────────────────────────

clients = st.sampled_from("abcde")
served_times = st.dictionaries(clients, st.integers(0, 3).map(later))


@st.composite
def queues(draw: st.DrawFn) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Draw the number of slots of each client, and its waiting tasks as numbers: an older task has a lower number."""
    served = draw(st.dictionaries(clients, st.integers(0, 4)))
    waiting: dict[str, list[int]] = {}
    for number, client in enumerate(draw(st.lists(clients, max_size=15))):
        waiting.setdefault(client, []).append(number)
    return served, waiting


@given(queues(), served_times, st.integers(0, 20))
def test_allocation_keeps_the_order_of_each_client(
    queue: tuple[dict[str, int], dict[str, list[int]]], served_at: dict[str, dt.datetime], free: int
) -> None:
    served, waiting = queue
    chosen = allocate(served, waiting, free=free, served_at=served_at)
    assert len(chosen) == min(free, sum(map(len, waiting.values())))
    for client, own in waiting.items():
        mine = [number for of, number in chosen if of == client]
        assert mine == own[: len(mine)]


@given(queues(), served_times, st.integers(0, 20))
def test_allocation_prefers_the_client_with_fewest_slots(
    queue: tuple[dict[str, int], dict[str, list[int]]], served_at: dict[str, dt.datetime], free: int
) -> None:
    served, waiting = queue
    has = {client: served.get(client, 0) for client in waiting}
    left = {client: len(own) for client, own in waiting.items()}
    for client, _ in allocate(served, waiting, free=free, served_at=served_at):
        assert has[client] == min(has[other] for other in waiting if left[other])
        has[client] += 1
        left[client] -= 1


@given(st.lists(clients, min_size=1, unique=True), st.integers(0, 30))
def test_allocation_differs_by_at_most_one_slot(waiting: list[str], free: int) -> None:
    queue = {client: list(range(100 * number, 100 * number + 30)) for number, client in enumerate(waiting)}
    chosen = [client for client, _ in allocate({}, queue, free=free, served_at={})]
    counts = [chosen.count(client) for client in waiting]
    assert max(counts) - min(counts) <= 1


@given(queues(), st.integers(1, 3))
def test_clients_take_turns_where_slots_are_fewer_than_clients(
    queue: tuple[dict[str, int], dict[str, list[int]]], slots: int
) -> None:
    """Each slot is released before the next one is taken. Only the time of the last turn distinguishes the clients."""
    waiting = {client: list(own) for client, own in queue[1].items()}
    served_at: dict[str, dt.datetime] = {}
    for step in range(40):
        open_clients = {client for client, own in waiting.items() if own}
        chosen = allocate({}, waiting, free=slots, served_at=served_at)
        for client, number in chosen:
            for other in open_clients:
                # No client is served again before all waiting ones have been.
                assert served_at.get(client, NEVER) <= served_at.get(other, NEVER) or other in dict(chosen)
            waiting[client].remove(number)
        served_at |= {client: later(step) for client, _ in chosen}


@given(queues(), served_times)
def test_position_matches_the_order_of_allocation(
    queue: tuple[dict[str, int], dict[str, list[int]]], served_at: dict[str, dt.datetime]
) -> None:
    served, waiting = queue
    order = allocate(served, waiting, free=100, served_at=served_at)
    counts = {client: len(own) for client, own in waiting.items()}
    for client, own in waiting.items():
        tied = tied_clients(served, served_at, counts, client=client)
        older = {other for other in tied if waiting[other][0] < own[0]}
        for before, number in enumerate(own):
            place = position(served, counts, client=client, before=before, served_at=served_at, older=older)
            assert order[place] == (client, number)
