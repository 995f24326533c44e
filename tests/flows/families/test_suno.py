"""Journeys of Suno tasks at a gateway and at kie.ai, each on both databases, on a held clock."""

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.app import application, opened
from service.domain.task import Source, State, Task
from service.domain.validation import Invalid
from service.flows.statistics import update_statistics
from service.sandbox import Sandbox, running
from service.settings.load import load
from service.worker import working
from tests.support.world import JOB_SECONDS, World

AT = ("elkapi", "kie")
KIE = {
    "KIE_KEY": "sandbox-key",
    "DOVECOTE_UPSTREAMS__KIE__BASE_URL": "http://sandbox.test",
    "DOVECOTE_UPSTREAMS__KIE__DIALECTS": "suno/sunoapi",
    "DOVECOTE_UPSTREAMS__KIE__TYPICAL_SECONDS": str(JOB_SECONDS * 1.5),
}
KIE_SIGNS = {**KIE, "DOVECOTE_UPSTREAMS__KIE__CALLBACK_KEY": "the-key-of-the-settings-page"}
FETCH, FETCH_ONE = "POST /suno/fetch", "GET /suno/fetch/{id}"
RECORD = "GET /api/v1/generate/record-info"


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Open a world with a gateway and with kie.ai without signatures."""
    async with World.opened(database_url, **KIE) as opened:
        yield opened


async def submit(world: World, operation: str, given: dict[str, Any], **fields: Any) -> Task:
    """Accept a Suno task."""
    return await world.submit(family="suno", operation=operation, input=given, **fields)


async def music(world: World, prompt: str = "a dove", **fields: Any) -> Task:
    return await submit(world, "music", {"prompt": prompt}, **fields)


async def over(world: World, task: Task, seconds: float = JOB_SECONDS * 3) -> Task:
    """Advance the time, and return the task as it is then."""
    await world.work()
    await world.pass_time(seconds)
    return await world.task(task)


async def shown(world: World, task: Task) -> dict[str, Any]:
    """Return a task as clients see it."""
    return dict((await world.client.get(f"/v1/tasks/{task.id}")).json())


def bodies(world: World, path: str) -> list[Any]:
    """Return the bodies that were posted to a path of the upstream, in order."""
    return [json.loads(request.content) for request in world.edge.requests if request.url.path == path]


def outputs(task: Task, *roles: str) -> list[tuple[str, str, str | None]]:
    """Return the kind, role and ending of each result."""
    chosen = [result for result in task.results if not roles or result.role in roles]
    return [(result.kind, result.role, result.item) for result in chosen]


# Home ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", AT)
async def test_song_succeeds_by_callback_and_poll(world: World, at: str) -> None:
    """The callback is undocumented or unsigned. It only triggers a poll."""
    task = await over(world, await music(world, upstream=at))
    [job] = world.sandbox.ledger.jobs
    clips = [f"{job.id}-1", f"{job.id}-2"]
    assert (task.state, task.outcome_source, task.progress) == (State.SUCCEEDED, Source.POLL, 100)
    assert outputs(task, "result") == [("audio", "result", clip) for clip in clips]
    assert outputs(task, "cover") == [("image", "cover", clip) for clip in clips]
    assert outputs(task, "preview") == []
    assert task.finished_at is not None
    assert task.finished_at.timestamp() == job.life.ended_at, "no poll of the schedule was as quick"
    assert {received.decision for received in await world.callbacks(task)} == {"hastened"}
    assert [(each.state, each.verified) for each in world.receiver.received] == [("succeeded", True)]
    assert [message.state for message in await world.messages(task)] == ["delivered"]
    assert world.sandbox.ledger.paid() == 1
    assert task.due_at is None


@pytest.mark.parametrize(("at", "asked"), [("elkapi", FETCH_ONE), ("kie", RECORD)])
async def test_lost_callback_is_replaced_by_polling(world: World, at: str, asked: str) -> None:
    task = await over(world, await music(world, "[drop] a dove", upstream=at))
    assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.POLL)
    assert await world.callbacks(task) == []
    assert world.sandbox.ledger.requests[asked] > 0
    assert len(world.receiver.received) == 1


async def test_songs_with_lost_callbacks_are_polled_together(world: World) -> None:
    """Each action takes one request. An id that the gateway does not list is polled singly."""
    requests = [await music(world, f"[drop] dove {number}", upstream="elkapi") for number in range(5)]
    requests.append(await music(world, "[drop][ghost=25] a ghost", upstream="elkapi"))
    words = await submit(world, "lyrics", {"prompt": "[drop] a dove"}, upstream="elkapi")
    await world.work()
    await world.pass_time(20)
    singly = world.sandbox.ledger.requests[FETCH_ONE]
    together = bodies(world, "/suno/fetch")
    assert {len(body["ids"]) for body in together if body["action"] == "MUSIC"} == {6}
    assert {len(body["ids"]) for body in together if body["action"] == "LYRICS"} == {1}
    assert singly >= len([body for body in together if body["action"] == "MUSIC"]), "the ghost alone"
    await world.pass_time(40)
    assert {(await world.task(task)).state for task in [*requests, words]} == {State.SUCCEEDED}
    assert [result.text for result in (await world.task(words)).results] == ["[Verse]\n[drop] a dove"]


FAULTS = [
    ("[twice]", State.SUCCEEDED),
    ("[disorder]", State.SUCCEEDED),
    ("[early]", State.SUCCEEDED),
    ("[early][seconds=0]", State.SUCCEEDED),
    ("[garbage]", State.SUCCEEDED),
    ("[contradict]", State.SUCCEEDED),
    ("[cut]", State.SUCCEEDED),
    ("[cutbody]", State.SUCCEEDED),
    ("[500]", State.SUCCEEDED),
    ("[htmlsubmit]", State.SUCCEEDED),
    ("[early][cut][seconds=0]", State.SUCCEEDED),
    ("[429]", State.SUCCEEDED),
    ("[503]", State.SUCCEEDED),
    ("[nodata]", State.SUCCEEDED),
    ("[nodata][drop]", State.SUCCEEDED),
    ("[lag=5]", State.SUCCEEDED),
    ("[drop][ghost=5]", State.SUCCEEDED),
    ("[drop][flaky]", State.SUCCEEDED),
    ("[fail]", State.FAILED),
    ("[fail][drop]", State.FAILED),
    ("[moderate]", State.FAILED),
    ("[halffail][drop]", State.FAILED),
]


@pytest.mark.parametrize(
    ("at", "words", "state"),
    [
        pytest.param(at, words, state, marks=[] if at == AT[number % len(AT)] else [pytest.mark.long])
        for number, (words, state) in enumerate(FAULTS)
        for at in AT
    ],
)
async def test_upstream_faults_lead_to_one_song_and_one_message(
    world: World, at: str, words: str, state: State
) -> None:
    task = await over(world, await music(world, f"{words} a dove", upstream=at))
    assert task.state is state
    assert world.sandbox.ledger.paid() == 1
    assert len({received.id for received in world.receiver.received}) == 1
    terminal = [event for event in await world.events(task) if event.data.get("state") in {"succeeded", "failed"}]
    assert len(terminal) == 1


@pytest.mark.parametrize("at", AT)
async def test_early_callback_names_the_job_and_triggers_a_poll(world: World, at: str) -> None:
    """The answer to the submit is lost. The callback names the job, and a poll confirms it."""
    task = await over(world, await music(world, "[early][cut][seconds=0] a dove", upstream=at), 1)
    assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.POLL)
    assert [each.outcome for each in await world.submissions(task)] == ["taken"]
    assert task.external_id == world.sandbox.ledger.jobs[0].id


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize(
    ("words", "code"),
    [("[refuse]", "invalid_input"), ("[refuse][moderate]", "content_policy"), ("[nocredit]", "insufficient_credit")],
)
async def test_refused_task_fails_with_the_reason_and_costs_nothing(
    world: World, at: str, words: str, code: str
) -> None:
    task = await over(world, await music(world, f"{words} a dove", upstream=at), 5)
    assert task.state is State.FAILED
    assert task.failure is not None
    assert task.failure.code == code
    assert world.sandbox.ledger.paid() == 0
    assert [each.state for each in world.receiver.received] == ["failed"]


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize(("words", "code"), [("[fail]", "provider_error"), ("[moderate]", "content_policy")])
async def test_failed_song_has_the_reason(world: World, at: str, words: str, code: str) -> None:
    task = await over(world, await music(world, f"{words} a dove", upstream=at))
    assert task.state is State.FAILED
    assert task.failure is not None
    assert (task.failure.code, bool(task.failure.message)) == (code, True)
    assert outputs(task, "result") == []
    assert [each.state for each in world.receiver.received] == ["failed"]


# Parts -----------------------------------------------------------------------------------------------------------


async def test_streaming_clip_is_a_preview(world: World) -> None:
    task = await music(world, upstream="elkapi")
    await world.work()
    await world.pass_time(3)
    [job] = world.sandbox.ledger.jobs
    heard = [result for result in (await shown(world, task))["results"] if result["kind"] == "audio"]
    assert heard == [
        {
            "kept": "off",
            "kind": "audio",
            "role": "preview",
            "item": clip,
            "url": f"https://audiopipe.suno.ai/?item_id={clip}",
        }
        for clip in (f"{job.id}-1", f"{job.id}-2")
    ]
    task = await over(world, task)
    assert "preview" not in {result.role for result in task.results}
    assert not any("audiopipe" in (result.url or "") for result in task.results)


async def test_first_track_is_a_preview_before_the_second(world: World) -> None:
    task = await music(world, upstream="kie")
    await world.work()
    await world.pass_time(JOB_SECONDS * 0.6)
    assert (await world.task(task)).state is State.RUNNING
    first, second = [result for result in (await world.task(task)).results if result.kind == "audio"]
    assert (first.role, (first.url or "").rpartition(".")[2]) == ("preview", "mp3")
    assert (second.role, (second.url or "").rpartition(".")[2]) == ("preview", "stream")
    assert len(outputs(await over(world, task), "result")) == 2


@pytest.mark.parametrize("at", AT)
async def test_failed_song_keeps_its_playable_clip(world: World, at: str) -> None:
    task = await over(world, await music(world, "[halffail] a dove", upstream=at))
    [job] = world.sandbox.ledger.jobs
    assert task.state is State.FAILED
    assert task.failure is not None
    assert task.failure.code == "provider_error"
    [kept] = [result for result in task.results if result.role == "result"]
    assert (kept.kind, kept.item, kept.url) == ("audio", f"{job.id}-1", job.file("1.mp3"))
    [message] = await world.messages(task)
    assert kept.url in [each.get("url") for each in json.loads(message.body)["data"]["results"]]


async def test_incomplete_last_snapshot_loses_nothing(world: World) -> None:
    task = await over(world, await music(world, "[fade] a dove", upstream="elkapi"))
    clips = [f"{job.id}-{number}" for job in world.sandbox.ledger.jobs for number in (1, 2)]
    assert outputs(task, "result") == [("audio", "result", clip) for clip in clips]
    assert set(outputs(task, "cover", "extra")) == {
        (kind, role, clip) for clip in clips for kind, role in (("image", "cover"), ("video", "extra"))
    }


# Follow-ups ------------------------------------------------------------------------------------------------------


async def test_follow_up_of_a_follow_up_keeps_its_clip(world: World) -> None:
    song = await over(world, await music(world, upstream="elkapi"))
    assert song.external_id is not None
    longer = await submit(
        world,
        "extend",
        {"clip": f"{song.external_id}-2", "continue_at": 60, "lyrics": "[Verse]\nand home again"},
        parent_id=str(song.id),
    )
    longer = await over(world, longer)
    assert (longer.state, longer.upstream, longer.dialect) == (State.SUCCEEDED, "elkapi", "suno/newapi")
    whole = await over(world, await submit(world, "concat", {}, parent_id=str(longer.id)))
    assert (whole.state, len(outputs(whole, "result"))) == (State.SUCCEEDED, 1)
    _, extension = bodies(world, "/suno/submit/music")
    assert (
        extension.items()
        >= {
            "task": "extend",
            "task_id": song.external_id,
            "continue_clip_id": f"{song.external_id}-2",
            "continue_at": 60,
        }.items()
    )
    [joined] = bodies(world, "/suno/submit/concat")
    assert joined.pop("notify_hook").startswith("http://dovecote.test/callbacks/")
    assert joined == {"clip_id": f"{longer.external_id}-1", "is_infill": False}
    assert world.sandbox.ledger.paid() == 3
    assert len({received.task_id for received in world.receiver.received}) == 3


async def test_follow_up_of_a_kie_song_uses_kie(world: World) -> None:
    """The gateway is first in the route, but does not have the clip."""
    song = await over(world, await music(world, upstream="kie"))
    longer = await over(world, await submit(world, "extend", {}, parent_id=str(song.id)))
    assert (longer.state, longer.upstream, longer.dialect) == (State.SUCCEEDED, "kie", "suno/sunoapi")
    [extension] = bodies(world, "/api/v1/generate/extend")
    assert extension.items() >= {"audioId": f"{song.external_id}-1", "defaultParamFlag": False}.items()
    with pytest.raises(Invalid, match="suno/sunoapi, which served the parent, has no concat"):
        await submit(world, "concat", {}, parent_id=str(longer.id))


async def test_invalid_follow_up_is_rejected_before_the_submit(world: World) -> None:
    song = await over(world, await music(world, upstream="elkapi"))
    words = await over(world, await submit(world, "lyrics", {"prompt": "a dove"}, upstream="elkapi"))
    failed = await over(world, await music(world, "[halffail] a dove", upstream="elkapi"))
    paid = world.sandbox.ledger.paid()
    for given, parent, complaint in (
        ({"clip": "another"}, song, f"it has {song.external_id}-1, {song.external_id}-2"),
        ({}, words, "a task of lyrics has no clip to continue"),
        ({}, failed, "the task has not succeeded: it is failed"),
        ({}, None, "input.clip: is required here"),
    ):
        request = {} if parent is None else {"parent_id": str(parent.id)}
        with pytest.raises(Invalid, match=complaint):
            await submit(world, "extend", given, **request)
    playable = next(result.item for result in failed.results if result.role == "result")
    task = await over(world, await submit(world, "extend", {"clip": playable}, upstream="elkapi"))
    assert task.state is State.SUCCEEDED, "the clip that was saved can be named by itself"
    assert world.sandbox.ledger.paid() == paid + 1


async def test_persona_is_used_in_a_song(world: World) -> None:
    song = await over(world, await music(world, upstream="elkapi"))
    persona = await over(world, await submit(world, "persona", {"name": "The pigeon"}, parent_id=str(song.id)), 1)
    assert outputs(persona) == [("text", "result", f"{song.external_id}-1")]
    sung = await over(world, await submit(world, "persona_music", {"lyrics": "coo"}, parent_id=str(persona.id)))
    assert sung.state is State.SUCCEEDED
    body = bodies(world, "/suno/submit/music")[-1]
    assert (body["task"], body["persona_id"]) == ("artist_consistency", persona.results[0].text)
    assert body["artist_clip_id"] == f"{song.external_id}-1"


# At once ---------------------------------------------------------------------------------------------------------


async def test_synchronous_operation_has_the_same_lifecycle(world: World) -> None:
    song = await over(world, await music(world, upstream="elkapi"))
    world.receiver.received.clear()
    asked = [
        await submit(world, "persona", {"name": "The pigeon"}, parent_id=str(song.id)),
        await submit(world, "timing", {}, parent_id=str(song.id)),
        await submit(world, "style_tags", {"style": "folk"}, upstream="elkapi"),
    ]
    await world.work()
    for task in [await world.task(task) for task in asked]:
        assert (task.state, task.outcome_source, task.external_id) == (State.SUCCEEDED, Source.SUBMIT, None)
        assert [(result.kind, result.role) for result in task.results] == [("text", "result")]
        assert [event.type for event in await world.events(task)] == ["accepted", "submitting", "succeeded"]
        assert [message.state for message in await world.messages(task)] == ["delivered"]
        assert (task.callback_expected, task.due_at) == (False, None)
    assert {(await world.task(task)).results[0].text for task in asked} >= {"folk, spelt out at length"}
    told = {received.task_id: received.state for received in world.receiver.received}
    assert {told[str(task.id)] for task in asked} == {"succeeded"}


@pytest.mark.parametrize(("operation", "kind"), [("wav", "audio"), ("mp4", "video")])
async def test_unready_file_is_polled(world: World, operation: str, kind: str) -> None:
    song = await over(world, await music(world, upstream="elkapi"))
    task = await submit(world, operation, {}, parent_id=str(song.id))
    await world.work()
    waiting = await world.task(task)
    assert (waiting.state, waiting.external_id) == (State.RUNNING, f"{song.external_id}-1")
    task = await over(world, task)
    assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.POLL)
    assert [(result.kind, (result.url or "").rpartition(".")[2]) for result in task.results] == [(kind, operation)]
    assert world.sandbox.ledger.paid() == 1


# Callbacks that prove little -------------------------------------------------------------------------------------


def hook(world: World, path: str, field: str) -> str:
    """Return the path of the callback URL of the last submit."""
    return urlsplit(bodies(world, path)[-1][field]).path


def claimed(job: str, url: str = "https://evil.example/a.mp3") -> dict[str, Any]:
    """Return a callback that claims the end of a job."""
    track = {"id": "x", "audio_url": url}
    return {"code": 200, "msg": "ok", "data": {"callbackType": "complete", "task_id": job, "data": [track]}}


def signature(job: str, at: int, key: str = "the-key-of-the-settings-page") -> dict[str, str]:
    """Return the signature as kie.ai makes it: of the id and the time, not of the body."""
    digest = hmac.digest(key.encode(), f"{job}.{at}".encode(), hashlib.sha256)
    return {"X-Webhook-Timestamp": str(at), "X-Webhook-Signature": base64.b64encode(digest).decode()}


async def test_callback_only_hastens_a_poll(world: World) -> None:
    task = await music(world, "[drop] a dove", upstream="kie")
    await world.work()
    await world.pass_time(3)
    task = await world.task(task)
    asked = world.sandbox.ledger.requests[RECORD]
    answer = await world.client.post(
        hook(world, "/api/v1/generate", "callBackUrl"), json=claimed(task.external_id or "")
    )
    assert answer.status_code == 200
    await world.work()
    seen = await world.task(task)
    assert (seen.state, outputs(seen, "result")) == (State.RUNNING, [])
    assert world.sandbox.ledger.requests[RECORD] == asked + 1
    assert [received.decision for received in await world.callbacks(task)] == ["hastened"]
    done = await over(world, task)
    assert done.state is State.SUCCEEDED
    assert not any("evil" in (result.url or "") for result in done.results)


async def test_unreadable_callback_still_hastens_a_poll(world: World) -> None:
    task = await over(world, await music(world, "[garbage] a dove", upstream="elkapi"))
    read = {received.detail: received.decision for received in await world.callbacks(task)}
    assert read == {"a poll is to confirm it": "hastened", "no task in it": "hastened"}


async def test_untrusted_callback_still_proves_a_job(database_url: str) -> None:
    """In every family, the answer to the submit is lost and the callback still needs confirmation."""
    async with World.opened(database_url, DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS="confirm") as world:
        task = await over(world, await world.submit("[cut] a dove"))
        assert (task.state, task.outcome_source) == (State.SUCCEEDED, Source.POLL)
        assert {received.decision for received in await world.callbacks(task)} == {"hastened"}
        assert [each.outcome for each in await world.submissions(task)] == ["taken"]


async def test_invalid_kie_signature_is_forged(database_url: str) -> None:
    async with World.opened(database_url, **KIE_SIGNS) as world:
        task = await music(world, "[drop] a dove", upstream="kie")
        await world.work()
        task = await world.task(task)
        job, at = task.external_id or "", int(world.clock.seconds())
        address, asked = hook(world, "/api/v1/generate", "callBackUrl"), world.sandbox.ledger.requests[RECORD]
        forged: list[dict[str, str]] = [
            {},
            signature(job, at, key="another"),
            signature("another", at),
            signature(job, at - 301),
            {**signature(job, at), "X-Webhook-Timestamp": str(at + 1)},
        ]
        for number, headers in enumerate(forged):
            body = claimed(job, f"https://evil.example/{number}.mp3")
            assert (await world.client.post(address, json=body, headers=headers)).status_code == 200
        await world.work()
        assert [received.decision for received in await world.callbacks(task)] == ["forged"] * len(forged)
        assert world.sandbox.ledger.requests[RECORD] == asked
        await world.client.post(address, json=claimed(job), headers=signature(job, at))
        await world.work()
        assert sorted(str(received.decision) for received in await world.callbacks(task)) == ["forged"] * 5 + [
            "hastened"
        ]
        assert world.sandbox.ledger.requests[RECORD] == asked + 1
        done = await over(world, task)
        assert (done.state, done.outcome_source) == (State.SUCCEEDED, Source.POLL)
        assert not any("evil" in (result.url or "") for result in done.results)


@pytest.mark.parametrize("at", AT)
async def test_hastening_callbacks_count_as_received(world: World, at: str) -> None:
    dialect = {"elkapi": "suno/newapi", "kie": "suno/sunoapi"}[at]
    for number in range(8):
        await music(world, f"dove {number}", upstream=at)
    await world.work()
    await world.pass_time(JOB_SECONDS * 2)
    await update_statistics(world.context)
    assert world.context.statistics.callback_share(at, dialect) == 1.0
    for number in range(20):
        await music(world, f"[drop] dove {number}", upstream=at)
    await world.work()
    await world.pass_time(JOB_SECONDS * 3)
    await update_statistics(world.context)
    assert world.context.statistics.callback_share(at, dialect) == 0.0
    assert world.context.statistics.callbacks_unreliable(at, dialect)


async def test_token_echoed_by_a_callback_is_not_stored(world: World) -> None:
    task = await over(world, await music(world, upstream="elkapi"))
    token = hook(world, "/suno/submit/music", "notify_hook").rpartition("/")[2]
    kept = [received.body for received in await world.callbacks(task)]
    assert kept
    assert all(b"notify_hook" in body and b"[redacted]" in body for body in kept)
    everything = [*kept, repr(task), repr(await world.events(task)), repr(await world.messages(task))]
    assert not any(token in str(each) for each in everything)


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
    """Two servers in this process, and nothing between them but HTTP: the clock is the real one."""
    port, sandbox = free_port(), Sandbox(seconds=0.3)
    async with running(sandbox) as provider:
        there = {"BASE_URL": provider, "TYPICAL_SECONDS": "1"}
        settings = load(
            {
                "DOVECOTE_DATABASE_URL": database_url,
                "DOVECOTE_PUBLIC_URL": f"http://127.0.0.1:{port}",
                "ELKAPI_KEY": "sandbox-key",
                "KIE_KEY": "sandbox-key",
                "DOVECOTE_UPSTREAMS__KIE__DIALECTS": "suno/sunoapi",
                **{
                    f"DOVECOTE_UPSTREAMS__{name}__{key}": value
                    for name in ("ELKAPI", "KIE")
                    for key, value in there.items()
                },
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
                fields |= {"family": "suno", "operation": operation, "input": given}
                answer = await client.post("/v1/tasks", json=fields)
                assert answer.status_code == 202, answer.text
                return dict(answer.json())

            words = ["", "[drop]", "[early][seconds=0]", "[cut]", "[fail]", "[moderate]", "[halffail]"]
            orders = [await order("music", {"prompt": f"{word} a dove"}, upstream=at) for at in AT for word in words]
            song = await ends(client, orders[0])
            longer = await ends(client, await order("extend", {"continue_at": 60}, parent_id=song["id"]))
            whole = await ends(client, await order("concat", {}, parent_id=longer["id"]))
            persona = await ends(client, await order("persona", {"name": "The pigeon"}, parent_id=whole["id"]))
            wave = await ends(client, await order("wav", {}, parent_id=whole["id"]))
            fates = [await ends(client, task) for task in orders]
    assert [task["state"] for task in fates] == [*["succeeded"] * 4, *["failed"] * 3] * 2
    assert {task["outcome_source"] for task in fates} == {"poll"}
    assert [task["failure"] and task["failure"]["code"] for task in fates[5:7]] == ["content_policy", "provider_error"]
    assert [[result["role"] for result in task["results"]].count("result") for task in fates[:7]] == [
        2,
        2,
        2,
        2,
        0,
        0,
        1,
    ]
    assert [task["state"] for task in (longer, whole, persona, wave)] == ["succeeded"] * 4
    assert wave["results"][0]["url"].endswith(".wav")
    assert sandbox.ledger.paid() == 2 * len(words) + 3
