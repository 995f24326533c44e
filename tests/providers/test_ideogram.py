"""Ideogram: the routes and forms for each generation of models, and answers with refused pictures."""

import dataclasses
import json
from pathlib import Path

import pytest

from service.domain.errors import NotFound, Refused, Unavailable, Uncertain
from service.domain.task import State
from service.providers.registry import DIALECTS
from service.providers.wire import Callback, File, Reply
from tests.support.operations import task

OFFICIAL, AGGREGATOR = DIALECTS["ideogram/official"], DIALECTS["ideogram/aggregator"]
HOOK = "https://dovecote.example/callbacks/a?b"
RECORDED = Path(__file__).parents[1] / "recordings" / "ideogram" / "official" / "callback.signed-completed.json"
PNG = "data:image/png;base64,iVBORw0KGgo="
PICTURE = File("image.png", b"\x89PNG\r\n\x1a\n", "image/png")


def reply(body, status=200):
    return Reply(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def ideogram(operation, dialect="ideogram/official", **given):
    return task(dialect, f"ideogram {operation}", given=given)


@pytest.mark.parametrize(
    ("wanted", "path", "form"),
    [
        (ideogram("text_to_image", prompt="a lighthouse", resolution="2048x2048"), "/v1/ideogram-v4/async/generate",
         {"text_prompt": "a lighthouse", "resolution": "2048x2048"}),
        (ideogram("text_to_image", prompt="a poster", aspect_ratio="16:9", count=2, style="DESIGN", seed=5),
         "/v1/ideogram-v3/generate",
         {"prompt": "a poster", "aspect_ratio": "16x9", "num_images": "2", "style_type": "DESIGN", "seed": "5"}),
        (ideogram("text_to_image", prompt="a poster", model="V_3"), "/v1/ideogram-v3/generate", {"prompt": "a poster"}),
        (ideogram("transparent_image", prompt="a fox"), "/v1/ideogram-v3/generate-transparent", {"prompt": "a fox"}),
        (ideogram("image_to_image", prompt="in snow", image=PNG, image_weight=60, aspect_ratio="4:3"), "/v1/ideogram-v3/remix",
         {"prompt": "in snow", "image": PICTURE, "image_weight": "60", "aspect_ratio": "4x3"}),
        (ideogram("image_to_image", prompt="in snow", image=PNG, model="V_4"), "/v1/ideogram-v4/remix",
         {"text_prompt": "in snow", "image": PICTURE}),
        (ideogram("image_to_image", prompt="at night", image=PNG, model="V_2", aspect_ratio="1:1"), "/remix",
         {"image_request": '{"prompt":"at night","model":"V_2","aspect_ratio":"ASPECT_1_1"}', "image_file": PICTURE}),
        (ideogram("inpaint", prompt="a sofa", image=PNG, mask=PNG), "/v1/ideogram-v3/inpaint",
         {"prompt": "a sofa", "image": PICTURE, "mask": dataclasses.replace(PICTURE, name="mask.png")}),
        (ideogram("inpaint", prompt="a collar", image=PNG, mask=PNG, model="V_2"), "/edit",
         {"prompt": "a collar", "model": "V_2", "image_file": PICTURE, "mask": dataclasses.replace(PICTURE, name="mask.png")}),
        (ideogram("reframe", image=PNG, resolution="1536x640"), "/v1/ideogram-v3/reframe",
         {"image": PICTURE, "resolution": "1536x640"}),
        (ideogram("replace_background", prompt="a beach", image=PNG, magic_prompt="AUTO"), "/v1/ideogram-v3/replace-background",
         {"prompt": "a beach", "image": PICTURE, "magic_prompt": "AUTO"}),
        (ideogram("remove_background", image=PNG), "/v1/remove-background", {"image": PICTURE}),
        (ideogram("edit_image", prompt="red", image=PNG, reference_images=["https://e.test/b.png"]), "/v1/edit",
         {"prompt": "red", "images": [PICTURE], "image_urls": ["https://e.test/b.png"]}),
        (ideogram("image_upscale", image=PNG, resemblance=50), "/upscale",
         {"image_request": '{"resemblance":50}', "image_file": PICTURE}),
        (ideogram("describe", image=PNG, model="V_3"), "/describe",
         {"image_file": PICTURE, "describe_model_version": "V_3"}),
        (ideogram("image_to_image", prompt="x", image=PNG, style_images=[PNG], character_image=PNG), "/v1/ideogram-v3/remix",
         {"prompt": "x", "image": PICTURE, "style_reference_images": [dataclasses.replace(PICTURE, name="style_images.png")],
          "character_reference_images": [dataclasses.replace(PICTURE, name="character_image.png")]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_operation_has_its_route_and_form(wanted, path, form):
    assert OFFICIAL.validate(wanted) == []
    call = OFFICIAL.create(wanted, None)
    assert (call.method, call.path, call.json) == ("POST", path, None)
    assert dict(call.form) == form


def test_older_models_make_pictures_from_words_by_json():
    call = OFFICIAL.create(ideogram("text_to_image", prompt="a boat", model="V_2", aspect_ratio="10:16", count=1), HOOK)
    request = {"prompt": "a boat", "model": "V_2", "aspect_ratio": "ASPECT_10_16", "num_images": 1}
    assert (call.path, call.json, call.form) == ("/generate", {"image_request": request}, None)


def test_callback_url_stands_in_the_query_of_the_asynchronous_route_only():
    call = OFFICIAL.create(ideogram("text_to_image", prompt="x"), HOOK)
    assert call.path == "/v1/ideogram-v4/async/generate?webhook_url=https%3A%2F%2Fdovecote.example%2Fcallbacks%2Fa%3Fb"
    assert OFFICIAL.create(ideogram("text_to_image", prompt="x", model="V_3"), HOOK).path == "/v1/ideogram-v3/generate"
    assert dict(OFFICIAL.authorize(call, "k1").headers) == {"Api-Key": "k1"}


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"prompt": "x", "model": "V_4", "seed": 1, "count": 2}, ["input.count", "input.seed"]),
        ({"prompt": "x", "model": "V_4", "rendering_speed": "FLASH"}, ["input.rendering_speed"]),
        ({"prompt": "x", "model": "dall-e-3"}, ["input.model"]),
        ({"prompt": "x", "aspect_ratio": "7:5"}, ["input.aspect_ratio"]),
        ({"prompt": "x", "aspect_ratio": "1:1", "resolution": "1024x1024"}, ["input.resolution"]),
    ],
)
def test_what_the_pages_rule_out_is_refused(given, paths):
    assert sorted(mistake.path for mistake in OFFICIAL.validate(ideogram("text_to_image", **given))) == paths


def test_gateway_takes_json_without_files_and_a_form_with_them():
    words = AGGREGATOR.create(ideogram("text_to_image", "ideogram/aggregator", prompt="a boat", seed=5), None)
    assert (words.path, words.json) == ("/ideogram/v1/ideogram-v3/generate", {"prompt": "a boat", "seed": 5})
    edit = AGGREGATOR.create(ideogram("inpaint", "ideogram/aggregator", prompt="x", image=PNG, mask=PNG), None)
    assert (edit.path, edit.json) == ("/ideogram/v1/ideogram-v3/edit", None)
    old = AGGREGATOR.create(ideogram("text_to_image", "ideogram/aggregator", prompt="cat", model="V_2_TURBO"), None)
    assert (old.path, old.json) == ("/ideogram/generate", {"image_request": {"prompt": "cat", "model": "V_2_TURBO"}})
    newest = ideogram("text_to_image", "ideogram/aggregator", prompt="x", model="V_4")
    assert [mistake.path for mistake in AGGREGATOR.validate(newest)] == ["input.model"]


# Answers ---------------------------------------------------------------------------------------------------------


def picture(url, **more):
    return {"url": url, "prompt": "x", "resolution": "1024x1024", **more}


@pytest.mark.parametrize(
    ("data", "state", "urls"),
    [
        ([picture("https://e.test/a.png"), picture(None, is_image_safe=False)], State.SUCCEEDED, ["https://e.test/a.png"]),
        ([picture(None, is_image_safe=False), picture("", is_image_safe=False)], State.FAILED, []),
        ([picture("https://e.test/api/images/direct/8YEpFz", is_image_safe=True)], State.SUCCEEDED, ["https://e.test/api/images/direct/8YEpFz"]),
    ],
)  # fmt: skip
def test_refused_pictures_are_told_from_made_ones(data, state, urls):
    for dialect in (OFFICIAL, AGGREGATOR):
        update = dialect.read_created(reply({"created": "2026-11-20", "data": data}))
        assert (update.state, [each.url for each in update.results]) == (state, urls)
        assert (update.failure and update.failure.code) == ("content_policy" if state is State.FAILED else None)


@pytest.mark.parametrize("data", [[], [picture(None)], [picture("")]])
def test_answer_without_pictures_and_without_a_reason_is_uncertain(data):
    with pytest.raises(Uncertain):
        OFFICIAL.read_created(reply({"created": 1, "data": data}))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (422, b"", Refused),
        (503, b"", Uncertain),
        (503, {"error": "something broke"}, Uncertain),
        (503, {"error": "The service is overloaded"}, Unavailable),
        (500, b"", Uncertain),
    ],
)
def test_error_of_a_submit_is_read_by_its_status(status, body, error):
    with pytest.raises(error):
        OFFICIAL.read_created(reply(body, status))


def test_refused_content_and_unknown_generation_are_known_by_the_status_alone():
    with pytest.raises(Refused) as raised:
        OFFICIAL.read_created(reply(b"", 422))
    assert raised.value.code == "content_policy"
    with pytest.raises(NotFound):
        OFFICIAL.read_status(reply(b"", 404))


def test_price_is_in_dollars():
    said = {
        "generation_id": "g1",
        "status": "completed",
        "data": [picture("https://e.test/a.png")],
        "usage_cost_usd_micros": 30000,
    }
    assert OFFICIAL.read_status(reply(said)).cost == 0.03


def test_signature_about_another_generation_is_wrong():
    message = json.loads(RECORDED.read_text(encoding="utf-8"))
    headers, body = message["headers"], message["raw_body"].encode()
    assert OFFICIAL.verify_signature(Callback(headers, body), message["secret"]) is True
    other = {**headers, "X-Ideogram-Webhook-Generation-Id": "another"}
    assert OFFICIAL.verify_signature(Callback(other, body), message["secret"]) is False
    assert OFFICIAL.verify_signature(Callback(headers, body), None) is None


V2 = DIALECTS["ideogram/official-v2"]


def test_version_2_is_asked_to_work_asynchronously():
    wanted = ideogram(
        "text_to_image", "ideogram/official-v2", prompt="a fox", model="V_4_5", aspect_ratio="16:9", count=2
    )
    assert V2.validate(wanted) == []
    assert [each.path for each in OFFICIAL.validate(wanted)] == ["input.model"]
    call = V2.create(wanted, HOOK)
    hook = "https%3A%2F%2Fdovecote.example%2Fcallbacks%2Fa%3Fb"
    assert call.path == f"/v2/image/generate/ideogram-4-5?async=true&webhook_url={hook}"
    assert call.json == {"prompt": "a fox", "aspect_ratio": "16x9", "num_images": 2}
    assert V2.query(dataclasses.replace(wanted, external_id="g/1")).path == "/v2/generations/g%2F1"
    assert V2.facts.experimental


@pytest.mark.parametrize(
    ("operation", "given", "path"),
    [
        ("text_to_image", {"model": "V_2", "rendering_speed": "TURBO"}, "input.rendering_speed"),
        ("text_to_image", {"model": "V_1", "style_images": [PNG]}, "input.style_images"),
        ("text_to_image", {"model": "V_2A", "negative_prompt": "x"}, "input.negative_prompt"),
        ("text_to_image", {"model": "AUTO", "negative_prompt": "x"}, "input.negative_prompt"),
        ("inpaint", {"model": "V_2A", "image": PNG, "mask": PNG}, "input.model"),
        ("inpaint", {"model": "V_1", "image": PNG, "mask": PNG}, "input.model"),
    ],
)
def test_older_model_has_fewer_fields(operation, given, path):
    assert [each.path for each in OFFICIAL.validate(ideogram(operation, prompt="a fox", **given))] == [path]


def test_older_model_keeps_what_it_has():
    wanted = ideogram(
        "text_to_image", prompt="a fox", model="V_2", negative_prompt="x", style="DESIGN", magic_prompt="ON"
    )
    assert OFFICIAL.validate(wanted) == []
