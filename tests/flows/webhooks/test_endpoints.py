"""Endpoints by the API: registered with a secret that is shown once, changed, rotated, tested, and hidden from others."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.domain.destination_slots import PER_DESTINATION, Destination
from service.domain.webhook_events import TYPES
from service.flows.webhooks.endpoints import MAX_ENDPOINTS
from service.flows.webhooks.enqueue import endpoint_destination
from service.store.webhooks import endpoints as endpoint_store
from service.store.webhooks.endpoints import Endpoint
from tests.support.clients import ALICE, BOB, bearer
from tests.support.contract import CONTRACT
from tests.support.world import JOB_SECONDS, World
from tests.support.world import TASK_REQUEST as QUIET

TASK_REQUEST = {**QUIET, "input": {"prompt": "a dove"}}
HOOK = "http://client.test/hook"


def answering(world: World, *answers: int) -> list[httpx.Request]:
    """Serve ``client.test`` with each status in turn. The last one repeats."""
    heard: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request)
        return httpx.Response(answers[min(len(heard), len(answers)) - 1], content=words())

    world.edge.hosts["client.test"] = httpx.MockTransport(answer)
    return heard


async def words() -> AsyncIterator[bytes]:
    yield b"thank "
    yield b"you"


async def registered(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await api.post("/v1/endpoints", json={"url": HOOK, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"endpoints/{made['id']}"
    return made


async def kept(world: World, made: dict[str, Any]) -> Endpoint:
    async with world.context.database.reading() as connection:
        found = await endpoint_store.find(connection, UUID(made["id"]), "default")
    assert found is not None
    return found


async def test_registered_endpoint_shows_its_secret_once(world: World, api: httpx.AsyncClient) -> None:
    made = await registered(api, description="the studio", events=["task.failed"], format="cloudevents")
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (await kept(world, made)).secret == secret
    assert (made["description"], made["events"], made["format"]) == ("the studio", ["task.failed"], "cloudevents")
    assert (made["enabled"], made["disabled_reason"], made["failing_since"]) == (True, None, None)
    shown = await api.get(f"/v1/endpoints/{made['id']}")
    assert shown.json() == made
    other = await registered(api)
    listed = await api.get("/v1/endpoints")
    assert [each["id"] for each in listed.json()["endpoints"]] == sorted([made["id"], other["id"]])
    changed = await api.patch(f"/v1/endpoints/{made['id']}", json={"description": "x"})
    for answer in (shown, listed, changed):
        assert secret not in answer.text
        assert '"secret"' not in answer.text


async def test_endpoint_receives_messages_until_it_is_deleted(world: World, api: httpx.AsyncClient) -> None:
    heard = answering(world, 200)
    made = await registered(api, events=["task.running", "task.succeeded"])
    await api.post("/v1/tasks", json=TASK_REQUEST)
    await world.pass_time(JOB_SECONDS * 2)
    sent = [Webhook(made["secret"]).verify(each.content, dict(each.headers)) for each in heard]
    assert [each["type"] for each in sent] == ["task.running", "task.succeeded"]
    history = (await api.get(f"/v1/tasks/{sent[0]['data']['id']}/events")).json()["events"]
    numbers = {each["type"]: each["sequence"] for each in history}
    assert [each["sequence"] for each in sent] == [numbers["running"], numbers["succeeded"]]
    gone = await api.delete(f"/v1/endpoints/{made['id']}")
    assert (gone.status_code, gone.json()["id"]) == (200, made["id"])
    await api.post("/v1/tasks", json=TASK_REQUEST)
    await world.pass_time(JOB_SECONDS * 2)
    assert len(heard) == 2
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate"), ("PATCH", "")):
        answer = await api.request(method, f"/v1/endpoints/{made['id']}{path}", json={"description": "x"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, "url"),
        ({"url": 5}, "url"),
        ({"url": "ftp://x/"}, "url"),
        ({"url": "http://user:password@example.com/"}, "url"),
        ({"url": "http://example.com/\x00"}, "url"),
        ({"url": "http://example.com/a b"}, "url"),
        ({"url": "http://example.com/" + "a" * 2048}, "url"),
        ({"url": HOOK, "events": ["task.done"]}, "events.0"),
        ({"url": HOOK, "events": ["endpoint.test"]}, "events.0"),
        ({"url": HOOK, "events": ["task.failed", "task.failed"]}, "events"),
        ({"url": HOOK, "events": "task.failed"}, "events"),
        ({"url": HOOK, "format": "xml"}, "format"),
        ({"url": HOOK, "callback_format": "kling"}, "callback_format"),
        ({"url": HOOK, "description": "a\x00"}, "description"),
        ({"url": HOOK, "secret": "whsec_mine"}, "secret"),
        ({"url": HOOK, "enabled": False}, "enabled"),
        ([], ""),
    ],
)
async def test_invalid_endpoint_is_refused_with_the_reason(api: httpx.AsyncClient, document: Any, path: str) -> None:
    answer = await api.post("/v1/endpoints", json=document)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert path in [error["path"] for error in answer.json()["errors"]]
    made = await registered(api)
    if document and "enabled" not in document:
        answer = await api.patch(f"/v1/endpoints/{made['id']}", json=document)
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, path)
    assert (await api.patch(f"/v1/endpoints/{made['id']}", json={})).status_code == 422


async def test_endpoint_with_a_private_url_is_refused(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_ALLOW_PRIVATE_WEBHOOKS="false") as world:
        made = await world.client.post("/v1/endpoints", json={"url": "https://example.com/"})
        for url in ("http://127.0.0.1/", "http://localhost/", "http://169.254.169.254/"):
            for method, path in (("POST", ""), ("PATCH", f"/{made.json()['id']}")):
                answer = await world.client.request(method, f"/v1/endpoints{path}", json={"url": url})
                assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "url")


async def test_endpoint_beyond_the_maximum_is_refused(world: World, api: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(api.post("/v1/endpoints", json={"url": HOOK}) for _ in range(MAX_ENDPOINTS + 5)))
    assert sorted(answer.status_code for answer in answers) == [201] * MAX_ENDPOINTS + [409] * 5
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"too_many_endpoints"}
    one = answers[0].json()["id"]
    await api.delete(f"/v1/endpoints/{one}")
    await registered(api)


async def test_changed_endpoint_receives_by_its_new_settings(world: World, api: httpx.AsyncClient) -> None:
    heard = answering(world, 200)
    made = await registered(api, events=["task.failed"])
    elsewhere = {"url": "http://client.test/other", "events": ["task.succeeded"], "format": "cloudevents"}
    world.clock.forward(1)
    changed = (await api.patch(f"/v1/endpoints/{made['id']}", json=elsewhere)).json()
    assert {name: changed[name] for name in elsewhere} == elsewhere
    assert changed["updated_at"] > made["updated_at"]
    await api.post("/v1/tasks", json=TASK_REQUEST)
    await world.pass_time(JOB_SECONDS * 2)
    [request] = heard
    assert (request.url.path, request.headers["content-type"]) == ("/other", "application/cloudevents+json")
    event = Webhook(made["secret"]).verify(request.content, dict(request.headers))
    assert (event["specversion"], event["type"], event["source"]) == ("1.0", "task.succeeded", "http://dovecote.test")


async def test_pending_message_goes_to_the_new_url_of_its_endpoint(world: World, api: httpx.AsyncClient) -> None:
    made = await registered(api, url="http://nowhere.test/", events=["task.succeeded"])
    await api.post("/v1/tasks", json=TASK_REQUEST)
    await world.pass_time(JOB_SECONDS * 2)
    heard = answering(world, 200)
    await api.patch(f"/v1/endpoints/{made['id']}", json={"url": HOOK})
    await world.until(300)
    assert len(heard) == 1


async def test_disabled_endpoint_receives_nothing_until_enabled(world: World, api: httpx.AsyncClient) -> None:
    heard = answering(world, 500, 200)
    made = await registered(api, events=["task.succeeded"])
    await api.post("/v1/tasks", json=TASK_REQUEST)
    await world.pass_time(JOB_SECONDS * 1.5)
    assert len(heard) == 1
    off = (await api.patch(f"/v1/endpoints/{made['id']}", json={"enabled": False})).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "client")
    again = (await api.patch(f"/v1/endpoints/{made['id']}", json={"enabled": False})).json()
    assert again["disabled_at"] == off["disabled_at"]
    await api.post("/v1/tasks", json=TASK_REQUEST)
    await world.until(3600)
    [message] = (await api.get("/v1/messages")).json()["messages"]
    assert (message["state"], message["last_error"]) == (
        "discarded",
        "the endpoint was disabled (client) when the message was due",
    )
    refused = await api.post(f"/v1/messages/{message['id']}/replay")
    assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_disabled")
    assert (await api.post("/v1/messages/replay", json={})).json() == {"replayed": 0, "next": None}
    on = (await api.patch(f"/v1/endpoints/{made['id']}", json={"enabled": True})).json()
    assert (on["enabled"], on["disabled_at"], on["disabled_reason"], on["failing_since"]) == (True, None, None, None)
    assert (await api.post("/v1/messages/replay", json={"endpoint": made["id"]})).json()["replayed"] == 1
    await world.work()
    assert len(heard) == 2
    assert heard[0].headers["webhook-id"] == heard[1].headers["webhook-id"] == message["id"]


# ── rotation and trying ────────────────────────────────────────────────────────────────────────────────────────────


def signers(request: httpx.Request, *secrets: str) -> list[bool]:
    def verifies(secret: str) -> bool:
        try:
            Webhook(secret).verify(request.content, dict(request.headers))
        except WebhookVerificationError:
            return False
        return True

    return [verifies(secret) for secret in secrets]


async def test_both_secrets_sign_for_a_day_after_a_rotation(world: World, api: httpx.AsyncClient) -> None:
    heard = answering(world, 200)
    made = await registered(api)
    rotated = (await api.post(f"/v1/endpoints/{made['id']}/rotate")).json()
    assert rotated["secret"] != made["secret"]
    old, new = made["secret"], rotated["secret"]
    await api.post(f"/v1/endpoints/{made['id']}/test")
    world.clock.forward(24 * 3600 - 1)
    await api.post(f"/v1/endpoints/{made['id']}/test")
    world.clock.forward(1)
    await api.post(f"/v1/endpoints/{made['id']}/test")
    assert [len(each.headers["webhook-signature"].split(" ")) for each in heard] == [2, 2, 1]
    assert signers(heard[0], old, new) == [True, True]
    third = (await api.post(f"/v1/endpoints/{made['id']}/rotate")).json()["secret"]
    world.clock.forward(-24 * 3600)  # the receiver's clock is the real one
    await api.post(f"/v1/endpoints/{made['id']}/test")
    assert signers(heard[3], old, new, third) == [False, True, True]


async def test_test_message_is_sent_at_once_and_its_result_shown(world: World, api: httpx.AsyncClient) -> None:
    heard = answering(world, 200, 410, 500)
    made = await registered(api, events=["task.failed"])
    went = (await api.post(f"/v1/endpoints/{made['id']}/test")).json()
    assert (went["type"], went["state"], went["task_id"]) == ("endpoint.test", "delivered", None)
    assert [(each["status"], each["answer"]) for each in went["deliveries"]] == [(200, "thank you")]
    sent = Webhook(made["secret"]).verify(heard[0].content, dict(heard[0].headers))
    assert (sent["type"], sent["data"]["endpoint_id"], sent) == ("endpoint.test", made["id"], went["body"])
    for state, error in (("discarded", "HTTP 410"), ("exhausted", "HTTP 500")):
        went = (await api.post(f"/v1/endpoints/{made['id']}/test")).json()
        assert (went["state"], went["last_error"], went["next_attempt_at"]) == (state, error, None)
    world.edge.down.add("client.test")
    went = (await api.post(f"/v1/endpoints/{made['id']}/test")).json()
    assert (went["state"], went["last_error"]) == ("exhausted", "ConnectError connection refused")
    world.edge.down.discard("client.test")
    health = (await api.get(f"/v1/endpoints/{made['id']}")).json()
    assert (health["enabled"], health["failing_since"]) == (True, None)
    await api.patch(f"/v1/endpoints/{made['id']}", json={"enabled": False})
    await api.post(f"/v1/endpoints/{made['id']}/test")
    assert len(heard) == 4
    refused = await api.post(f"/v1/messages/{went['id']}/replay")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_replayable")
    assert world.context.destination_slots.idle


async def test_test_message_waits_for_a_free_slot(world: World, api: httpx.AsyncClient) -> None:
    heard = answering(world, 200)
    made = await registered(api)
    destination = Destination("default", endpoint_destination(UUID(made["id"])), "client.test")
    for _ in range(PER_DESTINATION):
        world.context.destination_slots.acquire(destination)
    answer = await api.post(f"/v1/endpoints/{made['id']}/test")
    assert (answer.status_code, answer.json()["state"], heard) == (202, "pending", [])
    for _ in range(PER_DESTINATION):
        world.context.destination_slots.release(destination)
    await world.work()
    message = (await api.get(f"/v1/messages/{answer.json()['id']}")).json()
    assert (message["state"], len(heard)) == ("delivered", 1)


# ── whose ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"alice={ALICE},bob={BOB}") as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        yield world


async def test_endpoints_and_messages_are_visible_to_their_client_only(keyed: World) -> None:
    heard = answering(keyed, 200)
    api, alice, bob = keyed.client, bearer(ALICE), bearer(BOB)
    made = (await api.post("/v1/endpoints", json={"url": HOOK}, headers=alice)).json()
    theirs = (await api.post("/v1/endpoints", json={"url": "http://bob.test/"}, headers=bob)).json()
    await api.post("/v1/tasks", json=TASK_REQUEST, headers=alice)
    await keyed.pass_time(JOB_SECONDS * 2)
    assert len(heard) == 3
    messages = (await api.get("/v1/messages", headers=alice)).json()["messages"]
    assert {each["type"] for each in messages} == {"task.submitted", "task.running", "task.succeeded"}
    assert all(each["endpoint_id"] == made["id"] for each in messages)
    assert (await api.get("/v1/messages", headers=bob)).json() == {"messages": [], "next": None}
    assert [each["id"] for each in (await api.get("/v1/endpoints", headers=bob)).json()["endpoints"]] == [theirs["id"]]
    for query in ({"endpoint": made["id"]}, {"task": messages[0]["task_id"]}):
        assert (await api.get("/v1/messages", headers=bob, params=query)).json()["messages"] == []
    before = (await api.get(f"/v1/endpoints/{made['id']}", headers=alice)).json()
    for method, path in (
        ("GET", f"/v1/endpoints/{made['id']}"),
        ("PATCH", f"/v1/endpoints/{made['id']}"),
        ("DELETE", f"/v1/endpoints/{made['id']}"),
        ("POST", f"/v1/endpoints/{made['id']}/rotate"),
        ("POST", f"/v1/endpoints/{made['id']}/test"),
        ("GET", f"/v1/messages/{messages[0]['id']}"),
        ("POST", f"/v1/messages/{messages[0]['id']}/replay"),
    ):
        answer = await api.request(method, path, headers=bob, json={"enabled": False})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        nowhere = path.replace(made["id"], str(uuid4())).replace(messages[0]["id"], str(uuid4()))
        assert (await api.request(method, nowhere, headers=bob, json={})).json() == answer.json()
    request = {"state": ["delivered"], "endpoint": made["id"]}
    assert (await api.post("/v1/messages/replay", json=request, headers=bob)).json()["replayed"] == 0
    assert (await api.get(f"/v1/endpoints/{made['id']}", headers=alice)).json() == before
    await keyed.work()
    assert len(heard) == 3


async def test_endpoint_can_name_every_type(world: World, api: httpx.AsyncClient) -> None:
    made = await registered(api, events=list(TYPES))
    assert made["events"] == list(TYPES)
    for kind in TYPES:
        assert (await api.get("/v1/messages", params={"type": kind})).status_code == 200
