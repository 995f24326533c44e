"""The sandbox simulates Midjourney as gateways relay it: recorded shapes, modal windows, follow-ups, and literal refusals."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox import Faults, InProcessTransport, Sandbox

RECORDINGS = Path(__file__).parents[1] / "recordings" / "midjourney" / "proxy"
HEADERS = {"Authorization": "Bearer sandbox-key"}
HOOK = "https://me.test/hook"
DATA = "data:image/png;base64,xxx"


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["body"]


@dataclass
class Visit:
    """A sandbox on a held clock, a client of it, and the callbacks that it sent."""

    now: float = 1_700_000_000.0
    came: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(seconds=10, clock=lambda: self.now, send=self.receive)
        transport = InProcessTransport(self.sandbox.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://sandbox.test", headers=HEADERS)

    async def receive(self, url: str, body: bytes) -> int:
        assert url == HOOK
        self.came.append(json.loads(body))
        return 200

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(path, json=body)

    async def job(self, verb: str = "imagine", **body: Any) -> str:
        answer = (await self.post(f"/mj/submit/{verb}", **({"prompt": "a cat", "notifyHook": HOOK} | body))).json()
        assert answer["code"] == 1, answer
        return str(answer["result"])

    async def fetch(self, job: str) -> dict[str, Any]:
        return dict((await self.client.get(f"/mj/task/{job}/fetch")).json())

    async def done(self, verb: str = "imagine", **body: Any) -> dict[str, Any]:
        """Create a job, wait for its end, and return the gateway's copy of it."""
        job = await self.job(verb, **body)
        await self.pass_time(10)
        return await self.fetch(job)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds
        await self.sandbox.deliver_due()


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    visit = Visit()
    async with visit.client:
        yield visit


def button(task: dict[str, Any], label: str) -> str:
    [custom_id] = [each["customId"] for each in task["buttons"] if label in (each["label"], each["emoji"])]
    return str(custom_id)


async def test_a_submit_is_answered_in_the_recorded_shape(visit: Visit) -> None:
    answer = await visit.post("/mj/submit/imagine", prompt="a cat")
    assert answer.status_code == 200
    assert answer.json().keys() == recorded("submit_response.code1-comet").keys()
    assert answer.json()["result"].isdigit()
    assert len(answer.json()["result"]) == 16
    waits = await visit.post("/mj/submit/imagine", prompt="[modal]")
    assert waits.json() == recorded("submit_response.code21-modal-empty-prompt") | {"result": waits.json()["result"]}


async def test_polls_show_the_gateways_copy(visit: Visit) -> None:
    job = await visit.job(state="mine")
    task = await visit.fetch(job)
    assert task.keys() == recorded("poll_response.status-empty-just-submitted").keys()
    assert (task["id"], task["status"], task["progress"], task["state"]) == (job, "SUBMITTED", "0%", "mine")
    assert (task["submitTime"], task["startTime"], task["finishTime"]) == (1_700_000_000_000, 0, 0)
    assert (task["imageUrl"], task["buttons"], task["properties"]) == ("", None, None)
    visit.now += 6
    task = await visit.fetch(job)
    assert (task["status"], task["progress"]) == ("IN_PROGRESS", "50%")
    assert task["imageUrl"].startswith(f"http://sandbox.test/mj/image/{job}?rand=")
    visit.now += 4
    task = await visit.fetch(job)
    assert (task["status"], task["progress"], task["finishTime"]) == ("SUCCESS", "100%", 1_700_000_010_000)
    assert task["imageUrl"] == f"http://sandbox.test/mj/image/{job}"
    assert task["buttons"][0].keys() == recorded("poll_response.success-imagine-full")["buttons"][0].keys()
    visit.client.headers.clear()
    there = await visit.client.get(task["imageUrl"])
    assert (there.status_code, (await visit.client.get(there.headers["location"])).headers["content-type"]) == (
        302,
        "image/png",
    )
    unknown = await visit.client.get("/mj/image/7")
    assert (unknown.status_code, unknown.json()) == (400, recorded("error.image-forwarder-unknown-task"))


async def test_callbacks_are_the_engines_task_object(visit: Visit) -> None:
    job = await visit.job()
    for _ in range(10):
        await visit.pass_time(1)
    running, done = visit.came
    shape = recorded("callback.sequence-5-success").keys()
    assert shape - done.keys() == set()
    assert (running["status"], running["progress"], running["finishTime"], running["failReason"]) == (
        "IN_PROGRESS",
        "0%",
        None,
        None,
    )
    assert running["imageUrl"].endswith(f"{job}.grid_0.png")
    assert (done["id"], done["status"], done["progress"]) == (job, "SUCCESS", "100%")
    assert done["properties"]["notifyHook"] == HOOK
    assert done["imageUrl"] == f"http://sandbox.test/sandbox/files/{job}.png"
    assert (await visit.fetch(job))["imageUrl"] != done["imageUrl"]


async def test_late_copy_has_no_status_at_first(visit: Visit) -> None:
    job = await visit.job(prompt="[lag=15] a cat")
    assert (await visit.fetch(job))["status"] == ""
    await visit.pass_time(14)
    assert visit.came[-1]["status"] == "SUCCESS"
    assert (await visit.fetch(job))["status"] == ""
    visit.now += 11
    assert (await visit.fetch(job))["status"] == "SUCCESS"


async def test_failed_job_has_a_reason(visit: Visit) -> None:
    failed = await visit.done(prompt="[fail]")
    assert (failed["status"], failed["progress"]) == ("FAILURE", "100%")
    assert failed["failReason"].startswith("[Internal Server Error]")
    assert (visit.came[-1]["status"], visit.came[-1]["progress"]) == ("FAILURE", "")
    assert (await visit.done(prompt="[moderate]"))["failReason"].startswith("[Banned prompt detected]")


async def test_batch_poll_returns_known_jobs_in_any_order(visit: Visit) -> None:
    jobs = [await visit.job(prompt=prompt) for prompt in ("one", "two", "[ghost=5] three")]
    answer = await visit.post("/mj/task/list-by-condition", ids=[*jobs, "7", jobs[0]])
    assert [task["id"] for task in answer.json()] == [jobs[1], jobs[0]]
    visit.now += 5
    answer = await visit.post("/mj/task/list-by-condition", ids=jobs)
    assert {task["id"] for task in answer.json()} == set(jobs)
    assert (await visit.post("/mj/task/list-by-condition", ids=["7"])).json() == []
    assert (await visit.post("/mj/task/list-by-condition", ids="7")).json() == []
    assert [job.polls for job in visit.sandbox.ledger.jobs] == [2, 2, 2]


@pytest.mark.parametrize(("word", "status"), [("html", 200), ("flaky", 502)])
async def test_batch_poll_may_be_answered_by_a_page(visit: Visit, word: str, status: int) -> None:
    jobs = [await visit.job(prompt=prompt) for prompt in ("one", f"[{word}] two")]
    answer = await visit.post("/mj/task/list-by-condition", ids=jobs)
    assert (answer.status_code, answer.text.startswith("<!DOCTYPE html>")) == (status, True)


@pytest.mark.parametrize("mode", ["", "/mj-fast", "/mj-turbo", "/mj-relax"])
async def test_every_speed_has_its_path_and_is_polled_at_the_plain_one(visit: Visit, mode: str) -> None:
    answer = (await visit.post(f"{mode}/mj/submit/imagine", prompt="a cat")).json()
    assert (await visit.fetch(answer["result"]))["action"] == "IMAGINE"
    assert visit.sandbox.ledger.jobs[0].route == f"POST {mode}/mj/submit/imagine"


async def test_each_operation_returns_its_kind_of_result(visit: Visit) -> None:
    described = await visit.done("describe", base64=DATA)
    assert described["properties"]["finalPrompt"].startswith("1️⃣ ")
    assert "/mj/image/" in described["imageUrl"]
    assert (await visit.done("shorten"))["imageUrl"] == ""
    video = await visit.done("video", image=DATA, batchSize=2)
    assert video["videoUrls"][1].keys() == recorded("poll_response.success-video-list")["videoUrls"][0].keys()
    assert len(video["videoUrls"]) == 2
    assert (await visit.done("edits", image=DATA))["action"] == "EDITS"
    assert (await visit.done("blend", base64Array=[DATA, DATA]))["action"] == "BLEND"
    swap = await visit.post("/mj/insight-face/swap", sourceBase64=DATA, targetUrl="https://x.test/a.png")
    assert (await visit.fetch(swap.json()["result"]))["action"] == "SWAP_FACE"


async def test_upload_and_seed_are_answered_at_once(visit: Visit) -> None:
    upload = await visit.post("/mj/submit/upload-discord-images", base64Array=[DATA, DATA])
    assert upload.json().keys() - {"properties"} == recorded("submit_response.upload-two-urls").keys()
    assert len(upload.json()["result"]) == 2
    job = await visit.job()
    seeds = [(await visit.client.get(f"/mj/task/{job}/image-seed")).json() for _ in range(2)]
    assert seeds[0] == seeds[1]
    assert seeds[0]["result"].isdigit()


async def test_follow_up_needs_a_button_of_the_finished_parent(visit: Visit) -> None:
    grid = await visit.done()
    assert [each["label"] or each["emoji"] for each in grid["buttons"]] == [
        "U1",
        "U2",
        "U3",
        "U4",
        "🔄",
        "V1",
        "V2",
        "V3",
        "V4",
    ]
    single = await visit.done("action", taskId=grid["id"], customId=button(grid, "U2"))
    assert (single["action"], single["prompt"], single["id"] == grid["id"]) == ("UPSCALE", "a cat", False)
    larger = await visit.done("action", taskId=single["id"], customId=button(single, "Upscale (Subtle)"))
    assert (larger["action"], larger["customId"]) == ("UPSCALE", button(single, "Upscale (Subtle)"))
    panned = await visit.done("action", taskId=single["id"], customId=button(single, "⬅️"))
    assert (panned["action"], len(panned["buttons"])) == ("PAN", 9)
    assert visit.sandbox.ledger.paid() == 4


@pytest.mark.parametrize(
    ("verb", "body", "action"),
    [
        ("change", {"action": "REROLL", "index": 1}, "REROLL"),
        ("change", {"action": "UPSCALE", "index": 4}, "UPSCALE"),
        ("simple-change", {"content": "{} V2"}, "VARIATION"),
        ("simple-change", {"content": "{} R"}, "REROLL"),
    ],
)
async def test_older_follow_up_routes_work(visit: Visit, verb: str, body: dict[str, Any], action: str) -> None:
    grid = await visit.done()
    body = {name: value.format(grid["id"]) if isinstance(value, str) else value for name, value in body.items()}
    assert (await visit.done(verb, taskId=grid["id"], **body))["action"] == action


async def test_vary_region_waits_for_its_modal(visit: Visit) -> None:
    grid = await visit.done()
    single = await visit.done("action", taskId=grid["id"], customId=button(grid, "U1"))
    region = {"taskId": single["id"], "customId": button(single, "Vary (Region)"), "notifyHook": HOOK}
    answer = (await visit.post("/mj/submit/action", **region)).json()
    assert answer["code"] == 21
    before = len(visit.came)
    await visit.pass_time(1000)
    assert len(visit.came) == before, "no callback tells of a window"
    assert (await visit.fetch(answer["result"]))["status"] == "MODAL"
    lacking = (await visit.post("/mj/submit/modal", taskId=answer["result"], prompt="a hat")).json()
    assert (lacking["code"], "maskBase64" in lacking["description"]) == (4, True)
    said = (await visit.post("/mj/submit/modal", taskId=answer["result"], prompt="a hat", maskBase64=DATA)).json()
    assert (said["code"], said["result"]) == (1, answer["result"])
    await visit.pass_time(10)
    task = await visit.fetch(answer["result"])
    assert (task["status"], task["action"], task["prompt"]) == ("SUCCESS", "INPAINT", "a hat")
    assert visit.came[-1]["id"] == answer["result"]
    assert visit.sandbox.ledger.paid() == 3


async def test_faults_of_a_modal_answer_add_to_those_of_the_job(visit: Visit) -> None:
    answer = (await visit.post("/mj/submit/imagine", prompt="[modal] [drop] a cat", notifyHook=HOOK)).json()
    await visit.post("/mj/submit/modal", taskId=answer["result"], prompt="[fail] a cat")
    await visit.pass_time(10)
    assert (await visit.fetch(answer["result"]))["status"] == "FAILURE"
    assert visit.came == []
    unknown = (await visit.post("/mj/submit/modal", taskId="7", prompt="x")).json()
    assert unknown["code"] == 3


async def test_refusals_are_new_apis_word_for_word(visit: Visit) -> None:
    grid = await visit.done()
    running = await visit.job(prompt="[stuck]")
    upscale = button(grid, "U1")
    requests = {
        "prompt_is_required": ("imagine", {}),
        "base64_is_required": ("describe", {}),
        "custom_id_is_required": ("action", {"taskId": grid["id"]}),
        "task_not_found": ("action", {"taskId": "7", "customId": upscale}),
        "task_status_not_success": ("action", {"taskId": running, "customId": upscale}),
        "index_is_required": ("change", {"taskId": grid["id"], "action": "REROLL", "index": 0}),
        "quota_not_enough": ("imagine", {"prompt": "[nocredit]"}),
        "bind_request_body_failed": ("imagine", {"prompt": "[refuse]"}),
    }
    for description, (verb, body) in requests.items():
        answer = await visit.post(f"/mj/submit/{verb}", **body)
        expected = {"description": f"{description} ", "type": "upstream_error", "code": 4}
        assert (answer.status_code, answer.json()) == (400, expected)
    bookmark = await visit.post("/mj/submit/action", taskId=grid["id"], customId="MJ::BOOKMARK::1")
    assert (bookmark.status_code, "unknown_action:MJ::BOOKMARK::1" in bookmark.json()["error"]["message"]) == (
        400,
        True,
    )
    for verb, body in (
        ("action", {"taskId": grid["id"], "customId": "MJ::JOB::upsample::9::x"}),
        ("change", {"taskId": grid["id"], "action": "FLIP", "index": 1}),
        ("simple-change", {"content": f"{grid['id']} U9"}),
    ):
        answer = await visit.post(f"/mj/submit/{verb}", **body)
        assert (answer.status_code, answer.json()["code"]) == (200, 4)
    assert visit.sandbox.ledger.paid() == 2


async def test_faults_have_the_wording_of_the_gateway(visit: Visit) -> None:
    busy = await visit.post("/mj/submit/imagine", prompt="[429]")
    assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (429, 30, "1")
    assert (await visit.post("/mj/submit/imagine", prompt="[503]")).json()["error"]["code"] == "model_not_found"
    banned = await visit.post("/mj/submit/imagine", prompt="[refuse] [moderate]")
    assert (banned.status_code, banned.json()["code"], "bannedWord" in banned.json()["properties"]) == (200, 24, True)
    assert (await visit.post("/mj/submit/imagine", prompt="[refuse200]")).json()["code"] == 4
    assert visit.sandbox.ledger.paid() == 0
    broken = await visit.post("/mj/submit/imagine", prompt="[500]")
    assert (broken.status_code, broken.json()["description"]) == (500, "readObjectStart: expect { or n, but found < ")
    assert visit.sandbox.ledger.paid() == 1
    unknown = await visit.client.get("/mj/task/7/fetch")
    assert (unknown.status_code, unknown.json()["description"]) == (400, "task_no_found ")
    assert (await visit.client.get("/mj/task/7/image-seed")).json() == unknown.json()
    job = await visit.job(prompt="[ghost200]")
    assert (await visit.client.get(f"/mj/task/{job}/fetch")).status_code == 200
    visit.client.headers["Authorization"] = "Bearer other"
    assert (await visit.client.get(f"/mj/task/{job}/fetch")).status_code == 401


async def test_a_flag_makes_every_job_wait(visit: Visit) -> None:
    visit.sandbox.faults = Faults(modal=True)
    assert (await visit.post("/mj/submit/imagine", prompt="a cat")).json()["code"] == 21


async def test_job_is_unknown_to_other_accounts(visit: Visit) -> None:
    job = await visit.job()
    assert (await visit.post("/runway/feed", task_id=job)).json()["code"] == "task_not_exist"
