"""Journeys of tasks at an upstream that supports only ElkAPI's task API, each on both databases."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.task import Source, State, Task
from service.domain.validation import Invalid
from service.sandbox import InProcessTransport, Sandbox
from tests.support.world import JOB_SECONDS, World

RECORDINGS = Path(__file__).parents[2] / "recordings" / "any" / "elk-task"
SONG = {"family": "suno", "operation": "music"}
SUBMIT, POLL = "POST /v1/task/submit", "GET /v1/task/{id}"


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Open a world with one upstream, which supports only any/elk-task."""
    async with World.opened(database_url, DOVECOTE_UPSTREAMS__ELKAPI__DIALECTS="any/elk-task") as opened:
        yield opened


async def ended(world: World, prompt: str, **fields: object) -> Task:
    """Submit a task, and advance the time until it has ended."""
    task = await world.submit(prompt, **fields)
    await world.work()
    await world.pass_time(JOB_SECONDS * 3)
    return await world.task(task)


def check_song(task: Task) -> None:
    """Check that the results are two songs and, after them, the two covers that the provider lists first."""
    assert (task.state, task.progress, task.dialect) == (State.SUCCEEDED, 100, "any/elk-task")
    assert [(result.kind, result.role) for result in task.results] == [
        ("audio", "result"),
        ("audio", "result"),
        ("image", "cover"),
        ("image", "cover"),
    ]
    assert [(result.url or "").rpartition(".")[2] for result in task.results] == ["mp3", "mp3", "png", "png"]


async def test_song_succeeds_by_callback(world: World) -> None:
    task = await ended(world, "a dove", **SONG)
    check_song(task)
    assert task.outcome_source is Source.CALLBACK
    assert [event.type for event in await world.events(task)] == [
        "accepted",
        "submitting",
        "submitted",
        "running",
        "succeeded",
    ]
    assert [received.decision for received in await world.callbacks(task)] == ["applied", "applied"]
    assert [(each.state, each.verified) for each in world.receiver.received] == [("succeeded", True)]
    assert world.sandbox.ledger.requests == {SUBMIT: 1}
    [job] = world.sandbox.ledger.jobs
    assert job.order.document["model"] == "suno/music"
    assert job.order.document["input"] == {"gpt_description_prompt": "a dove", "custom": False, "instrumental": False}


async def test_song_with_a_lost_callback_is_found_by_polling(world: World) -> None:
    task = await ended(world, "[drop] a dove", **SONG)
    check_song(task)
    assert task.outcome_source is Source.POLL
    assert world.sandbox.ledger.requests[SUBMIT] == 1
    assert world.sandbox.ledger.requests[POLL] > 0
    assert len(world.receiver.received) == 1


@pytest.mark.parametrize(
    ("words", "state", "outcome_source", "code"),
    [
        ("[early][seconds=0]", State.SUCCEEDED, Source.CALLBACK, None),
        ("[twice][disorder]", State.SUCCEEDED, Source.CALLBACK, None),
        ("[cut]", State.SUCCEEDED, Source.CALLBACK, None),
        ("[cutbody]", State.SUCCEEDED, Source.CALLBACK, None),
        ("[500]", State.SUCCEEDED, Source.CALLBACK, None),
        ("[429]", State.SUCCEEDED, Source.CALLBACK, None),
        ("[503]", State.SUCCEEDED, Source.CALLBACK, None),
        ("[contradict]", State.SUCCEEDED, Source.CALLBACK, None),
        ("[drop][flaky]", State.SUCCEEDED, Source.POLL, None),
        ("[drop][ghost=5]", State.SUCCEEDED, Source.POLL, None),
        ("[drop][ghost200=5]", State.SUCCEEDED, Source.POLL, None),
        ("[fail]", State.FAILED, Source.CALLBACK, "provider_error"),
        ("[fail][drop]", State.FAILED, Source.POLL, "provider_error"),
        ("[moderate]", State.FAILED, Source.CALLBACK, "content_policy"),
    ],
)
async def test_upstream_faults_lead_to_one_paid_song_and_one_message(
    world: World, words: str, state: State, outcome_source: Source, code: str | None
) -> None:
    task = await ended(world, f"{words} a dove", **SONG)
    assert (task.state, task.outcome_source) == (state, outcome_source)
    assert (None if task.failure is None else task.failure.code) == code
    assert world.sandbox.ledger.paid() == 1
    assert len({received.id for received in world.receiver.received}) == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("[refuse]", "invalid_input"),
        ("[refuse][moderate]", "content_policy"),
        ("[refuse200]", "invalid_input"),
        ("[nocredit]", "insufficient_credit"),
    ],
)
async def test_refused_task_fails_with_the_reason_and_costs_nothing(world: World, words: str, code: str) -> None:
    task = await ended(world, f"{words} a dove", **SONG)
    assert task.state is State.FAILED
    assert task.failure is not None
    assert task.failure.code == code
    assert world.sandbox.ledger.paid() == 0


async def test_runway_task_uses_the_named_model(world: World) -> None:
    given = {"prompt": "a dove", "model": "runway/text-to-video", "duration": 5}
    task = await ended(world, "a dove", input=given)
    assert (task.state, task.outcome_source, task.dialect) == (State.SUCCEEDED, Source.CALLBACK, "any/elk-task")
    assert [(result.kind, result.role) for result in task.results] == [("video", "result")]
    [job] = world.sandbox.ledger.jobs
    assert job.order.document["model"] == "runway/text-to-video"
    assert job.order.document["input"] == {"prompt": "a dove", "duration": 5}


async def test_runway_task_without_a_model_is_rejected(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        await world.submit("a dove")
    assert [mistake.path for mistake in refused.value.mistakes] == ["input.model"]
    assert world.sandbox.ledger.requests == {}


async def test_broken_callback_is_stored_and_harmless(world: World) -> None:
    task = await ended(world, "[garbage] a dove", **SONG)
    check_song(task)
    assert sorted(str(received.decision) for received in await world.callbacks(task)) == [
        "applied",
        "applied",
        "unreadable",
    ]


async def test_unserved_operation_names_the_missing_key(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        await world.submit("a dove", operation="sound_effect")
    [mistake] = refused.value.mistakes
    assert mistake.path == "operation"
    assert "RUNWAYML_API_SECRET" in mistake.message
    assert "ELKAPI_KEY" not in mistake.message


# The provider answers as in ElkAPI's page and RixAPI's captures ----------------------------------------------------------


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["body"]


async def test_sandbox_song_matches_the_recordings() -> None:
    now, came = 1_700_000_000.0, []

    async def take(_url: str, body: bytes) -> int:
        came.append(json.loads(body))
        return 200

    sandbox = Sandbox(seconds=10, clock=lambda: now, send=take)
    transport = InProcessTransport(sandbox.app)
    key = {"Authorization": "Bearer sandbox-key"}
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test", headers=key) as client:
        order = {"model": "suno/music", "input": {"prompt": "a dove"}, "callback_url": "https://me.test/cb"}
        taken = (await client.post("/v1/task/submit", json=order)).json()
        assert taken.keys() == recorded("submit_response.kling-queued").keys()
        now += 5
        assert (await client.get(f"/v1/task/{taken['id']}")).json() == taken | {"status": "in_progress"}
        now += 5
        done = (await client.get(f"/v1/task/{taken['id']}")).json()
        expected = recorded("poll_response.suno-covers-first")
        assert done.keys() == expected.keys()
        endings = [[url.rpartition(".")[2] for url in each["outputs"]] for each in (done, expected)]
        assert endings == [["png", "png", "mp3", "mp3"], ["jpeg", "jpeg", "mp3", "mp3"]]
        assert (await client.get(done["outputs"][-1])).headers["content-type"] == "audio/mpeg"
        await sandbox.deliver_due()
        assert [each["status"] for each in came] == ["in_progress", "completed"]
        assert came[-1] == done


@pytest.mark.parametrize(
    ("method", "path", "order", "status", "code"),
    [
        ("POST", "/v1/task/submit", {"input": {}}, 400, "invalid_request"),
        ("POST", "/v1/task/submit", {"model": "suno/music"}, 500, "convert_request_failed"),
        (
            "POST",
            "/v1/task/submit",
            {"model": "suno/music", "input": {"prompt": "[nocredit]"}},
            403,
            "insufficient_user_quota",
        ),
        ("GET", "/v1/task/none", None, 404, "task_not_exist"),
    ],
)
async def test_sandbox_refusal_matches_the_recordings(
    method: str, path: str, order: object, status: int, code: str
) -> None:
    sandbox = Sandbox()
    transport = InProcessTransport(sandbox.app)
    key = {"Authorization": "Bearer sandbox-key"}
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test", headers=key) as client:
        answer = await client.request(method, path, json=order)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (status, "rix_api_error", code)
    assert sandbox.ledger.paid() == 0
