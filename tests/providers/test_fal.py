"""fal's queue: the calls that are sent, the second call for a result, and the oddities of its answers."""

import dataclasses
import json

import pytest

from service.domain.errors import AccountProblem, NotFound, Unreadable, UpstreamError
from service.domain.task import State, Update
from service.providers.registry import DIALECTS
from service.providers.wire import Callback, Reply
from tests.support.operations import task

QUEUE = DIALECTS["fal/queue"]
HOOK = "https://dovecote.example/callbacks/a?b=c&d"
KLING = "fal-ai/kling-video/v2.5-turbo/pro/text-to-video"


def reply(body, status=200, **headers):
    return Reply(status, headers, json.dumps(body).encode())


def run(model=KLING, **given):
    return task("fal/queue", "fal run", given={"model": model, "input": {"prompt": "a heron"}, **given})


def hold(exchange, *replies):
    """Run an exchange. Return the paths of its calls, and its result."""
    paths = [next(exchange).path, *(exchange.send(each).path for each in replies[:-1])]
    with pytest.raises(StopIteration) as done:
        exchange.send(replies[-1])
    return paths, done.value.value


def test_request_of_an_unnamed_model_cannot_be_asked_for():
    """A job that was bought elsewhere is adopted with its model."""
    for model in ("", "flux", "workflows/acme"):
        with pytest.raises(ValueError, match="model"):
            QUEUE.query(dataclasses.replace(run(model), external_id="r1"))


def test_body_is_the_input_of_the_model_and_the_callback_stands_in_the_query():
    call = QUEUE.create(run(), HOOK)
    hook = "https%3A%2F%2Fdovecote.example%2Fcallbacks%2Fa%3Fb%3Dc%26d"
    assert (call.method, call.path, call.json) == ("POST", f"/{KLING}?fal_webhook={hook}", {"prompt": "a heron"})
    assert QUEUE.create(run(), None).path == f"/{KLING}"
    assert dict(QUEUE.authorize(call, "id:secret").headers) == {"Authorization": "Key id:secret"}


@pytest.mark.parametrize(
    ("model", "app"),
    [
        (KLING, "/fal-ai/kling-video"),
        ("fal-ai/flux", "/fal-ai/flux"),
        ("workflows/acme/flow/v2", "/workflows/acme/flow"),
        ("comfy/acme/graph", "/comfy/acme/graph"),
    ],
)
def test_request_is_asked_for_by_the_first_parts_of_the_name(model, app):
    wanted = dataclasses.replace(run(model), external_id="r/1")
    assert QUEUE.query(wanted).path == f"{app}/requests/r%2F1/status"
    call = next(QUEUE.cancel(wanted))
    assert (call.method, call.path) == ("PUT", f"{app}/requests/r%2F1/cancel")


@pytest.mark.parametrize(
    "model", ["flux", "fal-ai/", "fal-ai/../flux", "fal-ai/flux?x", "fal-ai//flux", "workflows/acme", "a/b#c"]
)
def test_name_that_is_no_path_is_refused(model):
    assert [mistake.path for mistake in QUEUE.validate(run(model))] == ["input.model"]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (KLING, {"duration": "5", "image_url": "https://e.test/a.png", "tail_image_url": "https://e.test/b.png"}),
        (
            "fal-ai/veo3.1/image-to-video",
            {"duration": "5s", "image_url": "https://e.test/a.png", "end_image_url": "https://e.test/b.png"},
        ),
        (
            "fal-ai/wan-i2v",
            {"duration": 5, "image_url": "https://e.test/a.png", "end_image_url": "https://e.test/b.png"},
        ),
    ],
)
def test_shared_fields_take_the_names_of_the_model(model, body):
    images = {"image": "https://e.test/a.png", "last_image": "https://e.test/b.png"}
    given = {"model": model, "duration": 5.0, "input": {"cfg_scale": 0.5}, **images}
    call = QUEUE.create(task("fal/queue", "fal image_to_video", given=given), None)
    assert call.json == {**body, "cfg_scale": 0.5}


def test_model_that_edits_takes_its_image_in_a_list():
    given = {"model": "fal-ai/nano-banana/edit", "image": "https://e.test/a.png", "prompt": "red", "count": 2}
    call = QUEUE.create(task("fal/queue", "fal image_to_image", given=given), None)
    assert call.json == {"image_urls": ["https://e.test/a.png"], "prompt": "red", "num_images": 2}


COMPLETED = {"status": "COMPLETED", "request_id": "r1", "response_url": "https://evil.test/r1"}


def poll(*replies):
    return hold(QUEUE.poll(dataclasses.replace(run(), external_id="r1")), *replies)


def test_completed_request_is_asked_for_its_result():
    paths, update = poll(reply(COMPLETED), reply({"video": {"url": "https://v3.fal.media/a.mp4"}}))
    assert paths == ["/fal-ai/kling-video/requests/r1/status", "/fal-ai/kling-video/requests/r1"]
    assert (update.state, [each.url for each in update.results]) == (State.SUCCEEDED, ["https://v3.fal.media/a.mp4"])


@pytest.mark.parametrize(
    ("result", "state", "code"),
    [
        (reply({"detail": [{"loc": ["body"], "msg": "no", "type": "content_policy_violation"}]}, 422), State.FAILED, "content_policy"),
        (reply({"detail": [{"loc": ["body", "x"], "msg": "odd", "type": "never_seen"}]}, 422), State.FAILED, "invalid_input"),
        (reply({"detail": "x", "error_type": "runner_disconnected"}, 503), State.FAILED, "provider_error"),
        (reply({"detail": "x", "error_type": "startup_timeout"}, 504), State.FAILED, "provider_timeout"),
        (reply({"detail": "x", "error_type": "client_disconnected"}, 499), State.CANCELLED, "cancelled"),
        (reply({"detail": "prompt is required"}, 422), State.FAILED, "invalid_input"),
        (reply({"detail": "Request is still in progress"}, 400), None, None),
        (reply({"images": []}), None, None),
    ],
)  # fmt: skip
def test_http_status_of_a_result_is_the_verdict_of_the_model(result, state, code):
    _, update = poll(reply(COMPLETED), result)
    assert (update.state, update.failure and update.failure.code) == (state, code)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_error_of_a_proxy_is_no_verdict(status):
    exchange = QUEUE.poll(dataclasses.replace(run(), external_id="r1"))
    next(exchange)
    exchange.send(reply(COMPLETED))
    with pytest.raises(UpstreamError):
        exchange.send(Reply(status, {}, b"<html><title>Bad</title></html>"))


def test_error_that_is_cut_off_is_no_verdict():
    with pytest.raises(Unreadable):
        QUEUE.read_status(Reply(422, {"x-fal-error-type": "image_too_small"}, b'{"detail": [{"ms'))


def test_structured_result_is_json():
    _, update = poll(reply(COMPLETED), reply({"label": {"cat": 0.9}, "seed": 3}))
    assert [(each.kind, each.text) for each in update.results] == [("json", '{"label":{"cat":0.9},"seed":3}')]
    [called] = QUEUE.read_callback(Callback({}, b'{"request_id": "r1", "status": "OK", "payload": {"label": "cat"}}'))
    assert (called.state, called.external_id) == (State.SUCCEEDED, "r1")


def test_status_without_an_id_is_no_result():
    said = {name: value for name, value in COMPLETED.items() if name != "request_id"}
    assert QUEUE.read_status(reply({**said, "status_url": "https://evil.test/r1/status"})) == Update()


def test_callback_without_a_payload_settles_nothing():
    body = b'{"request_id": "r1", "status": "OK", "payload": null, "payload_error": "too large"}'
    assert QUEUE.read_callback(Callback({}, body)) == [Update(external_id="r1")]


def test_unknown_model_is_a_fault_of_the_account_and_an_unknown_request_is_not_found():
    with pytest.raises(AccountProblem):
        QUEUE.read_created(reply({"detail": "Application not found"}, 404))
    with pytest.raises(NotFound):
        QUEUE.read_status(reply({"detail": "Request not found"}, 404))
    with pytest.raises(NotFound):
        QUEUE.read_cancelled(reply({"status": "NOT_FOUND"}, 404))
