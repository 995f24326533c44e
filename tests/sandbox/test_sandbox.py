"""The sandbox implements the documented protocol, keeps its ledger, and simulates each fault that is requested (in-process)."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox import FAULTS, Faults, InProcessTransport, Sandbox

RECORDINGS = Path(__file__).parents[1] / "recordings" / "runway"
HEADERS = {"Authorization": "Bearer sandbox-key", "X-Runway-Version": "2024-11-06"}
GENERATE = "/runway/pro/generate"


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_text())["body"]


@dataclass
class Visit:
    """A sandbox on a held clock, a client of it, and the callbacks that it sent."""

    now: float = 1_700_000_000.0
    came: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(seconds=10, clock=lambda: self.now, send=self.receive)
        transport = InProcessTransport(self.sandbox.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://sandbox.test", headers=HEADERS)

    async def receive(self, url: str, body: bytes) -> int:
        self.came.append((url, body))
        return 200

    async def generate(self, prompt: str = "a cat", **more: Any) -> httpx.Response:
        order = {"callback_url": "https://me.test/cb", "prompt": prompt, "model": "gen4"} | more
        return await self.client.post(GENERATE, json=order)

    async def job(self, prompt: str = "a cat") -> str:
        return (await self.generate(prompt)).json()["data"]["task_id"]

    async def feed(self, job_id: str) -> httpx.Response:
        return await self.client.post("/runway/feed", json={"task_id": job_id})

    async def status(self, job_id: str) -> str:
        return (await self.feed(job_id)).json()["data"]["status"]

    async def official(self, operation: str = "text_to_video", **more: Any) -> httpx.Response:
        order = {"model": "gen4.5", "promptText": "a cat", "ratio": "1280:720", "duration": 5}
        return await self.client.post(f"/v1/{operation}", json=order | more)

    async def pass_time(self, seconds: float) -> list[str]:
        """Advance the time, deliver the callbacks, and return the statuses that they reported."""
        before = len(self.came)
        self.now += seconds
        await self.sandbox.deliver_due()
        return self.statuses[before:]

    @property
    def statuses(self) -> list[str]:
        return [re.findall(rb'"status":"(\d)"', body)[0].decode() for _, body in self.came]


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    visit = Visit()
    async with visit.client:
        yield visit


# The aggregators' own format


async def test_a_submit_answer_has_the_recorded_shape(visit: Visit) -> None:
    answer = await visit.generate()
    assert answer.status_code == 200
    assert answer.json().keys() == recorded("aggregator/submit_response.task-id-only").keys()
    assert answer.json()["code"] == 200
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.json()["data"]["task_id"])


async def test_a_job_is_queued_then_runs_then_succeeds(visit: Visit) -> None:
    job = await visit.job()
    assert await visit.status(job) == "0"
    visit.now += 2
    assert await visit.status(job) == "1"
    visit.now += 7.9
    assert await visit.status(job) == "1"
    visit.now += 0.1
    assert await visit.status(job) == "3"


async def test_callbacks_and_polls_show_the_same_recorded_record(visit: Visit) -> None:
    job = await visit.job("a cat")
    assert await visit.pass_time(1.9) == []
    assert await visit.pass_time(0.1) == ["1"]
    assert await visit.pass_time(8) == ["3"]
    assert await visit.pass_time(100) == []
    url, body = visit.came[-1]
    callback, feed = json.loads(body), (await visit.feed(job)).json()
    assert url == "https://me.test/cb"
    assert callback == feed["data"]
    assert callback.keys() == recorded("aggregator/callback.status3-succeeded").keys()
    assert {type(callback[name]) for name in ("status", "point", "refund", "create_time", "update_time")} == {str}
    assert callback["task_id"] == job
    assert callback["video_url"] == f"http://sandbox.test/sandbox/files/{job}.mp4"
    assert (callback["create_time"], callback["update_time"]) == ("1700000000", "1700000010")
    assert (callback["point"], callback["refund"], callback["msg"]) == ("320", "0", None)
    assert json.loads(visit.came[0][1])["video_url"] is None


@pytest.mark.parametrize(
    ("shape", "recording"),
    [
        ("A", "aggregator/callback.status3-succeeded"),
        ("B", "aggregator/poll_response.wrapped-queued"),
        ("D", "aggregator-official/poll_response.bare-succeeded"),
    ],
)
async def test_feed_shape_chooses_the_recorded_shape(visit: Visit, shape: str, recording: str) -> None:
    job = await visit.job(f"a cat [feed_shape={shape}]")
    if shape != "B":
        visit.now += 10
    document, expected = (await visit.feed(job)).json(), recorded(recording)
    record = document if shape == "D" else document["data"]
    assert record.keys() == (expected["data"] if shape == "B" else expected).keys()
    if shape == "B":
        assert document.keys() == expected.keys()
        assert record["data"].keys() == expected["data"]["data"].keys()
        assert record | {"task_id": 0, "submit_time": 0, "data": 0} == expected["data"] | {
            "task_id": 0,
            "submit_time": 0,
            "data": 0,
            "action": "TEXT_TO_VIDEO",
        }


async def test_feed_shape_c_is_the_gateway_record_without_envelope(visit: Visit) -> None:
    visit.sandbox.faults = Faults(feed_shape="C")
    job = await visit.job()
    visit.now += 6
    running = (await visit.feed(job)).json()
    assert (running["task_id"], running["status"], running["progress"]) == (job, "IN_PROGRESS", "50%")
    assert (running["start_time"], running["finish_time"], running["result_url"]) == (1700000002, 0, "")
    visit.now += 4
    done = (await visit.feed(job)).json()
    assert (done["status"], done["progress"], done["finish_time"]) == ("SUCCESS", "100%", 1700000010)
    assert done["result_url"] == done["data"]["output"][0]


async def test_incomplete_submit_is_refused_and_costs_nothing(visit: Visit) -> None:
    without_callback = await visit.generate(callback_url="")
    assert (without_callback.status_code, without_callback.json()["code"]) == (400, "callback_url_empty")
    for path, wanted in {"generate": "model", "video2video": "video", "act_one": "image"}.items():
        order = {"callback_url": "https://me.test", "prompt": "x", "model": "gen4", "video": "v", "image": "i"}
        del order[wanted]
        refused = await visit.client.post(f"/runway/pro/{path}", json=order)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
        assert wanted in refused.json()["message"]
        taken = await visit.client.post(f"/runway/pro/{path}", json=order | {wanted: "w"})
        assert taken.json()["code"] == 200
    assert (await visit.client.post(GENERATE, content=b"{")).status_code == 400
    assert visit.sandbox.ledger.paid() == 3


async def test_an_unknown_job_is_the_recorded_error(visit: Visit) -> None:
    answer = await visit.feed("nobody")
    assert (answer.status_code, answer.json()) == (400, recorded("aggregator/error.task-not-exist"))


@pytest.mark.parametrize("key", ["", "Bearer other", "sandbox-key"])
async def test_request_without_the_key_is_refused(visit: Visit, key: str) -> None:
    visit.client.headers["Authorization"] = key
    gateway, official = await visit.generate(), await visit.official()
    assert (gateway.status_code, official.status_code) == (401, 401)
    assert gateway.json()["error"].keys() == {"message", "type", "param", "code"}
    assert isinstance(official.json()["error"], str)
    assert visit.sandbox.ledger.paid() == 0


# Runway's format, relayed


async def test_relayed_jobs_are_polled_in_either_format(visit: Visit) -> None:
    path = "/runwayml/v1/image_to_video"
    taken = await visit.client.post(path, json={"model": "gen4_turbo", "promptImage": "https://x.test/i.png"})
    assert taken.json().keys() == recorded("aggregator-official/submit_response.bare-id").keys()
    job = taken.json()["id"]
    visit.now += 10
    bare = (await visit.client.get(f"/runwayml/v1/tasks/{job}")).json()
    assert bare.keys() == recorded("aggregator-official/poll_response.bare-succeeded").keys()
    assert await visit.status(job) == "3"
    assert await visit.pass_time(0) == []  # no callback exists in this format


async def test_relayed_submits_require_the_version_and_their_fields(visit: Visit) -> None:
    order = {"model": "gen4_image", "promptText": "x", "ratio": "1024:1024"}
    refused = await visit.client.post("/runwayml/v1/text_to_image", json=order)
    assert (refused.status_code, refused.json()["code"]) == (400, "reference_images_empty")
    refused = await visit.client.post("/runwayml/v1/video_upscale", json={"model": "upscale_v1"})
    assert "videoUri" in refused.json()["message"]
    del visit.client.headers["X-Runway-Version"]
    refused = await visit.client.post("/runwayml/v1/text_to_image", json=order | {"referenceImages": [{"uri": "x"}]})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert visit.sandbox.ledger.jobs == []


# Runway's own API


@pytest.mark.parametrize(
    ("seconds", "recording"),
    [(0, "pending"), (6, "running-45-percent"), (10, "succeeded-with-cost")],
)
async def test_official_tasks_have_the_recorded_keys(visit: Visit, seconds: float, recording: str) -> None:
    taken = (await visit.official()).json()
    assert taken.keys() == recorded("official/submit_response.text-to-speech").keys()
    visit.now += seconds
    task = (await visit.client.get(f"/v1/tasks/{taken['id']}")).json()
    expected = recorded(f"official/poll_response.{recording}")
    assert task.keys() == expected.keys()
    assert task["status"] == expected["status"]
    assert task["createdAt"] == "2023-11-14T22:13:20.000Z"
    if seconds == 6:
        assert task["progress"] == 0.5


async def test_official_failures_have_a_code_and_a_cost(visit: Visit) -> None:
    jobs = [(await visit.official(promptText=text)).json()["id"] for text in ("[fail]", "[moderate]")]
    visit.now += 10
    broken, flagged = [(await visit.client.get(f"/v1/tasks/{job}")).json() for job in jobs]
    assert broken.keys() == recorded("official/poll_response.failed-bad-output").keys() | {"cost"}
    assert (broken["failureCode"], broken["cost"]["credits"]) == ("INTERNAL.BAD_OUTPUT.CODE01", 0)
    assert (flagged["failureCode"], flagged["cost"]["credits"]) == ("SAFETY.INPUT.TEXT", 25)


@pytest.mark.parametrize(
    ("operation", "order", "ending"),
    [
        ("text_to_video", {"promptText": "x", "ratio": "1280:720"}, "mp4"),
        ("image_to_video", {"promptImage": "x", "ratio": "1280:720"}, "mp4"),
        ("video_to_video", {"videoUri": "x"}, "mp4"),
        ("text_to_image", {"promptText": "x", "ratio": "1024:1024"}, "png"),
        ("video_upscale", {"videoUri": "x"}, "mp4"),
        ("image_upscale", {"imageUri": "x"}, "png"),
        ("character_performance", {"character": {"uri": "x"}, "reference": {"uri": "x"}}, "mp4"),
        ("text_to_speech", {"promptText": "x"}, "mp3"),
        ("sound_effect", {"promptText": "x"}, "mp3"),
        ("speech_to_speech", {"media": {"uri": "x"}, "voice": {"presetId": "x"}}, "mp3"),
        ("voice_dubbing", {"audioUri": "x", "targetLang": "de"}, "mp3"),
        ("voice_isolation", {"audioUri": "x"}, "mp3"),
    ],
)
async def test_official_operation_requires_its_fields_and_returns_its_media(
    visit: Visit, operation: str, order: dict[str, Any], ending: str
) -> None:
    refused = await visit.client.post(f"/v1/{operation}", json={})
    assert refused.status_code == 400
    assert refused.json().keys() == recorded("official/error.http400-validation-too-long").keys()
    named = {issue["path"][0] for issue in refused.json()["issues"]}
    assert named == {"model", *order}
    taken = await visit.client.post(f"/v1/{operation}", json={"model": "m", **order})
    visit.now += 10
    task = (await visit.client.get(f"/v1/tasks/{taken.json()['id']}")).json()
    assert task["output"] == [f"http://sandbox.test/sandbox/files/{task['id']}.{ending}"]
    assert (await visit.client.get(task["output"][0])).content


async def test_official_routes_require_the_version_header(visit: Visit) -> None:
    job = (await visit.official()).json()["id"]
    visit.client.headers["X-Runway-Version"] = "2020-01-01"
    answers = [
        await visit.official(),
        *[await visit.client.get(f"/v1/{path}") for path in (f"tasks/{job}", "organization")],
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert all("X-Runway-Version" in answer.json()["error"] for answer in answers)


async def test_official_counts_a_prompt_in_utf16(visit: Visit) -> None:
    assert (await visit.official(promptText="🐱" * 500)).status_code == 200
    refused = await visit.official(promptText="🐱" * 501)
    assert [issue["code"] for issue in refused.json()["issues"]] == ["too_big"]


@pytest.mark.parametrize(("seconds", "state"), [(5, "cancelled"), (10, "succeeded")])
async def test_delete_cancels_a_running_job_and_deletes_a_finished_one(
    visit: Visit, seconds: float, state: str
) -> None:
    job = (await visit.official()).json()["id"]
    visit.now += seconds
    deleted = await visit.client.delete(f"/v1/tasks/{job}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for gone in (await visit.client.get(f"/v1/tasks/{job}"), await visit.client.delete(f"/v1/tasks/{job}")):
        assert (gone.status_code, gone.json()) == (404, recorded("official/error.http404-task-gone"))
    visit.now += 10
    [kept] = visit.sandbox.ledger.jobs
    assert (kept.state, kept.cancelled, kept.paid) == (state, state == "cancelled", True)


async def test_organization_reports_the_remaining_credits(visit: Visit) -> None:
    await visit.official(duration=10)
    await visit.job()
    answer = (await visit.client.get("/v1/organization")).json()
    assert answer.keys() == {"creditBalance", "tier", "usage"}
    assert answer["creditBalance"] == 100_000 - 50
    assert answer["usage"] == {"models": {"gen4.5": {"dailyGenerations": 1}}}


async def test_one_account_does_not_see_the_jobs_of_another(visit: Visit) -> None:
    theirs, ours = (await visit.official()).json()["id"], await visit.job()
    assert (await visit.feed(theirs)).status_code == 400
    assert (await visit.client.get(f"/v1/tasks/{ours}")).status_code == 404


# The ledger and the rest of its own routes


async def test_sandbox_ledger_lists_paid_jobs_and_requests(visit: Visit) -> None:
    job = await visit.job()
    await visit.generate("no [refuse]")
    await visit.feed(job)
    await visit.pass_time(10)
    [entry] = visit.sandbox.ledger.jobs
    assert (entry.id, entry.route, entry.prompt, entry.paid, entry.points) == (
        job,
        f"POST {GENERATE}",
        "a cat",
        True,
        320,
    )
    assert (entry.state, entry.polls, entry.callbacks_sent, entry.cancelled) == ("succeeded", 1, 2, False)
    assert (entry.created_at, entry.callback_url) == (1_700_000_000.0, "https://me.test/cb")
    shown = (await visit.client.get("/sandbox/ledger")).json()
    assert shown["paid"] == visit.sandbox.ledger.paid() == 1
    assert shown["requests"] == {f"POST {GENERATE}": 2, "POST /runway/feed": 1}
    assert shown["jobs"][0]["callback_statuses"] == [200, 200]


async def test_clearing_the_ledger_forgets_jobs_callbacks_and_refusals(visit: Visit) -> None:
    await visit.job()
    assert (await visit.generate("[429]")).status_code == 429
    assert (await visit.client.delete("/sandbox/ledger")).status_code == 204
    assert await visit.pass_time(10) == []
    assert (await visit.generate("[429]")).status_code == 429
    assert (await visit.client.get("/sandbox/ledger")).json() == {
        "paid": 0,
        "requests": {f"POST {GENERATE}": 1},
        "fetched": [],
        "jobs": [],
    }


async def test_own_routes_need_no_key(visit: Visit) -> None:
    job = await visit.job()
    visit.client.headers.clear()
    visit.sandbox.faults = Faults(late=2.5)
    assert (await visit.client.get("/healthz")).json() == {"status": "ok"}
    assert (await visit.client.get("/sandbox/faults")).json() == {"words": FAULTS, "set": {"late": 2.5}}
    video = await visit.client.get(f"/sandbox/files/{job}.mp4")
    poster = await visit.client.get(f"/sandbox/files/{job}.poster.png")
    assert (video.headers["content-type"], poster.headers["content-type"]) == ("video/mp4", "image/png")
    assert video.content[4:8] == b"ftyp"
    assert poster.content.startswith(b"\x89PNG")
    assert (await visit.client.get("/sandbox/files/other.mp4")).status_code == 404


async def test_an_unknown_path_is_answered_as_a_gateway_does(visit: Visit) -> None:
    for answer in (await visit.client.get("/nothing"), await visit.client.get(GENERATE)):
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].startswith("Invalid URL (GET /")


# Words


def test_words_are_read_in_any_case_and_number() -> None:
    faults = Faults.in_text("A [Verse] about [LATE=1.5][drop] [429] cats [seconds=0] [503=4] [feed_shape=b]")
    assert faults == Faults(late=1.5, drop=True, too_many=1, seconds=0.0, unavailable=4, feed_shape="B")
    assert Faults.in_text("a cat [and a dog] [1=2]") == Faults()
    assert Faults(late=3.0, twice=True) | Faults(late=0.0, cut=True) == Faults(late=0.0, twice=True, cut=True)


@pytest.mark.parametrize(
    "word", ["late=soon", "late=-1", "late=inf", "late=nan", "drop=1", "429=x", "feed_shape=E", "seconds", "x"]
)
def test_invalid_fault_is_an_error(word: str) -> None:
    with pytest.raises(ValueError, match=word.partition("=")[0]):
        Faults.named([word])


async def test_invalid_fault_in_a_prompt_is_refused_with_the_reason(visit: Visit) -> None:
    refused = await visit.generate("[late=soon]")
    assert refused.status_code == 400
    assert "needs seconds" in refused.json()["message"]
    refused = await visit.official(promptText="[seconds]")
    assert "needs a value" in refused.json()["issues"][0]["message"]


async def test_a_flag_holds_for_every_job_and_a_word_wins(visit: Visit) -> None:
    visit.sandbox.faults = Faults(seconds=1, fail=True)
    jobs = [await visit.job(), await visit.job("[seconds=5]")]
    visit.now += 1
    assert [await visit.status(job) for job in jobs] == ["2", "1"]


async def test_faults_are_read_from_any_text_without_a_prompt(visit: Visit) -> None:
    order = {
        "callback_url": "https://me.test/[fail]",
        "video": "https://x.test/[drop].mp4",
        "image": "https://x.test/i.png",
    }
    await visit.client.post("/runway/pro/act_one", json=order)
    [job] = visit.sandbox.ledger.jobs
    assert job.faults == Faults(drop=True)


# Each fault, by its word


def test_every_fault_word_has_a_test() -> None:
    """The test is here, or beside the family of the fault."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [word for word in FAULTS if f"def test_{word}_" not in tests] == []


async def test_seconds_is_how_long_the_job_takes(visit: Visit) -> None:
    job = await visit.job("[seconds=100]")
    assert await visit.pass_time(99) == ["1"]
    assert await visit.status(job) == "1"
    assert await visit.pass_time(1) == ["3"]


async def test_fail_ends_in_a_refunded_failure(visit: Visit) -> None:
    await visit.job("[fail]")
    assert await visit.pass_time(10) == ["1", "2"]
    callback = json.loads(visit.came[-1][1])
    assert (callback["video_url"], callback["msg"], callback["refund"]) == (None, "An unexpected error occurred.", "1")
    assert visit.sandbox.ledger.paid() == 1


async def test_moderate_ends_in_a_failure_that_names_the_policy(visit: Visit) -> None:
    job = await visit.job("[moderate] [feed_shape=B]")
    assert await visit.pass_time(10) == ["1", "2"]
    record = (await visit.feed(job)).json()["data"]
    assert record["status"] == "FAILURE"
    assert "moderation" in record["fail_reason"]


async def test_stuck_fault_keeps_the_job_running(visit: Visit) -> None:
    job = await visit.job("[stuck]")
    assert await visit.pass_time(1e6) == ["1"]
    assert await visit.status(job) == "1"


async def test_contradict_takes_the_verdict_back(visit: Visit) -> None:
    job = await visit.job("[contradict=5]")
    assert await visit.pass_time(14.9) == ["1", "3"]
    assert await visit.status(job) == "3"
    assert await visit.pass_time(0.1) == ["2"]
    assert await visit.status(job) == "2"
    other = await visit.job("[contradict] [fail]")
    assert await visit.pass_time(11) == ["1", "2", "3"]
    assert await visit.status(other) == "3"


async def test_refuse_is_http_400_and_no_job(visit: Visit) -> None:
    refused, flagged = await visit.generate("[refuse]"), await visit.generate("[refuse] [moderate]")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert "policy" not in refused.json()["message"]
    assert "policy" in flagged.json()["message"]
    assert "issues" in (await visit.official(promptText="[refuse]")).json()
    assert visit.sandbox.ledger.jobs == []


async def test_refuse200_is_http_200_with_another_code(visit: Visit) -> None:
    refused = await visit.generate("[refuse200]")
    assert (refused.status_code, refused.json()["code"], refused.json()["data"]) == (200, 400, None)
    assert (await visit.official(promptText="[refuse200]")).status_code == 400
    assert visit.sandbox.ledger.jobs == []


async def test_fetch_refuses_an_order_whose_file_is_missing() -> None:
    async def fetch(method: str, url: str, headers: Any) -> Any:
        if url.endswith("missing.png"):
            return 404, {}, b""
        content = b"0123456789abc"
        part = content[:10] if "Range" in headers else content
        length = {"content-length": str(len(content)), "content-type": "image/png"}
        return (206 if "Range" in headers else 200), length, b"" if method == "HEAD" else part

    sandbox = Sandbox(fetch=fetch)
    path, key = "/v1/image_to_video", {"Authorization": "Bearer sandbox-key", "X-Runway-Version": "2024-11-06"}
    body = {"model": "gen4_turbo", "promptText": "[fetch] a cat", "ratio": "1280:720"}
    async with httpx.AsyncClient(transport=InProcessTransport(sandbox.app), base_url="http://sandbox.test") as client:
        for image, status in (("https://f.test/a.png", 200), ("https://f.test/missing.png", 400)):
            answer = await client.post(path, json={**body, "promptImage": image}, headers=key)
            assert answer.status_code == status, answer.text
    first, second = sandbox.ledger.fetched
    assert (first.status, first.size, first.head_size, first.range_status) == (200, 13, 13, 206)
    assert (second.status, second.ok, len(sandbox.ledger.jobs)) == (404, False, 1)


async def test_nocredit_is_a_quota_refusal(visit: Visit) -> None:
    gateway, official = await visit.generate("[nocredit]"), await visit.official(promptText="[nocredit]")
    assert (gateway.status_code, gateway.json()["error"]["code"]) == (403, "insufficient_user_quota")
    assert (official.status_code, official.json()) == (400, recorded("official/error.http400-no-credits"))
    assert visit.sandbox.ledger.paid() == 0


async def test_429_refuses_the_first_submits_of_a_prompt(visit: Visit) -> None:
    answers = [await visit.generate("[429=2]") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert (await visit.generate("another [429=2]")).status_code == 429
    official = await visit.official(promptText="[429]")
    assert (official.status_code, official.json()) == (429, recorded("official/error.http429-daily-limit"))
    assert visit.sandbox.ledger.paid() == 1


async def test_429_counts_by_the_other_texts_where_there_is_no_prompt(visit: Visit) -> None:
    order = {"callback_url": "https://me.test", "image": "https://x.test/[429].png"}
    orders = [order | {"video": video} for video in ("one", "two", "one")]
    answers = [await visit.client.post("/runway/pro/act_one", json=each) for each in orders]
    assert [answer.status_code for answer in answers] == [429, 429, 200]


async def test_503_refuses_the_first_submits_of_a_prompt(visit: Visit) -> None:
    answers = [await visit.generate("[503]", ratio=ratio) for ratio in ("16:9", "1:1")]
    assert [answer.status_code for answer in answers] == [503, 200]
    assert answers[0].json()["error"]["code"] == "model_not_found"
    assert visit.sandbox.ledger.paid() == 1


async def test_500_hides_a_job_that_was_paid(visit: Visit) -> None:
    answer = await visit.generate("[500]")
    assert (answer.status_code, answer.json()["code"]) == (500, "do_request_failed")
    assert (await visit.official(promptText="[500]")).status_code == 500
    assert visit.sandbox.ledger.paid() == 2
    assert await visit.pass_time(10) == ["1", "3"]


async def test_htmlsubmit_hides_a_job_that_was_paid(visit: Visit) -> None:
    answer = await visit.generate("[htmlsubmit]")
    assert (answer.status_code, answer.text[:15]) == (200, "<!DOCTYPE html>")
    assert visit.sandbox.ledger.paid() == 1


async def test_cut_is_a_read_error_in_process(visit: Visit) -> None:
    with pytest.raises(httpx.ReadError):
        await visit.generate("[cut]")
    assert visit.sandbox.ledger.paid() == 1


async def test_cutbody_is_a_read_error_in_process(visit: Visit) -> None:
    with pytest.raises(httpx.ReadError):
        await visit.generate("[cutbody]")
    assert visit.sandbox.ledger.paid() == 1


async def test_hang_is_a_read_timeout_in_process(visit: Visit) -> None:
    visit.client.timeout = httpx.Timeout(0.05)
    with pytest.raises(httpx.ReadTimeout):
        await visit.generate("[hang]")
    assert visit.sandbox.ledger.paid() == 1


async def test_slow_answers_late_but_answers(visit: Visit) -> None:
    visit.client.timeout = httpx.Timeout(0.05)
    with pytest.raises(httpx.ReadTimeout):
        await visit.generate("[slow=0.15]")
    visit.client.timeout = httpx.Timeout(5)
    assert (await visit.generate("[slow=0.05]")).json()["code"] == 200
    assert visit.sandbox.ledger.paid() == 2


async def test_drop_fault_sends_no_callback(visit: Visit) -> None:
    job = await visit.job("[DROP]")
    assert await visit.pass_time(100) == []
    assert await visit.status(job) == "3"


async def test_twice_sends_every_callback_twice(visit: Visit) -> None:
    await visit.job("[twice]")
    assert await visit.pass_time(10) == ["1", "1", "3", "3"]
    assert visit.sandbox.ledger.jobs[0].callbacks_sent == 4


async def test_late_delays_the_callbacks_and_not_the_job(visit: Visit) -> None:
    job = await visit.job("[late=50]")
    assert await visit.pass_time(51) == []
    assert await visit.status(job) == "3"
    assert await visit.pass_time(1) == ["1"]
    assert await visit.pass_time(8) == ["3"]


async def test_disorder_sends_running_after_the_end(visit: Visit) -> None:
    await visit.job("[disorder]")
    assert await visit.pass_time(9) == []
    assert await visit.pass_time(1) == ["3", "1"]


async def test_early_calls_back_before_the_answer(visit: Visit) -> None:
    with pytest.raises(httpx.ReadError):  # no answer at all, and yet the callbacks have come
        await visit.generate("[early] [cut]")
    assert visit.statuses == ["1"]
    await visit.job("[early] [seconds=0]")
    assert visit.statuses == ["1", "1", "3"]
    assert await visit.pass_time(10) == ["3"]


async def test_early_leaves_the_callbacks_of_other_jobs_alone(visit: Visit) -> None:
    other = await visit.job()
    visit.now += 10
    job = await visit.job("[early]")
    assert [json.loads(body)["task_id"] for _, body in visit.came] == [job]
    assert await visit.pass_time(0) == ["1", "3"]
    assert json.loads(visit.came[-1][1])["task_id"] == other


async def test_garbage_comes_before_the_final_callback(visit: Visit) -> None:
    await visit.job("[garbage]")
    assert await visit.pass_time(10) == ["1", "3", "3"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(visit.came[1][1])
    assert json.loads(visit.came[2][1])["status"] == "3"


async def test_html_fault_answers_every_poll_with_a_page(visit: Visit) -> None:
    job = await visit.job("[html]")
    for _ in range(2):
        answer = await visit.feed(job)
        assert (answer.status_code, answer.text[:15]) == (200, "<!DOCTYPE html>")
    assert await visit.pass_time(10) == ["1", "3"]


async def test_flaky_answers_two_polls_of_three(visit: Visit) -> None:
    job = await visit.job("[flaky]")
    answers = [await visit.feed(job) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [502, 200, 200, 502, 200]
    assert answers[0].headers["content-type"].startswith("text/html")


async def test_ghost_is_unknown_for_a_while(visit: Visit) -> None:
    job, official = await visit.job("[ghost]"), (await visit.official(promptText="[ghost=2]")).json()["id"]
    visit.now += 1.9
    unknown = await visit.feed(job)
    assert (unknown.status_code, unknown.json()["code"]) == (400, "task_not_exist")
    assert (await visit.client.get(f"/v1/tasks/{official}")).status_code == 404
    visit.now += 0.1
    assert await visit.status(job) == "1"
    assert (await visit.client.get(f"/v1/tasks/{official}")).status_code == 200


async def test_ghost200_is_unknown_with_http_200(visit: Visit) -> None:
    job = await visit.job("[ghost200=4]")
    visit.now += 3
    unknown = await visit.feed(job)
    assert (unknown.status_code, unknown.json()) == (200, recorded("aggregator/error.task-not-exist"))
    visit.now += 1
    assert await visit.status(job) == "1"


async def imagined(visit: Visit, prompt: str) -> dict[str, Any]:
    return dict((await visit.client.post("/mj/submit/imagine", json={"prompt": prompt})).json())


async def drawn(visit: Visit, job: str) -> str:
    return str((await visit.client.get(f"/mj/task/{job}/fetch")).json()["status"])


async def test_modal_waits_until_it_is_answered(visit: Visit) -> None:
    answer = await imagined(visit, "[modal]")
    assert (answer["code"], answer["properties"]["finalPrompt"]) == (21, "")
    assert await visit.pass_time(1000) == []
    assert await drawn(visit, answer["result"]) == "MODAL"
    said = (await visit.client.post("/mj/submit/modal", json={"taskId": answer["result"], "prompt": "a cat"})).json()
    assert (said["code"], said["result"]) == (1, answer["result"])
    visit.now += 9
    assert await drawn(visit, answer["result"]) == "IN_PROGRESS"
    visit.now += 1
    assert await drawn(visit, answer["result"]) == "SUCCESS"
    assert visit.sandbox.ledger.paid() == 1
    again = (await visit.client.post("/mj/submit/modal", json={"taskId": answer["result"], "prompt": "a cat"})).json()
    assert again["code"] == 4


async def test_hidemodal_waits_and_does_not_say_so(visit: Visit) -> None:
    answer = await imagined(visit, "[hidemodal]")
    assert answer["code"] == 1
    visit.now += 1000
    assert await drawn(visit, answer["result"]) == "MODAL"
    film = await visit.job("[modal] [hidemodal]")
    assert await visit.pass_time(10) == ["1", "3"], "only what has a window can wait in it"
    assert await visit.status(film) == "3"


async def test_lag_shows_polls_an_older_state(visit: Visit) -> None:
    job = await visit.job("[lag=3]")
    assert await visit.pass_time(2) == ["1"]
    assert await visit.status(job) == "0"
    assert await visit.pass_time(8) == ["3"]
    assert await visit.status(job) == "1"
    visit.now += 3
    assert await visit.status(job) == "3"
