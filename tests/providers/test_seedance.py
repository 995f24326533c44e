"""Seedance and Seedream: the content of a task, batches of pictures, Ark's codes, and a cancel that destroys nothing."""

import dataclasses
import json

import pytest

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain
from service.domain.task import State
from service.providers.registry import DIALECTS, PROVIDERS
from service.providers.wire import Reply
from tests.support.operations import task

ARK, GATEWAY = DIALECTS["seedance/ark"], DIALECTS["seedance/aggregator"]
HOOK = "https://dovecote.example/callbacks/token"
A, B, V, S = "https://e.test/a.png", "asset://asset-1", "https://e.test/v.mp4", "https://e.test/s.mp3"
PRO = "doubao-seedance-1-5-pro-251215"


def seedance(operation, dialect="ark", **given):
    return task(f"seedance/{dialect}", f"seedance {operation}", given=given)


def reply(body, status=200):
    return Reply(status, {}, json.dumps(body).encode())


def error(code, status, message="no"):
    return reply({"error": {"code": code, "message": message, "param": "", "type": ""}}, status)


def picture(kind, url, role):
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}, "role": role}


@pytest.mark.parametrize(
    ("wanted", "body"),
    [
        (seedance("text_to_video", prompt="a street", duration=5.0, aspect_ratio="16:9", sound=True),
         {"model": PRO, "content": [{"type": "text", "text": "a street"}], "duration": 5, "ratio": "16:9", "generate_audio": True}),
        (seedance("text_to_video", prompt="a street", duration=5, camera_fixed=False, model="doubao-seedance-1-0-pro-250528"),
         {"model": "doubao-seedance-1-0-pro-250528", "content": [{"type": "text", "text": "a street --dur 5 --cf false"}]}),
        (seedance("image_to_video", image=A, last_image=B, last_frame=True),
         {"model": PRO, "content": [picture("image", A, "first_frame"), picture("image", B, "last_frame")],
          "return_last_frame": True}),
        (seedance("reference_to_video", prompt="both", images=[A, B], video=V, audio=S, tier="flex"),
         {"model": PRO, "content": [{"type": "text", "text": "both"}, picture("image", A, "reference_image"),
          picture("image", B, "reference_image"), picture("video", V, "reference_video"), picture("audio", S, "reference_audio")],
          "service_tier": "flex"}),
    ],
    ids=["text", "older model", "frames", "references"],
)  # fmt: skip
def test_task_has_its_content_by_role(wanted, body):
    for dialect, path in ((ARK, "/api/v3"), (GATEWAY, "/volc/v3")):
        assert dialect.validate(wanted) == []
        call = dialect.create(wanted, HOOK)
        assert (call.path, call.json) == (f"{path}/contents/generations/tasks", {**body, "callback_url": HOOK})


@pytest.mark.parametrize(
    ("wanted", "body"),
    [
        (seedance("text_to_image", prompt="a hat", resolution="2k", watermark=False), {"size": "2K", "watermark": False}),
        (seedance("text_to_image", prompt="a hat", aspect_ratio="16:9"), {"size": "2736x1536"}),
        (seedance("text_to_image", prompt="a hat", count=4),
         {"sequential_image_generation": "auto", "sequential_image_generation_options": {"max_images": 4}}),
        (seedance("image_to_image", prompt="a hat", image=A), {"image": A}),
        (seedance("image_to_image", prompt="a hat", image=A, images=[B]), {"image": [A, B]}),
        (seedance("image_to_image", prompt="a hat", image=A, model="doubao-seededit-3-0-i2i-250628", guidance=5.5),
         {"model": "doubao-seededit-3-0-i2i-250628", "image": A, "size": "adaptive", "guidance_scale": 5.5}),
    ],
)  # fmt: skip
def test_image_call_asks_for_a_url_and_has_no_callback(wanted, body):
    call = ARK.create(wanted, HOOK)
    usual = {"model": "doubao-seedream-4-5-251128", "prompt": "a hat", "response_format": "url"}
    assert (call.path, call.json) == ("/api/v3/images/generations", {**usual, **body})
    assert ARK.facts.read_timeout(wanted.operation) >= 600


def test_gateway_takes_the_picture_of_seededit_as_a_file():
    model, inline = "doubao-seededit-3-0-i2i-250628", "data:image/png;base64,QUJD"
    call = GATEWAY.create(seedance("image_to_image", "aggregator", prompt="a hat", image=inline, model=model), HOOK)
    assert (call.path, call.json) == ("/v1/images/edits", None)
    assert dict(call.form)["image"].content == b"ABC"


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (seedance("reference_to_video", prompt="x"), "input.images"),
        (seedance("text_to_image", prompt="x", count=16), "input.count"),
        (seedance("image_to_image", prompt="x", image=A, images=[B] * 12, count=3), "input.count"),
    ],
)
def test_impossible_input_is_refused(wanted, path):
    assert [each.path for each in ARK.validate(wanted)] == [path]


@pytest.mark.parametrize(
    ("code", "status", "kind", "name"),
    [
        ("QuotaExceeded", 429, AccountProblem, "insufficient_credit"),
        ("SetLimitExceeded", 429, AccountProblem, "insufficient_credit"),
        ("ModelAccountTpmRateLimitExceeded", 429, Unavailable, "rate_limited"),
        ("APIAccountRpmRateLimitExceeded", 429, Unavailable, "rate_limited"),
        ("ModelLoadingError", 429, Unavailable, "overloaded"),
        ("OperationDenied.ServiceNotOpen", 403, AccountProblem, "forbidden"),
        ("InvalidEndpointOrModel.NotFound", 404, AccountProblem, "forbidden"),
        ("InvalidParameter.UnsupportedInput", 400, Refused, "invalid_input"),
        ("InputImageSensitiveContentDetected.PrivacyInformation", 400, Refused, "content_policy"),
        ("OutputAudioSensitiveContentDetected.PolicyViolation", 400, Refused, "content_policy"),
        ("InternalServiceError", 500, Uncertain, "provider_error"),
    ],
)
@pytest.mark.parametrize("dialect", [ARK, GATEWAY], ids=["ark", "gateway"])
def test_code_counts_before_the_http_status(dialect, code, status, kind, name):
    with pytest.raises(kind) as caught:
        dialect.read_created(error(code, status))
    assert type(caught.value) is kind
    assert caught.value.code == name


def test_unknown_task_is_known_by_its_code_on_a_poll_only():
    with pytest.raises(NotFound):
        ARK.read_status(error("ResourceNotFound", 404))
    with pytest.raises(AccountProblem):
        ARK.read_created(error("ResourceNotFound", 404))


def test_batch_of_refused_pictures_is_a_failure():
    refused = {"error": {"code": "OutputImageSensitiveContentDetected", "message": "no"}}
    update = ARK.read_created(reply({"model": "m", "created": 1, "data": [refused, refused]}))
    assert (update.state, update.failure.code) == (State.FAILED, "content_policy")


def test_bytes_of_a_picture_have_the_format_that_is_named():
    made = {"model": "m", "data": [{"b64_json": "QUJD"}, {"b64_json": "QUJD", "output_format": "png"}]}
    urls = [each.url for each in ARK.read_created(reply(made)).results]
    assert urls == ["data:image/jpeg;base64,QUJD", "data:image/png;base64,QUJD"]


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": [{}]}, {"created": 1}, [], "text"])
def test_answer_without_id_and_picture_is_uncertain(body):
    for dialect in (ARK, GATEWAY):
        with pytest.raises(Uncertain):
            dialect.read_created(reply(body))


def test_file_of_a_model_is_the_main_output():
    job = {"id": "cgt-1", "status": "succeeded", "content": {"file_url": "https://e.test/m.glb", "last_frame_url": A}}
    results = ARK.read_status(reply(job)).results
    assert [(each.kind, each.role) for each in results] == [("model", "result"), ("image", "last_frame")]


def cancelled(state):
    wanted = dataclasses.replace(seedance("text_to_video", prompt="x"), external_id="cgt-1")
    exchange = ARK.cancel(wanted)
    calls = [next(exchange)]
    try:
        calls.append(exchange.send(reply({"id": "cgt-1", "status": state})))
        exchange.send(reply({}))
    except StopIteration as done:
        return [call.method for call in calls], done.value
    raise AssertionError("the exchange goes on")


@pytest.mark.parametrize("state", ["running", "succeeded", "failed", "expired"])
def test_cancel_deletes_nothing_that_is_not_queued(state):
    methods, _ = cancelled(state)
    assert methods == ["GET"]


def test_cancel_ends_a_queued_task():
    methods, update = cancelled("queued")
    assert (methods, update.state, update.external_id) == (["GET", "DELETE"], State.CANCELLED, "cgt-1")


def test_several_tasks_are_queried_at_once():
    tasks = [
        dataclasses.replace(seedance("text_to_video", prompt="x"), external_id=f"cgt-{number}") for number in (1, 2)
    ]
    exchange = ARK.poll_many(tasks)
    assert next(exchange).path.endswith("&filter.task_ids=cgt-1&filter.task_ids=cgt-2")
    with pytest.raises(StopIteration) as done:
        exchange.send(reply({"items": [{"id": "cgt-2", "status": "expired"}], "total": 1}))
    assert {name: update.state for name, update in done.value.value.items()} == {"cgt-2": State.FAILED}


@pytest.mark.parametrize(
    ("host", "operation", "model"),
    [
        ("ark", "text_to_video", "doubao-seedance-1-5-pro-251215"),
        ("ark", "text_to_image", "doubao-seedream-4-5-251128"),
        ("modelark", "text_to_video", "seedance-1-5-pro-251215"),
        ("modelark", "text_to_image", "seedream-4-5-251128"),
    ],
)
def test_each_host_has_its_own_name_for_the_usual_model(host, operation, model):
    dialect = DIALECTS[f"seedance/{host}"]
    wanted = task(f"seedance/{host}", f"seedance {operation}", given={"prompt": "x"})
    assert dialect.create(wanted, None).json["model"] == model
    named = dataclasses.replace(wanted, input={"prompt": "x", "model": "ep-1"})
    assert dialect.create(named, None).json["model"] == "ep-1"


def test_lost_task_of_byteplus_is_searched_by_its_own_model():
    wanted = task("seedance/modelark", "seedance text_to_video", given={"prompt": "x"})
    call = next(DIALECTS["seedance/modelark"].find_lost_jobs(wanted))
    assert "filter.model=seedance-1-5-pro-251215" in call.path


def test_byteplus_speaks_its_own_dialect():
    assert PROVIDERS["byteplus"].dialects == ("seedance/modelark",)
