"""The sandbox implements Suno's protocols, at a gateway and at sunoapi.org (in-process)."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox import InProcessTransport, Sandbox

RECORDINGS = Path(__file__).parents[1] / "recordings" / "suno"
HEADERS = {"Authorization": "Bearer sandbox-key"}


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_text())["body"]


@dataclass
class Visit:
    """A sandbox on a held clock, a client of it, and the callbacks that it sent."""

    now: float = 1_700_000_000.0
    came: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(seconds=10, clock=lambda: self.now, send=self.receive)
        transport = InProcessTransport(self.sandbox.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://sandbox.test", headers=HEADERS)

    async def receive(self, _url: str, body: bytes) -> int:
        self.came.append(json.loads(body))
        return 200

    async def submit(self, path: str = "submit/music", **order: Any) -> httpx.Response:
        return await self.client.post(f"/suno/{path}", json=order or {"gpt_description_prompt": "a dove"})

    async def song(self, prompt: str = "a dove", **more: Any) -> str:
        return (await self.submit(gpt_description_prompt=prompt, **more)).json()["data"]

    async def row(self, job: str) -> Any:
        return (await self.client.get(f"/suno/fetch/{job}")).json()["data"]

    async def vendor(self, prompt: str = "a dove", **more: Any) -> httpx.Response:
        order = {"customMode": False, "instrumental": False, "model": "V4_5", "callBackUrl": "https://me.test"}
        return await self.client.post("/api/v1/generate", json={**order, "prompt": prompt, **more})

    async def record(self, job: str) -> Any:
        return (await self.client.get("/api/v1/generate/record-info", params={"taskId": job})).json()

    async def pass_time(self, seconds: float) -> list[Any]:
        before = len(self.came)
        self.now += seconds
        await self.sandbox.deliver_due()
        return self.came[before:]


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    visit = Visit()
    async with visit.client:
        yield visit


# At a gateway


async def test_answers_have_the_recorded_shapes(visit: Visit) -> None:
    taken = (await visit.submit()).json()
    assert taken.keys() == recorded("newapi/submit_response.accepted-uuid").keys()
    visit.now += 4
    batch = (await visit.client.post("/suno/fetch", json={"ids": [taken["data"]]})).json()
    streaming = recorded("newapi/poll_response.batch-streaming")
    assert batch["data"][0].keys() == streaming["data"][0].keys()
    assert streaming["data"][0]["data"][0].keys() - batch["data"][0]["data"][0].keys() == {"major_model_version"}
    assert (batch["data"][0]["status"], batch["data"][0]["progress"]) == ("IN_PROGRESS", "0%")
    unknown = await visit.client.get("/suno/fetch/nobody")
    assert (unknown.status_code, unknown.json()) == (400, recorded("newapi/error.task-not-exist"))
    for ids in (["nobody"], 7):
        assert (await visit.client.post("/suno/fetch", json={"ids": ids})).json() == recorded(
            "newapi/poll_response.batch-none-matched"
        )
    empty = await visit.submit("submit/lyrics", prompt="")
    assert (empty.status_code, empty.json()) == (400, recorded("newapi/error.prompt-empty"))


async def test_clips_stream_before_they_are_complete_and_the_first_is_earlier(visit: Visit) -> None:
    job = await visit.song()
    assert (await visit.row(job))["data"] is None
    words = []
    for seconds in (3, 4, 3):
        visit.now += seconds
        row = await visit.row(job)
        words.append([row["status"], *(clip["status"] for clip in row["data"])])
    assert words == [
        ["IN_PROGRESS", "streaming", "streaming"],
        ["IN_PROGRESS", "complete", "streaming"],
        ["SUCCESS", "complete", "complete"],
    ]
    assert row["data"][0]["audio_url"] == f"http://sandbox.test/sandbox/files/{job}.1.mp3"
    assert (await visit.client.get(row["data"][1]["audio_url"])).headers["content-type"] == "audio/mpeg"
    assert (row["progress"], row["finish_time"]) == ("100%", 1_700_000_010)


async def test_a_callback_is_the_answer_to_a_fetch(visit: Visit) -> None:
    job = await visit.song(notify_hook="https://me.test/cb")
    assert [each["data"]["status"] for each in await visit.pass_time(2)] == ["IN_PROGRESS"]
    (last,) = await visit.pass_time(8)
    assert last == (await visit.client.get(f"/suno/fetch/{job}")).json()
    await visit.song()
    assert await visit.pass_time(10) == []


async def test_a_follow_up_needs_a_clip_that_was_made_here(visit: Visit) -> None:
    job = await visit.song()
    extended = await visit.submit(task="extend", continue_clip_id=f"{job}-2", continue_at=60, prompt="more")
    joined = await visit.submit("submit/concat", clip_id=f"{extended.json()['data']}-1", is_infill=False)
    assert joined.json()["code"] == "success"
    visit.now += 10
    assert len((await visit.row(joined.json()["data"]))["data"]) == 1
    for stranger in (f"{job}-3", "nobody-1", job):
        refused = await visit.submit(task="extend", continue_clip_id=stranger, prompt="x")
        assert (refused.status_code, refused.json()["message"]) == (400, "task_origin_not_exist")
    assert visit.sandbox.ledger.paid() == 3


@pytest.mark.parametrize(("split", "clips"), [("two", 2), ("twelve", 12)])
async def test_stems_job_returns_the_wanted_number_of_clips(visit: Visit, split: str, clips: int) -> None:
    job = await visit.song()
    stems = await visit.submit(task="gen_stem", continue_clip_id=f"{job}-1", stem_task=split)
    visit.now += 10
    assert len((await visit.row(stems.json()["data"]))["data"]) == clips


async def test_lyrics_are_one_object(visit: Visit) -> None:
    job = (await visit.submit("submit/lyrics", prompt="a dove")).json()["data"]
    assert (await visit.row(job))["data"] is None
    visit.now += 10
    row, expected = await visit.row(job), recorded("newapi/poll_response.lyrics-success")["data"]
    assert (row["action"], row["data"].keys()) == ("LYRICS", expected["data"].keys())


async def test_synchronous_operations_are_answered_at_once(visit: Visit) -> None:
    job = await visit.song()
    persona = await visit.submit("persona/create", root_clip_id=f"{job}-1", name="The pigeon")
    assert persona.json().keys() == recorded("newapi/submit_response.persona-created").keys()
    tags = await visit.submit("act/tags", original_tags="folk")
    assert tags.json().keys() == recorded("newapi/submit_response.act-tags").keys()
    timing = (await visit.client.get(f"/suno/act/timing/{job}-1")).json()
    assert timing.keys() == recorded("newapi/poll_response.timing").keys() - {"is_streamed"}
    assert (await visit.client.get("/suno/act/timing/nobody-1")).status_code == 400


async def test_conversion_starts_with_the_first_request(visit: Visit) -> None:
    job = await visit.song()
    visit.now += 20
    wav = f"/suno/act/wav/{job}-1"
    assert (await visit.client.get(wav)).json() == recorded("newapi/poll_response.wav-not-ready")
    visit.now += 2
    ready = (await visit.client.get(wav)).json()
    assert ready == {"code": "success", "data": {"wav_url": f"http://sandbox.test/sandbox/files/{job}.1.wav"}}
    assert (await visit.client.get(ready["data"]["wav_url"])).content.startswith(b"RIFF")
    assert (await visit.client.get(f"/suno/act/mp4/{job}-1")).json()["code"] == 1102
    assert (await visit.client.get("/suno/act/wav/nobody-1")).status_code == 400


async def test_halffail_leaves_the_first_clip_playable(visit: Visit) -> None:
    job = await visit.song("[halffail]")
    visit.now += 10
    row, expected = await visit.row(job), recorded("newapi/poll_response.failure-one-clip-playable")["data"]
    assert row.keys() == expected.keys() | {"notify_hook"}
    assert (row["status"], row["fail_reason"]) == (expected["status"], expected["fail_reason"])
    assert [(clip["status"], bool(clip["audio_url"])) for clip in row["data"]] == [("complete", True), ("error", False)]
    assert row["data"][1]["metadata"]["error_message"]


async def test_nodata_hides_the_task_until_it_has_ended(visit: Visit) -> None:
    job, other = await visit.song("[nodata]"), await visit.song()
    visit.now += 9
    assert await visit.row(job) is None
    batch = await visit.client.post("/suno/fetch", json={"ids": [job, other]})
    assert [row["task_id"] for row in batch.json()["data"]] == [other]
    taken = (await visit.vendor("[nodata]")).json()["data"]["taskId"]
    assert (await visit.record(taken)) == {"code": 200, "msg": "success", "data": None}
    visit.now += 10
    assert (await visit.row(job))["status"] == "SUCCESS"
    assert (await visit.record(taken))["data"]["status"] == "SUCCESS"


async def test_fade_takes_videos_and_covers_away(visit: Visit) -> None:
    job = await visit.song("[fade]")
    visit.now += 3
    running = (await visit.row(job))["data"]
    assert all(clip["video_url"] and clip["image_url"] for clip in running)
    visit.now += 7
    done = (await visit.row(job))["data"]
    assert not any(clip["video_url"] or clip["image_url"] for clip in done)


async def test_request_without_the_key_is_refused(visit: Visit) -> None:
    visit.client.headers["Authorization"] = "Bearer other"
    assert (await visit.submit()).status_code == 401
    assert (await visit.vendor()).json()["code"] == 401
    assert visit.sandbox.ledger.paid() == 0


# At sunoapi.org and kie.ai


async def test_the_vendors_answers_have_the_recorded_shapes(visit: Visit) -> None:
    taken = (await visit.vendor()).json()
    assert taken.keys() == recorded("sunoapi/submit_response.accepted").keys()
    job = taken["data"]["taskId"]
    assert (await visit.record(job))["data"]["status"] == "PENDING"
    visit.now += 10
    record, expected = await visit.record(job), recorded("sunoapi/poll_response.success")
    assert record.keys() == expected.keys()
    assert expected["data"].keys() - record["data"].keys() == {"param"}
    track, known = record["data"]["response"]["sunoData"][0], expected["data"]["response"]["sunoData"][0]
    assert track.keys() < known.keys()
    assert track["audioUrl"].endswith(f"{job}.1.mp3")
    assert (await visit.record("nobody")) == {"code": 200, "msg": "success", "data": None}
    credit = await visit.client.get("/api/v1/generate/credit")
    assert credit.json()["data"] == 990


async def test_the_vendors_callbacks_go_by_stages(visit: Visit) -> None:
    await visit.vendor()
    came = [*await visit.pass_time(2), *await visit.pass_time(4), *await visit.pass_time(4)]
    assert [each["data"]["callbackType"] for each in came] == ["text", "first", "complete"]
    assert [[bool(track["audio_url"]) for track in each["data"]["data"]] for each in came] == [
        [],
        [True, False],
        [True, True],
    ]
    assert came[2]["data"]["data"][0].keys() < recorded("sunoapi/callback.complete")["data"]["data"][0].keys()
    await visit.vendor("[fail]")
    *_, last = await visit.pass_time(10)
    assert (last["code"], last["data"]["data"]) == (501, recorded("sunoapi/callback.error-501")["data"]["data"])


async def test_the_vendors_refusals_are_codes_in_the_body(visit: Visit) -> None:
    refused = await visit.vendor(instrumental=None)
    assert (refused.status_code, refused.json()["code"]) == (200, 400)
    assert refused.json()["msg"] == recorded("sunoapi/error.instrumental-null")["msg"]
    for words, code in {"[nocredit]": 429, "[429]": 430, "[503]": 455, "[refuse]": 422}.items():
        answer = await visit.vendor(words)
        assert (answer.status_code, answer.json()["code"]) == (200, code)
    assert (await visit.vendor(callBackUrl="")).json()["msg"] == "Please enter callBackUrl."
    extend = {"audioId": "nobody-1", "callBackUrl": "https://me.test"}
    assert (await visit.client.post("/api/v1/generate/extend", json=extend)).json()["code"] == 404
    assert visit.sandbox.ledger.paid() == 0


@pytest.mark.parametrize(
    ("words", "status", "tracks"),
    [
        ("[fail]", "GENERATE_AUDIO_FAILED", 0),
        ("[moderate]", "SENSITIVE_WORD_ERROR", 0),
        ("[halffail]", "GENERATE_AUDIO_FAILED", 1),
    ],
)
async def test_vendor_failure_has_the_recorded_shape(visit: Visit, words: str, status: str, tracks: int) -> None:
    job = (await visit.vendor(words)).json()["data"]["taskId"]
    visit.now += 10
    record = (await visit.record(job))["data"]
    assert record["status"] == status
    assert len(record["response"].get("sunoData", ())) == tracks
