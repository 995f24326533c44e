"""Erasure leaves no word of a task in any table, and nothing brings words back; on both databases."""

from pathlib import Path

import httpx
import pytest

from service.domain.changes import StatusReported
from service.domain.task import Failure, Result, Source, State, Update
from service.flows.apply import settle
from service.flows.retention import erase
from service.store import tables
from tests.support.retention import DAY, LONG, WORDS, count, dump, ended, endpoint, erased, files_with, labelled
from tests.support.world import JOB_SECONDS, World


async def test_no_word_is_left_in_the_database_or_its_files(
    world: World, api: httpx.AsyncClient, database_url: str
) -> None:
    await endpoint(api)
    kept = await ended(world, "a dove of somebody else")
    task = await ended(
        world, WORDS, options={"note": WORDS}, callback_url=f"http://receiver.test/{WORDS.split(maxsplit=1)[0]}"
    )
    failed = await ended(world, f"[fail] {WORDS}" + " and more" * 3000)
    [url, *_] = [result.url for result in task.results if result.url]
    before = await dump(world)
    assert before.count("Zebrafink") > 5
    assert url in before
    for each in (task, failed):
        answer = await erased(api, each)
        assert (answer.status_code, answer.json()["erased"]) == (200, 1), answer.text
    after = await dump(world)
    assert "Zebrafink" not in after
    assert "Quarzlampe" not in after
    assert url not in after
    assert "a dove of somebody else" in after
    await world.until(LONG)
    assert "Zebrafink" not in await dump(world)
    if world.context.database.sqlite:
        assert files_with(Path(database_url.removeprefix("sqlite:///")).parent, ["Zebrafink", "Quarzlampe", url]) == []
    assert (await world.task(kept)).results


@pytest.mark.parametrize("how", ["poll", "refresh", "callback", "unreadable callback"])
async def test_later_report_brings_no_content_back(world: World, api: httpx.AsyncClient, how: str) -> None:
    task = await world.submit(f"[drop] {WORDS}", deadline=JOB_SECONDS)
    await world.work()
    world.edge.down.add("sandbox.test")
    await world.until(JOB_SECONDS * 2)
    assert (await world.task(task)).state is State.EXPIRED
    [submission] = await world.submissions(task)
    await erased(api, task)
    world.edge.down.clear()
    world.clock.forward(60)
    if how == "refresh":
        assert (await api.post(f"/v1/tasks/{task.id}/refresh")).status_code == 200
    elif "callback" in how:
        token = world.context.tokens.make(submission.id)
        document = {"taskId": submission.external_id, "status": "SUCCEEDED", "output": [f"http://x/{WORDS}"]}
        body = (
            WORDS.encode() if how == "unreadable callback" else httpx.Request("POST", "http://x", json=document).content
        )
        assert (await api.post(f"/callbacks/{token}", content=body)).status_code == 200
    await world.until(DAY)
    found = await world.task(task)
    assert (found.results, dict(found.input), found.last_error) == ((), {}, None)
    assert "Zebrafink" not in await dump(world)


async def test_late_verdict_of_an_erased_task_counts_for_money_only(world: World) -> None:
    """A callback that was on its way during the erasure: the state and the cost count, its words do not."""
    task = await world.submit("[drop] a dove", deadline=JOB_SECONDS)
    await world.work()
    world.edge.down.add("sandbox.test")
    await world.until(JOB_SECONDS * 2)
    await erase.request_one(world.context, await world.task(task), with_cancel=False)
    update = Update(
        state=State.FAILED,
        failure=Failure("content_policy", WORDS),
        cost=7.0,
        results=(Result("text", text=WORDS),),
        unknown_word=None,
    )
    await settle(world.context, StatusReported(task_id=task.id, source=Source.CALLBACK, update=update))
    found = await world.task(task)
    assert (found.state, found.cost, found.results) == (State.FAILED, 7.0, ())
    assert found.failure == Failure("content_policy", None)
    assert found.due_at is None
    later = [event for event in await world.events(task) if event.sequence > 1 and event.source is Source.CALLBACK]
    assert {event.message for event in later} <= {None, "task.settled", "task.cost_corrected"}
    assert "Zebrafink" not in await dump(world)


async def test_tasks_with_all_labels_are_counted_and_then_erased(world: World, api: httpx.AsyncClient) -> None:
    mine = [await labelled(world, "default", user="42", app="x") for _ in range(3)]
    other = [
        await labelled(world, "default", "a dove", user="43", app="x"),
        await labelled(world, "shop", "a dove", user="42", app="x"),
    ]
    await world.until(JOB_SECONDS * 4)
    still_open = await labelled(world, "default", f"[stuck] {WORDS}", user="42", app="x")
    await world.work()
    request = {"labels": {"user": "42", "app": "x"}, "client": "default"}
    counted = await api.post("/v1/erasures", json={**request, "dry_run": True})
    assert counted.status_code == 200
    assert (counted.json()["state"], counted.json()["tasks"], counted.json()["open"]) == ("counted", 4, 1)
    assert await count(world, tables.erasures) == 0
    answer = await api.post("/v1/erasures", json=request)
    assert (answer.status_code, answer.json()["tasks"]) == (202, 4)
    await world.until(LONG)
    progress = (await api.get(answer.url.join(answer.headers["Location"]))).json()
    assert (progress["erased"], progress["open"], progress["state"]) == (3, 1, "pending")
    for task in mine:
        assert (await world.task(task)).erased_at is not None
    for task in (*other, still_open):
        assert (await world.task(task)).erased_at is None
    again = await api.post("/v1/erasures", json={**request, "cancel": True})
    assert again.json()["tasks"] == 1
    await world.until(LONG)
    assert (await world.task(still_open)).erased_at is not None
    assert "Zebrafink" not in await dump(world)


async def test_response_of_a_receiver_that_came_during_the_erasure_is_removed(world: World) -> None:
    task = await ended(world, WORDS)
    await erase.request_one(world.context, task, with_cancel=False)
    [message, *_] = await world.messages(task)
    async with world.context.database.writing() as connection:
        await connection.execute(tables.webhook_attempts.update().values(answer=WORDS))
        row = {"message_id": message.id, "attempt": 9, "at": world.clock(), "duration_ms": 1, "answer": WORDS}
        await connection.execute(tables.webhook_attempts.insert(), row)
    await world.until(LONG)
    assert "Zebrafink" not in await dump(world)
