"""Acts on all tasks that fit a filter: counted first, in rounds, and never a second purchase without a yes."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update

from service.domain.task import State, Task
from service.flows.upstreams.poll_rate import PolledTooOften
from service.store import inbox
from service.store.inbox import Filter
from service.store.tables import webhook_messages
from service.web.dashboard import bulk
from tests.support.clients import ALICE, BOB, MARK, submit_as_alice
from tests.support.pages import OPERATOR, Page, Visitor, inline_code, visitor
from tests.support.world import World


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with World.opened(database_url, **settings) as world:
        yield world


def fields_of(page: Page) -> dict[str, Any]:
    """Return the hidden fields of the form about the act."""
    names = {"act", "following", "before", "total", "done", "confirm_double_payment"}
    found: dict[str, Any] = {
        str(each["name"]): each.get("value") or "" for each in page.attributes("input")
        if each.get("name") in names and each.get("type") == "hidden"
    }  # fmt: skip
    found["left"] = [str(each["value"]) for each in page.attributes("input") if each.get("name") == "left"]
    return found


async def go_through(someone: Visitor, question: Page, **more: str) -> list[Page]:
    """Confirm the question, and go on until no round follows."""
    page = await someone.post("/ui/tasks/all", **fields_of(question), **more)
    pages = [page]
    while "Go on" in page.text:
        page = await someone.post("/ui/tasks/all", **fields_of(page))
        pages.append(page)
        assert len(pages) < 20, "the rounds have no end"
    return pages


async def states(world: World, tasks: list[Task]) -> list[State]:
    return [(await world.task(task)).state for task in tasks]


async def test_all_that_fit_are_cancelled_in_rounds_after_a_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "ROUND", 2)
    wanted = [await world.submit(f"[stuck] {number}", labels={"batch": "7"}) for number in range(5)]
    other = await world.submit("[stuck] another")
    await world.work()
    async with visitor(world) as someone:
        question = await someone.get("/ui/tasks/all?label=batch=7&act=cancel")
        late = await world.submit("[stuck] later", labels={"batch": "7"})
        assert "Cancel: 5 tasks?" in question.text
        assert State.CANCELLED not in await states(world, wanted)
        pages = await go_through(someone, question)
        assert all(inline_code(page) == [] for page in [question, *pages])
    assert await states(world, wanted) == [State.CANCELLED] * 5
    assert State.CANCELLED not in await states(world, [other, late])
    assert len(pages) == 3
    assert "5 of 5 done" in pages[-1].text


async def test_submit_again_of_many_needs_the_tick_in_every_round(world: World) -> None:
    tasks = [await world.submit(f"[cut][drop][stuck] {number}") for number in range(3)]
    await world.work()
    assert await states(world, tasks) == [State.UNCONFIRMED] * 3
    async with visitor(world) as someone:
        question = await someone.get("/ui/tasks/all?act=retry")
        assert "Submit again: 3 tasks?" in question.text
        refused = await someone.post("/ui/tasks/all", **fields_of(question))
        assert refused.status == 422
        assert "second charge" in refused.text
        assert await states(world, tasks) == [State.UNCONFIRMED] * 3
        [page] = await go_through(someone, question, confirm_double_payment="true")
    assert "3 of 3 done" in page.text
    assert await states(world, tasks) == [State.QUEUED] * 3


async def test_tasks_that_an_act_cannot_change_are_left_out_of_its_count(world: World) -> None:
    await world.submit("a dove")
    await world.pass_time(15)
    async with visitor(world) as someone:
        for act in ("cancel", "retry", "refresh"):
            page = await someone.get(f"/ui/tasks/all?act={act}&state=succeeded")
            assert "No task fits" in page.text
            assert "Cancel: " not in page.text or "0 tasks" in page.text
        assert (await someone.get("/ui/tasks/all?act=buy")).status == 422
        assert (await someone.post("/ui/tasks/all", act="cancel", following="", before="x")).status == 422


async def test_round_waits_where_an_upstream_is_polled_as_often_as_it_may_be(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await world.submit(f"[stuck] {number}")
    await world.work()
    asked: list[Task] = []

    async def poll_now(_: object, task: Task, *, client: str) -> None:
        del client
        asked.append(task)
        if len(asked) == 2:
            raise PolledTooOften("elkapi", 7)

    monkeypatch.setattr("service.flows.polling.poll_now", poll_now)
    async with visitor(world) as someone:
        question = await someone.get("/ui/tasks/all?act=refresh")
        first = await someone.post("/ui/tasks/all", **fields_of(question))
        assert "follows in 7 s" in first.text
        second = await someone.post("/ui/tasks/all", **fields_of(first))
    assert "3 of 3 done" in second.text
    assert len({task.id for task in asked}) == 3
    assert "No tasks were left" in second.text


async def test_callbacks_and_messages_of_all_that_fit_run_again(world: World) -> None:
    world.edge.down.add("receiver.test")
    task = await world.submit("a dove", labels={"batch": "7"})
    await world.pass_time(15)
    async with world.context.database.writing() as connection:
        await connection.execute(update(webhook_messages).values(state="exhausted", due_at=None))
    world.edge.down.clear()
    async with visitor(world) as someone:
        await go_through(someone, await someone.get("/ui/tasks/all?label=batch=7&act=replay"))
        await world.work()
        assert [each.state for each in await world.messages(task)] == ["delivered"]
        await go_through(someone, await someone.get("/ui/tasks/all?label=batch=7&act=rerun"))
    async with world.context.database.reading() as connection:
        assert {each.received.decision for each in await inbox.page(connection, Filter(), most=9)} == {None}
    await world.work()
    async with world.context.database.reading() as connection:
        assert None not in {each.received.decision for each in await inbox.page(connection, Filter(), most=9)}


async def test_bulk_act_reaches_no_task_of_another_client(keyed: World) -> None:
    await submit_as_alice(keyed, f"[stuck] {MARK}")
    await keyed.work()
    async with visitor(keyed, BOB) as bob:
        question = await bob.get("/ui/tasks/all?act=cancel&client=alice")
        assert "Cancel: 0 tasks?" in question.text
        page = await bob.post("/ui/tasks/all", act="cancel", following="?client=alice", before="f" * 32, total="1")
    assert "0 of 1 done" in page.text
    async with visitor(keyed, ALICE) as alice:
        assert "Cancel: 1 task?" in (await alice.get("/ui/tasks/all?act=cancel")).text
