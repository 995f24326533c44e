"""Messages to a callback_url in the forms of other APIs, and the documents that doors share with them."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from standardwebhooks.webhooks import Webhook

from service.domain.task import Failure, Result, State, Task
from service.domain.webhook_events import CALLBACK_FORMATS
from service.flows.webhooks.formats import FORMATS, fal, replicate
from service.flows.webhooks.formats.rebuild import rebuilt
from service.providers.predictions import outputs_of
from tests.support.doors import upstreams
from tests.support.operations import task as example
from tests.support.world import RECEIVER_URL, WEBHOOK_SECRET, World


def ended(state: State = State.SUCCEEDED, *results: Result, **more: Any) -> Task:
    made = example("replicate/official", "replicate run")
    return dataclasses.replace(made, state=state, results=results, finished_at=made.created_at, **more)


OUTPUTS: list[Any] = [
    "https://e.com/a.png",
    ["https://e.com/a.png"],
    ["https://e.com/a.png", "https://e.com/b.png"],
    {"audio": "https://e.com/a.mp3", "images": ["https://e.com/a.png", "https://e.com/b.png"]},
    {"a": {"b": ["x", "y"]}},
    ["Once", " upon", " a time"],
    "a text",
    {"score": 0.5},
    [1, 2],
    7,
]


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_output_of_a_model_keeps_its_form(output: Any) -> None:
    assert rebuilt(outputs_of(output), lambda each: each.url or each.text) == output


@pytest.mark.parametrize(
    ("state", "more", "status", "error"),
    [
        (State.QUEUED, {"finished_at": None}, "starting", None),
        (State.UNCONFIRMED, {"finished_at": None}, "starting", None),
        (State.RUNNING, {"finished_at": None}, "processing", None),
        (State.FAILED, {"failure": Failure("content_policy", "NSFW")}, "failed", "NSFW"),
        (State.EXPIRED, {}, "failed", "the task is expired"),
        (State.CANCELLED, {}, "failed", "the task is cancelled"),
    ],
    ids=str,
)
def test_prediction_shows_the_state(state: State, more: dict[str, Any], status: str, error: str | None) -> None:
    document = replicate.prediction_document(dataclasses.replace(ended(state), **more), "https://d.example")
    assert (document["status"], document["error"], document["output"]) == (status, error, None)


def test_prediction_that_its_client_cancelled_is_canceled() -> None:
    task = ended(State.CANCELLED)
    task = dataclasses.replace(task, cancel_requested_at=task.created_at)
    assert replicate.prediction_document(task, "")["status"] == "canceled"


def test_fal_result_has_files_at_their_places() -> None:
    placed = (
        Result("image", "https://e.com/a.png", item="images/0"),
        Result("image", "https://e.com/m.png", role="extra", item="mask"),
    )
    assert fal.result_document(ended(State.SUCCEEDED, *placed)) == {
        "images": [{"url": "https://e.com/a.png"}],
        "mask": {"url": "https://e.com/m.png"},
    }
    plain = (Result("video", "https://e.com/a.mp4"), Result("image", "https://e.com/c.png", role="cover"))
    assert fal.result_document(ended(State.SUCCEEDED, *plain)) == {"video": {"url": "https://e.com/a.mp4"}}


def test_fal_message_of_a_failure_names_its_type() -> None:
    failed = ended(State.FAILED, failure=Failure("content_policy", "blocked"))
    body = fal.message(failed, "")
    assert (body["status"], body["payload"]["detail"][0]["type"]) == ("ERROR", "content_policy_violation")


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with World.opened(database_url, **upstreams("http://sandbox.test")) as opened:
        opened.edge.hosts["client.test"] = httpx.MockTransport(lambda _: httpx.Response(204))
        yield opened


WITHOUT_RESULTS = {"openai", "suno"}
"""An event of OpenAI's names its object only, and Suno's form has songs only."""


@pytest.mark.parametrize("style", [name for name, write in FORMATS.items() if write is not None])
async def test_message_has_the_form_of_the_api_and_a_valid_signature(world: World, style: str) -> None:
    request = {
        "family": "runway",
        "operation": "text_to_video",
        "input": {"prompt": "a dove"},
        "callback_url": RECEIVER_URL,
        "callback_format": style,
    }
    made = (await world.client.post("/v1/tasks", json=request)).json()
    await world.work()
    await world.pass_time(60, step=5)
    sent = [each for each in world.edge.requests if str(each.url) == RECEIVER_URL]
    assert len(sent) == 1
    headers = {name: value for name, value in sent[0].headers.items() if name.startswith("webhook-")}
    Webhook(WEBHOOK_SECRET).verify(sent[0].content, headers, json_parse=False)
    body = orjson.loads(sent[0].content)
    assert not {"timestamp", "sequence"} <= body.keys(), "this is Dovecote's own form"
    assert made["callback_format"] == style
    task = (await world.client.get(f"/v1/tasks/{made['id']}")).json()
    shown = sent[0].content.decode()
    assert task["results"][0]["url"] in shown or style in WITHOUT_RESULTS


def test_every_form_may_be_stored() -> None:
    assert set(FORMATS) == set(CALLBACK_FORMATS)


def heard_by(world: World, url: str) -> list[Any]:
    return [each for each in world.edge.requests if str(each.url) == url]


HOOK = "http://client.test/hook"
TASK = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}


@pytest.mark.parametrize("style", [name for name, write in FORMATS.items() if write is not None])
async def test_endpoint_gets_the_end_in_its_form(world: World, style: str) -> None:
    made = (await world.client.post("/v1/endpoints", json={"url": HOOK, "callback_format": style})).json()
    other = {"url": "http://client.test/own", "events": ["task.succeeded"]}
    await world.client.post("/v1/endpoints", json=other)
    task = {**TASK, "callback_url": RECEIVER_URL, "callback_format": style}
    await world.client.post("/v1/tasks", json=task)
    await world.work()
    await world.pass_time(60, step=5)
    [sent], [told], [own] = (heard_by(world, each) for each in (HOOK, RECEIVER_URL, other["url"]))
    Webhook(made["secret"]).verify(sent.content, dict(sent.headers), json_parse=False)
    assert (made["callback_format"], sent.content) == (style, told.content)
    assert orjson.loads(own.content)["type"] == "task.succeeded"


async def test_endpoint_gets_the_named_events_in_its_changed_form(world: World) -> None:
    made = (await world.client.post("/v1/endpoints", json={"url": HOOK})).json()
    changes = {"callback_format": "replicate", "events": ["task.running", "task.succeeded"], "format": "cloudevents"}
    changed = await world.client.patch(f"/v1/endpoints/{made['id']}", json=changes)
    assert {name: changed.json()[name] for name in changes} == changes
    await world.client.post("/v1/tasks", json=TASK)
    await world.work()
    await world.pass_time(60, step=5)
    events = [orjson.loads(each.content) for each in heard_by(world, HOOK)]
    assert [(each["type"], each["data"]["status"]) for each in events] == [
        ("task.running", "processing"),
        ("task.succeeded", "succeeded"),
    ]
    assert [each["time"] for each in events] == sorted(each["time"] for each in events)


async def test_message_that_is_pending_when_its_endpoint_changes_its_form_is_sent(world: World) -> None:
    url = "http://nowhere.test/"
    made = (await world.client.post("/v1/endpoints", json={"url": url, "callback_format": "suno"})).json()
    await world.client.post("/v1/tasks", json=TASK)
    await world.work()
    await world.pass_time(60, step=5)
    changes = {"url": HOOK, "callback_format": "dovecote", "format": "cloudevents"}
    await world.client.patch(f"/v1/endpoints/{made['id']}", json=changes)
    await world.until(300)
    [sent] = heard_by(world, HOOK)
    assert "timestamp" not in orjson.loads(sent.content)["data"]


async def test_test_message_has_dovecotes_own_form(world: World) -> None:
    made = (await world.client.post("/v1/endpoints", json={"url": HOOK, "callback_format": "fal"})).json()
    await world.client.post(f"/v1/endpoints/{made['id']}/test")
    [sent] = heard_by(world, HOOK)
    assert orjson.loads(sent.content)["type"] == "endpoint.test"


async def test_form_of_messages_to_operators_is_refused(world: World) -> None:
    wrong = {"url": HOOK, "scope": "admin", "callback_format": "fal"}
    refused = await world.client.post("/v1/endpoints", json=wrong)
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "callback_format")
    made = (await world.client.post("/v1/endpoints", json={**wrong, "callback_format": "dovecote"})).json()
    refused = await world.client.patch(f"/v1/endpoints/{made['id']}", json={"callback_format": "fal"})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "callback_format")


async def test_message_that_would_be_too_large_has_dovecotes_own_form(world: World) -> None:
    from service.flows.webhooks.payload import MAX_BODY, payload_of

    large = ended(State.SUCCEEDED, Result("image", "data:image/png;base64," + "A" * MAX_BODY))
    body = orjson.loads(
        payload_of("task.succeeded", large, large.created_at, sequence=large.sequence, api_url=None, style="replicate")
    )
    assert (body["type"], body["data"]["truncated"]) == ("task.succeeded", True)


async def test_format_without_a_callback_url_is_refused(world: World) -> None:
    request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a"}, "callback_format": "fal"}
    refused = await world.client.post("/v1/tasks", json=request)
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "callback_format")
    unknown = await world.client.post(
        "/v1/tasks", json={**request, "callback_url": RECEIVER_URL, "callback_format": "x"}
    )
    assert unknown.status_code == 422
