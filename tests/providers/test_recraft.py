"""Recraft: the routes and bodies of every operation, and answers of every shape."""

import base64
import json

import pytest

from service.domain.errors import AccountProblem, Refused, Uncertain
from service.domain.task import State
from service.providers.registry import DIALECTS
from service.providers.wire import File, Reply
from tests.support.operations import task

OFFICIAL, AGGREGATOR = DIALECTS["recraft/official"], DIALECTS["recraft/aggregator"]
PNG = "data:image/png;base64,iVBORw0KGgo="
URL, MASK = "https://e.test/a.png", "https://e.test/m.png"


def picture(stem):
    return File(f"{stem}.png", b"\x89PNG\r\n\x1a\n", "image/png")


def reply(body, status=200, endpoint="POST /v1/images/generations"):
    return Reply(status, {}, json.dumps(body).encode(), endpoint)


def recraft(operation, dialect="recraft/official", **given):
    return task(dialect, f"recraft {operation}", given=given)


@pytest.mark.parametrize(
    ("wanted", "path", "body"),
    [
        (recraft("text_to_image", prompt="a fox", model="recraftv4_1", aspect_ratio="1:1", count=2, seed=3), "/v1/images/generations",
         {"prompt": "a fox", "model": "recraftv4_1", "size": "1:1", "n": 2, "random_seed": 3}),
        (recraft("image_to_image", prompt="winter", image=URL, strength=0.2), "/v1/images/imageToImage",
         {"prompt": "winter", "image_url": URL, "strength": 0.2}),
        (recraft("inpaint", prompt="x", image=URL, mask=MASK), "/v1/images/inpaint",
         {"prompt": "x", "image_url": URL, "mask_url": MASK}),
        (recraft("outpaint", image=URL, left=100, zoom=50), "/v1/images/outpaint",
         {"image_url": URL, "expand_left": 100, "zoom_out_percentage": 50}),
        (recraft("replace_background", prompt="x", image=URL), "/v1/images/replaceBackground", {"prompt": "x", "image_url": URL}),
        (recraft("generate_background", prompt="x", image=URL, mask=MASK), "/v1/images/generateBackground",
         {"prompt": "x", "image_url": URL, "mask_url": MASK}),
        (recraft("remove_background", image=URL), "/v1/images/removeBackground", {"image_url": URL}),
        (recraft("erase", image=URL, mask=MASK), "/v1/images/eraseRegion", {"image_url": URL, "mask_url": MASK}),
        (recraft("vectorize", image=URL), "/v1/images/vectorize", {"image_url": URL}),
        (recraft("image_upscale", image=URL), "/v1/images/crispUpscale", {"image_url": URL}),
        (recraft("image_upscale", image=URL, mode="creative"), "/v1/images/creativeUpscale", {"image_url": URL}),
        (recraft("remix", image=URL, aspect_ratio="16:9"), "/v1/images/variateImage", {"image_url": URL, "size": "16:9"}),
        (recraft("explore", prompt="x"), "/v1/images/explore", {"prompt": "x"}),
        (recraft("explore_similar", source="i1", similarity=3), "/v1/images/explore/similar",
         {"source_image_id": "i1", "similarity": 3}),
        (recraft("create_style", style="icon", images=[URL]), "/v1/styles", {"style": "icon", "image_urls": [URL]}),
        (recraft("enhance_prompt", prompt="x"), "/v1/prompts/enhance", {"prompt": "x"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_operation_has_its_route_and_body(wanted, path, body):
    assert OFFICIAL.validate(wanted) == []
    call = OFFICIAL.create(wanted, None)
    assert (call.method, call.path, call.json, call.form) == ("POST", path, body, None)


@pytest.mark.parametrize(
    ("wanted", "form"),
    [
        (recraft("vectorize", image=PNG), {"file": picture("image")}),
        (recraft("image_to_image", prompt="x", image=PNG, strength=0.2), {"prompt": "x", "strength": "0.2", "image": picture("image")}),
        (recraft("erase", image=PNG, mask=PNG), {"image": picture("image"), "mask": picture("mask")}),
        (recraft("create_style", style="icon", images=[PNG, PNG]), {"style": "icon", "file1": picture("style-1"), "file2": picture("style-2")}),
    ],
)  # fmt: skip
def test_media_that_are_given_whole_are_files_of_a_form(wanted, form):
    assert OFFICIAL.validate(wanted) == []
    assert dict(OFFICIAL.create(wanted, None).form) == form


def test_styles_are_listed_and_bought_from_nobody():
    call = next(OFFICIAL.submit(recraft("list_styles"), None))
    assert (call.method, call.path, call.creates) == ("GET", "/v1/styles", False)


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (recraft("inpaint", prompt="x", image=PNG, mask=MASK), "input.image"),
        (recraft("text_to_image", prompt="x", style="icon", style_id="s1"), "input.style_id"),
        (recraft("text_to_image", prompt="x", aspect_ratio="1:1", resolution="1024x1024"), "input.resolution"),
        (recraft("text_to_image", prompt="x", model="recraftv4_1", negative_prompt="blur"), "input.negative_prompt"),
    ],
)
def test_what_the_pages_rule_out_is_refused(wanted, path):
    assert [mistake.path for mistake in OFFICIAL.validate(wanted)] == [path]


def test_gateway_has_names_of_its_own():
    crisp = AGGREGATOR.create(recraft("image_upscale", "recraft/aggregator", image=PNG), None)
    assert (crisp.path, dict(crisp.form)) == ("/recraft/v1/images/clarityUpscale", {"file": picture("file")})
    creative = AGGREGATOR.create(recraft("image_upscale", "recraft/aggregator", image=PNG, mode="creative"), None)
    assert creative.path == "/recraft/v1/images/generativeUpscale"
    words = AGGREGATOR.create(recraft("text_to_image", "recraft/aggregator", prompt="x"), None)
    assert (words.path, words.json) == ("/recraft/v1/images/generations", {"prompt": "x"})


SVG, WEBP = b'<svg xmlns="http://www.w3.org/2000/svg"/>', b"RIFF\x12\x00\x00\x00WEBPstand-in"


@pytest.mark.parametrize(
    ("said", "urls"),
    [
        ({"data": [{"url": URL}, {"url": None}, {"url": MASK}]}, [URL, MASK]),
        ({"image": {"url": URL}}, [URL]),
        ({"data": [], "image": [{"url": URL}], "metadata": {}}, [URL]),
        ({"data": [{"url": URL}], "image": []}, [URL]),
        ({"url": URL}, [URL]),
        ({"data": [{"b64_json": base64.b64encode(WEBP).decode()}]}, ["data:image/webp;base64," + base64.b64encode(WEBP).decode()]),
        ({"image": {"b64_json": base64.b64encode(SVG).decode()}}, ["data:image/svg+xml;base64," + base64.b64encode(SVG).decode()]),
        ({"data": [{"b64_json": "AAAA"}]}, ["data:image/png;base64,AAAA"]),
    ],
)  # fmt: skip
def test_pictures_of_every_shape_are_read(said, urls):
    update = OFFICIAL.read_created(reply({**said, "credits": 40}))
    assert (update.state, update.cost) == (State.SUCCEEDED, 40)
    assert [each.url for each in update.results] == urls
    assert {each.kind for each in update.results} == {"image"}


@pytest.mark.parametrize(
    ("said", "endpoint", "texts"),
    [
        ({"id": "s1", "style": "icon"}, "POST /v1/styles", ["s1"]),
        ({"styles": [{"id": "s1"}, {"id": "s2"}]}, "GET /v1/styles", ["s1", "s2"]),
        ({"enhanced_prompt": "a red fox", "credits": 1}, "POST /v1/prompts/enhance", ["a red fox"]),
    ],
)
def test_texts_are_read(said, endpoint, texts):
    update = OFFICIAL.read_created(reply(said, endpoint=endpoint))
    assert [each.text for each in update.results] == texts


@pytest.mark.parametrize("said", [{}, {"data": []}, {"image": {}}, {"id": "x"}, {"data": [{"b64_json": ""}]}])
def test_answer_without_a_result_is_uncertain(said):
    with pytest.raises(Uncertain):
        OFFICIAL.read_created(reply(said))


@pytest.mark.parametrize(
    ("code", "error", "read_as"),
    [
        ("nsfw_content", Refused, "content_policy"),
        ("not_enough_credits", AccountProblem, "insufficient_credit"),
        ("invalid_request", Refused, "invalid_input"),
    ],
)
def test_code_of_an_error_counts_where_its_text_says_nothing(code, error, read_as):
    with pytest.raises(error) as raised:
        OFFICIAL.read_created(reply({"code": code, "message": "the request was not served"}, 400))
    assert raised.value.code == read_as
