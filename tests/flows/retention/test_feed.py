"""A reader of the feed whose cursor is older than what is kept is told so, in every way of reading."""

from typing import Any

import httpx
import pytest

from service.domain.task import Task
from service.store import feed as feed_store
from tests.support.reader import Reader
from tests.support.retention import DAY, ended, keep, newest, sweep
from tests.support.world import JOB_SECONDS, World


async def events(api: httpx.AsyncClient, after: str = "0") -> dict[str, Any]:
    answer = await api.get("/v1/events", params={"after": after, "limit": 100})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def old_and_new(world: World, *, events_age: str = "7d") -> tuple[Task, Task]:
    """Return a task whose events are removed, and one whose events are kept."""
    old = await ended(world, callback_url=None)
    world.clock.forward(10 * DAY)
    new = await newest(world)
    keep(world, events=events_age)
    return old, new


async def test_old_cursor_is_refused_and_a_current_one_is_not(world: World, api: httpx.AsyncClient) -> None:
    old, new = await old_and_new(world)
    page = await events(api)
    of_old = [each["id"] for each in page["events"] if each["task_id"] == str(old.id)]
    of_new = [each["id"] for each in page["events"] if each["task_id"] == str(new.id)]
    assert list(await sweep(world)) == ["events"]
    for path in ("/v1/events", "/v1/events/stream"):
        for cursor in of_old[:-1]:
            answer = await api.get(path, params={"after": cursor})
            assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")
            assert answer.json()["newest"] == of_new[-1]
            assert "7d" in answer.json()["detail"]
    for cursor in (of_old[-1], "0"):  # nothing after it is missing, or nothing is known to be missing
        assert [each["id"] for each in (await events(api, cursor))["events"]] == of_new
    assert [each["id"] for each in (await events(api, of_new[0]))["events"]] == of_new[1:]


async def test_cursor_of_a_client_whose_events_all_went_is_valid_for_what_follows(
    world: World, api: httpx.AsyncClient
) -> None:
    await ended(world, callback_url=None)
    world.clock.forward(10 * DAY)
    await world.submit_as("shop", callback_url=None)
    await world.until(JOB_SECONDS * 4)
    keep(world, events="7d")
    await sweep(world)
    assert await events(api) == {"events": [], "next": "0"}
    async with Reader.opened(world.client._transport.app, "/v1/events/stream") as reader:  # type: ignore[attr-defined]
        await reader.until(lambda: "id: " in reader.text)
        cursor = reader.text.partition("id: ")[2].split()[0]
    later = await ended(world, callback_url=None)
    found = await events(api, cursor)
    assert {each["task_id"] for each in found["events"]} == {str(later.id)}


async def test_events_of_another_client_do_not_age_a_cursor(world: World) -> None:
    await old_and_new(world)
    await sweep(world)
    async with world.context.database.reading() as connection:
        assert await feed_store.pruned_to(connection, "default") > 0
        assert await feed_store.pruned_to(connection, "shop") == 0


async def test_stream_of_a_task_whose_events_were_removed_is_refused(world: World, api: httpx.AsyncClient) -> None:
    old, _ = await old_and_new(world)
    page = await events(api)
    cursor = next(each["id"] for each in page["events"] if each["task_id"] == str(old.id))
    await sweep(world)
    answer = await api.get(f"/v1/tasks/{old.id}/stream", headers={"Last-Event-ID": cursor})
    assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")
    assert (await api.get(f"/v1/tasks/{old.id}/stream")).status_code == 204


async def test_stream_of_an_open_task_is_not_aged_by_others(world: World, api: httpx.AsyncClient) -> None:
    open_task = await world.submit("[stuck] a dove", deadline=DAY, callback_url=None)
    await world.work()
    [first] = (await events(api))["events"]
    await ended(world, callback_url=None)
    world.clock.forward(0.4 * DAY)
    await newest(world)
    keep(world, events="1h")
    assert "events" in await sweep(world)
    answer = await api.get("/v1/events", params={"after": first["id"]})
    assert answer.status_code == 410
    async with Reader.opened(
        world.client._transport.app,  # type: ignore[attr-defined]
        f"/v1/tasks/{open_task.id}/stream",
        last_event_id=first["id"],
    ) as reader:
        assert reader.status == 200


async def test_sweep_notes_the_highest_removed_number_of_each_feed(world: World) -> None:
    async with world.context.database.writing() as connection:
        await feed_store.set_pruned(connection, {"a": 7, "b": 3})
        await feed_store.set_pruned(connection, {"a": 5, "b": 9})
        assert [await feed_store.pruned_to(connection, each) for each in "abc"] == [7, 9, 0]


@pytest.mark.parametrize("after", ["0", None])
async def test_reader_from_the_beginning_gets_what_is_kept(
    world: World, api: httpx.AsyncClient, after: str | None
) -> None:
    _, new = await old_and_new(world)
    await sweep(world)
    found = (await api.get("/v1/events", params={} if after is None else {"after": after})).json()
    assert {each["task_id"] for each in found["events"]} == {str(new.id)}
