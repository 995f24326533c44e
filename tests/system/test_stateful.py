"""Submits, callbacks, polls, cancels, retries, faults, crashes and restarts in any order keep six invariants.

Each task has one job unless an event explains more; no acknowledged callback is missing; a task has one end; each change
that needs a message has one; no row stays unprocessed for ever; the events replay to the row.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.domain.task import OPEN, State
from service.store.tables import metadata
from tests.conftest import run_sql
from tests.support.replay import may_have_bought, wrong_with, wrong_with_rows
from tests.support.stage import TWISTS, UPSTREAM_FAULTS, PendingCallback, Stage
from tests.support.world import RECEIVER_URL

pytestmark = pytest.mark.long

MAX_TASKS = 4
DEADLINES = (60, 400, 3600)
WORDS = (
    "",
    "",
    "[fail]",
    "[seconds=0]",
    "[early][seconds=0]",
    "[seconds=100]",
    "[twice]",
    "[stuck]",
    "[refuse]",
    "[ghost=30]",
    "[contradict]",
)
ROUTES = (
    ("elkapi",),
    ("elkapi", "cometapi"),
    ("cometapi", "elkapi"),
    ("elkapi", "runwayml"),
    ("runwayml", "elkapi"),
    ("elkapi", "cometapi", "runwayml"),
)
LIMITS = (
    {},
    {},
    {"DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "1"},
    {"DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "1", "DOVECOTE_UPSTREAMS__ELKAPI__WHEN_FULL": "next"},
    {"DOVECOTE_UPSTREAMS__ELKAPI__SUBMITS_PER_SECOND": "0.1", "DOVECOTE_UPSTREAMS__ELKAPI__POLLS_PER_SECOND": "0.5"},
)
CALLBACKS = ({}, {}, {}, {"DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS": "confirm"}, {"DOVECOTE_PUBLIC_URL": ""})
POLICIES = ("hold", "fail", "resubmit_once")

tasks = st.integers(0, MAX_TASKS - 1)
places = st.integers(0, 2)
upstream_faults = st.sampled_from(UPSTREAM_FAULTS)
alive = precondition(lambda self: not self.stage.dead)
mail = precondition(lambda self: bool(self.stage.mail))


def when(*states: State) -> Any:
    """Allow a rule only while a task is in one of these states."""
    return precondition(lambda self: any(kept.task.state in states for kept in self.seen.tasks))


class Dovecote(RuleBasedStateMachine):
    """The actions and faults of one Dovecote."""

    url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.exits = contextlib.AsyncExitStack()
        self.seen: Any = None
        self.broken = False

    def run(self, act: Coroutine[Any, Any, Any]) -> Any:
        self.changed = True
        try:
            return self.runner.run(act)
        except BaseException:
            self.broken = True
            raise

    @initialize(route=st.sampled_from(ROUTES), limits=st.sampled_from(LIMITS), callbacks=st.sampled_from(CALLBACKS))
    def set_up(self, route: tuple[str, ...], limits: dict[str, str], callbacks: dict[str, str]) -> None:
        routes = {"DOVECOTE_ROUTES__RUNWAY": ",".join(route)}
        self.confirms = "confirm" in callbacks.values()
        opening = Stage.opened_on(type(self).url(), **routes, **limits, **callbacks)
        self.stage: Stage = self.run(self.exits.enter_async_context(opening))

    # ── clients ──

    @precondition(lambda self: len(self.stage.requests) < MAX_TASKS)
    @rule(
        client=st.sampled_from(["ada", "ben"]),
        words=st.sampled_from(WORDS),
        policy=st.sampled_from(POLICIES),
        deadline=st.sampled_from(DEADLINES),
        told=st.booleans(),
        fault=st.none() | upstream_faults,
    )
    def request(self, client: str, words: str, policy: str, deadline: int, *, told: bool, fault: str | None) -> None:
        """Submit a task. With a fault, it is sent while all upstreams are in this fault."""
        more = {"callback_url": RECEIVER_URL} if told else {}
        self.run(self.stage.request(client, words, on_uncertain=policy, deadline=deadline, **more))
        if fault is not None:
            self._hand_over(fault)

    def _hand_over(self, fault: str) -> None:
        before = {name: each.fault for name, each in self.stage.upstreams.items()}
        for each in self.stage.upstreams.values():
            each.fault = fault
        self.run(self.stage.journey("submit"))
        for name, each in self.stage.upstreams.items():
            each.fault = before[name]

    @alive
    @when(*State)
    @rule(task=tasks)
    def insist(self, task: int) -> None:
        self.run(self.stage.insist(task % len(self.stage.requests)))

    @alive
    @when(*OPEN)
    @rule(task=tasks, verb=st.sampled_from(["cancel", "refresh"]))
    def act(self, task: int, verb: str) -> None:
        self.run(self.stage.act(task % len(self.stage.requests), verb))

    @alive
    @when(State.UNCONFIRMED)
    @rule(task=tasks, fault=st.none() | upstream_faults)
    def retry(self, task: int, fault: str | None) -> None:
        self.run(self.stage.act(task % len(self.stage.requests), "retry"))
        if fault is not None:
            self._hand_over(fault)

    # ── the process ──

    @alive
    @rule(journey=st.sampled_from(["submit", "poll", "callbacks", "webhooks", "duplicates"]))
    def journey(self, journey: str) -> None:
        self.run(self.stage.journey(journey))

    @alive
    @rule(steps=st.integers(0, 6))
    def crash_after(self, steps: int) -> None:
        self.stage.crash_after(steps)

    @precondition(lambda self: self.stage.dead)
    @rule()
    def restart(self) -> None:
        self.run(self.stage.restart())

    # ── upstreams ──

    @rule(place=places, fault=upstream_faults)
    def fault(self, place: int, fault: str) -> None:
        upstreams = list(self.stage.upstreams.values())
        upstreams[place % len(upstreams)].fault = fault

    @precondition(lambda self: any(each.holding for each in self.stage.upstreams.values()))
    @rule()
    def let_go(self) -> None:
        self.run(self.stage.let_go())

    @mail
    @rule(number=st.integers(0, 9), take_in=st.booleans())
    def deliver(self, number: int, *, take_in: bool) -> None:
        self._deliver(self._letter(number), take_in=take_in)

    @mail
    @rule(number=st.integers(0, 9), twist=st.sampled_from(sorted(TWISTS)), take_in=st.booleans())
    def deliver_twisted(self, number: int, twist: str, *, take_in: bool) -> None:
        status = self._deliver(TWISTS[twist](self._letter(number)), take_in=take_in)
        assert status in ({0, 404} if twist == "forged" else {0, 200})

    @mail
    @rule(backward=st.booleans())
    def deliver_all(self, *, backward: bool) -> None:
        for pending in self.stage.mail[:: -1 if backward else 1]:
            self._deliver(pending, take_in=False)
        if not self.stage.dead:
            self.run(self.stage.journey("callbacks"))

    def _deliver(self, pending: PendingCallback, *, take_in: bool) -> int:
        status: int = self.run(self.stage.deliver(pending))
        if take_in and not self.stage.dead:
            self.run(self.stage.journey("callbacks"))
        return status

    def _letter(self, number: int) -> PendingCallback:
        return self.stage.mail[-1 - number % len(self.stage.mail)]

    # ── time ──

    @rule(seconds=st.sampled_from([0, 1, 10, 70, 200, 1000]), post=st.booleans(), work=st.booleans())
    def wait(self, seconds: int, *, post: bool, work: bool) -> None:
        self._pass_time(dt.timedelta(seconds=seconds), post=post, work=work)

    @rule(post=st.booleans(), work=st.booleans())
    def jump(self, *, post: bool, work: bool) -> None:
        """Advance the time to the next due moment."""
        moment = self.run(self.stage.next_moment()) or self.stage.now
        self._pass_time(moment - self.stage.now, post=post, work=work)

    def _pass_time(self, span: dt.timedelta, *, post: bool, work: bool) -> None:
        """Advance the time. Upstreams send their callbacks, and due work is done or not."""
        self.stage.world.clock.now += span
        before = len(self.stage.mail)
        self.run(self.stage.let_providers_call())
        for pending in self.stage.mail[before:] if post else ():
            self.run(self.stage.deliver(pending))
        if work and not self.stage.dead:
            self.run(self.stage.work())

    # ── what holds ──

    @invariant()
    def holds(self) -> None:
        if self.changed:
            self.seen = self.run(self.stage.read())
            self.changed = False
            self.judge()

    def judge(self) -> None:
        stage, seen = self.stage, self.seen
        wrong = wrong_with_rows(seen.callbacks, seen.messages, seen.submissions, now=stage.now)
        for kept in seen.tasks:
            prompt = kept.task.input["prompt"]
            wrong += [f"{prompt}: {each}" for each in wrong_with(kept, now=stage.now)]
            jobs, explained = stage.jobs(prompt), may_have_bought(kept.events) + stage.lies(prompt)
            if jobs > explained:
                wrong.append(f"{prompt}: {jobs} jobs, and its events explain {explained}")
        prompts = [kept.task.input["prompt"] for kept in seen.tasks]
        wrong += [f"{prompt}: accepted twice" for prompt in set(prompts) if prompts.count(prompt) > 1]
        stored = {(each.submission_id, each.dedupe_key) for each in seen.callbacks}
        wrong += [
            f"a callback was taken and is not there: {kept[2]}" for kept in stage.acknowledged if kept[:2] not in stored
        ]
        self.broken = bool(wrong)
        assert not wrong, wrong

    # ── the end ──

    def teardown(self) -> None:
        try:
            if hasattr(self, "stage") and not self.broken:
                self.run(self.settle_everything())
                self.judge_the_end()
        finally:
            self.run(self.exits.aclose())
            self.runner.close()

    async def settle_everything(self) -> None:
        """End all faults, and advance the time until no work is left."""
        stage = self.stage
        for each in stage.upstreams.values():
            each.fault = "well"
        await stage.let_go()
        if stage.dead:
            await stage.restart()
        stage.crash_after(10**9)
        give_up = stage.now + dt.timedelta(seconds=max(DEADLINES) + 1200)
        while True:
            await stage.work()
            self.seen = await stage.read()
            self.judge()
            if all(self.at_rest()):
                return
            moment = await stage.next_moment()
            assert moment is not None, self.at_rest()
            assert moment < give_up, [kept.task for kept in self.seen.tasks if not kept.task.state.ended]
            stage.world.clock.now = moment

    def at_rest(self) -> Iterator[bool]:
        yield all(kept.task.state.ended for kept in self.seen.tasks)
        yield all(each.decision is not None for each in self.seen.callbacks)
        yield all(each.state == "delivered" for each in self.seen.messages)
        yield all(each.outcome != "sending" for each in self.seen.submissions)

    def judge_the_end(self) -> None:
        stage, seen = self.stage, self.seen
        received = {each.id for each in stage.receiver.received}
        assert {str(each.id) for each in seen.messages} == received
        owners = {each.id: each.task_id for each in seen.submissions}
        ended = {kept.task.id: kept for kept in seen.tasks}
        for submission, _, pending in stage.acknowledged:
            kept = ended[owners[submission]]
            with contextlib.suppress(ValueError):
                if pending.tells_of_success and ("task_id" in pending.document or not self.confirms):
                    served = kept.task.decided_by == "provider" and kept.task.external_id is not None
                    served |= self.confirms and kept.task.due_at is not None  # a poll is still to confirm it
                    assert kept.task.state is State.SUCCEEDED or served, (
                        "a callback told of a result, and it was not delivered",
                        kept,
                    )
        for kept in seen.tasks:
            self.judge_job(kept.task)

    def judge_job(self, task: Any) -> None:
        """Compare a task with the job that it names as its own."""
        if task.external_id is None:
            return
        job = self.stage.upstreams[task.upstream].sandbox.ledger.find(task.external_id)
        assert job is not None, task
        assert job.prompt == task.input["prompt"], "somebody else's job"
        if task.decided_by == "provider" and job.faults.contradict is None and not job.cancelled:
            assert task.state == job.life.verdict, task


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the log of hundreds of faults out of a failure's report."""
    log = logging.getLogger("dovecote")
    log.disabled = True
    yield
    log.disabled = False


def explore(url: Callable[[], str], *, examples: int, steps: int) -> None:
    machine = type("Dovecote", (Dovecote,), {"url": staticmethod(url)})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, suppress_health_check=checks, print_blob=True
        ),
    )


@pytest.mark.usefixtures("quiet")
def test_invariants_hold_in_any_order(sqlite_template: Path, tmp_path: Path) -> None:
    path = tmp_path / "dovecote.db"

    def fresh() -> str:
        for old in tmp_path.glob("dovecote.db*"):
            old.unlink()
        shutil.copy(sqlite_template, path)
        return f"sqlite:///{path}"

    explore(fresh, examples=120, steps=35)


@pytest.mark.usefixtures("quiet")
def test_invariants_hold_in_any_order_on_postgresql(postgresql: Callable[[str], str]) -> None:
    url = postgresql("dovecote")
    leave = [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]  # noqa: S608 - names of ours

    def emptied() -> str:
        asyncio.run(run_sql(url, ";".join(leave)))
        return url

    explore(emptied, examples=15, steps=30)
