"""Admission to an upstream over a shared database: slots, queues, submits per second, and probes."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from service.domain.circuit_breaker import OPEN_FOR, Circuit
from service.domain.fair_share import allocate
from service.domain.task import State, Task, WaitingFor
from service.flows.concurrency import TaskPool
from service.flows.submission import run as submission_run
from service.flows.upstreams.admission import Admission, claim_next, read_admission
from service.flows.upstreams.status import queue_position
from service.providers.registry import DIALECTS
from service.sandbox import Faults
from service.store import circuits as circuit_store
from service.store import upstreams as upstream_store
from service.store import waiting as waiting_store
from service.store.database import Database
from tests.support.query_plans import fill, plan_of, uses
from tests.support.routes import three_upstreams
from tests.support.stage import FaultyUpstream
from tests.support.values import NOW, a_task, keep, later, opened
from tests.support.world import JOB_SECONDS, World

TASK_REQUEST: dict[str, Any] = {"operation": "text_to_video", "callback_url": None}
ELK = "elkapi"
KEY = (ELK, "runway/aggregator")
LINE = "elkapi runway/aggregator"
SLOT = WaitingFor(ELK)
RECOVERY = WaitingFor(*KEY)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


def served(upstream: str, client: str, state: State = State.RUNNING) -> Task:
    return a_task(state=state, upstream=upstream, client=client)


def waiting(line: str, client: str) -> Task:
    return a_task(waits_for=WaitingFor.from_key(line), client=client)


# ── statements ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tasks_in_progress_count_as_served(database: Database) -> None:
    counting = (State.SUBMITTING, State.SUBMITTED, State.RUNNING)
    await keep(database, *(served(ELK, "ada", state) for state in State if state is not State.QUEUED))
    await keep(database, a_task(), served(ELK, "ben"), served("cometapi", "ada"))
    async with database.reading() as connection:
        assert await waiting_store.served_by_client(connection, [ELK, "nobody"]) == {
            ELK: {"ada": len(counting), "ben": 1}
        }
        assert await waiting_store.served_by_client(connection, []) == {}


async def test_waiting_tasks_are_read_per_client_oldest_first(database: Database) -> None:
    ada, ben = [waiting(ELK, "ada") for _ in range(4)], [waiting(ELK, "ben") for _ in range(2)]
    other = waiting(LINE, "ada")
    await keep(database, *reversed([*ada, *ben, other]), a_task(client="ada"))
    async with database.reading() as connection:
        assert await waiting_store.awaited(connection, [ELK, LINE, "cometapi"]) == {ELK, LINE}
        assert await waiting_store.awaited(connection, []) == set()
        line = await waiting_store.first_of_each_client(connection, ELK, most=3)
        assert line == {"ada": [task.id for task in ada[:3]], "ben": [task.id for task in ben]}
        assert await waiting_store.first_of_each_client(connection, "cometapi", most=3) == {}
        assert await waiting_store.count_by_client(connection, ELK) == {"ada": 4, "ben": 2}
        assert [await waiting_store.count_before(connection, ELK, "ada", task.id) for task in ada] == [0, 1, 2, 3]
        assert [await waiting_store.nth_of_client(connection, ELK, "ada", n) for n in range(5)] == [
            *(t.id for t in ada),
            None,
        ]


async def test_circuit_opens_after_five_failures_and_closes_after_an_answer(
    database: Database,
) -> None:
    until = later(OPEN_FOR)
    async with database.writing() as connection:
        assert await circuit_store.record_failures(connection, [(*KEY, NOW)] * 3) == [False] * 3
        assert await circuit_store.record_failures(connection, [(*KEY, NOW)] * 4) == [False, True, False, False]
        await circuit_store.close(connection, [("cometapi", KEY[1])])
        circuit = (await circuit_store.all_known(connection))[KEY]
        assert (circuit.state(NOW), circuit.opened_at, circuit.open_until) == ("open", NOW, until)
        assert not await circuit_store.claim_probe(connection, circuit, now=NOW, until=later(90))
        assert await circuit_store.claim_probe(connection, circuit, now=until, until=later(90))
        assert not await circuit_store.claim_probe(connection, circuit, now=later(89), until=later(150))
        assert await circuit_store.claim_probe(connection, circuit, now=later(90), until=later(150))
        await circuit_store.close(connection, [KEY])
        assert await circuit_store.all_known(connection) == {}


async def test_closed_circuit_keeps_its_failures_after_an_answer(database: Database) -> None:
    async with database.writing() as connection:
        await circuit_store.record_failures(connection, [(*KEY, NOW)] * 4)
        await circuit_store.close(connection, [KEY])
        assert await circuit_store.record_failures(connection, [(*KEY, NOW)]) == [True]


async def test_shared_facts_of_an_upstream_do_not_overwrite_each_other(database: Database) -> None:
    async with database.writing() as connection:
        assert await upstream_store.lock(connection, []) == {}
        assert await upstream_store.lock(connection, [ELK]) == {ELK: upstream_store.Upstream(name=ELK)}
        await upstream_store.move_submit_slot(connection, ELK, later(1))
        await upstream_store.move_poll_slot(connection, ELK, later(2))
        await upstream_store.save_credit(
            connection, [upstream_store.Upstream(name=ELK, credit=7.5, credit_unit="$", credit_at=NOW)]
        )
        await upstream_store.save_credit(
            connection, [upstream_store.Upstream(name="cometapi", credit_error="no route")]
        )
        known = await upstream_store.all_known(connection)
    slots = {"submit_slot_at": later(1), "poll_slot_at": later(2)}
    assert known[ELK] == upstream_store.Upstream(name=ELK, credit=7.5, credit_unit="$", credit_at=NOW, **slots)
    assert known["cometapi"].credit_error == "no route"


async def test_waiting_and_served_queries_use_their_indexes(database: Database) -> None:
    in_line = text("UPDATE tasks SET state = 'queued', waits_for = 'elkapi' WHERE client = 'another'")
    async with database.writing() as connection:
        await fill(connection)
        await connection.execute(in_line)
        if not database.sqlite:
            await connection.execute(text("ANALYZE tasks"))
    reads: list[tuple[str, Any]] = [
        ("ix_tasks_waiting", lambda connection: waiting_store.awaited(connection, [ELK, LINE, "cometapi"])),
        ("ix_tasks_waiting", lambda connection: waiting_store.first_of_each_client(connection, "cometapi", most=3)),
        ("ix_tasks_waiting", lambda connection: waiting_store.first_of_each_client(connection, ELK, most=3)),
        ("ix_tasks_waiting", lambda connection: waiting_store.nth_of_client(connection, ELK, "another", 2)),
        ("ix_tasks_waiting", lambda connection: waiting_store.count_before(connection, ELK, "another", a_task().id)),
        ("ix_tasks_waiting", lambda connection: waiting_store.count_by_client(connection, ELK)),
        ("ix_tasks_served", lambda connection: waiting_store.served_by_client(connection, ["cometapi"])),
    ]
    for index, act in reads:
        async with database.writing() as connection:
            plan = await plan_of(connection, act)
        assert uses(plan, index), plan


# ── one round ──────────────────────────────────────────────────────────────────────────────────────────────────────


def limited(**limits: str) -> dict[str, str]:
    more = {f"DOVECOTE_UPSTREAMS__ELKAPI__{name.upper()}": value for name, value in limits.items()}
    return {"DOVECOTE_ROUTES__RUNWAY": "elkapi", **more}


async def admission_of(world: World) -> Admission:
    context = world.context
    async with context.database.writing() as connection:
        lines = await waiting_store.awaited(connection, [each.key for each in context.waits])
        return await read_admission(context, connection, lines)


def try_admit(world: World, admission: Admission, waited_for: WaitingFor | None = None) -> WaitingFor | None:
    """Admit a task, or return the reason why it waits."""
    upstream = world.context.upstreams[ELK]
    rejection = admission.rejection(upstream, upstream.dialects[0], waited_for=waited_for)
    if rejection is not None:
        return rejection.waits_for
    admission.admit(upstream, upstream.dialects[0], client="ada")
    return None


async def test_slots_of_all_processes_are_counted(database_url: str) -> None:
    async with World.opened(database_url, **limited(open_tasks="3", concurrency="2")) as world:
        assert [try_admit(world, admission) for admission in [await admission_of(world)] for _ in range(3)] == [
            None,
            None,
            SLOT,
        ]
        await keep(world.context.database, *(served(ELK, "ben") for _ in range(2)))
        admission = await admission_of(world)
        assert [try_admit(world, admission), try_admit(world, admission)] == [None, SLOT]
        assert admission.served[ELK] == {"ben": 2, "ada": 1}


async def test_submit_rate_is_shared_by_all_processes(database_url: str) -> None:
    async with World.opened(database_url, **limited(submits_per_second="2")) as world:
        async with world.context.database.writing() as connection:
            await upstream_store.lock(connection, [ELK])
            await upstream_store.move_submit_slot(connection, ELK, world.clock() + dt.timedelta(seconds=0.5))
        assert [try_admit(world, admission) for admission in [await admission_of(world)] for _ in range(3)] == [
            None,
            SLOT,
            SLOT,
        ]
        world.clock.forward(10)
        assert [try_admit(world, admission) for admission in [await admission_of(world)] for _ in range(3)] == [
            None,
            None,
            SLOT,
        ]


async def test_new_task_queues_behind_waiting_tasks(database_url: str) -> None:
    async with World.opened(database_url, **limited(open_tasks="1")) as world:
        context = world.context
        first, second = waiting(ELK, "ada"), waiting(ELK, "ada")
        await keep(context.database, first, second)
        async with context.database.writing() as connection:
            lines = await waiting_store.awaited(connection, [ELK])
            admission = await read_admission(context, connection, lines)
            taken = await claim_next(context, connection, admission, lines, until=later(60), most=9)
        assert [(task.id, waited_for, task.waits_for) for task, waited_for in taken] == [(first.id, SLOT, None)]
        assert try_admit(world, admission) == SLOT, "a newcomer waits although a slot is free"
        assert try_admit(world, admission, waited_for=SLOT) is None
        assert try_admit(world, admission, waited_for=SLOT) == SLOT


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, [RECOVERY, RECOVERY]), (29, [RECOVERY, RECOVERY]), (30, [None, RECOVERY])]
)
async def test_open_circuit_admits_none_and_then_one(
    database_url: str, seconds: int, expected: list[WaitingFor | None]
) -> None:
    async with World.opened(database_url, **limited()) as world:
        async with world.context.database.writing() as connection:
            await circuit_store.record_failures(connection, [(*KEY, world.clock())] * 5)
        world.clock.forward(seconds)
        admission = await admission_of(world)
        assert [try_admit(world, admission), try_admit(world, admission)] == expected
        assert admission.probes == ({KEY} if None in expected else set())


def test_slot_of_a_lost_probe_is_released() -> None:
    circuit = Circuit(upstream=ELK, dialect=KEY[1], opened_at=NOW, open_until=NOW)
    admission = Admission(now=NOW, circuits={KEY: circuit}, served={}, free={ELK: 1}, rates={})

    class Elk:
        name = ELK

    dialect = DIALECTS[KEY[1]]
    assert admission.rejection(Elk(), dialect, waited_for=None) is None  # type: ignore[arg-type]
    admission.admit(Elk(), dialect, client="ada")  # type: ignore[arg-type]
    assert admission.free == {ELK: 0}
    admission.lose_probe(Elk(), dialect, client="ada")  # type: ignore[arg-type]
    assert (admission.free, admission.served) == ({ELK: 1}, {ELK: {"ada": 0}})
    assert admission.circuits[KEY].state(NOW) == "probing"


# ── journeys ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_queue_position_matches_the_order_of_allocation(database_url: str) -> None:
    async with three_upstreams(database_url, **limited(open_tasks="1")) as three:
        world = three.world
        await world.submit_as("zoe", "[stuck] first", **TASK_REQUEST)
        await world.work()
        requested = ["zoe", "ben", "zoe", "ada", "ben", "ada", "ada"]
        tasks = [await world.submit_as(client, **TASK_REQUEST) for client in requested]
        await world.work()
        places = {task.id: await queue_position(world.context, await world.task(task)) for task in tasks}
        async with world.context.database.reading() as connection:
            line = await waiting_store.first_of_each_client(connection, ELK, most=99)
            having = (await waiting_store.served_by_client(connection, [ELK]))[ELK]
        order = [task_id for _, task_id in allocate(having, line, free=99, served_at={})]
        assert sorted(places, key=lambda each: places[each] or 0) == order
        assert [requested[[task.id for task in tasks].index(each)] for each in order[:3]] == ["ben", "ada", "zoe"]


async def test_clients_take_turns_at_one_slot_also_after_a_restart(database_url: str) -> None:
    """The first client has submitted the most tasks, and has submitted them first."""
    requested = ["ada"] * 4 + ["ben"] * 2 + ["zoe"] * 2
    tasks: list[Task] = []
    for restart in range(3):
        async with World.opened(database_url, **limited(open_tasks="1")) as world:
            if restart == 0:
                tasks = [await world.submit_as(client, **TASK_REQUEST) for client in requested]
            else:
                world.clock.forward(restart * 1000)
            await world.until(JOB_SECONDS * 4)
    async with World.opened(database_url, **limited(open_tasks="1")) as world:
        sent = sorted([(each.sent_at, task.client) for task in tasks for each in await world.submissions(task)])
    assert [client for _, client in sent] == ["ada", "ben", "zoe", "ada", "ben", "zoe", "ada", "ada"]


async def test_lost_probe_is_followed_by_another(database_url: str) -> None:
    async with three_upstreams(database_url, **limited()) as three:
        world = three.world
        world.edge.down.add("sandbox.test")
        for _ in range(5):
            await world.submit(**TASK_REQUEST)
        await world.work()
        world.edge.down.clear()
        host = FaultyUpstream(three.elk)
        host.fault = "detain"
        world.edge.hosts["sandbox.test"] = host
        world.clock.forward(OPEN_FOR)
        asleep = TaskPool(1)
        await submission_run.run_due(world.context, asleep)
        await host.holds.wait()
        host.fault = "well"
        world.clock.forward(submission_run.PROBE_LEASE - 1)
        await world.work()
        assert three.jobs == [0, 0, 0], "one tries, and the others wait for it"
        world.clock.forward(1)
        await world.work()
        assert three.jobs == [4, 0, 0]
        host.let_go()
        await asleep.finish()
        await world.until(JOB_SECONDS * 3)
        assert three.jobs == [5, 0, 0]


async def test_refusal_closes_a_circuit(database_url: str) -> None:
    async with three_upstreams(database_url, **limited()) as three:
        world = three.world
        world.edge.down.add("sandbox.test")
        for _ in range(5):
            await world.submit(**TASK_REQUEST)
        await world.work()
        world.edge.down.clear()
        three.elk.faults = Faults.named(["refuse"])
        world.clock.forward(OPEN_FOR)
        await world.work()
        async with world.context.database.reading() as connection:
            assert await circuit_store.all_known(connection) == {}
