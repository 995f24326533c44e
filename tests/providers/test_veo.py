"""Veo: the bodies of Google's APIs and of gateways, the end of an operation, and the log of a chat completion."""

import dataclasses
import json

import pytest

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain
from service.domain.task import State
from service.providers.registry import DIALECTS
from service.providers.wire import Callback, Reply
from tests.support.operations import task

A = "https://e.test/a.png"
INLINE = "data:image/png;base64,iVBORw0KGgo="
BYTES = {"bytesBase64Encoded": "iVBORw0KGgo=", "mimeType": "image/png"}
OPERATION = "projects/p/locations/r/publishers/google/models/veo-3.1-fast-generate-001/operations/1234"
ID = "veo3-fast:79733203-82aa-45d3-bf98-1b559689bb8d"


def veo(operation, dialect="gemini", **given):
    return task(f"veo/{dialect}", f"veo {operation}", given=given)


def reply(body, status=200, **headers):
    return Reply(status, headers, (body if isinstance(body, str) else json.dumps(body)).encode())


def with_id(wanted, external_id):
    return dataclasses.replace(wanted, external_id=external_id)


@pytest.mark.parametrize("dialect", ["gemini", "vertex"])
def test_google_has_one_instance_and_its_parameters(dialect):
    wanted = veo(
        "image_to_video", dialect, image=INLINE, last_image=INLINE, prompt="it rises", duration=6.0, count=2, sound=True
    )
    assert DIALECTS[f"veo/{dialect}"].validate(wanted) == []
    call = DIALECTS[f"veo/{dialect}"].create(wanted, None)
    assert call.path.endswith("-001:predictLongRunning" if dialect == "vertex" else "-preview:predictLongRunning")
    assert call.json == {
        "instances": [{"prompt": "it rises", "image": BYTES, "lastFrame": BYTES}],
        "parameters": {"durationSeconds": 6, "sampleCount": 2, "generateAudio": True},
    }


def test_references_and_stored_videos_go_to_vertex():
    pictures = veo("reference_to_video", "vertex", prompt="both", images=[INLINE], reference_type="style")
    stored = veo("extend", "vertex", video="gs://bucket/in.mp4", storage="gs://bucket/out/")
    vertex = DIALECTS["veo/vertex"]
    assert vertex.validate(pictures) == vertex.validate(stored) == []
    assert vertex.create(pictures, None).json["instances"][0]["referenceImages"] == [
        {"image": BYTES, "referenceType": "style"}
    ]
    assert vertex.create(stored, None).json == {
        "instances": [{"video": {"gcsUri": "gs://bucket/in.mp4", "mimeType": "video/mp4"}}],
        "parameters": {"storageUri": "gs://bucket/out/"},
    }
    assert DIALECTS["veo/gemini"].validate(veo("extend", video="gs://bucket/in.mp4"))


def test_operation_is_queried_below_its_model():
    call = DIALECTS["veo/vertex"].query(with_id(veo("text_to_video", "vertex", prompt="x"), OPERATION))
    assert call.path == "/publishers/google/models/veo-3.1-fast-generate-001:fetchPredictOperation"
    assert (call.method, call.json) == ("POST", {"operationName": OPERATION})
    call = DIALECTS["veo/gemini"].query(with_id(veo("text_to_video", prompt="x"), "models/veo-3.0/operations/abc"))
    assert call.path == "/v1beta/models/veo-3.0/operations/abc"


@pytest.mark.parametrize(
    "name", ["../files/x", "models/a/../b", "https://e.test/x", "operations/a?b=1", "", "projects/p/x"]
)
@pytest.mark.parametrize("dialect", ["gemini", "vertex"])
def test_id_that_names_no_operation_reaches_no_path(dialect, name):
    with pytest.raises(NotFound):
        DIALECTS[f"veo/{dialect}"].query(with_id(veo("text_to_video", dialect, prompt="x"), name))


def ended(dialect="gemini", **said):
    return DIALECTS[f"veo/{dialect}"].read_status(reply({"name": OPERATION, "done": True, **said}))


@pytest.mark.parametrize(
    "said", [{}, {"response": {}}, {"response": {"generateVideoResponse": {"generatedSamples": [{}]}}}]
)
def test_end_without_a_video_is_the_providers_failure(said):
    update = ended(**said)
    assert (update.state, update.failure.code, update.failure.message) == (State.FAILED, "provider_error", None)


@pytest.mark.parametrize("reasons", [["Recitation check failed."], [15236754], ["one", "two"]])
def test_reason_of_the_filter_counts_without_its_counter(reasons):
    update = ended("vertex", response={"raiMediaFilteredCount": 0, "raiMediaFilteredReasons": reasons})
    assert (update.state, update.failure.code) == (State.FAILED, "content_policy")
    assert update.failure.message == "; ".join(str(each) for each in reasons)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": 8, "message": "quota"}, "rate_limited"),
        ({"code": 4}, "provider_timeout"),
        ({"code": 14, "message": "try later"}, "overloaded"),
        ({"code": 7, "message": "denied"}, "forbidden"),
        ({"code": 9, "message": "precondition"}, "invalid_input"),
        ({"code": 13, "message": "Internal error"}, "provider_error"),
        ({"code": 3, "message": "The image violates our guidelines"}, "content_policy"),
        ({"code": 3, "message": "seed must be positive"}, "invalid_input"),
        ({}, "provider_error"),
    ],
)
def test_rpc_code_is_the_reason_unless_the_text_speaks_of_content(error, code):
    assert ended(error=error).failure.code == code


@pytest.mark.parametrize(
    ("status", "error", "kind", "code"),
    [
        (
            404,
            {"status": "NOT_FOUND", "message": "models/veo-2 is not found for API version v1beta"},
            AccountProblem,
            "forbidden",
        ),
        (
            400,
            {"status": "FAILED_PRECONDITION", "message": "User location is not supported"},
            AccountProblem,
            "forbidden",
        ),
        (
            429,
            {"status": "RESOURCE_EXHAUSTED", "message": "credits are depleted"},
            AccountProblem,
            "insufficient_credit",
        ),
        (429, {"status": "RESOURCE_EXHAUSTED", "message": "quota"}, Unavailable, "rate_limited"),
        (504, {"status": "DEADLINE_EXCEEDED", "message": "deadline"}, Uncertain, "provider_timeout"),
        (400, {"status": "INVALID_ARGUMENT", "message": "violates our content policy"}, Refused, "content_policy"),
        (503, {"status": "UNAVAILABLE", "message": "overloaded"}, Unavailable, "overloaded"),
    ],
)
def test_submit_is_refused_by_the_status_word(status, error, kind, code):
    with pytest.raises(kind) as caught:
        DIALECTS["veo/gemini"].read_created(reply({"error": {"code": status, **error}}, status))
    assert caught.value.code == code


def test_wait_of_retry_info_is_kept():
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}]
    error = {"status": "RESOURCE_EXHAUSTED", "message": "quota", "details": details}
    with pytest.raises(Unavailable) as caught:
        DIALECTS["veo/gemini"].read_created(reply({"error": error}, 429))
    assert caught.value.retry_after == 12.0


@pytest.mark.parametrize("wait", ["nans", "infs", "1e400s", "soon", None])
def test_wait_that_is_no_number_is_none(wait: str | None):
    error = {"status": "RESOURCE_EXHAUSTED", "message": "quota", "details": [{"retryDelay": wait}]}
    with pytest.raises(Unavailable) as caught:
        DIALECTS["veo/gemini"].read_created(reply({"error": error}, 429))
    assert caught.value.retry_after is None


def test_event_of_another_type_ends_nothing():
    event = {"type": "video.deleted", "data": {"id": "operations/a", "output_file_uri": "https://e.test/f"}}
    [update] = DIALECTS["veo/gemini"].read_callback(Callback({}, json.dumps(event).encode()))
    assert (update.state, update.results) == (None, ())


@pytest.mark.parametrize(
    ("record", "state", "url"),
    [
        ({"status": "video_generation_completed", "video_url": A}, State.SUCCEEDED, A),
        (
            {"status": "video_generation_completed", "video_url": A, "req": {"enable_upsample": True}},
            State.RUNNING,
            None,
        ),
        ({"status": "video_generation_completed", "video_url": A, "running": True}, State.RUNNING, None),
        (
            {"status": "video_upsampling_completed", "upsample_video_url": A, "req": {"enable_upsample": True}},
            State.SUCCEEDED,
            A,
        ),
        ({"status": "video_generation_completed"}, State.RUNNING, None),
        ({"status": "completed"}, None, None),
        ({"status": "video_upsampling_failed", "video_url": A}, State.FAILED, A),
        ({"status": "melting"}, None, None),
    ],
)
def test_gateway_record_ends_with_the_video_that_was_ordered(record, state, url):
    update = DIALECTS["veo/aggregator"].read_status(reply({"id": ID, **record}))
    assert (update.state, [each.url for each in update.results]) == (state, [] if url is None else [url])


def test_gateway_id_is_quoted():
    for name in ("aggregator", "chat"):
        call = DIALECTS[f"veo/{name}"].query(with_id(veo("text_to_video", name, prompt="x"), ID))
        assert call.path == "/v1/video/query?id=veo3-fast%3A79733203-82aa-45d3-bf98-1b559689bb8d"


def stream(*texts, end="data: [DONE]\n\n"):
    chunks = ({"object": "chat.completion.chunk", "choices": [{"delta": {"content": text}}]} for text in texts)
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end


@pytest.mark.parametrize(
    ("texts", "state", "url"),
    [
        (("> Task", f" ID: `{ID}`\n"), State.SUBMITTED, None),
        ((f"ID: `{ID}`\n", f"[raw](https://asyncdata.net/source/{ID}) ..."), State.RUNNING, None),
        ((f"任务ID: `{ID}`\n", "[watch](https://f.test/cdn/a.mp4) | [download](https://f.test/cdn/download/a.mp4)"),
         State.SUCCEEDED, "https://f.test/cdn/a.mp4"),
        ((f"ID: `{ID}`\n", "[下载视频](https://f.test/get/77)"), State.SUCCEEDED, "https://f.test/get/77"),
        ((f"ID: `{ID}`\n", "failed: the prompt is prohibited"), State.FAILED, None),
    ],
)  # fmt: skip
def test_log_of_a_chat_is_read_to_its_last_word(texts, state, url):
    update = DIALECTS["veo/chat"].read_created(reply(stream(*texts)))
    assert (update.state, update.external_id, [each.url for each in update.results]) == (
        state,
        ID,
        [] if url is None else [url],
    )


def test_stream_that_was_cut_before_the_id_is_uncertain():
    with pytest.raises(Uncertain):
        DIALECTS["veo/chat"].read_created(reply(stream("> creating", end="")))


def test_log_without_id_and_film_is_a_failure():
    update = DIALECTS["veo/chat"].read_created(reply(stream("I cannot help with that.")))
    assert (update.state, update.failure.code) == (State.FAILED, "provider_error")


@pytest.mark.parametrize("name", ["duration", "negative_prompt", "storage"])
@pytest.mark.parametrize("dialect", ["aggregator", "chat"])
def test_field_that_gateways_do_not_have_is_refused(dialect, name):
    value = {"duration": 8, "negative_prompt": "x", "storage": "gs://b/"}[name]
    wanted = veo("text_to_video", dialect, prompt="x", **{name: value})
    assert [each.path for each in DIALECTS[f"veo/{dialect}"].validate(wanted)] == [f"input.{name}"]


@pytest.mark.parametrize("name", ["veo/gemini", "veo/vertex"])
@pytest.mark.parametrize(
    ("job", "state"),
    [
        ({"done": True, "response": {"videos": 7}}, None),
        ({"done": True, "response": {"videos": [{"mimeType": "video/mp4"}]}}, None),
        ({"done": True, "response": {"generateVideoResponse": {"generatedSamples": [{"video": {}}]}}}, None),
        ({"done": True, "response": "x"}, None),
        ({"done": True, "response": {}}, State.FAILED),
        ({"done": True}, State.FAILED),
        ({"done": True, "error": {"code": [], "message": "safety policy"}}, State.FAILED),
        ({"done": True, "error": {"code": {}, "message": 7}}, State.FAILED),
    ],
)
def test_video_that_cannot_be_read_ends_no_job(name, job, state):
    body = json.dumps({"name": "models/veo/operations/1", **job}).encode()
    assert DIALECTS[name].read_status(Reply(200, body=body)).state is state


@pytest.mark.parametrize(
    "body", [{"choices": []}, {"choices": [{"message": {}}]}, {"choices": [{"message": {"content": 7}}]}]
)
def test_chat_without_any_text_may_have_made_a_job(body):
    with pytest.raises(Uncertain):
        DIALECTS["veo/chat"].read_created(Reply(200, body=json.dumps(body).encode()))
