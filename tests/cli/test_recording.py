"""``dovecote record`` and ``rehearse``: a recording has no secret and no content, and plays back as the upstream did."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from service.cli.assembling import CONTENT, Callback, Exchange, assemble
from service.cli.record import Recorder
from service.sandbox import InProcessTransport
from service.sandbox.rehearsal import CALLBACK, Recording, Rehearsal
from tests.support.world import JOB_SECONDS, World

TOKEN = "t" * 43
HOOK = f"https://dovecote.example.com/callbacks/{TOKEN}"
JOB = "0f3c91aa-1111-4222-8333-444455556666"


def exchange(at: float, method: str, path: str, request: Any, answer: Any, *, status: int = 200) -> Exchange:
    return Exchange(at, method, path, json.dumps(request), status, "application/json", json.dumps(answer))


ORDER = {"prompt": "a secret dove over Paris", "model": "gen4", "callback_url": HOOK}
EXCHANGES = [
    exchange(100, "GET", "/v1/models", None, {"data": [{"id": "gen4-turbo"}]}),
    exchange(101, "POST", "/submit", ORDER, {"code": 200, "data": {"task_id": JOB}}),
    exchange(103, "GET", f"/feed?id={JOB}", None, {"id": JOB, "status": "RUNNING", "prompt": ORDER["prompt"]}),
    exchange(
        111,
        "GET",
        f"/feed?id={JOB}",
        None,
        {"id": JOB, "status": "SUCCEEDED", "url": "https://cdn.test/a.mp4?sig=abcdef", "hook": HOOK},
    ),
]
CALLBACKS = [Callback(TOKEN, 110.0, json.dumps({"task_id": JOB, "status": "SUCCEEDED", "key": "upstream-key"}))]


def test_recording_has_the_job_with_its_polls_and_callbacks() -> None:
    recording = assemble("elkapi", EXCHANGES, CALLBACKS)
    [job] = recording.jobs
    assert job.ids == [JOB]
    assert job.callback == "callback_url"
    assert [each.after for each in job.polls] == [2.0, 10.0]
    assert [each.after for each in job.callbacks] == [9.0]
    assert [each.path for each in recording.others] == ["/v1/models"]
    assert Recording.model_validate_json(recording.model_dump_json()) == recording


def test_recording_has_no_secret_and_no_content() -> None:
    text = assemble("elkapi", EXCHANGES, CALLBACKS, secrets=["upstream-key", ""]).model_dump_json()
    for secret in ("upstream-key", TOKEN, "sig=abcdef", "secret dove", "dovecote.example.com"):
        assert secret not in text
    assert CALLBACK in text
    assert CONTENT in text
    assert "gen4-turbo" in text


def test_answer_that_names_no_job_is_another_request() -> None:
    refused = [exchange(1, "POST", "/submit", ORDER, {"code": 400, "message": "refused-by-policy"}, status=400)]
    recording = assemble("elkapi", refused, [])
    assert recording.jobs == []
    assert [each.status for each in recording.others] == [400]


async def asked(client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> httpx.Response:
    return await client.request(method, path, json=body)


async def test_each_new_job_has_ids_of_its_own_and_the_recorded_answers_at_its_age() -> None:
    now, sent = [0.0], list[tuple[str, dict[str, Any]]]()

    async def send(url: str, body: bytes) -> int:
        sent.append((url, json.loads(body)))
        return 200

    recording = assemble("elkapi", EXCHANGES, CALLBACKS)
    played = Rehearsal(recording, speed=1000, clock=lambda: now[0], send=send)
    transport = httpx.ASGITransport(played.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://rehearsal.test") as client:
        made = []
        for number in range(2):
            hook = f"https://here.test/callbacks/{number}"
            answer = await asked(client, "POST", "/submit", {"prompt": "x", "callback_url": hook})
            made.append(answer.json()["data"]["task_id"])
        assert JOB not in made
        assert made[0] != made[1]
        first = (await asked(client, "GET", f"/feed?id={made[0]}")).json()
        now[0] = 0.0105
        last = (await asked(client, "GET", f"/feed?id={made[0]}")).json()
        assert (first["status"], last["status"]) == ("RUNNING", "SUCCEEDED")
        assert (last["id"], last["hook"]) == (made[0], "https://here.test/callbacks/0")
        for _ in range(200):
            if len(sent) == 2:
                break
            await asyncio.sleep(0.01)
        assert sorted((url, body["task_id"]) for url, body in sent) == [
            (f"https://here.test/callbacks/{number}", made[number]) for number in range(2)
        ]
        assert (await asked(client, "GET", "/v1/models")).json() == {"data": [{"id": "gen4-turbo"}]}
        missing = await asked(client, "GET", "/balance")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_recorded")


TASKS = {
    "runway-by-callback": {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove over Paris"}},
    "runway-by-poll": {
        "family": "runway",
        "operation": "text_to_video",
        "input": {"prompt": "[drop] a dove over Paris"},
    },
    "runway-fails": {"family": "runway", "operation": "text_to_video", "input": {"prompt": "[fail] a dove over Paris"}},
    "midjourney": {"family": "midjourney", "operation": "imagine", "input": {"prompt": "a dove over Paris"}},
    "suno": {"family": "suno", "operation": "music", "input": {"prompt": "a song about a dove over Paris"}},
}


@pytest.mark.parametrize("name", TASKS)
async def test_task_ends_alike_in_the_rehearsal(sqlite_url: str, tmp_path: Any, name: str) -> None:
    recorder = Recorder("http://sandbox.test")
    async with World.opened(sqlite_url) as world:
        async with httpx.AsyncClient(transport=InProcessTransport(world.sandbox.app)) as client:
            recorder._client = client
            world.edge.hosts["sandbox.test"] = httpx.ASGITransport(recorder.app)
            task = await world.submit(**TASKS[name])
            await world.until(JOB_SECONDS * 8)
            before = await world.task(task)
        stored = [
            Callback(world.context.tokens.make(each.submission_id), each.received_at.timestamp(), each.body.decode())
            for each in await world.callbacks(task)
        ]
        # The recorder reads this machine's clock, and the test holds Dovecote's: callbacks come at once.
        recording = assemble("elkapi", recorder.exchanges, stored, secrets=recorder.secrets)
    assert before.state.ended
    text = recording.model_dump_json()
    assert "sandbox-key" not in text
    assert "over Paris" not in text
    played = Rehearsal(Recording.model_validate_json(text), speed=100_000)
    database = f"sqlite:///{tmp_path / 'rehearsal.db'}"
    await migrated(database)
    async with World.opened(database) as world:
        played._send = lambda url, body: world.client.post(  # type: ignore[assignment, misc, return-value]
            url.replace("http://dovecote.test", ""), content=body
        )
        world.edge.hosts["sandbox.test"] = httpx.ASGITransport(played.app)
        again = await world.submit(**TASKS[name])
        for _ in range(60):
            await asyncio.sleep(0.01)
            await world.pass_time(JOB_SECONDS, step=JOB_SECONDS)
            after = await world.task(again)
            if after.state.ended:
                break
    assert after.state is before.state
    assert after.external_id != before.external_id
    assert len(after.results) == len(before.results)


async def migrated(url: str) -> None:
    from service.store.database import Database
    from service.store.migrate import migrate

    database = Database(url)
    await migrate(database)
    await database.close()


@pytest.mark.parametrize("written", ["plain", "ascii", "go"])
def test_content_is_removed_however_its_characters_are_escaped(written: str) -> None:
    prompt = 'eine "Taube" über <Köln>\n& Bonn'
    order = {"prompt": prompt, "callback_url": HOOK}
    answer = {"id": JOB, "prompt": prompt}
    text = json.dumps(answer, ensure_ascii=written == "ascii")
    if written == "go":
        for each in "<>&":
            text = text.replace(each, f"\\u{ord(each):04x}")
    created = exchange(101, "POST", "/submit", order, {"id": JOB})
    poll = Exchange(103, "GET", f"/feed?id={JOB}", "", 200, "application/json", text)
    [job] = assemble("elkapi", [created, poll], []).jobs
    assert json.loads(job.polls[0].body) == {"id": JOB, "prompt": CONTENT}
