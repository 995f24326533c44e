"""Lists of messages: each filter selects what a scan of all messages selects, page by page."""

import itertools
from typing import Any

import pytest

from service.domain.task import State
from service.store.tables import MESSAGE_STATES
from service.store.webhooks import messages
from service.store.webhooks.messages import Filter, Message
from tests.support.values import NOW, a_message, a_task, keep, later, new_id, opened

ENDPOINTS = (new_id(), new_id())
TYPES = ("task.succeeded", "task.failed")


def some_messages(task: Any) -> list[Message]:
    """Return a message of each endpoint, type and state."""
    kinds = itertools.product((None, *ENDPOINTS), TYPES, MESSAGE_STATES)
    return [
        a_message(
            task,
            endpoint_id=endpoint,
            destination=f"{endpoint}",
            type=kind,
            state=state,
            sequence=number,
            due_at=later(60) if state == "pending" else None,
            delivered_at=NOW if state == "delivered" else None,
        )
        for number, (endpoint, kind, state) in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"states": ("delivered",)},
        {"states": ("exhausted", "pending")},
        {"types": ("task.failed",)},
        {"types": TYPES, "states": ("discarded", "delivered")},
        {"types": ("task.none",)},
        {"endpoint_id": ENDPOINTS[0]},
        {"endpoint_id": ENDPOINTS[1], "types": ("task.failed",)},
        {"endpoint_id": ENDPOINTS[1], "types": ("task.failed",), "states": ("exhausted",)},
        {"task": True, "states": ("delivered",), "endpoint_id": ENDPOINTS[0]},
        {"endpoint_id": new_id()},
    ],
    ids=lambda wanted: "-".join(wanted) or "all",
)
async def test_filter_selects_the_matching_messages_newest_first(database_url: str, wanted: dict[str, Any]) -> None:
    async with opened(database_url) as database:
        mine, other = a_task(state=State.RUNNING, client="alice"), a_task(state=State.RUNNING, client="bob")
        await keep(database, mine, other)
        known = some_messages(mine)
        async with database.writing() as connection:
            await messages.insert(connection, [*known, *some_messages(other)])
        filters = {name: value for name, value in wanted.items() if name != "task"}
        wanted_task = mine.id if "task" in wanted else None
        found: list[Message] = []
        async with database.reading() as connection:
            while True:
                before = found[-1].id if found else None
                page = Filter(client="alice", task_id=wanted_task, before=before, **filters)
                more = await messages.list_messages(connection, page, most=3)
                found += more
                if len(more) < 3:
                    break
    expected = [
        each
        for each in sorted(known, key=lambda each: each.id, reverse=True)
        if each.state in wanted.get("states", MESSAGE_STATES)
        and each.type in wanted.get("types", TYPES)
        and wanted.get("endpoint_id", each.endpoint_id) == each.endpoint_id
    ]
    assert [each.id for each in found] == [each.id for each in expected]


@pytest.mark.parametrize(
    ("states", "expected"),
    [((), 6), (("pending",), 0), (("pending", "delivered"), 2), (("exhausted", "discarded"), 4)],
)
async def test_pending_messages_are_never_replayed(database_url: str, states: tuple[str, ...], expected: int) -> None:
    async with opened(database_url) as database:
        task = a_task(state=State.RUNNING, client="alice")
        await keep(database, task)
        async with database.writing() as connection:
            await messages.insert(connection, some_messages(task))
        async with database.reading() as connection:
            found = await messages.replayable(connection, Filter(client="alice", states=states), most=100)
    assert len(found) == expected, "messages of endpoints that were deleted are not replayed"
