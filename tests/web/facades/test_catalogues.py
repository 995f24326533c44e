"""What SDKs read besides their jobs: Replicate's models, deployments and files; fal's storage, streams and proxy."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.clients import ALICE, BOB
from tests.support.doors import DOORS, upstreams
from tests.support.world import World

KEY = {"Authorization": f"Bearer {ALICE}"}
STRANGER = {"Authorization": f"Bearer {BOB}"}
PNG = b"\x89PNG\r\n\x1a\n bytes"
APP = "/fal/fal-run/fal-ai/flux/dev"
EVENTS = {**KEY, "Accept": "text/event-stream"}


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    settings = {f"DOVECOTE_DOORS__{name}": "true" for name in DOORS}
    settings["DOVECOTE_PUBLIC_URL"] = "https://dovecote.example.com"  # media links need https
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB}"}
    async with World.opened(sqlite_url, **settings, **keys, **upstreams("http://sandbox.test")) as opened:
        yield opened


async def get(world: World, path: str, headers: dict[str, str] = KEY) -> httpx.Response:
    return await world.client.get(f"/replicate{path}", headers=headers)


def proxied(host: str, path: str) -> dict[str, str]:
    return {**KEY, "x-fal-target-url": f"https://{host}{path}"}


async def test_model_and_deployment_are_shown_so_that_they_can_be_run(world: World) -> None:
    model = (await get(world, "/v1/models/acme/doves")).json()
    assert (model["owner"], model["name"], model["latest_version"]) == ("acme", "doves", None)
    assert (await get(world, "/v1/models/acme/doves/versions/v1")).json()["id"] == "v1"
    deployment = (await get(world, "/v1/deployments/acme/fast")).json()
    assert (deployment["owner"], deployment["name"]) == ("acme", "fast")
    for path in ("/v1/models", "/v1/deployments"):
        assert (await get(world, path)).json() == {"previous": None, "next": None, "results": []}


@pytest.mark.parametrize("path", ["/v1/models/a/b/versions", "/v1/hardware", "/v1/collections", "/v1/trainings"])
async def test_what_is_not_known_is_refused_in_the_form_of_the_api(world: World, path: str) -> None:
    answer = await get(world, path)
    assert (answer.status_code, sorted(answer.json())) == (404, ["detail", "status", "title", "type"])


@pytest.mark.parametrize("method", ["QUERY", "PATCH", "TRACE", "NEWER"])
async def test_method_without_a_route_is_refused_in_the_form_of_the_api(world: World, method: str) -> None:
    answer = await world.client.request(method, "/replicate/v1/models", headers=KEY)
    assert (answer.status_code, answer.json()["status"]) == (404, 404)


async def test_models_are_unknown_without_an_upstream(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, DOVECOTE_DOORS__REPLICATE="true") as world:
        answer = await world.client.get("/replicate/v1/models/acme/doves")
        assert answer.status_code == 404
        assert "upstream" in answer.json()["detail"]


async def test_files_are_listed_read_and_deleted_by_their_client_only(world: World) -> None:
    form = {"content": ("a.png", PNG, "image/png")}
    made = (await world.client.post("/replicate/v1/files", files=form, headers=KEY)).json()
    path = f"/v1/files/{made['id']}"
    assert made["urls"]["get"].endswith(f"/replicate{path}")
    assert (await get(world, path)).json() == made
    assert [each["id"] for each in (await get(world, "/v1/files")).json()["results"]] == [made["id"]]
    assert (await get(world, "/v1/files", STRANGER)).json()["results"] == []
    assert (await get(world, path, STRANGER)).status_code == 404
    assert (await world.client.delete(f"/replicate{path}", headers=STRANGER)).status_code == 404
    assert (await world.client.delete(f"/replicate{path}", headers=KEY)).status_code == 204
    for odd in (path, "/v1/files/x", "/v1/files/upl_" + "7" * 26):
        assert (await get(world, odd)).status_code == 404


async def test_file_of_fals_storage_stands_in_an_input(world: World) -> None:
    said = {"content_type": "image/png", "file_name": "../ä b.png"}
    headers = proxied("rest.fal.ai", "/storage/upload/initiate?storage_type=fal-cdn-v3")
    for answer in (
        await world.client.post("/fal/fal-proxy", json=said, headers=headers),
        await world.client.post("/fal/storage/upload/initiate", json=said, headers=KEY),
    ):
        begun = answer.json()
        address = begun["upload_url"].removeprefix("http://localhost")
        for _ in range(2):  # a repeat changes nothing
            assert (await world.client.put(address, content=PNG)).status_code == 200
        asked: dict[str, Any] = {"prompt": "a", "nested": [{"image_url": begun["file_url"]}]}
        made = await world.client.post("/fal/fal-ai/flux/dev", json=asked, headers=KEY)
        assert made.status_code == 200, made.text
        task = (await world.client.get(f"/v1/tasks/{made.json()['request_id']}", headers=KEY)).json()
        assert list(task["input"]["input"]["nested"][0]["image_url"]) == ["upload"]
        assert (await world.client.post("/fal/fal-ai/flux/dev", json=asked, headers=STRANGER)).status_code == 422


@pytest.mark.parametrize(
    "change",
    [
        ("client=alice", "client=bob"),
        ("until=", "until=9"),
        ("proof=", "proof=0"),
        ("proof=", "x="),
        ("/upl_", "/upx_"),
    ],
    ids=["client", "time", "proof", "no proof", "id"],
)
async def test_forged_address_of_fals_storage_is_refused(world: World, change: tuple[str, str]) -> None:
    begun = (await world.client.post("/fal/storage/upload/initiate", json={}, headers=KEY)).json()
    address = begun["upload_url"].removeprefix("http://localhost")
    assert (await world.client.put(address.replace(*change), content=PNG)).status_code == 403
    world.clock.forward(3601)
    assert (await world.client.put(address, content=PNG)).status_code == 403


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/storage/upload/initiate-multipart?x=1", 413, "parts"),
        ("/tokens/", 404, "realtime"),
        ("/anything", 404, "uploads"),
    ],
)
async def test_what_fals_rest_host_does_besides_is_refused(world: World, path: str, status: int, word: str) -> None:
    answer = await world.client.post("/fal/fal-proxy", json={}, headers=proxied("rest.fal.ai", path))
    assert answer.status_code == status
    assert word in answer.json()["detail"]


@pytest.mark.parametrize(
    "target", ["", "http://rest.fal.ai/x", "https://evil.example/x", "https://[::1", "https://fal.run@evil.example/a/b"]
)
async def test_proxy_serves_the_hosts_of_fal_only(world: World, target: str) -> None:
    answer = await world.client.post("/fal/fal-proxy", json={}, headers={**KEY, "x-fal-target-url": target})
    assert answer.status_code == 412


@pytest.mark.parametrize(
    ("method", "rest"), [("PUT", ""), ("PUT", "/status"), ("PUT", "/status/stream"), ("GET", "/cancel"), ("POST", "")]
)
async def test_proxy_cancels_a_request_at_its_own_path_only(world: World, method: str, rest: str) -> None:
    path = "/fal-ai/flux/dev"
    made = await world.client.post("/fal/fal-proxy", json={"prompt": "a"}, headers=proxied("queue.fal.run", path))
    at = f"/fal-ai/flux/requests/{made.json()['request_id']}"
    answer = await world.client.request(method, "/fal/fal-proxy", headers=proxied("queue.fal.run", f"{at}{rest}"))
    assert answer.status_code == 404
    status = await world.client.get("/fal/fal-proxy", headers=proxied("queue.fal.run", f"{at}/status"))
    assert status.json()["status"] == "IN_QUEUE"
    cancel = await world.client.put("/fal/fal-proxy", headers=proxied("queue.fal.run", f"{at}/cancel"))
    assert cancel.status_code in {200, 202}


@pytest.mark.parametrize("app", ["x", "v1/tasks", "fal-ai/flux/requests", "a//b", "a/b?c", ""])
async def test_proxy_runs_apps_only(world: World, app: str) -> None:
    answer = await world.client.post("/fal/fal-proxy", json={}, headers=proxied("queue.fal.run", f"/{app}"))
    assert answer.status_code < 500


async def test_stream_has_the_output_as_its_only_event(world: World) -> None:
    made = await finished(world, f"{APP}/stream", {"prompt": "a"})
    assert made.headers["content-type"].startswith("text/event-stream")
    assert list(json.loads(made.text.removeprefix("data: "))) == ["images"]
    [task] = (await world.client.get("/v1/tasks", headers=KEY)).json()["tasks"]
    assert task["input"]["model"] == "fal-ai/flux/dev"


async def test_stream_that_fails_is_an_error(world: World) -> None:
    failed = await finished(world, f"{APP}/stream", {"prompt": "[fail] a"})
    assert (failed.status_code, list(failed.json())) == (500, ["detail"])


async def finished(world: World, path: str, body: Any) -> httpx.Response:
    asking = asyncio.create_task(world.client.post(path, json=body, headers=EVENTS))
    while not (await world.client.get("/v1/tasks", headers=KEY)).json()["tasks"]:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    await world.pass_time(60)
    return await asking


async def test_realtime_connection_is_refused_with_its_reason(world: World) -> None:
    answer = await world.client.get(f"{APP}/realtime", headers=KEY)
    assert answer.status_code == 404
    assert "realtime" in answer.json()["detail"]
    assert (await world.client.get(APP, headers=KEY)).status_code == 405
