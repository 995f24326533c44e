"""OpenAI: the bodies that are sent, and behaviour that recordings cannot show."""

import base64
import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Result, State, Task, Update
from service.providers.openai import audio
from service.providers.registry import DIALECTS, PROVIDERS
from service.providers.wire import Call, Callback, File, Reply
from tests.support.operations import task
from tests.support.values import a_task

RECORDINGS = Path(__file__).parents[1] / "recordings" / "openai"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PICTURE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
RECORDING = "data:audio/mpeg;base64,SUQz"


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))["body"]


def created(dialect: str, operation: str, given: dict[str, Any], **more: Any) -> Call:
    one = dataclasses.replace(task(f"openai/{dialect}", f"openai {operation}", given=given), **more)
    assert DIALECTS[f"openai/{dialect}"].validate(one) == []
    return DIALECTS[f"openai/{dialect}"].create(one, None)


def shown(call: Call) -> Any:
    """Return a body as the recordings show it: a file by its name and type."""

    def field(value: Any) -> Any:
        return {"file": value.name, "content_type": value.content_type} if isinstance(value, File) else value

    return {name: field(value) for name, value in call.body.items()}


# ── what is sent ───────────────────────────────────────────────────────────────────────────────────────────────────

SENT = {
    "images/submit_request.generations.json": created(
        "images",
        "text_to_image",
        {"prompt": "A cute baby sea otter", "count": 1, "aspect_ratio": "1:1", "model": "gpt-image-1.5"},
    ),
    "images/submit_request.gpt-image-2.6.json": created(
        "images",
        "text_to_image",
        {
            "prompt": "a poster that says OPEN",
            "model": "gpt-image-2.6-sunburst",
            "aspect_ratio": "16:9",
            "quality": "high",
            "background": "transparent",
            "output_format": "webp",
            "output_compression": 90,
            "moderation": "low",
            "count": 2,
        },
        options={"safety_identifier": "u-1"},
    ),
    "chat/submit_request.text.json": created(
        "chat", "chat", {"prompt": "Name three colours.", "system": "Be brief.", "temperature": 0.2}
    ),
    "chat/submit_request.recognise-image.json": created(
        "chat",
        "chat",
        {
            "model": "gpt-6-luna",
            "max_tokens": 300,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is in this picture?"},
                        {"type": "image_url", "image_url": {"url": "https://example.com/boat.jpg", "detail": "low"}},
                    ],
                }
            ],
        },
    ),
    "chat/submit_request.gpt-4o-image.json": created(
        "chat", "chat_image", {"prompt": "Generate a cute kitten sitting on a cloud, cartoon style"}
    ),
    "embeddings/submit_request.two-texts.json": created(
        "embeddings", "embeddings", {"texts": ["dove", "cote"], "dimensions": 3}, options={"encoding_format": "float"}
    ),
    "audio/submit_request.speech.json": created(
        "audio",
        "text_to_speech",
        {
            "text": "Good morning from the dovecote.",
            "voice": "marin",
            "instructions": "calm",
            "format": "mp3",
            "speed": 1.0,
        },
    ),
    "responses/submit_request.background.json": created(
        "responses",
        "response",
        {"prompt": "Name three colours.", "model": "gpt-4o-2024-08-06"},
        options={"metadata": {"task": "our-id-1"}},
    ),
    "responses/submit_request.gateway-foreground.json": created(
        "responses-foreground", "response", {"prompt": "Name three colours.", "model": "gpt-5.4"}
    ),
    "videos/submit_request.create.json": created(
        "videos", "text_to_video", {"prompt": "A calico cat playing a piano on stage"}
    ),
}


@pytest.mark.parametrize("name", SENT)
def test_body_is_the_one_that_is_documented(name: str) -> None:
    assert shown(SENT[name]) == recorded(name)


def test_edit_is_a_form_with_files() -> None:
    given = {
        "prompt": "Add a small red ribbon to the paper boat.",
        "image": PICTURE,
        "mask": PICTURE,
        "aspect_ratio": "1:1",
        "output_format": "jpeg",
    }
    call = created("images", "image_to_image", given)
    assert call.json is None
    assert {**shown(call), "image": None, "mask": None} == {
        **recorded("images/submit_request.edit.json"),
        "image": None,
        "mask": None,
    }
    assert call.body["image"] == File("image-1.png", PNG, "image/png")
    several = created("images", "image_to_image", {"prompt": "both", "images": [PICTURE, PICTURE]}).body
    assert [each.name for each in several["image[]"]] == ["image-1.png", "image-2.png"]
    assert "image" not in several


@pytest.mark.parametrize("operation", ["transcription", "translation"])
def test_recording_is_sent_as_a_file_with_an_extension(operation: str) -> None:
    given = {"audio": RECORDING, "prompt": "A talk about birds.", "format": "json", "temperature": 0}
    body = created("audio", operation, given).body
    assert body["file"] == File("audio.mp3", b"ID3", "audio/mpeg")
    assert (body["temperature"], body["response_format"], body["prompt"]) == ("0", "json", "A talk about birds.")


@pytest.mark.parametrize(
    ("operation", "given", "path", "body"),
    [
        ("remix", {"prompt": "at night"}, "/v1/videos/video_1%2F2/remix", {"prompt": "at night"}),
        (
            "video_to_video",
            {"prompt": "at night"},
            "/v1/videos/edits",
            {"prompt": "at night", "video": {"id": "video_1/2"}},
        ),
        (
            "extend",
            {"prompt": "on", "duration": 8},
            "/v1/videos/extensions",
            {"prompt": "on", "seconds": "8", "video": {"id": "video_1/2"}},
        ),
    ],
    ids=["remix", "edit", "extension"],
)
def test_follow_up_names_the_parents_video(
    operation: str, given: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    call = created("videos", operation, given, inherited={"external_id": "video_1/2"}, parent_id=a_task().id)
    assert (call.path, call.json) == (path, body)


def test_picture_to_begin_with_is_a_file_or_a_reference() -> None:
    given = {"prompt": "it flies", "image": "https://example.com/a.png", "duration": 8.0, "aspect_ratio": "9:16"}
    call = created("videos", "image_to_video", given)
    assert call.json["input_reference"] == {"image_url": "https://example.com/a.png"}
    assert (call.json["seconds"], call.json["size"]) == ("8", "720x1280")
    form = created("videos", "image_to_video", {**given, "image": PICTURE}).form
    assert form is not None
    assert form["input_reference"] == File("image.png", PNG, "image/png")


@pytest.mark.parametrize(
    ("ratio", "resolution", "size"),
    [
        ("16:9", None, "1536x864"),
        ("9:16", None, "864x1536"),
        ("3:2", None, "1536x1024"),
        ("1920:1080", None, "1536x864"),
        ("1:1", "2k", "2560x2560"),
        ("16:9", "2k", "2560x1440"),
        ("16:9", "4k", "3840x2160"),
        ("1:1", "4k", "2880x2880"),
        (None, "1k", "1024x1024"),
        ("3:1", None, "1536x512"),
    ],
)
def test_shape_and_resolution_become_a_size_that_the_model_makes(
    ratio: str | None, resolution: str | None, size: str
) -> None:
    given = {"prompt": "a dove", "aspect_ratio": ratio, "resolution": resolution}
    call = created("images", "text_to_image", {name: value for name, value in given.items() if value is not None})
    width, height = map(int, call.json["size"].split("x"))
    assert call.json["size"] == size
    assert width % 16 == height % 16 == 0
    assert width * height <= 3840 * 2160


WRONG = {
    "shape of an old model": ("images", "text_to_image", {"prompt": "a", "aspect_ratio": "16:9", "model": "gpt-image-1.5"}, "input.aspect_ratio"),
    "shape beyond 3:1": ("images", "text_to_image", {"prompt": "a", "aspect_ratio": "4:1"}, "input.aspect_ratio"),
    "resolution of an old model": ("images", "text_to_image", {"prompt": "a", "resolution": "4k", "model": "dall-e-3"}, "input.resolution"),
    "unknown resolution": ("images", "text_to_image", {"prompt": "a", "resolution": "1080p"}, "input.resolution"),
    "long prompt": ("images", "text_to_image", {"prompt": "a" * 32_001}, "input.prompt"),
    "no image": ("images", "image_to_image", {"prompt": "a"}, "input.image"),
    "image that cannot be read": ("images", "image_to_image", {"prompt": "a", "image": "data:image/png;base64,@"}, "input.image"),
    "no words": ("chat", "chat", {"model": "gpt-6-luna"}, "input.prompt"),
    "words said twice": ("chat", "chat", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "input.prompt"),
    "long speech": ("audio", "text_to_speech", {"text": "a" * 4097}, "input.text"),
    "video of nobody": ("videos", "extend", {"prompt": "a", "duration": 8}, "input.video"),
    "shape of no video": ("videos", "text_to_video", {"prompt": "a", "aspect_ratio": "1:1"}, "input.aspect_ratio"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_known_to_be_refused_is_refused_before_the_purchase(name: str) -> None:
    dialect, operation, given, path = WRONG[name]
    one = task(f"openai/{dialect}", f"openai {operation}", given=given)
    assert [mistake.path for mistake in DIALECTS[f"openai/{dialect}"].validate(one)] == [path]


def test_recording_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_MAX_FILE", 2)
    mistakes = DIALECTS["openai/audio"].validate(
        task("openai/audio", "openai transcription", given={"audio": RECORDING})
    )
    assert [mistake.path for mistake in mistakes] == ["input.audio"]


def test_cheaper_window_needs_a_deadline_that_is_as_long() -> None:
    dialect = DIALECTS["openai/responses"]
    one = task("openai/responses", options={"background_options": {"completion_window": "8h"}})
    assert [mistake.path for mistake in dialect.validate(one)] == ["deadline"]
    patient = dataclasses.replace(one, deadline_at=one.created_at + dt.timedelta(hours=9))
    assert dialect.validate(patient) == []


def test_official_upstream_has_no_videos_until_it_is_switched_on() -> None:
    assert "openai/videos" not in PROVIDERS["openai"].dialects
    assert all("openai/videos" in PROVIDERS[name].dialects for name in ("elkapi", "cometapi"))


# ── what is read ───────────────────────────────────────────────────────────────────────────────────────────────────


def read(
    dialect: str, body: Any, status: int = 200, *, endpoint: str = "POST /v1", kind: str = ""
) -> Update | UpstreamError:
    """Read an answer to a submit; an error is an answer like any other."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    try:
        return DIALECTS[f"openai/{dialect}"].read_created(
            Reply(status, {"Content-Type": kind} if kind else {}, raw, endpoint)
        )
    except UpstreamError as error:
        return error


def wrong(message: str, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


REFUSALS = {
    "billing limit": (400, wrong("Billing hard limit has been reached", "billing_hard_limit_reached"), AccountProblem, "insufficient_credit"),
    "quota": (429, wrong("You exceeded your current quota", "insufficient_quota"), AccountProblem, "insufficient_credit"),
    "rate limit": (429, wrong("Rate limit reached. Please try again in 20s.", "rate_limit_exceeded", "requests"), Unavailable, "rate_limited"),
    "policy": (400, wrong("Your request was rejected.", "content_policy_violation"), Refused, "content_policy"),
    "organisation": (403, wrong("Your organization must be verified to use the model"), AccountProblem, "forbidden"),
    "ended model": (404, wrong("The model `sora-2` does not exist", "model_not_found"), Refused, "not_found"),
    "no such route": (404, wrong("Invalid URL (POST /v1/x)"), AccountProblem, "forbidden"),
    "conflict": (409, wrong("conflict"), Refused, "invalid_input"),
    "large file": (413, wrong("413: Maximum content size limit exceeded", kind="server_error"), Refused, "invalid_input"),
    "overloaded": (503, wrong("Slow down", kind="server_error"), Unavailable, "overloaded"),
    "server error": (500, wrong("The server had an error", kind="server_error"), Uncertain, "provider_error"),
    "key in http 200": (200, wrong("Incorrect API key provided", "invalid_api_key"), AccountProblem, "unauthorized"),
    "input in http 200": (200, wrong("Invalid value: 'x'."), Refused, "invalid_input"),
    "limit in http 200": (200, wrong("Rate limit reached", "rate_limit_exceeded", "requests"), Unavailable, "rate_limited"),
    "server error in http 200": (200, wrong("The server had an error", kind="server_error"), Uncertain, "provider_error"),
    "no channel in http 200": (200, wrong("无可用渠道", "model_not_found", "new_api_error"), Unavailable, "overloaded"),
    "time-out": (408, wrong("Request timed out"), Uncertain, "provider_timeout"),
}  # fmt: skip


@pytest.mark.parametrize("dialect", ["images", "chat", "responses", "embeddings", "audio", "models", "videos"])
@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_is_read_by_its_code_and_status(dialect: str, name: str) -> None:
    status, body, error, code = REFUSALS[name]
    found = read(
        dialect, body, status, endpoint=f"POST {next(iter(DIALECTS[f'openai/{dialect}'].facts.operations.values()))}"
    )
    assert (type(found), getattr(found, "code", None)) == (error, code)


def test_poll_of_a_conflict_is_tried_again_and_of_an_unknown_id_is_not_found() -> None:
    dialect = DIALECTS["openai/responses"]
    for status, error in ((409, Unavailable), (404, NotFound)):
        with pytest.raises(error):
            dialect.read_status(Reply(status, {}, json.dumps(wrong("gone")).encode(), "GET /v1/responses/x"))


PIECE = 'data: {{"id":"c1","model":"m","choices":[{{"index":0,"delta":{{"content":"{}"}},"finish_reason":{}}}]}}\n\n'
WHOLE = PIECE.format("Red, ", "null") + PIECE.format("green.", '"stop"') + "data: [DONE]\n\n"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_streamed_chat_is_joined(line_end: str) -> None:
    found = read("chat", ": keep-alive\n\n".replace("\n", line_end) + WHOLE.replace("\n", line_end))
    assert isinstance(found, Update)
    assert (found.external_id, [result.text for result in found.results]) == ("c1", ["Red, green."])


def test_streamed_chat_that_is_cut_off_is_uncertain() -> None:
    first = PIECE.format("Red, ", "null")
    for end in range(len(first) + 40):
        assert isinstance(read("chat", WHOLE[:end], kind="text/event-stream"), Uncertain)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (wrong("blocked", "content_filter"), Refused),
        (wrong("bad", kind="invalid_request_error"), Refused),
        (wrong("The server had an error", kind="server_error"), Uncertain),
    ],
    ids=["moderation", "input", "server"],
)
def test_error_within_a_stream_is_read(error: dict[str, Any], expected: type[UpstreamError]) -> None:
    assert type(read("chat", f"data: {json.dumps(error)}\n\n", kind="text/event-stream")) is expected
    streamed = f"event: error\ndata: {json.dumps(error)}\n\n"
    assert type(read("images", streamed, kind="text/event-stream")) is expected


def chat(content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    return {"id": "c1", "model": more.pop("model", "m"), "choices": [{"index": 0, "message": message, **more}]}


def test_chat_that_was_cut_off_keeps_its_reason_beside_the_text() -> None:
    found = read("chat", chat("Red, green and", finish_reason="length"))
    assert isinstance(found, Update)
    assert found.results == (
        Result("text", text="Red, green and"),
        Result("json", text='{"finish_reason":"length"}', role="extra"),
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, ""), ("", ""), ([{"type": "text", "text": "Red"}, {"type": "text", "text": "."}], "Red.")],
    ids=["null", "empty", "parts"],
)
def test_content_of_any_form_is_a_text(content: Any, text: str) -> None:
    found = read("chat", chat(content, finish_reason="stop"))
    assert isinstance(found, Update)
    assert [result.text for result in found.results] == [text]


def test_refusal_in_a_message_is_a_failure() -> None:
    found = read("chat", chat(None, finish_reason="stop", message={"refusal": "I can't help with that."}))
    assert isinstance(found, Update)
    assert found.state is State.FAILED
    assert found.failure is not None
    assert (found.failure.code, found.failure.message) == ("content_policy", "I can't help with that.")


PICTURES = {
    "markdown": ("![a](https://x.example/a.png) ![a](https://x.example/a.png)\n[get](https://x.example/dl/a.png)", ["https://x.example/a.png"]),
    "two": ("![](https://x.example/a.png)\n![b](https://x.example/b)", ["https://x.example/a.png", "https://x.example/b"]),
    "bare link": ("done: https://x.example/a.webp?sig=1 (1 of 1)", ["https://x.example/a.webp?sig=1"]),
    "inline": (f"![image]({PICTURE})", [PICTURE]),
    "title": ('![a](https://x.example/a.png "a dove")', ["https://x.example/a.png"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_in_a_chat_are_results(name: str) -> None:
    text, urls = PICTURES[name]
    found = read("chat", chat(text, finish_reason="stop", model="gpt-4o-image-vip"))
    assert isinstance(found, Update)
    assert [result.url for result in found.results] == urls


def test_model_without_pictures_keeps_its_text() -> None:
    found = read("chat", chat("![a](https://x.example/a.png)", finish_reason="stop", model="gpt-6-luna"))
    assert isinstance(found, Update)
    assert [result.kind for result in found.results] == ["text"]


def one_answer(dialect: str, operation: str, given: dict[str, Any], reply: Reply, **more: Any) -> Any:
    """Hold a submit with one answer."""
    one: Task = dataclasses.replace(task(f"openai/{dialect}", f"openai {operation}", given=given), **more)
    exchange = DIALECTS[f"openai/{dialect}"].submit(one, None)
    next(exchange)
    try:
        exchange.send(reply)
    except StopIteration as done:
        return done.value
    raise AssertionError("an exchange without an end")


def test_pictures_are_read_where_they_were_wanted_whatever_the_model() -> None:
    reply = Reply(200, {}, json.dumps(chat("![a](https://x.example/a.png)", model="m")).encode())
    assert one_answer("chat", "chat_image", {"prompt": "a"}, reply).results[0].url == "https://x.example/a.png"
    assert one_answer("chat", "chat", {"prompt": "a"}, reply).results[0].kind == "text"


@pytest.mark.parametrize(
    ("kind", "body", "url"),
    [
        ("audio/wav; x=1", b"any", "data:audio/wav;base64,YW55"),
        ("application/octet-stream", b"ID3x", "data:audio/mpeg;base64,SUQzeA=="),
        ("", b"OggSx", "data:audio/opus;base64,T2dnU3g="),
        ("application/octet-stream", b"\x00\x01", "data:audio/pcm;base64,AAE="),
    ],
    ids=["stated", "by its bytes", "by its bytes alone", "as asked for"],
)
def test_speech_is_a_data_url_of_its_type(kind: str, body: bytes, url: str) -> None:
    reply = Reply(200, {"content-type": kind} if kind else {}, body)
    found = one_answer("audio", "text_to_speech", {"text": "a", "format": "pcm"}, reply)
    assert [result.url for result in found.results] == [url]


@pytest.mark.parametrize(
    ("kind", "body"),
    [("audio/mpeg", b""), ("text/html", b"<html>"), ("", b"{}"), ("application/json", b"{}")],
    ids=["empty", "page", "no audio", "document"],
)
def test_answer_without_audio_is_uncertain(kind: str, body: bytes) -> None:
    assert isinstance(read("audio", body, endpoint="POST /v1/audio/speech", kind=kind), Uncertain)


def test_transcript_keeps_its_segments_beside_the_text() -> None:
    found = read("audio", {"text": "Hi.", "segments": [{"speaker": "A"}]}, endpoint="POST /v1/audio/transcriptions")
    assert isinstance(found, Update)
    assert [(result.role, result.text) for result in found.results] == [
        ("result", "Hi."),
        ("extra", '{"segments":[{"speaker":"A"}]}'),
    ]


@pytest.mark.parametrize("kind", ["text/plain", "text/vtt; charset=utf-8", "text/html", "application/x-subrip", ""])
def test_plain_transcript_is_a_text_although_it_looks_like_a_number(kind: str) -> None:
    found = read("audio", "42", endpoint="POST /v1/audio/transcriptions", kind=kind)
    assert isinstance(found, Update)
    assert [result.text for result in found.results] == ["42"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", "<html><title>Welcome</title></html>"),
        ("application/json", '{"text": "Hi'),
        ("application/json", "{}"),
        ("", "[1]"),
    ],
    ids=["page", "cut off", "no text", "another document"],
)
def test_page_or_broken_document_is_no_transcript(kind: str, body: str) -> None:
    assert isinstance(read("audio", body, endpoint="POST /v1/audio/transcriptions", kind=kind), Uncertain)


def test_vectors_are_ordered_by_their_index_and_may_be_base64() -> None:
    vectors = [{"index": 1, "embedding": [1, 2.5]}, {"index": 0, "embedding": "AAAAPw=="}]
    found = read("embeddings", {"object": "list", "data": vectors})
    assert isinstance(found, Update)
    assert [(result.kind, result.text) for result in found.results] == [("text", "AAAAPw=="), ("json", "[1,2.5]")]
    assert isinstance(read("embeddings", {"object": "list", "data": [{"index": 0}]}), Uncertain)


def test_response_settles_nothing_while_it_has_no_output() -> None:
    done = {"id": "resp_1", "object": "response", "status": "completed", "output": [{"type": "reasoning"}]}
    found = DIALECTS["openai/responses"].read_status(Reply(200, {}, json.dumps(done).encode()))
    assert (found.state, found.external_id) == (None, "resp_1")


def test_response_whose_id_is_another_is_not_cancelled() -> None:
    one = task("openai/responses")
    dialect: Any = DIALECTS["openai/responses"]
    exchange = dialect.cancel(one)
    call = next(exchange)
    assert (call.endpoint, call.creates) == ("POST /v1/responses/job-1/cancel", False)
    other = {"id": "resp_2", "object": "response", "status": "cancelled"}
    with pytest.raises(UpstreamError, match="about job"):
        exchange.send(Reply(200, {}, json.dumps(other).encode()))


# ── webhooks ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["signed-real", "signed-second-of-two", "signed-unicode-secret"])
def test_signature_is_right_where_openais_sdk_says_so(name: str) -> None:
    import openai  # slow to import

    message = json.loads((RECORDINGS / "webhooks" / f"callback.{name}.json").read_text(encoding="utf-8"))
    headers, body = message["headers"], message["raw_body"].encode()
    sdk = openai.OpenAI(api_key="none", webhook_secret=message["secret"])
    try:
        sdk.webhooks.verify_signature(message["raw_body"], headers, tolerance=10**10)
    finally:
        sdk.close()
    callback = Callback(headers, body, float(headers["webhook-timestamp"]))
    assert DIALECTS["openai/webhooks"].verify_signature(callback, message["secret"]) is True


@pytest.mark.parametrize("message", [{"role": "assistant"}, {"content": 7}, {"content": {"a": 1}}, {"refusal": 9.5}])
def test_picture_chat_without_readable_content_is_uncertain(message: Any) -> None:
    body = {"model": "gpt-4o-image", "choices": [{"message": message, "finish_reason": "stop"}]}
    with pytest.raises(Uncertain):
        DIALECTS["openai/chat"].read_created(Reply(200, body=orjson.dumps(body)))


def test_picture_chat_with_blank_content_has_failed() -> None:
    body = {"model": "gpt-4o-image", "choices": [{"message": {"content": None}, "finish_reason": "stop"}]}
    assert DIALECTS["openai/chat"].read_created(Reply(200, body=orjson.dumps(body))).state is State.FAILED
