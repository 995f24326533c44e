"""The pages about upstreams, webhooks and the ledger: their numbers, who sees them, and the acts on webhooks."""

import datetime as dt
from collections.abc import AsyncIterator

import pytest

from service.domain.task import State
from service.flows.money.ledger import Account
from service.store.endings import Finished
from service.web.dashboard.ledger import chart_of
from service.web.dashboard.upstreams import BUCKETS, buckets, model_rows
from service.web.dashboard.words import clock, duration, number, remaining, size
from tests.support.clients import ALICE, BOB, MARK, submit_as_alice
from tests.support.pages import OPERATOR, inline_code, visitor
from tests.support.values import NOW, later
from tests.support.world import World

SINCE = NOW - dt.timedelta(days=1)


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with World.opened(database_url, **settings) as world:
        yield world


# Words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (0, "0 s"), (0.84, "0.84 s"), (6.24, "6.2 s"), (41.4, "41 s"), (59.6, "1 m"), (151, "2 m 31 s"),
     (3600, "1 h"), (5880, "1 h 38 m"), (86_400 * 3 + 3600 * 4, "3 d 04 h")],
)  # fmt: skip
def test_duration_has_at_most_two_units(seconds: float, words: str) -> None:
    assert duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (4_100_000, "4.1 MB"), (3 * 10**9, "3.0 GB")]
)
def test_size_is_written_with_its_unit(count: int, words: str) -> None:
    assert size(count).replace("\N{NO-BREAK SPACE}", " ") == words


def test_times_are_short_today_and_dated_otherwise() -> None:
    assert clock(NOW, now=NOW) == f"{NOW:%H:%M:%S}"
    assert clock(NOW - dt.timedelta(days=40), now=NOW).count("-") >= 1
    assert remaining(NOW, now=later(1)) == "due now"
    assert number(1234.5) == "1,234.5"


# Upstreams -------------------------------------------------------------------------------------------------------


def ended(at: dt.datetime, *, state: State = State.SUCCEEDED, code: str | None = None, model: str = "gen4") -> Finished:
    return Finished(
        family="runway", model=model, upstream="elkapi", state=state, code=code, by_callback=True,
        callback_expected=True, seconds=60.0, finished_at=at,
    )  # fmt: skip


def test_models_are_summed_up_with_their_failures() -> None:
    group = [ended(NOW - dt.timedelta(hours=hour)) for hour in range(9)] + [
        ended(NOW, state=State.FAILED, code="no_credit")
    ]
    [first, second] = model_rows([*group, ended(NOW, model="other")], since=SINCE, now=NOW)
    assert (first.model, first.ended, first.share, first.share_tone) == ("gen4", 10, 90, "doubt")
    assert first.codes == (("no_credit", 1),)
    assert first.callbacks == 100
    assert len(first.points.split()) == BUCKETS
    assert second.model == "other"


def test_buckets_hold_every_task_once() -> None:
    group = [ended(SINCE), ended(NOW), ended(NOW + dt.timedelta(seconds=1)), ended(SINCE - dt.timedelta(seconds=1))]
    counts = buckets(group, since=SINCE, now=NOW)
    assert (counts[0], counts[-1], sum(counts)) == (2, 2, 4)


async def test_upstreams_page_shows_what_ended_and_why(world: World) -> None:
    await world.submit("a dove")
    await world.submit("[fail] a dove")
    await world.pass_time(15)
    async with visitor(world) as someone:
        for period in ("1h", "24h", "7d", "x"):
            page = await someone.get(f"/ui/upstreams?period={period}")
            assert "50 %" in page.text
            assert "provider_error 1" in page.text
            assert inline_code(page) == []


async def test_open_circuit_is_shown_first_with_what_happens_next(world: World) -> None:
    world.edge.down.add("sandbox.test")
    for _ in range(6):
        await world.submit("a dove")
    await world.pass_time(30)
    async with visitor(world) as someone:
        page = await someone.get("/ui/upstreams")
        tasks = await someone.get("/ui/tasks")
    assert "circuit open" in page.text
    assert "Upstreams 1 need attention" in tasks.text


# Webhooks --------------------------------------------------------------------------------------------------------


async def test_messages_are_replayed_after_they_were_counted(world: World) -> None:
    world.edge.down.add("receiver.test")
    task = await world.submit("a dove")
    await world.pass_time(15)
    [message] = await world.messages(task)
    assert message.state == "pending"
    async with visitor(world) as someone:
        page = await someone.get("/ui/webhooks")
        world.edge.down.clear()
        done = await someone.post(f"/ui/webhooks/messages/{message.id}/replay")
        await world.work()
        counted = await someone.post("/ui/webhooks/replay", since="24h", state="delivered")
        before = world.receiver.received[0].attempts
        replayed = await someone.post("/ui/webhooks/replay", since="24h", state="delivered", confirmed="true")
    await world.work()
    assert "no answer" in page.text
    assert "1 message is due now." in done.text
    assert "Replay 1 message?" in counted.text
    assert world.receiver.received[0].attempts == before + 1
    assert "1 message is due now." in replayed.text


async def test_endpoint_is_tested_from_the_page(world: World) -> None:
    await world.client.post("/v1/endpoints", json={"url": "http://receiver.test/e", "description": "shop"})
    async with visitor(world) as someone:
        page = await someone.get("/ui/webhooks")
        target = next(
            str(each["action"]) for each in page.attributes("form") if str(each.get("action")).endswith("/test")
        )
        done = await someone.post(target)
    assert "The receiver answered the test message with 2" in done.text or "no answer yet" in done.text


async def test_address_puts_no_words_into_a_page(world: World) -> None:
    async with visitor(world) as someone:
        for path in ("/ui/webhooks?replayed=", "/ui/webhooks?tested=", "/ui/callbacks?ran="):
            page = await someone.get(f"{path}Your+key+has+expired")
            assert "expired" not in page.text
        assert "3 messages are due now" in (await someone.get("/ui/webhooks?replayed=3")).text
        assert (await someone.client.head("/ui/live")).status_code == 200


async def test_client_sees_its_own_webhooks_and_upstreams_and_no_ledger(keyed: World) -> None:
    await submit_as_alice(keyed, MARK)
    await keyed.pass_time(15)
    async with visitor(keyed, BOB) as bob:
        for address in ("/ui/webhooks", "/ui/webhooks?client=alice", "/ui/upstreams"):
            page = await bob.get(address)
            assert page.status == 200
            assert MARK not in page.response.text
            assert "Runway" not in page.text
        for address in ("/ui/ledger", "/ui/ledger.csv", "/ui/callbacks"):
            assert (await bob.get(address)).status == 403
    async with visitor(keyed, OPERATOR) as ops:
        assert "task.succeeded" in (await ops.get("/ui/webhooks?client=alice")).text
        assert "Runway" in (await ops.get("/ui/upstreams")).text


# The ledger ------------------------------------------------------------------------------------------------------


async def test_ledger_counts_each_submission_once(world: World) -> None:
    await world.submit("a dove")
    await world.submit("[refuse] a dove")
    await world.pass_time(15)
    async with visitor(world) as someone:
        for by in ("upstream", "day", "client", "x"):
            page = await someone.get(f"/ui/ledger?by={by}&period=7d")
            assert "Paid 1 160 points" in page.text
            assert inline_code(page) == []
        table = (await someone.client.get("/ui/ledger.csv")).text.splitlines()
    assert table[0].startswith("upstream,family,submissions,paid")
    assert table[1].startswith("elkapi,runway,2,1,0,0,0,1,160 points")


def test_chart_has_a_bar_for_each_kind_of_each_day() -> None:
    days = {f"{NOW:%Y-%m-%d}": Account(paid=10, perhaps_paid=1, unpaid=4)}
    chart = chart_of(days, since=NOW - dt.timedelta(days=6), now=NOW)
    assert [bar.tone for bar in chart.bars] == ["work", "doubt", "calm"]
    assert len(chart.days) == 7
    assert all(0 <= bar.y <= 200 and bar.height >= 3 for bar in chart.bars)
    assert "between 0 and 10 paid" in chart.label
