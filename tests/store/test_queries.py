"""Reads by REST: pages, filters, and requests that wait for a change."""

import asyncio
import datetime as dt
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.waiting import LIMIT
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World


async def submitted(api: httpx.AsyncClient, prompt: str = "[drop] a dove", **more: Any) -> dict[str, Any]:
    answer = await api.post("/v1/tasks", json={**TASK_REQUEST, "input": {"prompt": prompt}, **more})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("how", ["wait", "prefer"])
async def test_waiting_request_is_answered_when_the_task_ends(world: World, api: httpx.AsyncClient, how: str) -> None:
    async with asyncio.timeout(LIMIT):
        if how == "wait":
            task = await submitted(api, "a dove")
            waiting = asyncio.create_task(api.get(f"/v1/tasks/{task['id']}?wait=60"))
        else:
            waiting = asyncio.create_task(
                api.post(
                    "/v1/tasks",
                    json={**TASK_REQUEST, "input": {"prompt": "a dove"}},
                    headers={"Prefer": "respond-async, wait=60"},
                )
            )
            await asyncio.sleep(0.1)
        for _ in range(3):  # it is submitted and runs: events, but no end
            await world.pass_time(JOB_SECONDS * 0.25, step=JOB_SECONDS * 0.25)
            await asyncio.sleep(0.02)
            assert not waiting.done()
        await world.pass_time(JOB_SECONDS)
        async with asyncio.timeout(LIMIT / 3):  # the request itself would wait longer
            answer = await waiting
    assert answer.json()["state"] == "succeeded"


async def test_wait_ends_in_time_and_at_once_for_an_ended_task(world: World, api: httpx.AsyncClient) -> None:
    task = await submitted(api)
    async with asyncio.timeout(LIMIT / 2):
        assert (await api.get(f"/v1/tasks/{task['id']}?wait=1")).json()["state"] == "queued"
        await world.until(JOB_SECONDS * 4)
        assert (await api.get(f"/v1/tasks/{task['id']}?wait=60")).json()["state"] == "succeeded"


async def test_pages_list_every_task_once(world: World, api: httpx.AsyncClient) -> None:
    made = []
    for number in range(9):
        world.clock.forward(0.001)
        made.append((await submitted(api, labels={"half": str(number % 2)}))["id"])
    seen, cursor = [], {}
    while True:
        page = (await api.get("/v1/tasks", params={"limit": 4, **cursor})).json()
        seen += [task["id"] for task in page["tasks"]]
        world.clock.forward(0.001)
        made_meanwhile = (await submitted(api))["id"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert sorted(seen) == sorted(made)
    assert made_meanwhile not in seen
    halves = (await api.get("/v1/tasks", params={"label": "half=1"})).json()["tasks"]
    assert {task["id"] for task in halves} == set(made[1::2])


async def test_filters_select_matching_tasks(world: World, api: httpx.AsyncClient) -> None:
    early = (await submitted(api, labels={"a": "1", "b": "2"}))["id"]
    noon = world.clock() + dt.timedelta(seconds=50)
    world.clock.forward(100)
    await world.work()
    late = (await submitted(api, labels={"a": "1"}))["id"]
    for query, expected in (
        ({"state": "queued"}, {late}),
        ({"state": ["queued", "submitted"]}, {early, late}),
        ({"family": "runway"}, {early, late}),
        ({"family": "suno"}, set()),
        ({"label": "a=1"}, {early, late}),
        ({"label": ["a=1", "b=2"]}, {early}),
        ({"label": "a=2"}, set()),
        ({"created_after": noon.isoformat()}, {late}),
        ({"created_before": noon.isoformat().replace("+00:00", "Z")}, {early}),
        ({"created_before": noon.isoformat(), "cursor": late}, {early}),
        ({"created_before": (noon - dt.timedelta(seconds=60)).isoformat(), "cursor": late}, set()),
        ({"cursor": early}, set()),
    ):
        found = (await api.get("/v1/tasks", params=query)).json()["tasks"]
        assert {task["id"] for task in found} == expected, query


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("cursor=x", ["cursor"]),
        ("cursor=00000000", ["cursor"]),
        ("state=asleep&limit=0", ["limit", "state"]),
        ("limit=101", ["limit"]),
        ("limit=many", ["limit"]),
        ("limit=1&limit=2", ["limit"]),
        ("label=nothing", ["label"]),
        ("created_after=yesterday", ["created_after"]),
        ("created_after=2026-01-01T00:00:00", ["created_after"]),
        ("stat=queued", ["stat"]),
        ("label=%00=1&family=%00", ["family", "label"]),
    ],
)
async def test_invalid_query_is_rejected(api: httpx.AsyncClient, query: str, paths: list[str]) -> None:
    answer = await api.get(f"/v1/tasks?{query}")
    assert answer.status_code == 422
    assert sorted(error["path"] for error in answer.json()["errors"]) == paths


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "1.5"])
async def test_invalid_wait_is_rejected(api: httpx.AsyncClient, wait: str) -> None:
    assert (await api.get(f"/v1/tasks/{uuid4()}?wait={wait}")).status_code in {404, 422}
    task = await submitted(api)
    assert (await api.get(f"/v1/tasks/{task['id']}?wait={wait}")).status_code == 422
