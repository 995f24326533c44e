"""Flux: the bodies for each model, where a key goes, and the oddities of BFL's answers."""

import dataclasses
import json

import pytest

from service.domain.errors import Unavailable, Uncertain, UpstreamError
from service.domain.task import State
from service.providers.flux.family import size_of
from service.providers.registry import DIALECTS
from service.providers.wire import Reply
from tests.support.operations import task

OFFICIAL, AGGREGATOR = DIALECTS["flux/official"], DIALECTS["flux/aggregator"]
HOOK = "https://dovecote.example/callbacks/token"
A, B = "https://e.test/a.png", "https://e.test/b.png"


def reply(body, status=200, **headers):
    return Reply(status, headers, json.dumps(body).encode())


def flux(operation, dialect="flux/official", **given):
    return task(dialect, f"flux {operation}", given=given)


@pytest.mark.parametrize(
    ("wanted", "path", "body"),
    [
        (flux("text_to_image", prompt="a kite", aspect_ratio="16:9", seed=7), "/v1/flux-2-pro",
         {"prompt": "a kite", "width": 1376, "height": 768, "seed": 7}),
        (flux("text_to_image", prompt="a kite", aspect_ratio="16:9", model="flux-pro-1.1-ultra"), "/v1/flux-pro-1.1-ultra",
         {"prompt": "a kite", "aspect_ratio": "16:9"}),
        (flux("text_to_image", prompt="a lake", model="flux-pro-1.1-ultra-finetuned", finetune="f1", strength=1.2),
         "/v1/flux-pro-1.1-ultra-finetuned", {"prompt": "a lake", "finetune_id": "f1", "finetune_strength": 1.2}),
        (flux("image_to_image", prompt="mix", image=A, reference_images=[B, "data:image/png;base64,QUJD"]), "/v1/flux-2-pro",
         {"prompt": "mix", "input_image": A, "input_image_2": B, "input_image_3": "QUJD"}),
        (flux("image_to_image", prompt="mix", image=A, model="flux-pro-1.1"), "/v1/flux-pro-1.1",
         {"prompt": "mix", "image_prompt": A}),
        (flux("inpaint", image="data:image/png;base64,QUJD", mask="data:image/png;base64,QUJE", prompt="a print"),
         "/v1/flux-pro-1.0-fill", {"image": "QUJD", "mask": "QUJE", "prompt": "a print"}),
        (flux("outpaint", image=A, left=256, right=128), "/v1/flux-pro-1.0-expand", {"image": A, "left": 256, "right": 128}),
        (flux("erase", image=A, mask=B, grow=10), "/v1/flux-tools/erase-v1", {"image": A, "mask": B, "dilate_pixels": 10}),
        (flux("text_to_video", prompt="a kite", duration=8.0, resolution="720p", aspect_ratio="16:9"), "/v1/flux-3-video",
         {"mode": "t2v", "prompt": "a kite", "duration": 8, "resolution": "hd", "aspect_ratio": "16:9"}),
        (flux("image_to_video", prompt="it lands", image=A, last_image=B, duration=6), "/v1/flux-3-video",
         {"mode": "i2v", "prompt": "it lands", "keyframes": [A, B], "duration": 6}),
        (flux("image_to_video", image=A), "/v1/flux-3-video", {"mode": "i2v", "keyframes": A}),
        (flux("video_to_video", video="https://e.test/v.mp4", prompt="snow"), "/v1/flux-3-video",
         {"mode": "v2v", "start_video": "https://e.test/v.mp4", "prompt": "snow"}),
        (flux("enhance_draft", draft_cache="https://e.test/d.bin"), "/v1/flux-3-video",
         {"mode": "draft_enhance", "draft_cache": "https://e.test/d.bin"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_model_has_its_route_and_fields(wanted, path, body):
    assert OFFICIAL.validate(wanted) == []
    call = OFFICIAL.create(wanted, HOOK)
    assert (call.path, call.json) == (path, {**body, "webhook_url": HOOK})


@pytest.mark.parametrize("ratio", ["1:1", "16:9", "9:16", "4:3", "21:9", "3:1", "1:3", "99999:1"])
def test_size_is_in_steps_and_in_the_limits_of_every_model(ratio):
    for side in size_of(ratio):
        assert side % 32 == 0
        assert 256 <= side <= 1440


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (flux("text_to_image", prompt="x", model="../v1/credits"), "input.model"),
        (flux("text_to_image", prompt="x", model="flux-2-pro?x=1"), "input.model"),
        (flux("text_to_image", prompt="x", finetune="f1"), "input.finetune"),
        (flux("text_to_image", prompt="x", aspect_ratio="1:1", width=512), "input.aspect_ratio"),
        (flux("text_to_video", prompt="x", duration=3), "input.duration"),
        (flux("text_to_video", prompt="x", duration=5.5), "input.duration"),
        (
            flux("image_to_image", prompt="x", image=A, reference_images=[B], model="flux-pro-1.1"),
            "input.reference_images",
        ),
        (flux("image_to_image", prompt="x", image="data:image/png,plain"), "input.image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_pages_rule_out_is_refused(wanted, path):
    assert [mistake.path for mistake in OFFICIAL.validate(wanted)] == [path]


def test_key_goes_into_the_header_of_each_host():
    call = OFFICIAL.create(flux("text_to_image", prompt="x"), None)
    assert dict(OFFICIAL.authorize(call, "bfl_1").headers) == {"x-key": "bfl_1"}
    assert dict(AGGREGATOR.authorize(call, "sk-1").headers) == {"Authorization": "Bearer sk-1"}


@pytest.mark.parametrize(
    ("polling_url", "host"),
    [
        ("https://api.us3.bfl.ai/v1/get_result?id=j1", "api.us3.bfl.ai"),
        ("https://API.EU2.BFL.AI/v1/get_result", "api.eu2.bfl.ai"),
        ("http://api.us3.bfl.ai/v1/get_result?id=j1", None),
        ("https://api.us3.bfl.ai:8443/v1/get_result", None),
        ("https://key@api.us3.bfl.ai/v1/get_result", None),
        ("https://api.bfl.ai.evil.test/v1/get_result", None),
        ("https://evilbfl.ai/v1/get_result", None),
        ("https://[::1/", None),
        (None, None),
        (7, None),
    ],
)
def test_polling_url_names_a_region_of_bfl_and_no_other_host(polling_url, host):
    update = OFFICIAL.read_created(reply({"id": "j1", "polling_url": polling_url}))
    assert update.job_host == host
    wanted = dataclasses.replace(flux("text_to_image", prompt="x"), external_id="j1", job_host=update.job_host)
    call = OFFICIAL.query(wanted)
    assert (call.host, call.path) == (host, "/v1/get_result?id=j1")


def test_polling_url_of_an_answer_is_never_called():
    said = {"id": "j1", "polling_url": "https://evil.test/v1/get_result?id=j1"}
    for dialect, path in ((OFFICIAL, "/v1/get_result?id=j1"), (AGGREGATOR, "/flux/v1/get_result?id=j1")):
        update = dialect.read_created(reply(said))
        wanted = dataclasses.replace(flux("text_to_image", prompt="x"), external_id=update.external_id)
        assert dialect.query(wanted).path == path
        assert update.state is State.SUBMITTED


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": "service_unavailable", "message": "The service is temporarily overloaded"}, Unavailable),
        ({"detail": "worker crashed"}, Uncertain),
    ],
)
def test_503_proves_that_nothing_was_created_only_where_it_speaks_of_load(body, error):
    with pytest.raises(error):
        OFFICIAL.read_created(reply(body, 503))
    with pytest.raises(Unavailable):
        OFFICIAL.read_status(reply(body, 503))


def test_wait_that_the_body_states_is_read():
    with pytest.raises(Unavailable) as raised:
        OFFICIAL.read_created(reply({"error": "rate_limit_exceeded", "message": "Too many", "retry_after": 5}, 429))
    assert raised.value.retry_after == 5


def test_mistakes_are_named_with_their_place():
    detail = [{"loc": ["body", "width"], "msg": "must be a multiple of 32", "type": "multiple_of"}]
    with pytest.raises(UpstreamError) as raised:
        OFFICIAL.read_created(reply({"detail": detail}, 422))
    assert raised.value.details == ("width: must be a multiple of 32",)


def test_preview_and_draft_are_no_results():
    preview = OFFICIAL.read_status(reply({"id": "j1", "status": "Generating", "preview": {"sample": A}}))
    assert [each.role for each in preview.results] == ["preview"]
    made = {"sample": "https://e.test/a.mp4", "draft_cache": "https://e.test/d.bin"}
    ready = OFFICIAL.read_status(reply({"id": "j1", "status": "Ready", "result": made}))
    assert [each.role for each in ready.results] == ["result", "extra"]


@pytest.mark.parametrize("dialect", ["replicate/official", "replicate/aggregator"])
def test_flux_is_served_as_a_model_of_replicate(dialect):
    served = DIALECTS[dialect]
    wanted = flux("text_to_image", dialect, prompt="x", model="flux-pro-1.1", seed=1)
    assert served.validate(wanted) == []
    call = served.create(wanted, None)
    assert call.path.endswith("/v1/models/black-forest-labs/flux-1.1-pro/predictions")
    assert call.json == {"input": {"prompt": "x", "seed": 1}}
    edited = flux("image_to_image", dialect, prompt="x", image=A)
    assert served.create(edited, None).json == {"input": {"prompt": "x", "input_image": A}}
    assert not served.offers("flux", "erase")
    unknown = flux("text_to_image", dialect, prompt="x", finetune="f1", model="flux-2-pro")
    assert [mistake.path for mistake in served.validate(unknown)] == ["input.finetune"]


@pytest.mark.parametrize(
    ("family", "given", "model", "body"),
    [
        (
            "ideogram",
            {"prompt": "x", "aspect_ratio": "16:9"},
            "ideogram-ai/ideogram-v3-turbo",
            {"prompt": "x", "aspect_ratio": "16:9"},
        ),
        ("ideogram", {"prompt": "x", "model": "V_2"}, "ideogram-ai/ideogram-v2", {"prompt": "x"}),
        (
            "recraft",
            {"prompt": "x", "resolution": "1024x1024"},
            "recraft-ai/recraft-v3",
            {"prompt": "x", "size": "1024x1024"},
        ),
        ("recraft", {"prompt": "x", "model": "recraftv3_vector"}, "recraft-ai/recraft-v3-svg", {"prompt": "x"}),
    ],
)
def test_ideogram_and_recraft_are_served_as_models_of_replicate(family, given, model, body):
    served = DIALECTS["replicate/aggregator"]
    wanted = task("replicate/aggregator", f"{family} text_to_image", given=given)
    assert served.validate(wanted) == []
    call = served.create(wanted, None)
    assert (call.path, call.json) == (f"/replicate/v1/models/{model}/predictions", {"input": body})
