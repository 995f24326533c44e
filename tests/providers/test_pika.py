"""Pika: the bodies of its routes and of gateways, the completion that is not billed yet, and the feed."""

import dataclasses
import json

import pytest

from service.domain.errors import AccountProblem, Refused, Unavailable, Uncertain
from service.domain.task import State
from service.providers.registry import DIALECTS
from service.providers.wire import Reply
from tests.support.operations import task

OFFICIAL, OLDER, GATEWAY = (DIALECTS[f"pika/{name}"] for name in ("official", "older", "aggregator"))
A, B, V = "https://e.test/a.png", "https://e.test/b.png", "https://e.test/v.mp4"


def pika(operation, dialect="official", **given):
    return task(f"pika/{dialect}", f"pika {operation}", given=given)


def reply(body, status=200):
    return Reply(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("wanted", "path", "body"),
    [
        (pika("text_to_video", prompt="birds", duration=5.0, resolution="720p"), "pika/pika-2.5/text-to-video",
         {"prompt": "birds", "resolution": "720p", "duration_s": 5}),
        (pika("keyframes", images=[A, B], duration=5), "pika/pika-2.5/pikaframes",
         {"images": [A, B], "transition_duration_s": 5}),
        (pika("text_to_video", prompt="a street", duration=5, model="bytedance/seedance-2.0"), "bytedance/seedance-2.0/text-to-video",
         {"prompt": "a street", "duration": 5}),
    ],
    ids=["own", "frames", "resold"],
)  # fmt: skip
def test_route_follows_from_model_and_operation(wanted, path, body):
    assert OFFICIAL.validate(wanted) == []
    call = OFFICIAL.create(wanted, None)
    assert (call.path, call.json, call.headers["Idempotency-Key"]) == (f"/v1/media/{path}", body, str(wanted.id))


def test_older_routes_take_a_form_with_the_shape_as_a_number():
    call = OLDER.create(
        pika("text_to_video", "older", prompt="a street", duration=5, aspect_ratio="16:9", seed=7), None
    )
    sent = dict(call.form)
    assert (call.path, call.json, sent["promptText"], sent["seed"]) == ("/generate/2.2/t2v", None, "a street", "7")
    assert float(sent["aspectRatio"]) == pytest.approx(16 / 9)


def test_older_routes_take_pictures_as_files():
    inline = "data:image/png;base64,QUJD"
    call = OLDER.create(pika("image_to_video", "older", image=inline), None)
    assert dict(call.form)["image"].content == b"ABC"


@pytest.mark.parametrize(("operation", "extends"), [("video_to_video", False), ("extend", True)])
def test_gateway_extends_a_video_by_a_switch(operation, extends):
    call = GATEWAY.create(pika(operation, "aggregator", video=V, prompt="on", aspect_ratio="16:9"), None)
    assert call.json["options"]["extend"] is extends
    assert call.json["options"]["aspectRatio"] == pytest.approx(16 / 9)
    assert (call.json["video"], call.json["promptText"]) == (V, "on")


@pytest.mark.parametrize(
    ("dialect", "wanted", "path"),
    [
        (OFFICIAL, pika("image_to_video", image="data:image/png;base64,QUJD"), "input.image"),
        (OFFICIAL, pika("keyframes", images=[A, "data:image/png;base64,QUJD"]), "input.images"),
        (OFFICIAL, pika("text_to_video", prompt="x", model="../jobs"), "input.model"),
        (OFFICIAL, pika("text_to_video", prompt="x", sound=True), "input.sound"),
        (OLDER, pika("text_to_video", "older", prompt="x", model="2.0"), "input.model"),
        (GATEWAY, pika("text_to_video", "aggregator", prompt="x", resolution="720p"), "input.resolution"),
    ],
)
def test_input_that_pika_has_no_words_for_is_refused(dialect, wanted, path):
    assert [each.path for each in dialect.validate(wanted)] == [path]


def polled(*answers):
    exchange = OFFICIAL.poll(dataclasses.replace(pika("text_to_video", prompt="x"), external_id="m-1"))
    calls, left = [next(exchange).path], iter(answers)
    while True:
        try:
            calls.append(exchange.send(next(left)).path)
        except StopIteration as done:
            return calls, done.value


PENDING = {"id": "m-1", "status": "completed", "billing": {"state": "pending"}}


def test_content_is_asked_for_once_a_completion_shows_none():
    calls, update = polled(reply(PENDING), reply({"url": V}))
    assert calls == ["/v1/media/jobs/m-1", "/v1/media/jobs/m-1/content"]
    assert (update.state, update.external_id, update.results[0].url) == (State.SUCCEEDED, "m-1", V)


@pytest.mark.parametrize("content", [reply({}, 404), reply({"url": None}), reply({"error": {"code": "internal"}}, 500)])
def test_completion_whose_content_is_missing_keeps_the_state(content):
    _, update = polled(reply(PENDING), content)
    assert (update.state, update.results) == (None, ())


def test_running_job_is_asked_for_no_content():
    calls, update = polled(reply({"id": "m-1", "status": "running"}))
    assert (len(calls), update.state) == (1, State.RUNNING)


@pytest.mark.parametrize(
    ("code", "status", "kind", "name"),
    [
        ("admission_suspended", 403, AccountProblem, "forbidden"),
        ("cycle_limit_exceeded", 429, AccountProblem, "insufficient_credit"),
        ("content_moderation", 422, Refused, "content_policy"),
        ("internal", 500, Uncertain, "provider_error"),
        ("provider_unavailable", 503, Unavailable, "overloaded"),
        ("rate_limited", 400, Unavailable, "rate_limited"),
    ],
)
def test_code_counts_before_the_http_status(code, status, kind, name):
    with pytest.raises(kind) as caught:
        OFFICIAL.read_created(reply({"error": {"code": code, "message": "no"}}, status))
    assert caught.value.code == name


@pytest.mark.parametrize("name", ["id", "request_id", "video_id"])
def test_job_is_known_by_each_name_of_its_id(name):
    update = OFFICIAL.read_created(reply({name: "m-7"}))
    assert (update.external_id, update.state) == ("m-7", State.SUBMITTED)


@pytest.mark.parametrize(
    ("video", "state", "url"),
    [
        ({"status": "finished", "resultUrl": V, "sharingUrl": A}, State.SUCCEEDED, V),
        ({"status": "generating", "resultUrl": "", "error": "", "progress": 45}, State.RUNNING, None),
        ({"status": "finished", "resultUrl": "", "error": ""}, State.RUNNING, None),
        ({"status": "queued", "error": "moderated"}, State.FAILED, None),
        ({}, State.RUNNING, None),
    ],
)
def test_first_video_of_the_feed_decides(video, state, url):
    update = GATEWAY.read_status(reply({"id": "f-1", "promptText": "x", "videos": [video] if video else []}))
    assert (update.state, [each.url for each in update.results]) == (state, [] if url is None else [url])


def test_refusal_in_http_200_is_no_job():
    with pytest.raises((Refused, AccountProblem, Uncertain, Unavailable)):
        GATEWAY.read_created(reply({"success": False, "code": 400, "error": "prompt is empty", "data": {"id": "x"}}))
