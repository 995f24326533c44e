"""MiniMax by its own API and by gateways: requests, the second call for a file, and errors within HTTP 200."""

import dataclasses
import json
from pathlib import Path

import pytest

from service.cli.explain import explain
from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import State
from service.providers.minimax.aggregator import Aggregator
from service.providers.minimax.official import Official
from service.providers.minimax.official_v2 import OfficialV2
from service.providers.wire import Callback, Reply
from tests.support.exchanges import held
from tests.support.operations import NOW, task

RECORDINGS = Path(__file__).parents[1] / "recordings" / "minimax"
MESSAGES = {
    f"{path.parent.name} {path.stem}": json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(RECORDINGS.glob("*/*.json"))
}
HOOK = "https://dovecote.example/callbacks/token"
PICTURE, FILM = "https://x.test/a.png", "https://x.test/v.mp4"
OLDER, NEWER, GATEWAY = Official(), OfficialV2(), Aggregator()
FINE = {"status_code": 0, "status_msg": "success"}


def a_task(dialect, operation, given, *, options=None, **more):
    found = task(f"minimax/{dialect.facts.name}", f"minimax {operation}", given=given, options=options)
    return dataclasses.replace(found, **more)


def reply(body, status=200):
    return Reply(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "reading" in message])
def test_recording_gets_its_reading(name):
    wanted = MESSAGES[name]["reading"]
    found = explain(MESSAGES[name])
    assert {**found, "message": wanted.get("message")} == {**wanted, "message": wanted.get("message")}


# What is sent ----------------------------------------------------------------------------------------------------

TEXT = {"type": "text", "text": "a fox"}


@pytest.mark.parametrize(
    ("dialect", "operation", "given", "path", "sent"),
    [
        (
            OLDER,
            "text_to_video",
            {"prompt": "a fox", "duration": 6, "resolution": "720p"},
            "/v1/video_generation",
            {"model": "MiniMax-Hailuo-2.3", "prompt": "a fox", "duration": 6, "resolution": "768P"},
        ),
        (
            OLDER,
            "image_to_video",
            {"image": PICTURE, "last_image": FILM, "resolution": "1080p"},
            "/v1/video_generation",
            {
                "model": "MiniMax-Hailuo-02",
                "resolution": "1080P",
                "first_frame_image": PICTURE,
                "last_frame_image": FILM,
            },
        ),
        (
            OLDER,
            "reference_to_video",
            {"prompt": "she waves", "images": [PICTURE]},
            "/v1/video_generation",
            {
                "model": "S2V-01",
                "prompt": "she waves",
                "subject_reference": [{"type": "character", "image": [PICTURE]}],
            },
        ),
        (
            OLDER,
            "template_video",
            {"template": "392", "images": [PICTURE], "texts": ["hi"]},
            "/v1/video_template_generation",
            {"template_id": "392", "text_inputs": [{"value": "hi"}], "media_inputs": [{"value": PICTURE}]},
        ),
        (
            NEWER,
            "text_to_video",
            {"prompt": "a fox", "duration": 5},
            "/v2/video_generation",
            {"model": "MiniMax-H3", "content": [TEXT], "duration": 5, "resolution": "768P", "ratio": "16:9"},
        ),
        (
            NEWER,
            "reference_to_video",
            {"prompt": "a fox", "images": [PICTURE], "video": FILM, "resolution": "2k"},
            "/v2/video_generation",
            {
                "model": "MiniMax-H3",
                "content": [
                    TEXT,
                    {"type": "image_url", "image_url": {"url": PICTURE}, "role": "reference_image"},
                    {"type": "video_url", "video_url": {"url": FILM}, "role": "reference_video"},
                ],
                "ratio": "adaptive",
                "resolution": "2K",
            },
        ),
        (
            NEWER,
            "video_upscale",
            {},
            "/v2/video_regeneration",
            {"model": "MiniMax-H3", "source_task_id": "t0", "resolution": "2K"},
        ),
        (
            NEWER,
            "enhance_prompt",
            {"prompt": "a fox", "duration": 5},
            "/v2/h3_context_ir",
            {"model": "MiniMax-H3", "content": [TEXT], "duration": 5, "ratio": "16:9"},
        ),
    ],
)
def test_operation_is_sent_in_minimaxs_fields(dialect, operation, given, path, sent):
    wanted = a_task(dialect, operation, given, inherited={"external_id": "t0"})
    assert dialect.validate(wanted) == []
    call = dialect.create(wanted, HOOK)
    assert (call.endpoint, call.json) == (f"POST {path}", {**sent, "callback_url": HOOK})


def test_gateway_has_a_path_for_each_generation():
    older = a_task(GATEWAY, "text_to_video", {"prompt": "x", "duration": 6})
    assert GATEWAY.create(older, HOOK).path == "/minimax/v1/video_generation"
    assert GATEWAY.query(older).path == "/minimax/v1/query/video_generation?task_id=job-1"
    newer = a_task(GATEWAY, "text_to_video", {"prompt": "x", "duration": 5, "model": "MiniMax-H3"})
    assert GATEWAY.validate(newer) == []
    assert GATEWAY.create(newer, HOOK).path == "/hailuo/v2/video_generation"
    assert GATEWAY.query(newer).path == "/hailuo/v2/query/video_generation/job-1"
    assert "callback_url" not in {**GATEWAY.create(older, HOOK).json, **GATEWAY.create(newer, HOOK).json}


@pytest.mark.parametrize(
    ("dialect", "operation", "given", "paths"),
    [
        (OLDER, "text_to_video", {"prompt": "x", "duration": 5}, ["input.duration"]),
        (OLDER, "text_to_video", {"prompt": "x", "duration": 10, "resolution": "1080p"}, ["input.duration"]),
        (OLDER, "text_to_video", {"prompt": "x", "model": "MiniMax-Hailuo-2.3-Fast"}, ["input.model"]),
        (OLDER, "text_to_video", {"prompt": "x", "model": "MiniMax-H3"}, ["input.model"]),
        (OLDER, "text_to_video", {"prompt": "x" * 2001, "aspect_ratio": "1:1"}, ["input.aspect_ratio", "input.prompt"]),
        (OLDER, "reference_to_video", {"prompt": "x"}, ["input.images"]),
        (NEWER, "text_to_video", {"prompt": "x", "model": "T2V-01"}, ["input.model"]),
        (NEWER, "text_to_video", {"prompt": "x", "duration": 16, "resolution": "1080p"}, ["input.duration", "input.resolution"]),
        (NEWER, "image_to_video", {"image": PICTURE}, ["input.prompt"]),
        (NEWER, "reference_to_video", {"prompt": "x", "audio": "https://x.test/a.mp3"}, ["input.images"]),
    ],
)  # fmt: skip
def test_what_minimax_refuses_is_refused_before_the_purchase(dialect, operation, given, paths):
    assert [mistake.path for mistake in dialect.validate(a_task(dialect, operation, given))] == paths


# The file --------------------------------------------------------------------------------------------------------

DONE = {"task_id": "job-1", "status": "Success", "file_id": "205258526306433001", "base_resp": FINE}
FILE = {"file": {"file_id": 1, "download_url": FILM}, "base_resp": FINE}


def test_success_is_settled_by_the_link_to_its_file():
    calls, update = held(OLDER.poll(a_task(OLDER, "text_to_video", {"prompt": "x"})), reply(DONE), reply(FILE))
    assert [call.endpoint for call in calls] == [
        "GET /v1/query/video_generation?task_id=job-1",
        "GET /v1/files/retrieve?file_id=205258526306433001",
    ]
    assert (update.state, update.external_id, [each.url for each in update.results]) == (
        State.SUCCEEDED,
        "job-1",
        [FILM],
    )


@pytest.mark.parametrize("file_id", ["", None, 1.5, []])
def test_success_without_a_file_is_polled_on(file_id):
    said = {**DONE, "file_id": file_id}
    calls, update = held(OLDER.poll(a_task(OLDER, "text_to_video", {"prompt": "x"})), reply(said))
    assert (len(calls), update.state) == (1, None)


@pytest.mark.parametrize(
    "answer",
    [
        reply({"base_resp": {"status_code": 2013, "status_msg": "invalid file"}}),
        reply({"base_resp": {"status_code": 1026, "status_msg": "sensitive"}}),
        reply({}, 500),
        Reply(200, {}, b"<html>"),
    ],
)
def test_link_that_cannot_be_had_fails_no_task(answer):
    exchange = OLDER.poll(a_task(OLDER, "text_to_video", {"prompt": "x"}))
    next(exchange)
    exchange.send(reply(DONE))
    if answer.status == 500:
        assert exchange.send(answer).endpoint.startswith("GET /v1/files/retrieve"), "it is asked for again, once"
    with pytest.raises(UpstreamError):
        exchange.send(answer)


def test_file_of_a_gateways_record_is_asked_for_once():
    record = {"code": "success", "data": {"task_id": "job-1", "status": "SUCCESS", "fail_reason": "306793063383292"}}
    wanted = a_task(GATEWAY, "text_to_video", {"prompt": "x"})
    calls, update = held(GATEWAY.poll(wanted), reply(record), reply(FILE))
    assert calls[1].endpoint == "GET /minimax/v1/files/retrieve?file_id=306793063383292"
    assert [each.url for each in update.results] == [FILM]
    whole = {**record["data"], "data": {"status": "Success", "file": {"download_url": FILM}}}
    calls, update = held(GATEWAY.poll(wanted), reply({"code": "success", "data": whole}))
    assert (len(calls), [each.url for each in update.results]) == (1, [FILM])


def test_file_without_a_link_is_polled_on():
    wanted = a_task(OLDER, "text_to_video", {"prompt": "x"})
    empty = {"file": {"file_id": "1", "download_url": ""}, "base_resp": FINE}
    _, update = held(OLDER.poll(wanted), reply(DONE), reply(empty))
    assert (update.state, update.external_id) == (None, "job-1")


@pytest.mark.parametrize(
    "within",
    [
        {"status": "Fail", "base_resp": {"status_code": 1026, "status_msg": ""}},
        {"task": {"status": "failed", "error": {"code": "1026", "message": "no"}}},
    ],
)
def test_failure_in_a_gateways_record_has_minimaxs_reason(within):
    record = {"task_id": "1", "status": "FAILURE", "fail_reason": "task failed", "data": within}
    update = GATEWAY.read_status(reply({"code": "success", "data": record}))
    assert (update.state, update.failure.code) == (State.FAILED, "content_policy")


def test_gateways_video_object_is_read():
    update = GATEWAY.read_status(reply({"id": "1", "object": "video", "status": "completed", "video_url": FILM}))
    assert [each.url for each in update.results] == [FILM]


# Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "submit", "poll", "name"),
    [
        (1000, Uncertain, Unavailable, "provider_error"),
        (1001, Uncertain, Unavailable, "provider_timeout"),
        (1004, AccountProblem, AccountProblem, "unauthorized"),
        (1027, Refused, Refused, "content_policy"),
        (1039, Unavailable, Unavailable, "rate_limited"),
        (1042, Refused, Refused, "invalid_input"),
        (2038, AccountProblem, AccountProblem, "forbidden"),
        (2056, AccountProblem, AccountProblem, "insufficient_credit"),
        (9999, Uncertain, Unavailable, "provider_error"),
    ],
)
def test_code_within_http_200_is_read(code, submit, poll, name):
    body = {"task_id": "", "base_resp": {"status_code": code, "status_msg": "no"}}
    for read, error in ((OLDER.read_created, submit), (OLDER.read_status, poll), (GATEWAY.read_created, submit)):
        with pytest.raises(error) as raised:
            read(reply(body))
        assert (type(raised.value), raised.value.code) == (error, name)


def test_code_beside_a_success_is_an_error_of_the_query():
    with pytest.raises(AccountProblem):
        OLDER.read_status(reply({**DONE, "base_resp": {"status_code": 1004}}))
    update = OLDER.read_status(reply({"task_id": "1", "status": "Fail", "base_resp": {"status_code": 0}}))
    assert (update.state, update.failure.code) == (State.FAILED, "provider_error")
    with pytest.raises(NotFound):
        OLDER.read_status(reply({"base_resp": {"status_code": 2013, "status_msg": "invalid params, task_id"}}))


@pytest.mark.parametrize(
    ("status", "kind", "message", "error", "name"),
    [
        (400, "bad_request_error", "invalid params (2013)", Refused, "invalid_input"),
        (400, "bad_request_error", "content is sensitive (1026)", Refused, "content_policy"),
        (402, "insufficient_balance_error", "insufficient balance (1008)", AccountProblem, "insufficient_credit"),
        (422, "unprocessable_entity_error", "not allowed", Refused, "content_policy"),
        (429, "server_error", "failed", Unavailable, "rate_limited"),
        (500, "server_error", "internal error (1000)", Uncertain, "provider_error"),
        (529, "overloaded_error", "retry later", Unavailable, "overloaded"),
        (200, "rate_limit_error", "retry later (1002)", Unavailable, "rate_limited"),
        (200, "unprocessable_entity_error", "not allowed", Refused, "content_policy"),
        (200, "server_error", "internal error (1000)", Uncertain, "provider_error"),
    ],
)
def test_error_of_the_newer_api_is_read_by_status_then_by_type(status, kind, message, error, name):
    body = {"type": "error", "task_id": "1", "error": {"type": kind, "message": message, "http_code": "500"}}
    with pytest.raises(error) as raised:
        NEWER.read_created(reply(body, status))
    assert (type(raised.value), raised.value.code) == (error, name)


def test_empty_answer_to_a_submit_is_uncertain():
    for dialect in (OLDER, NEWER, GATEWAY):
        with pytest.raises(Uncertain):
            dialect.read_created(reply({}))


# Callbacks, cancel, list -----------------------------------------------------------------------------------------


def test_challenge_says_nothing_about_a_task():
    for dialect in (OLDER, NEWER):
        assert [each.state for each in dialect.read_callback(Callback({}, b'{"challenge": "x"}'))] == [None]


QUEUED = {"task": {"id": "job-1", "status": "queued"}}


@pytest.mark.parametrize(
    ("seen", "answers", "state"),
    [
        (QUEUED, [{"task_id": "job-1", "action": "cancel", "status": "cancelled"}], State.CANCELLED),
        (QUEUED, [{"task_id": "job-1", "action": "delete", "status": "succeeded"}], None),
        ({"task": {"id": "job-1", "status": "running"}}, [], State.RUNNING),
        ({"task": {"id": "job-1", "status": "succeeded", "content": {"url": FILM}}}, [], State.SUCCEEDED),
    ],
    ids=["queued", "destroyed", "running", "finished"],
)
def test_cancel_destroys_no_result(seen, answers, state):
    wanted = a_task(NEWER, "text_to_video", {"prompt": "x"})
    calls, update = held(NEWER.cancel(wanted), reply(seen), *map(reply, answers))
    assert len(calls) == 1 + len(answers)
    assert (update.state, update.external_id) == (state, "job-1")


def test_lost_job_is_found_by_model_and_type():
    at = int(NOW.timestamp())
    row = {"id": "1", "model": "MiniMax-H3", "status": "running", "created_at": at, "task_type": "generation"}
    others = [{**row, "id": "2", "model": "MiniMax-H3-Max"}, {**row, "id": "3", "task_type": "regeneration"}]
    wanted = a_task(NEWER, "text_to_video", {"prompt": "x"})
    pages = [reply({"items": [row, *others], "total": 4}), reply({"items": [{**row, "id": "4"}], "total": 4})]
    calls, found = held(NEWER.find_lost_jobs(wanted), *pages)
    assert calls[1].path.endswith("page_num=2&page_size=50")
    assert [each.external_id for each in found] == ["1", "4"]
    assert found[0].may_be(wanted)
    assert not found[0].may_be(a_task(NEWER, "video_upscale", {}))
