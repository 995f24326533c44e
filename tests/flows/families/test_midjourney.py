"""Journeys of Midjourney tasks, each on both databases: modal windows, chains of follow-ups, and lost callbacks."""

import asyncio
import datetime as dt
import json
import socket
import statistics
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.app import application, opened
from service.domain.task import Source, State, Task
from service.domain.validation import Invalid
from service.flows.statistics import update_statistics
from service.flows.submission.accept import accept
from service.sandbox import Faults, InProcessTransport, Sandbox, running
from service.settings.load import load
from service.worker import working
from tests.support.world import JOB_SECONDS, World

LIST, FETCH = "POST /mj/task/list-by-condition", "GET /mj/task/{id}/fetch"
MODAL, ACTION = "POST /mj/submit/modal", "POST /mj/submit/action"
DATA = "data:image/png;base64,iVBORw0KGgo="


async def submit(world: World, operation: str, given: dict[str, Any], **fields: Any) -> Task:
    """Accept a Midjourney task."""
    return await world.submit(family="midjourney", operation=operation, input=given, **fields)


async def imagine(world: World, prompt: str = "a dove", **fields: Any) -> Task:
    return await submit(world, "imagine", {"prompt": prompt}, **fields)


async def act(world: World, parent: Task, action: str, **fields: Any) -> Task:
    return await submit(world, "action", {"action": action}, parent_id=str(parent.id), **fields)


async def over(world: World, task: Task, seconds: float = JOB_SECONDS * 3) -> Task:
    """Advance the time, and return the task as it is then."""
    await world.work()
    await world.pass_time(seconds)
    return await world.task(task)


async def picture(world: World) -> Task:
    """Create one upscaled picture: imagine four, and upscale the second."""
    grid = await over(world, await imagine(world))
    return await over(world, await act(world, grid, "U2"))


async def shown(world: World, task: Task) -> dict[str, Any]:
    return dict((await world.client.get(f"/v1/tasks/{task.id}")).json())


async def give(world: World, task: Task, **given: Any) -> httpx.Response:
    return await world.client.post(f"/v1/tasks/{task.id}/input", json=given)


def count_queries(world: World) -> int:
    """Count the queries about tasks."""
    return world.sandbox.ledger.requests[LIST] + world.sandbox.ledger.requests[FETCH]


# Coming home -----------------------------------------------------------------------------------------------------


async def test_task_succeeds_by_callback(world: World) -> None:
    task = await over(world, await imagine(world))
    assert (task.state, task.outcome_source, task.progress) == (State.SUCCEEDED, Source.CALLBACK, 100)
    assert [(result.kind, result.role) for result in task.results] == [("image", "result")]
    assert [action.label for action in task.next_actions] == ["U1", "U2", "U3", "U4", "🔄", "V1", "V2", "V3", "V4"]
    # The first poll may also return the gateway's own address of the preview.
    types = [event.type for event in await world.events(task) if event.type != "details"]
    assert types == ["accepted", "submitting", "submitted", "running", "succeeded"]
    assert [received.decision for received in await world.callbacks(task)] == ["applied", "applied"]
    assert [(each.state, each.verified) for each in world.receiver.received] == [("succeeded", True)]
    assert world.sandbox.ledger.paid() == 1
    assert task.due_at is None


async def test_echoed_callback_token_is_not_stored(world: World) -> None:
    task = await over(world, await imagine(world, "[garbage] a dove"))
    [job] = world.sandbox.ledger.jobs
    assert job.callback_url is not None
    token = job.callback_url.rpartition("/")[2]
    kept = [received.body for received in await world.callbacks(task)]
    assert len(kept) == 3
    assert all(b"notifyHook" in body and b"[redacted]" in body for body in kept)
    everything = [*kept, repr(task), repr(await world.events(task)), repr(await world.messages(task))]
    everything += [repr(await world.submissions(task)), (await shown(world, task))]
    assert not any(token in str(each) for each in everything)


async def test_preview_is_never_a_result_when_polling(world: World) -> None:
    task = await imagine(world, "[drop] a dove")
    await over(world, task, 7)
    running = await world.task(task)
    assert (running.state, running.outcome_source) == (State.RUNNING, None)
    assert [(result.role, "/mj/image/" in (result.url or "")) for result in running.results] == [("preview", True)]
    task = await over(world, task)
    assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.POLL)
    assert [result.role for result in task.results] == ["result"]
    assert await world.callbacks(task) == []
    assert len(world.receiver.received) == 1


@pytest.mark.parametrize(
    ("words", "state", "outcome_source"),
    [
        ("[twice]", State.SUCCEEDED, Source.CALLBACK),
        ("[disorder]", State.SUCCEEDED, Source.CALLBACK),
        ("[early]", State.SUCCEEDED, Source.CALLBACK),
        ("[early][seconds=0]", State.SUCCEEDED, Source.CALLBACK),
        ("[garbage]", State.SUCCEEDED, Source.CALLBACK),
        ("[contradict]", State.SUCCEEDED, Source.CALLBACK),
        ("[cut]", State.SUCCEEDED, Source.CALLBACK),
        ("[cutbody]", State.SUCCEEDED, Source.CALLBACK),
        ("[500]", State.SUCCEEDED, Source.CALLBACK),
        ("[htmlsubmit]", State.SUCCEEDED, Source.CALLBACK),
        ("[429]", State.SUCCEEDED, Source.CALLBACK),
        ("[503]", State.SUCCEEDED, Source.CALLBACK),
        ("[lag]", State.SUCCEEDED, Source.CALLBACK),
        ("[drop][lag=12]", State.SUCCEEDED, Source.POLL),
        ("[drop][ghost=5]", State.SUCCEEDED, Source.POLL),
        ("[drop][ghost200][ghost=5]", State.SUCCEEDED, Source.POLL),
        ("[drop][flaky]", State.SUCCEEDED, Source.POLL),
        ("[fail]", State.FAILED, Source.CALLBACK),
        ("[fail][drop]", State.FAILED, Source.POLL),
        ("[moderate]", State.FAILED, Source.CALLBACK),
    ],
)
async def test_gateway_faults_lead_to_one_payment_and_one_message(
    world: World, words: str, state: State, outcome_source: Source
) -> None:
    task = await over(world, await imagine(world, f"{words} a dove"))
    assert (task.state, task.outcome_source) == (state, outcome_source)
    assert world.sandbox.ledger.paid() == 1
    assert len({received.id for received in world.receiver.received}) == 1
    terminal = [event for event in await world.events(task) if event.data.get("state") in {"succeeded", "failed"}]
    assert len(terminal) == 1


async def test_repeated_end_and_late_progress_change_nothing(world: World) -> None:
    """Engines repeat the end of a job, with equal or other details. Older progress arrives after it."""
    task = await over(world, await imagine(world, "[twice] a dove"))
    ended = [row for row in await world.callbacks(task) if b'"SUCCESS"' in row.body]
    assert [(row.decision, row.copies) for row in ended] == [("applied", 2)]
    hook = urlsplit(world.sandbox.ledger.jobs[0].callback_url or "").path
    again = json.loads(ended[0].body) | {"finishTime": 1690343542381}
    older = again | {"status": "IN_PROGRESS", "progress": "62%", "imageUrl": "https://x/preview.png", "buttons": []}
    for body, decision in ((again, "duplicate"), (older, "stale")):
        assert (await world.client.post(hook, json=body)).status_code == 200
        await world.pass_time(1)
        assert (await world.callbacks(task))[-1].decision == decision
    assert await world.task(task) == task
    assert len(world.receiver.received) == 1


async def test_failed_drawing_has_the_reason(world: World) -> None:
    tasks = [await imagine(world, f"[{word}] a dove") for word in ("fail", "moderate")]
    failures = [(await over(world, task)).failure for task in tasks]
    assert [failure and failure.code for failure in failures] == ["provider_error", "content_policy"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("[refuse]", "invalid_input"),
        ("[refuse200]", "invalid_input"),
        ("[refuse][moderate]", "content_policy"),
        ("[nocredit]", "insufficient_credit"),
    ],
)
async def test_refused_task_fails_with_the_reason_and_costs_nothing(world: World, words: str, code: str) -> None:
    task = await over(world, await imagine(world, f"{words} a dove"))
    assert task.state is State.FAILED
    assert task.failure is not None
    assert task.failure.code == code
    assert world.sandbox.ledger.paid() == 0
    assert [each.state for each in world.receiver.received] == ["failed"]


async def test_speed_is_part_of_the_path(world: World) -> None:
    task = await over(world, await submit(world, "imagine", {"prompt": "a dove", "speed": "turbo"}))
    assert task.state is State.SUCCEEDED
    assert world.sandbox.ledger.requests["POST /mj-turbo/mj/submit/imagine"] == 1


@pytest.mark.parametrize(
    ("operation", "given", "kinds"),
    [
        ("describe", {"image": DATA}, ["text"]),
        ("shorten", {"prompt": "a dove, a dove"}, ["text"]),
        ("blend", {"images": [DATA, DATA], "aspect_ratio": "1:1"}, ["image"]),
        ("video", {"image": DATA, "count": 2}, ["video", "video"]),
        ("edits", {"prompt": "a hat", "image": DATA, "mask": DATA}, ["image"]),
        ("face_swap", {"image": DATA, "target_image": DATA}, ["image"]),
    ],
)
async def test_every_operation_succeeds(world: World, operation: str, given: dict[str, Any], kinds: list[str]) -> None:
    task = await over(world, await submit(world, operation, given))
    assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.CALLBACK)
    assert [result.kind for result in task.results if result.role == "result"] == kinds


async def test_synchronous_operation_ends_at_once(world: World) -> None:
    """There is no job to poll and no callback to wait for."""
    grid = await over(world, await imagine(world))
    before = count_queries(world)
    upload = await submit(world, "upload", {"images": [DATA, DATA]})
    seed = await submit(world, "image_seed", {}, parent_id=str(grid.id))
    await world.work()
    for task in (await world.task(upload), await world.task(seed)):
        assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.SUBMIT)
        assert (task.external_id, task.callback_expected, task.due_at) == (None, False, None)
    assert [result.kind for result in (await world.task(upload)).results] == ["image", "image"]
    [seeded] = (await world.task(seed)).results
    assert (seeded.text or "").isdigit()
    assert count_queries(world) == before
    with pytest.raises(Invalid, match="leaves no job at Midjourney that could be continued"):
        await act(world, await world.task(upload), "U1")


# Follow-ups ------------------------------------------------------------------------------------------------------


async def test_follow_up_of_a_follow_up_succeeds(world: World) -> None:
    grid = await over(world, await imagine(world))
    single = await over(world, await act(world, grid, "u2"))
    assert "Vary (Strong)" in [action.label for action in single.next_actions]
    subtle = next(action.id for action in single.next_actions if action.label == "Upscale (Subtle)")
    larger = await over(world, await act(world, single, subtle))
    assert [task.state for task in (grid, single, larger)] == [State.SUCCEEDED] * 3
    assert (larger.parent_id, larger.inherited["external_id"]) == (single.id, single.external_id)
    sent = [job.order.document for job in world.sandbox.ledger.jobs]
    assert [document.get("taskId") for document in sent] == [None, grid.external_id, single.external_id]
    assert sent[2]["customId"] == subtle
    assert world.sandbox.ledger.paid() == 3


@pytest.mark.parametrize(
    ("operation", "given", "sent"),
    [
        ("change", {"change": "variation", "index": 2}, {"action": "VARIATION", "index": 2}),
        ("change", {"change": "reroll"}, {"action": "REROLL", "index": 1}),
        ("simple_change", {"shorthand": "U3"}, {"content": "{} U3"}),
        ("video", {"index": 2}, {"action": "VIDEO", "index": 1}),
    ],
)
async def test_other_follow_ups_succeed(
    world: World, operation: str, given: dict[str, Any], sent: dict[str, Any]
) -> None:
    grid = await over(world, await imagine(world))
    task = await over(world, await submit(world, operation, given, parent_id=str(grid.id)))
    assert task.state is State.SUCCEEDED
    document = world.sandbox.ledger.jobs[1].order.document
    for name, value in sent.items():
        assert document[name] == (value.format(grid.external_id) if isinstance(value, str) else value)


async def test_unknown_action_is_rejected(world: World) -> None:
    grid = await over(world, await imagine(world))
    request = {"family": "midjourney", "operation": "action", "parent_id": str(grid.id), "input": {"action": "U9"}}
    answer = await world.client.post("/v1/tasks", json=request)
    assert answer.status_code == 422
    [mistake] = answer.json()["errors"]
    assert mistake["path"] == "input.action"
    assert "no action 'U9'; there are U1, U2, U3, U4, V1" in mistake["message"]
    by_hand = {**request, "input": {"action": "U1"}, "options": {"customId": "MJ::JOB::upsample::9::x", "taskId": "1"}}
    answer = await world.client.post("/v1/tasks", json=by_hand)
    assert [mistake["path"] for mistake in answer.json()["errors"]] == ["options.customId", "options.taskId"]
    assert world.sandbox.ledger.requests[ACTION] == 0


async def test_unfinished_parent_is_rejected(world: World) -> None:
    request = {"family": "midjourney", "operation": "action", "input": {"action": "U1"}}
    for words, state in (("[stuck]", "running"), ("[fail]", "failed")):
        parent = await over(world, await imagine(world, f"{words} a dove"))
        answer = await world.client.post("/v1/tasks", json={**request, "parent_id": str(parent.id)})
        assert answer.status_code == 422
        [mistake] = answer.json()["errors"]
        assert mistake == {"path": "parent_id", "message": f"the task has not succeeded: it is {state}"}
    for parent_id, words in ((str(UUID(int=7)), "there is no task with this id"), (None, "is required")):
        answer = await world.client.post("/v1/tasks", json=request | ({"parent_id": parent_id} if parent_id else {}))
        assert (answer.status_code, words in answer.json()["detail"]) == (422, True)


async def test_unsupported_button_is_refused(world: World) -> None:
    """Engines offer buttons for which stock new-api has no price."""
    single = await picture(world)
    paid = world.sandbox.ledger.paid()
    task = await over(world, await act(world, single, "❤️"))
    assert task.state is State.FAILED
    assert task.failure is not None
    assert (task.failure.code, "unknown_action" in (task.failure.message or "")) == ("invalid_input", True)
    assert world.sandbox.ledger.paid() == paid


async def test_follow_up_waits_until_the_gateway_has_its_parent(world: World) -> None:
    """The engine sends the callback. The gateway notices the end up to 15 s later, and refuses follow-ups until then."""
    grid = await imagine(world, "[lag=15] a dove")
    await over(world, grid, JOB_SECONDS + 1)
    assert (await world.task(grid)).state is State.SUCCEEDED
    task = await act(world, grid, "U1")
    await over(world, task, 4)
    waiting = await world.task(task)
    assert (waiting.state, "task_status_not_success" in (waiting.last_error or "")) == (State.QUEUED, True)
    task = await over(world, task, JOB_SECONDS * 4)
    assert task.state is State.SUCCEEDED
    assert [submission.outcome for submission in await world.submissions(task)][-1] == "taken"
    assert world.sandbox.ledger.paid() == 2


async def test_follow_up_uses_the_upstream_of_its_parent(database_url: str) -> None:
    there = {"COMETAPI_KEY": "sandbox-key", "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://comet.test"}
    async with World.opened(database_url, **there) as world:
        comet = Sandbox(seconds=JOB_SECONDS, clock=world.clock.seconds)
        world.edge.hosts["comet.test"] = InProcessTransport(comet.app)
        grid = await over(world, await imagine(world, "[drop] a dove", upstream="cometapi"), 70)
        assert (grid.state, grid.upstream) == (State.SUCCEEDED, "cometapi")
        with pytest.raises(Invalid, match="the parent is at cometapi"):
            await act(world, grid, "U1", upstream="elkapi")
        task = await act(world, grid, "U1")
        assert task.route == ("cometapi",)
        world.edge.down.add("comet.test")
        await over(world, task, JOB_SECONDS * 2)
        assert (await world.task(task)).state is State.QUEUED, "it waits rather than going elsewhere"
        world.edge.down.clear()
        task = await over(world, task, 180)
        assert (task.state, task.upstream) == (State.SUCCEEDED, "cometapi")
        assert (comet.ledger.paid(), world.sandbox.ledger.requests.total()) == (2, 0)


# The window ------------------------------------------------------------------------------------------------------


async def test_modal_input_continues_the_same_task(world: World) -> None:
    single = await picture(world)
    task = await over(world, await act(world, single, "Custom Zoom"))
    assert task.state is State.AWAITING_INPUT
    told = await shown(world, task)
    assert set(told["awaits"]["input"]["properties"]) == {"prompt", "mask"}
    assert "waits for your input" in told["explanation"]
    answer = await give(world, task, prompt="a dove, far away --zoom 1.5")
    assert (answer.status_code, answer.json()["state"], answer.json()["awaits"]) == (200, "submitted", None)
    again = await give(world, task, prompt="a dove --zoom 2")
    assert (again.status_code, again.json()["code"]) == (409, "not_awaited")
    task = await over(world, task)
    assert task.state is State.SUCCEEDED
    assert "applied" in {received.decision for received in await world.callbacks(task)}
    assert (await give(world, task, prompt="once more")).status_code == 409
    assert world.sandbox.ledger.requests[MODAL] == 1
    assert world.sandbox.ledger.paid() == 3
    assert len({received.task_id for received in world.receiver.received}) == 3


async def test_concurrent_inputs_are_sent_once(world: World) -> None:
    task = await over(world, await imagine(world, "[modal] a dove"))
    assert task.state is State.AWAITING_INPUT
    statuses = []

    async def hurry(request: httpx.Request) -> httpx.Response:
        """Answer a second time while the first answer is on its way."""
        world.edge.hosts["sandbox.test"] = there
        statuses.append((await give(world, task, prompt="two")).status_code)
        return await there.handle_async_request(request)

    there = world.edge.hosts["sandbox.test"]
    world.edge.hosts["sandbox.test"] = httpx.MockTransport(hurry)
    statuses.append((await give(world, task, prompt="one")).status_code)
    assert statuses == [409, 200]
    assert world.sandbox.ledger.requests[MODAL] == 1
    assert world.sandbox.ledger.jobs[0].prompt == "one"


async def test_invalid_input_is_rejected_and_the_task_keeps_waiting(world: World) -> None:
    single = await picture(world)
    task = await over(world, await act(world, single, "Vary (Region)"))
    unknown = await give(world, task, colour="red")
    assert (unknown.status_code, unknown.json()["errors"][0]["path"]) == (422, "input.colour")
    assert world.sandbox.ledger.requests[MODAL] == 0
    refused = await give(world, task, prompt="a hat")
    assert refused.status_code == 422
    assert "maskBase64" in refused.json()["detail"]
    assert (await world.task(task)).state is State.AWAITING_INPUT
    assert (await give(world, task, mask=DATA)).status_code == 200
    assert (await over(world, task)).state is State.SUCCEEDED
    assert world.sandbox.ledger.jobs[2].prompt == "a dove", "the prompt so far goes along"


async def test_input_is_kept_possible_while_the_gateway_is_unreachable(world: World) -> None:
    task = await over(world, await imagine(world, "[modal] a dove"))
    world.edge.down.add("sandbox.test")
    assert (await give(world, task, prompt="x")).status_code == 503
    assert (await world.task(task)).state is State.AWAITING_INPUT
    world.edge.down.clear()
    assert (await give(world, task, prompt="x")).status_code == 200
    assert (await over(world, task)).state is State.SUCCEEDED


@pytest.mark.parametrize("word", ["cut", "500", "htmlsubmit"])
async def test_uncertain_input_is_not_sent_again(world: World, word: str) -> None:
    task = await over(world, await imagine(world, "[modal][drop] a dove"))
    assert (await give(world, task, prompt=f"[{word}] a dove")).status_code == 200
    task = await over(world, task, JOB_SECONDS * 4)
    assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.POLL)
    assert world.sandbox.ledger.requests[MODAL] == 1


async def test_hidden_modal_is_found_by_the_first_poll(world: World) -> None:
    """new-api reports 1 where the engine reported 21, and no callback announces a modal window."""
    task = await imagine(world, "[hidemodal] a dove")
    await world.work()
    assert (await world.task(task)).state is State.SUBMITTED
    await world.pass_time(7)
    assert (await world.task(task)).state is State.AWAITING_INPUT
    assert count_queries(world) == 1
    assert (await give(world, task, prompt="a dove")).status_code == 200
    assert (await over(world, task)).state is State.SUCCEEDED


async def test_stale_record_does_not_request_input_again(world: World) -> None:
    task = await over(world, await imagine(world, "[hidemodal][lag=15][drop] a dove"))
    assert task.state is State.AWAITING_INPUT
    assert (await give(world, task, prompt="a dove")).status_code == 200
    states, before = [], count_queries(world)
    for second in range(40):
        await world.pass_time(1)
        states.append((await world.task(task)).state)
        assert count_queries(world) > before or second < 14, "asked while the copy still shows the window"
    assert State.AWAITING_INPUT not in states
    assert states[-1] is State.SUCCEEDED


async def test_task_awaiting_input_is_polled_rarely(world: World) -> None:
    task = await over(world, await imagine(world, "[modal] a dove"), 30)
    before = count_queries(world)
    await world.pass_time(1200, step=5)
    assert count_queries(world) - before <= 10
    await world.pass_time(3600, step=60)
    task = await world.task(task)
    assert (task.state, task.failure and task.failure.code) == (State.EXPIRED, "provider_timeout")
    assert task.deadline_at - task.created_at == dt.timedelta(minutes=75)


def provider(answer: Callable[[Request], Awaitable[Response]]) -> httpx.AsyncBaseTransport:
    """Return a provider that sends the test's answers."""
    return httpx.ASGITransport(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])]))


# Whose callback it is --------------------------------------------------------------------------------------------


async def test_callback_of_another_family_is_not_applied(world: World) -> None:
    drawing, film = await imagine(world, "[stuck][drop] a dove"), await world.submit("[stuck][drop] a dove")
    await over(world, drawing, 5)
    jobs = {job.account: job for job in world.sandbox.ledger.jobs}
    ended = {
        "midjourney": {"id": jobs["midjourney"].id, "status": "FAILURE", "failReason": "no"},
        "gateway": {"task_id": jobs["gateway"].id, "status": "2", "msg": "no", "video_url": None},
    }
    for account, other in (("midjourney", "gateway"), ("gateway", "midjourney")):
        path = urlsplit(jobs[account].callback_url or "").path
        assert (await world.client.post(path, json=ended[other])).status_code == 200
    await over(world, drawing, 5)
    for task in (drawing, film):
        assert (await world.task(task)).state is State.RUNNING
        assert [received.decision for received in await world.callbacks(task)] in (["hastened"], ["unreadable"])


async def test_equal_ids_at_two_upstreams_are_two_jobs(database_url: str) -> None:
    """An id is unique at one upstream at most."""
    there = {"COMETAPI_KEY": "sandbox-key", "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://comet.test"}

    async def answer(_: Request) -> Response:
        return JSONResponse({"code": 1, "result": "1730621826053455"})

    async with World.opened(database_url, **there) as world:
        world.edge.hosts |= dict.fromkeys(("sandbox.test", "comet.test"), provider(answer))
        one, other = await imagine(world, upstream="elkapi"), await imagine(world, upstream="cometapi")
        await world.work()
        hook = json.loads(next(request for request in world.edge.requests if request.url.host == "comet.test").content)
        done = {"id": "1730621826053455", "status": "SUCCESS", "imageUrl": "https://x/a.png"}
        await world.client.post(urlsplit(hook["notifyHook"]).path, json=done)
        await world.work()
        assert [(await world.task(task)).state for task in (one, other)] == [State.SUBMITTED, State.SUCCEEDED]


async def test_task_with_several_jobs_ends_when_all_end(world: World) -> None:
    """An answer may join several ids by commas. Each job sends its own callback with its own id."""
    jobs = {number: {"id": number, "action": "IMAGINE", "status": "IN_PROGRESS", "imageUrl": ""} for number in "12"}
    there = world.edge.hosts["sandbox.test"]

    async def answer(request: Request) -> Response:
        if request.url.path == "/mj/submit/imagine":
            return JSONResponse({"code": 1, "result": "1,2"})
        assert request.url.path == "/mj/task/list-by-condition"
        return JSONResponse([jobs[number] for number in (await request.json())["ids"]])

    world.edge.hosts["sandbox.test"] = provider(answer)
    task = await imagine(world)
    await world.work()
    hook = urlsplit(json.loads(world.edge.requests[0].content)["notifyHook"]).path
    for number, job in jobs.items():
        assert (await world.task(task)).state is not State.SUCCEEDED
        job |= {
            "status": "SUCCESS",
            "imageUrl": f"https://x/{number}.png",
            "buttons": [{"customId": "a", "label": "U1"}],
        }
        assert (await world.client.post(hook, json=job)).status_code == 200
        await world.pass_time(5)
    task = await world.task(task)
    assert (task.state, task.outcome_source, task.external_id) == (State.SUCCEEDED, Source.POLL, "1,2")
    assert [(result.url, result.item) for result in task.results] == [
        ("https://x/1.png", "1"),
        ("https://x/2.png", "2"),
    ]
    assert {received.decision for received in await world.callbacks(task)} == {"hastened"}
    world.edge.hosts["sandbox.test"] = there
    follow_up = await act(world, task, "2: u1")
    assert follow_up.inherited["external_id"] == "2"


# Many at once ----------------------------------------------------------------------------------------------------


async def test_id_missing_from_a_batch_query_is_polled_singly(world: World) -> None:
    tasks = [await imagine(world, f"[drop]{words} a dove") for words in ("", "[ghost=25]")]
    await over(world, tasks[0], 7)
    assert world.sandbox.ledger.requests[LIST] == 1
    assert world.sandbox.ledger.requests[FETCH] == 1
    assert "does not know job" in ((await world.task(tasks[1])).last_error or "")
    await world.pass_time(60)
    assert [(await world.task(task)).state for task in tasks] == [State.SUCCEEDED] * 2


class Slow(httpx.AsyncBaseTransport):
    """A slow provider. Its delays are added up, as if all requests ran one after the other."""

    def __init__(self, inner: httpx.AsyncBaseTransport, wait: Callable[[], None]) -> None:
        self._inner = inner
        self._wait = wait

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._wait()
        return await self._inner.handle_async_request(request)


@pytest.mark.long
async def test_five_hundred_tasks_are_polled_in_few_requests(
    database_url: str, record_property: Callable[[str, object], None]
) -> None:
    """All callbacks are lost, and an answer takes 300 ms. Batches of a hundred find every task soon after its end."""
    count, least, most = 500, 30, 90
    usual = {"DOVECOTE_UPSTREAMS__ELKAPI__TYPICAL_SECONDS": ""}
    async with World.opened(database_url, faults=Faults(drop=True), **usual) as world:
        takes = [least + (most - least) * number / count for number in range(count)]
        requests = [
            {"family": "midjourney", "operation": "imagine", "input": {"prompt": f"[seconds={seconds}] a dove"}}
            for seconds in takes
        ]
        accepted = await asyncio.gather(*(accept(world.context, request, client="default") for request in requests))
        tasks = [each.task for each in accepted]
        await world.work()
        assert world.sandbox.ledger.paid() == count
        sandbox = world.edge.hosts["sandbox.test"]
        world.edge.hosts["sandbox.test"] = Slow(sandbox, lambda: world.clock.forward(0.3))
        for second in range(1, most + 60):
            await world.pass_time(1)
            if second % 30 == 0:  # as the worker does
                await update_statistics(world.context)
        ended = {job.id: job.life for job in world.sandbox.ledger.jobs}
        found = [await world.task(task) for task in tasks]
        assert {(task.state, task.outcome_source) for task in found} == {(State.SUCCEEDED, Source.POLL)}
        lives = [(task, ended[task.external_id or ""]) for task in found]
        delays = [task.finished_at.timestamp() - life.ended_at for task, life in lives if task.finished_at]
        median = statistics.median(life.ended_at - life.created_at for life in ended.values())
        lists, fetches = (world.sandbox.ledger.requests[route] for route in (LIST, FETCH))
        looks = sum(job.polls for job in world.sandbox.ledger.jobs)
        measured = {"mean delay": statistics.fmean(delays), "longest": max(delays), "median duration": median}
        measured |= {"lists": lists, "fetches": fetches, "looks at a task": looks}
        for name, value in measured.items():
            record_property(name, value)
        print(measured)  # noqa: T201 - shown by pytest -s, and in the report of a failure
        assert len(delays) == count
        assert min(delays) >= 0
        assert statistics.fmean(delays) < 0.25 * median + 5
        assert world.context.statistics.callbacks_unreliable("elkapi", "midjourney/proxy"), (
            "the plan without callbacks took over"
        )
        assert looks > 2 * count
        assert lists + fetches < looks / 20, "far fewer questions than looks"


# Over real sockets -----------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def ends(client: httpx.AsyncClient, task: dict[str, Any]) -> dict[str, Any]:
    """Wait by long polling until a task has ended."""
    return dict((await client.get(f"/v1/tasks/{task['id']}", params={"wait": 20})).json())


@pytest.mark.long
async def test_journey_over_real_sockets_succeeds(database_url: str) -> None:
    """Two servers in this process talk over HTTP only. The clock is the real one."""
    port, sandbox = free_port(), Sandbox(seconds=0.3)
    async with running(sandbox) as gateway:
        settings = load(
            {
                "DOVECOTE_DATABASE_URL": database_url,
                "DOVECOTE_PUBLIC_URL": f"http://127.0.0.1:{port}",
                "ELKAPI_KEY": "sandbox-key",
                "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": gateway,
                "DOVECOTE_UPSTREAMS__ELKAPI__TYPICAL_SECONDS": "1",
            },
            None,
        )
        async with (
            opened(settings) as context,
            working(context),
            running(SimpleNamespace(app=application(context)), port=port) as url,
            httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client,
        ):

            async def order(operation: str, given: dict[str, Any], **fields: Any) -> dict[str, Any]:
                fields |= {"family": "midjourney", "operation": operation, "input": given}
                answer = await client.post("/v1/tasks", json=fields)
                assert answer.status_code == 202, answer.text
                return dict(answer.json())

            words = ["", "[drop]", "[early][seconds=0]", "[cut]", "[fail]", "[moderate]", "[hidemodal]"]
            orders = [await order("imagine", {"prompt": f"{word} a dove"}) for word in words]
            hidden = orders.pop()
            grid = await ends(client, orders[0])
            single = await ends(client, await order("action", {"action": "U1"}, parent_id=grid["id"]))
            zoom = await order("action", {"action": "Custom Zoom"}, parent_id=single["id"])
            for waiting in (zoom, hidden):
                await until_awaiting(client, waiting)
                answer = await client.post(f"/v1/tasks/{waiting['id']}/input", json={"prompt": "a dove --zoom 2"})
                assert answer.status_code == 200, answer.text
            fates = [await ends(client, task) for task in [*orders, hidden, zoom]]
    assert [(task["state"], task["outcome_source"]) for task in fates] == [
        ("succeeded", "callback"),
        ("succeeded", "poll"),
        ("succeeded", "callback"),
        ("succeeded", "callback"),
        ("failed", "callback"),
        ("failed", "callback"),
        ("succeeded", ANY),
        ("succeeded", ANY),
    ]
    assert fates[5]["failure"]["code"] == "content_policy"
    assert sandbox.ledger.paid() == len(words) + 2
    assert sandbox.ledger.requests[MODAL] == 2


async def until_awaiting(client: httpx.AsyncClient, task: dict[str, Any]) -> None:
    """Wait until a task waits for input. The first poll may come after 7 s."""
    for _ in range(100):
        seen = (await client.get(f"/v1/tasks/{task['id']}", params={"wait": 0})).json()
        if seen["state"] == "awaiting_input":
            return
        await asyncio.sleep(0.1)
    raise AssertionError(seen)
