"""Replicate, its copies at gateways, and Cog servers: the calls that are sent, and the oddities of the answers."""

import dataclasses
import datetime as dt
import json

import pytest

from service.domain.errors import AccountProblem, Unavailable, Uncertain, UpstreamError
from service.domain.task import Result, State, Update
from service.providers.predictions import outputs_of
from service.providers.registry import DIALECTS
from service.providers.wire import Callback, Reply
from tests.support.operations import NOW, task

HOOK = "https://dovecote.example/callbacks/token"
OFFICIAL, AGGREGATOR, COG = (DIALECTS[f"replicate/{name}"] for name in ("official", "aggregator", "cog"))
VERSION = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b"
RUN = "replicate run"


def reply(body, status=200, **headers):
    return Reply(status, headers, json.dumps(body).encode())


def run(dialect="replicate/official", **given):
    return task(dialect, RUN, given={"input": {"prompt": "a kite"}, **given})


# Calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path", "named"),
    [
        ({"model": "acme/kite"}, "/v1/models/acme/kite/predictions", {}),
        ({"model": f"acme/kite:{VERSION}"}, "/v1/predictions", {"version": VERSION}),
        ({"model": VERSION}, "/v1/predictions", {"version": VERSION}),
        ({"deployment": "acme/app"}, "/v1/deployments/acme/app/predictions", {}),
    ],
    ids=["model", "model with a version", "version", "deployment"],
)
def test_model_decides_the_route(given, path, named):
    wanted = run(**given)
    assert OFFICIAL.validate(wanted) == []
    call = OFFICIAL.create(wanted, HOOK)
    hooks = {"webhook": HOOK, "webhook_events_filter": ["start", "completed"]}
    assert (call.method, call.path, call.json) == ("POST", path, {"input": {"prompt": "a kite"}, **named, **hooks})
    assert OFFICIAL.create(wanted, None).json == {"input": {"prompt": "a kite"}, **named}


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, "input.model"),
        ({"model": "kite"}, "input.model"),
        ({"model": "acme/kite/more"}, "input.model"),
        ({"model": "../kite"}, "input.model"),
        ({"model": "acme/.."}, "input.model"),
        ({"model": "acme/kite?x"}, "input.model"),
        ({"model": "acme/kite", "deployment": "acme/app"}, "input.model"),
        ({"deployment": "app"}, "input.deployment"),
    ],
)
def test_model_that_names_no_route_is_refused(given, path):
    assert [mistake.path for mistake in OFFICIAL.validate(run(**given))] == [path]


@pytest.mark.parametrize("given", [{"model": f"acme/kite:{VERSION}"}, {"model": VERSION}, {"deployment": "acme/app"}])
def test_gateway_refuses_what_its_route_cannot_name(given):
    assert AGGREGATOR.validate(run("replicate/aggregator", **given)) != []


@pytest.mark.parametrize(
    ("model", "image"),
    [
        ("black-forest-labs/flux-kontext-pro", {"input_image": "https://e.test/a.png"}),
        ("black-forest-labs/flux-1.1-pro", {"image_prompt": "https://e.test/a.png"}),
        ("google/nano-banana", {"image_input": ["https://e.test/a.png"]}),
        ("acme/anything", {"image": "https://e.test/a.png"}),
    ],
)
def test_shared_fields_take_the_names_of_the_model(model, image):
    given = {"model": model, "image": "https://e.test/a.png", "prompt": "red", "count": 2, "input": {"go_fast": True}}
    call = OFFICIAL.create(task("replicate/official", "replicate image_to_image", given=given), None)
    assert call.json["input"] == {"prompt": "red", "num_outputs": 2, "go_fast": True, **image}


def test_inline_image_that_is_too_large_is_refused():
    given = {"model": "acme/kite", "image": "data:image/png;base64," + "A" * 400_000}
    wanted = task("replicate/official", "replicate image_to_image", given=given)
    assert [mistake.path for mistake in OFFICIAL.validate(wanted)] == ["input.image"]


def test_training_names_its_version_in_the_path_and_is_asked_for_by_its_own_route():
    given = {"model": f"acme/kite:{VERSION}", "destination": "acme/mine", "input": {"zip": "https://e.test/z.zip"}}
    wanted = task("replicate/official", "replicate train", given=given)
    call = OFFICIAL.create(wanted, None)
    assert call.path == f"/v1/models/acme/kite/versions/{VERSION}/trainings"
    assert call.json == {"destination": "acme/mine", "input": {"zip": "https://e.test/z.zip"}}
    assert OFFICIAL.query(wanted).path == "/v1/trainings/job-1"
    assert next(OFFICIAL.cancel(wanted)).path == "/v1/trainings/job-1/cancel"
    lacking = dataclasses.replace(wanted, input={**given, "model": "acme/kite"})
    assert [mistake.path for mistake in OFFICIAL.validate(lacking)] == ["input.model"]


def test_upload_is_a_form_whose_answer_is_the_file():
    wanted = task("replicate/official", "replicate upload", given={"file": "data:image/png;base64,iVBORw0KGgo="})
    call = next(OFFICIAL.submit(wanted, None))
    assert (call.path, call.creates) == ("/v1/files", False)
    assert call.form["content"].content_type == "image/png"
    urls = {"get": "https://api.replicate.com/v1/files/f1"}
    said = {"id": "f1", "content_type": "image/png", "size": 68, "urls": urls, "expires_at": "2026-11-21T10:00:00Z"}
    until = dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC)
    update = OFFICIAL.read_created(reply(said, 201))
    assert update == Update(state=State.SUCCEEDED, results=(Result("image", urls["get"], expires_at=until),))


def test_urls_of_an_answer_are_never_called():
    """They are Replicate's, also in a gateway's answer: its key would leave the gateway."""
    said = {
        "id": "p1",
        "status": "processing",
        "urls": {"get": "https://evil.test/p1", "cancel": "https://evil.test/c"},
    }
    for dialect in (OFFICIAL, AGGREGATOR):
        wanted = dataclasses.replace(run(), external_id="a/../b?c")
        paths = [dialect.query(wanted).path]
        exchange = dialect.poll(dataclasses.replace(wanted, external_id="p1"))
        next(exchange)
        with pytest.raises(StopIteration):
            exchange.send(reply(said))
        assert all(path.endswith("/predictions/a%2F..%2Fb%3Fc") for path in paths)


# Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "results"),
    [
        ("https://e.test/a.mp4", [("video", "https://e.test/a.mp4")]),
        (
            ["https://e.test/a.png", "https://e.test/b"],
            [("image", "https://e.test/a.png"), ("image", "https://e.test/b")],
        ),
        (["Hel", "lo ", " ", "all"], [("text", "Hel"), ("text", "lo "), ("text", " "), ("text", "all")]),
        ({"audio": "https://e.test/a.mp3", "score": 0.5, "none": None}, [("audio", "https://e.test/a.mp3")]),
        (
            {"frames": ["https://e.test/1.png"], "text": "two birds"},
            [("image", "https://e.test/1.png"), ("text", "two birds")],
        ),
        (["x"] * 500, [("text", "x" * 500)]),
        ({"score": 0.5}, [("json", '{"score":0.5}')]),
        (7, [("json", "7")]),
        (False, [("json", "false")]),
        (None, []),
        ("", []),
        ([], []),
        ([None], []),
        ({"a": None}, []),
    ],
    ids=repr,
)
def test_outputs_of_every_type_are_read(output, results):
    assert [(each.kind, each.url or each.text) for each in outputs_of(output)] == results


@pytest.mark.parametrize("said", [{"output": None}, {"output": []}, {}, {"output": 7, "data_removed": True}])
def test_success_without_an_output_settles_nothing(said):
    for dialect in (OFFICIAL, AGGREGATOR, COG):
        update = dialect.read_created(reply({"id": "p1", "status": "succeeded", **said}))
        assert update == Update(external_id="p1")


def test_prediction_without_a_status_is_no_uploaded_file():
    said = {
        "id": "p1",
        "model": "acme/kite",
        "input": {},
        "urls": {"get": "https://api.replicate.com/v1/predictions/p1"},
    }
    with pytest.raises(Uncertain):
        OFFICIAL.read_created(reply(said, 201))


def test_throttle_that_speaks_of_credit_is_no_lack_of_credit():
    text = "Request was throttled. Your rate limit is reduced while you have less than $5.0 in credit."
    with pytest.raises(Unavailable) as raised:
        OFFICIAL.read_created(reply({"detail": text, "status": 429}, 429, **{"retry-after": "7"}))
    assert (raised.value.code, raised.value.retry_after) == ("rate_limited", 7.0)


def test_invalid_fields_are_named():
    issue = {"type": "enum", "field": "input.aspect_ratio", "description": "must be one of 1:1"}
    with pytest.raises(UpstreamError) as raised:
        OFFICIAL.read_created(
            reply({"title": "Input validation failed", "detail": "- x", "invalid_fields": [issue]}, 422)
        )
    assert raised.value.details == ("input.aspect_ratio: must be one of 1:1",)


# The list --------------------------------------------------------------------------------------------------------


def test_lost_job_is_searched_page_by_page():
    wanted = dataclasses.replace(run(model=f"acme/kite:{VERSION}"), unconfirmed_since=NOW)
    exchange = OFFICIAL.find_lost_jobs(wanted)
    first = next(exchange)
    assert "created_after=2026-05-01T11%3A45" in first.path
    row = {"id": "p1", "created_at": NOW.isoformat(), "version": VERSION}
    other = {"id": "p2", "created_at": NOW.isoformat(), "version": "f" * 64}
    hidden = {"id": "p3", "created_at": NOW.isoformat(), "version": "hidden"}
    page = {"next": "https://evil.test/v1/predictions?cursor=c2", "results": [row, {"id": "p4"}, None]}
    assert exchange.send(reply(page)).path == "/v1/predictions?cursor=c2"
    with pytest.raises(StopIteration) as done:
        exchange.send(reply({"next": None, "results": [other, hidden]}))
    listed = done.value.value
    assert [each.external_id for each in listed] == ["p1", "p2", "p3"]
    assert [each.may_be(wanted) for each in listed] == [True, False, True]
    assert all(each.may_be(run(model="acme/kite")) for each in listed)


def test_list_without_an_end_proves_nothing():
    exchange = OFFICIAL.find_lost_jobs(run(model="acme/kite"))
    next(exchange)
    page = reply({"next": "https://e.test/?cursor=on", "results": []})
    for _ in range(19):
        exchange.send(page)
    with pytest.raises(UpstreamError):
        exchange.send(page)


# Cog -------------------------------------------------------------------------------------------------------------


def test_cog_is_called_asynchronously_with_a_callback_and_synchronously_without():
    wanted = run("replicate/cog")
    call, path = COG.create(wanted, HOOK), f"/predictions/{wanted.id}"
    assert (call.method, call.path, dict(call.headers)) == ("PUT", path, {"Prefer": "respond-async"})
    assert call.json["webhook"] == HOOK
    call = COG.create(wanted, None)
    assert (call.headers, call.json) == ({}, {"input": {"prompt": "a kite"}})


@pytest.mark.parametrize(
    ("status", "words"), [("READY", "awaited"), ("busy", "awaited"), ("UNHEALTHY", "UNHEALTHY"), ("DEFUNCT", "DEFUNCT")]
)
def test_poll_of_a_cog_server_says_why_nothing_is_known(status, words):
    health = reply({"status": status, "setup": {"status": "succeeded"}})
    assert COG.read_status(health) == Update()
    exchange = COG.poll(run("replicate/cog"))
    assert next(exchange).path == "/health-check"
    with pytest.raises(Unavailable, match=words):
        exchange.send(health)


def test_busy_cog_server_has_created_nothing():
    said = {"error": "At capacity - all prediction slots busy", "status": "failed"}
    with pytest.raises(Unavailable):
        COG.read_created(reply(said, 409))
    with pytest.raises(AccountProblem):
        COG.read_status(Reply(405, {}, b""))


@pytest.mark.parametrize("status", [200, 404])
def test_cancel_at_a_cog_server_decides_nothing(status):
    exchange = COG.cancel(run("replicate/cog"))
    next(exchange)
    with pytest.raises(StopIteration) as done:
        exchange.send(reply({}, status))
    assert done.value.value == Update()
    with pytest.raises(UpstreamError):
        COG.read_cancelled(Reply(502, {}, b"<html>"))


def test_callback_that_is_no_prediction_is_unreadable():
    for dialect in (OFFICIAL, AGGREGATOR, COG):
        with pytest.raises(UpstreamError):
            dialect.read_callback(Callback({}, b'{"detail": "gone"}'))
