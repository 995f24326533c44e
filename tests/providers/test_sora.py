"""Sora by relays: the bodies that are sent, and the forms in which they answer."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import AccountProblem, Uncertain
from service.domain.task import State
from service.providers.registry import DIALECTS
from service.providers.sora import record
from service.providers.wire import Reply
from tests.support.operations import task

RECORDINGS = Path(__file__).parents[1] / "recordings" / "sora"
REVERSE, RELAY = DIALECTS["sora/reverse"], DIALECTS["sora/relay"]


def test_body_is_the_one_that_is_documented() -> None:
    recorded = json.loads((RECORDINGS / "reverse/submit_request.create-pro-large.json").read_text(encoding="utf-8"))
    given = {"prompt": recorded["body"]["prompt"], "model": "sora-2-pro", "aspect_ratio": "16:9", "resolution": "1080p"}
    one = task("sora/reverse", given={**given, "watermark": False, "private": True})
    assert REVERSE.validate(one) == []
    assert REVERSE.create(one, None).json == recorded["body"]


def test_id_with_a_colon_is_quoted() -> None:
    one = dataclasses.replace(task("sora/reverse"), external_id="sora-2:task_01/k")
    assert REVERSE.query(one).path == "/v1/video/query?id=sora-2%3Atask_01%2Fk"
    assert RELAY.query(one).path == "/sora/v1/videos/sora-2%3Atask_01%2Fk"


def test_remix_goes_to_the_route_of_its_parent() -> None:
    one = dataclasses.replace(task("sora/relay", "sora remix"), inherited={"external_id": "task_1"})
    assert RELAY.create(one, None).path == "/sora/v1/videos/task_1/remix"


def test_shape_and_field_that_a_relay_has_no_word_for_are_refused() -> None:
    square = task("sora/reverse", given={"prompt": "a", "aspect_ratio": "1:1"})
    assert [mistake.path for mistake in REVERSE.validate(square)] == ["input.aspect_ratio"]
    marked = task("sora/relay", given={"prompt": "a", "watermark": True})
    assert [mistake.path for mistake in RELAY.validate(marked)] == ["input.watermark"]


@pytest.mark.parametrize(
    ("job", "state", "url"),
    [
        ({"id": "1", "object": "video", "status": "completed"}, State.SUCCEEDED, "/v1/videos/1/content"),
        ({"id": "1", "status": "completed"}, None, None),
        ({"task_id": "1", "id": "2", "status": "SUCCESS", "fail_reason": "https://x.example/a.mp4"}, State.SUCCEEDED, "https://x.example/a.mp4"),
        ({"task_id": "1", "status": "FAILURE", "fail_reason": "https://x.example/a.mp4"}, State.FAILED, None),
        ({"task_id": "1", "status": "SUCCESS", "data": {"status": "running", "url": "https://x.example/b.mp4"}}, State.SUCCEEDED, "https://x.example/b.mp4"),
        ({"id": "1", "status": "unknown"}, None, None),
        ({"id": "1", "status": "video_generation_completed"}, State.RUNNING, None),
        ({"id": "1", "status": "video_generation_completed", "video_url": "https://x.example/a.mp4"}, State.SUCCEEDED, "https://x.example/a.mp4"),
        (
            {"id": "1", "status": "completed", "video_url": "https://x.example/a.mp4", "upsample_video_url": "https://x.example/b.mp4"},
            State.SUCCEEDED,
            "https://x.example/b.mp4",
        ),
    ],
    ids=[
        "openai's object", "no video yet", "url as a reason", "failure with a url", "outer status wins", "unknown",
        "part of the work", "part with a video", "two qualities",
    ],
)  # fmt: skip
def test_record_is_read_in_every_form(job: dict[str, Any], state: State | None, url: str | None) -> None:
    for document in (job, {"code": "success", "message": "", "data": job}):
        found = record.read_task(document)
        assert (found.state, found.external_id) == (state, "1")
        assert [result.url for result in found.results] == ([] if url is None else [url])


@pytest.mark.parametrize(
    "text",
    ["blocked by the guardrails", "shows a real person", "similarity to Third-Party content: third-party similarity"],
)
def test_refused_content_is_known_by_the_relays_words(text: str) -> None:
    found = record.read_task({"id": "1", "status": "failed", "error": {"message": text}})
    assert found.failure is not None
    assert found.failure.code == "content_policy"


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("dialect", ["sora/reverse", "sora/relay"])
def test_relay_whose_model_is_gone_gives_way_to_the_next_upstream(dialect: str, status: int) -> None:
    error = {"error": {"message": "The model `sora-2` does not exist or you do not have access to it.", "code": None}}
    with pytest.raises(AccountProblem):
        DIALECTS[dialect].read_created(Reply(status, {}, json.dumps(error).encode(), "POST /v1/video/create"))


def chat(text: str, reason: str | None = None) -> Reply:
    document = {"choices": [{"message": {"content": text}, "finish_reason": reason}]}
    return Reply(200, {}, json.dumps(document).encode(), "POST /v1/chat/completions")


def test_chat_names_the_job_before_its_film() -> None:
    found = REVERSE.read_created(chat("> ID: `task_1`\n> 生成中."))
    assert (found.state, found.external_id, found.results) == (State.RUNNING, "task_1", ())
    failed = REVERSE.read_created(chat("> ID: `task_1`\n> 生成失败 ❌ content policy"))
    assert failed.failure is not None
    assert (failed.state, failed.failure.code) == (State.FAILED, "content_policy")
    with pytest.raises(Uncertain):
        REVERSE.read_created(chat("queueing"))
    nothing = REVERSE.read_created(chat("I cannot make videos.", "stop"))
    assert nothing.failure is not None
    assert (nothing.state, nothing.failure.code) == (State.FAILED, "provider_error")
    queued = REVERSE.read_created(
        Reply(200, {}, b'data: {"choices":[{"delta":{"content":"Task ID: `t:1`"}}]}\n\ndata: [DONE]\n\n')
    )
    assert (queued.state, queued.external_id) == (State.SUBMITTED, "t:1")
