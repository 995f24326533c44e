"""Crashes between any two steps of a purchase: no reservation stays behind, and the books are right after the restart."""

import itertools
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from service.flows.money import sweep
from service.sandbox import Receiver
from service.store.tables import money_entries, reservations
from tests.support.crashes import DEADLINE, LONGEST_LEASE, Crash, CrashPoint, start_process
from tests.support.money import faults_in_ledger
from tests.support.prices import prices_file
from tests.support.world import World

WORDS = ("", "[drop]", "[twice][disorder][early]", "[fail]", "[429]", "[cut]", "[drop][cut]", "[refuse]")
"""Faults of the provider, besides the crash."""


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    prices = prices_file(tmp_path, rate="160", in_usd=True)
    settings = {"DOVECOTE_MONEY__PRICES_FILE": str(prices), "DOVECOTE_MONEY__BUDGETS": "all limit=9000 soft=1"}
    async with World.opened(database_url, **settings) as opened:
        yield opened


@pytest.mark.parametrize(
    ("database_url", "words"),
    [
        *(("sqlite", words) for words in ("[cut]", "[fail]")),
        *(pytest.param("sqlite", words, marks=pytest.mark.long) for words in WORDS if words not in {"[cut]", "[fail]"}),
        ("postgresql", "[fail]"),
        *(pytest.param("postgresql", words, marks=pytest.mark.long) for words in WORDS if words != "[fail]"),
    ],
    indirect=["database_url"],
)
async def test_crash_at_any_step_leaves_no_reservation_and_right_books(world: World, words: str) -> None:
    healthy = world.context
    world.edge.hosts["receiver.test"] = httpx.ASGITransport(Receiver().app)
    for last_step in itertools.count(1):
        crash_point = CrashPoint(last_step)
        start_process(world, healthy, crash_point)
        try:
            await world.submit(f"{words} a dove, until step {last_step}", deadline=DEADLINE)
            await world.until(DEADLINE + 1)
        except Crash:
            assert crash_point.dead
        assert await faults_in_ledger(world) == [], (words, last_step, "before the restart")
        start_process(world, healthy, CrashPoint(10**9))
        if world.context.database.sqlite:
            await world.release_leases()
        await world.until(DEADLINE + LONGEST_LEASE)
        assert await faults_in_ledger(world) == [], (words, last_step)
        if not crash_point.dead:
            break
    assert last_step > 6, "too few steps: something did not happen at all"
    await judge_the_account(world, words)


async def judge_the_account(world: World, words: str) -> None:
    """Compare what counts in the ledger with what the provider's account has lost."""
    jobs = world.sandbox.ledger.jobs
    lost = sum(job.points for job in jobs if job.paid and not job.faults.fail)
    async with world.context.database.reading() as connection:
        current = list(await connection.execute(select(money_entries).where(money_entries.c.superseded_at.is_(None))))
        open_ones = (await connection.execute(select(reservations).where(reservations.c.settled_at.is_(None)))).all()
    assert open_ones == []
    sure = sum((each.amount for each in current if each.verdict == "charged"), Decimal(0))
    perhaps = sum((each.amount for each in current if each.verdict == "probably_charged"), Decimal(0))
    assert sure <= lost <= sure + perhaps, (words, sure, lost, perhaps)
    # A price that is not the provider's figure is booked only where nobody can find out whether there was a job.
    assert perhaps == 0 or {each.basis for each in current if each.verdict == "probably_charged"} <= {"price", "quote"}


async def test_reservation_of_a_task_that_an_older_process_ended_is_settled_by_the_sweep(world: World) -> None:
    """The check comes an hour after the purchase at the latest."""
    task = await world.submit("[drop] a dove", callback_url=None)
    await world.work()
    healthy = world.context
    prices, budgets = healthy.prices, healthy.budgets
    healthy.prices, healthy.budgets, healthy.own_budgets = {}, (), ()  # a process without money, as an older one is
    await world.until(2000)
    assert (await world.task(task)).state.ended
    healthy.prices, healthy.budgets, healthy.own_budgets = prices, budgets, budgets
    async with healthy.database.reading() as connection:
        [row] = await connection.execute(select(reservations))
    assert row.settled_at is None
    world.clock.forward(3600)
    assert await sweep.run_due(healthy) == 1
    assert await faults_in_ledger(world) == []
