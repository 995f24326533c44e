"""Inputs that arrive: uploads, ``data:`` and results of a parent reach each provider in the form that it takes."""

import base64
import dataclasses
import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.domain.media_references import upload_name
from service.domain.task import State, Task
from service.flows.assets import uploads
from service.sandbox import Sandbox
from tests.support.kept_results import assets_of, finished, keeping, names, stored
from tests.support.media import INLINE, MP4, PNG
from tests.support.world import World

LUMA = {"family": "luma", "operation": "image_to_video"}
"""An operation whose provider takes URLs only."""


def at(dialect: str, **more: str) -> dict[str, str]:
    """Return the settings of a world whose upstream speaks one dialect, with a storage on both databases."""
    base = f"http://sandbox.test{Sandbox.base_paths()[dialect]}"
    return {
        "DOVECOTE_UPSTREAMS__ELKAPI__DIALECTS": dialect,
        "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": base,
        "DOVECOTE_STORAGE__URL": "file:///tmp/not-opened-by-a-world",
        **more,
    }


async def upload(world: World, content: bytes = PNG, **more: Any) -> str:
    made: str = (await world.client.post("/v1/uploads", content=content, **more)).json()["id"]
    return made


async def submit(world: World, status: int = 202, **request: Any) -> Any:
    answer = await world.client.post("/v1/tasks", json=request)
    assert answer.status_code == status, answer.text
    return answer.json()


async def worked(world: World, task_id: str) -> Task:
    await world.work()
    return await world.task(UUID(task_id))


def order(world: World) -> Any:
    """Return the body of the only order that the sandbox got."""
    [job] = world.sandbox.ledger.jobs
    return job.order.document


@pytest.mark.parametrize("given", ["upload", "data"])
async def test_provider_that_takes_urls_fetches_the_file(database_url: str, given: str) -> None:
    async with World.opened(database_url, **at("luma/official")) as world:
        image: Any = {"upload": await upload(world)} if given == "upload" else INLINE
        shown = await submit(world, **LUMA, input={"prompt": "[fetch] a dove", "image": image})
        assert shown["input"]["image"] == image, "the task shows the input as it was given"
        task = await worked(world, shown["id"])
        assert task.state is State.SUBMITTED, task.last_error
        url = order(world)["keyframes"]["frame0"]["url"]
        assert url.startswith("http://dovecote.test/callbacks/media/")
        [fetched] = world.sandbox.ledger.fetched
        assert (fetched.status, fetched.size, fetched.head_size, fetched.range_status) == (200, len(PNG), len(PNG), 206)
        assert fetched.content_type == "image/png"


async def test_provider_that_takes_files_gets_the_bytes(database_url: str) -> None:
    async with World.opened(database_url, **at("openai/images")) as world:
        image = {"upload": await upload(world)}
        shown = await submit(
            world, family="openai", operation="image_to_image", input={"prompt": "a dove", "image": image}
        )
        task = await worked(world, shown["id"])
        assert task.state is State.SUCCEEDED, task.last_error
        sent = order(world)["image"]
        assert (sent["content_type"], sent["size"]) == ("image/png", len(PNG))


async def test_same_file_is_stored_once_for_all_attempts(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("luma/official")) as world:
        shown = await submit(world, **LUMA, input={"prompt": "[503=2] a dove", "image": INLINE})
        for _ in range(6):
            await world.work()
            world.clock.forward(30)
        assert (await world.task(UUID(shown["id"]))).state is not State.QUEUED
        assert world.context.objects is not None
        assert len([each async for each in world.context.objects.list()]) == 1


@pytest.mark.parametrize("given", ["upload", "data"])
async def test_file_is_refused_before_the_purchase_where_no_provider_could_fetch_it(
    database_url: str, given: str
) -> None:
    async with World.opened(database_url, **at("luma/official", DOVECOTE_PUBLIC_URL="")) as world:
        image: Any = {"upload": await upload(world)} if given == "upload" else INLINE
        refused = await submit(world, 422, **LUMA, input={"prompt": "a dove", "image": image})
        assert [each["path"] for each in refused["errors"]] == ["input.image"]
        assert "public_url" in refused["detail"]


async def test_file_goes_inline_where_the_provider_takes_that_and_there_is_no_address(database_url: str) -> None:
    async with World.opened(database_url, **at("runway/official", DOVECOTE_PUBLIC_URL="")) as world:
        image = {"upload": await upload(world)}
        shown = await submit(
            world,
            family="runway",
            operation="image_to_video",
            input={"prompt": "a dove", "image": image, "duration": 5},
        )
        task = await worked(world, shown["id"])
        assert task.state is State.SUBMITTED, task.last_error
        assert order(world)["promptImage"] == INLINE


class WithUploads(httpx.AsyncBaseTransport):
    """Runway's host, with its route for uploads, and the host of its storage."""

    def __init__(self, behind: httpx.AsyncBaseTransport, status: int = 204) -> None:
        self._behind, self._status = behind, status
        self.asked, self.posted = list[httpx.Request](), list[tuple[httpx.Request, bytes]]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "store.test":
            self.posted.append((request, await request.aread()))
            return httpx.Response(self._status, stream=httpx.ByteStream(b""))
        if not request.url.path.endswith("/v1/uploads"):
            return await self._behind.handle_async_request(request)
        self.asked.append(request)
        place = {
            "uploadUrl": "https://store.test/bucket",
            "fields": {"key": "k1", "policy": "p"},
            "runwayUri": "runway://u1",
        }
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(place).encode()))


@pytest.mark.parametrize("status", [204, 503])
async def test_file_that_is_too_large_for_the_request_goes_to_the_providers_storage(
    sqlite_url: str, status: int
) -> None:
    content = PNG + bytes(5 * 1024 * 1024)
    async with World.opened(sqlite_url, **at("runway/official", DOVECOTE_PUBLIC_URL="")) as world:
        runway = WithUploads(world.edge.hosts["sandbox.test"], status)
        world.edge.hosts |= {"sandbox.test": runway, "store.test": runway}
        given = {"prompt": "a dove", "image": {"upload": await upload(world, content)}, "duration": 5}
        shown = await submit(world, family="runway", operation="image_to_video", input=given)
        task = await worked(world, shown["id"])
        [(posted, body)] = runway.posted
        assert "authorization" not in posted.headers
        assert body.index(b'name="key"') < body.index(b'name="file"; filename="input.png"')
        assert content in body
        if status == 204:
            assert task.state is State.SUBMITTED, task.last_error
            assert order(world)["promptImage"] == "runway://u1"
        else:
            assert (task.state, world.sandbox.ledger.jobs) == (State.QUEUED, [])
            assert "could not be stored at the provider: HTTP 503" in (task.last_error or "")


async def test_large_data_goes_by_url_where_the_provider_limits_it(database_url: str) -> None:
    content = PNG + bytes(5 * 1024 * 1024)
    large = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    async with World.opened(
        database_url, **at("runway/official", DOVECOTE_PUBLIC_URL="https://dovecote.test")
    ) as world:
        shown = await submit(
            world,
            family="runway",
            operation="image_to_video",
            input={"prompt": "a dove", "image": large, "duration": 5},
        )
        task = await worked(world, shown["id"])
        assert task.state is State.SUBMITTED, task.last_error
        assert order(world)["promptImage"].startswith("https://dovecote.test/callbacks/media/")


async def test_media_in_a_list_are_replaced_one_by_one(database_url: str) -> None:
    async with World.opened(database_url, **at("pika/official")) as world:
        images = [{"upload": await upload(world)}, "https://example.com/b.png", INLINE]
        shown = await submit(
            world, family="pika", operation="keyframes", input={"prompt": "two doves", "images": images}
        )
        task = await worked(world, shown["id"])
        assert task.state is State.SUBMITTED, task.last_error
        urls = order(world)["images"]
        assert [url.startswith("http://dovecote.test/callbacks/media/") for url in urls] == [True, False, True]
        assert urls[1] == images[1]


async def test_link_of_the_bucket_is_sent_where_that_is_set(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def presigned(_: Any, name: str, *, seconds: float) -> str:
        return f"https://bucket.test/{name}?seconds={seconds:.0f}"

    monkeypatch.setattr("service.objects.Objects.presigned", presigned)
    bucket = {"DOVECOTE_STORAGE__URL": "s3://bucket", "DOVECOTE_PUBLIC_URL": ""}
    async with World.opened(sqlite_url, **{**at("luma/official"), **bucket}) as world:
        image = {"upload": await upload(world)}
        shown = await submit(world, **LUMA, input={"prompt": "a dove", "image": image}, deadline=1800)
        task = await worked(world, shown["id"])
        assert task.state is State.SUBMITTED, task.last_error
        url = order(world)["keyframes"]["frame0"]["url"]
        assert url.startswith("https://bucket.test/uploads/")
        assert int(url.rpartition("=")[2]) >= 1800


async def test_picture_at_a_url_is_sent_as_bytes_where_the_route_takes_no_url(sqlite_url: str) -> None:
    class Pictures(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(
                200, headers={"content-type": "image/png"}, stream=httpx.ByteStream(PNG), request=request
            )

    async with World.opened(sqlite_url, **at("midjourney/proxy")) as world:
        world.edge.hosts["pictures.test"] = Pictures()
        images = ["http://pictures.test/a.png", INLINE, {"upload": await upload(world)}]
        shown = await submit(world, family="midjourney", operation="blend", input={"images": images})
        task = await worked(world, shown["id"])
        assert task.external_id is not None, task.last_error
        assert order(world)["base64Array"] == [INLINE] * 3


async def test_field_of_a_models_own_input_is_no_reference(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("fal/queue")) as world:
        for own in ({"upload": "image"}, {"result": True}, {"result": 0}, {"upload": 7}):
            given = {"model": "fal-ai/flux/dev", "input": {"prompt": "a dove", "node": own}}
            shown = await submit(world, family="fal", operation="run", input=given)
            assert shown["input"]["input"]["node"] == own


async def test_reference_within_a_models_own_input_is_replaced(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("fal/queue")) as world:
        image = {"upload": await upload(world)}
        given = {"model": "fal-ai/flux/dev", "input": {"prompt": "[fetch] a dove", "image_urls": [image]}}
        shown = await submit(world, family="fal", operation="run", input=given)
        await world.work()
        task = await world.task(UUID(shown["id"]))
        assert task.external_id is not None, task.last_error
        [fetched] = world.sandbox.ledger.fetched
        assert (fetched.status, fetched.size) == (200, len(PNG))


HOSTILE = [
    b'{"family":"luma","operation":"image_to_video","input":' + b'{"image":' * 1000 + b"1" + b"}" * 1000 + b"}",
    b'{"family":"luma","operation":"image_to_video","input":' + b"[" * 1000 + b"]" * 1000 + b"}",
    b'{"family":"luma","operation":"image_to_video","input":{"images":['
    + b",".join(b'{"upload":"%s"}' % upload_name(UUID(int=number)).encode() for number in range(5000))
    + b"]}}",
]


async def test_hostile_input_is_refused_and_no_error_of_ours(database_url: str) -> None:
    async with World.opened(database_url, **at("luma/official")) as world:
        for body in HOSTILE:
            answer = await world.client.post("/v1/tasks", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in {400, 422}, (body[:80], answer.text[:300])


async def test_upload_is_kept_until_the_deadline_of_its_task(database_url: str) -> None:
    async with World.opened(database_url, **at("luma/official", DOVECOTE_UPLOADS__KEEP="1h")) as world:
        name = await upload(world)
        await submit(world, **LUMA, input={"prompt": "a dove", "image": {"upload": name}}, deadline=6 * 3600)
        world.clock.forward(5 * 3600)
        assert await uploads.expire_due(world.context) == 0
        assert (await world.client.get(f"/v1/uploads/{name}")).status_code == 200
        world.clock.forward(3 * 3600)
        assert await uploads.expire_due(world.context) == 1


NOTHING: list[tuple[Any, str]] = [
    ({"upload": "upl_aaaaaaaaaaaaaaaaaaaaaaaaaa"}, "there is no upload"),
    ({"upload": "x"}, "there is no upload"),
    ({"upload": 7}, "there is no upload"),
    ({"upload": None}, "input.image"),
    ({"result": 0}, "name that task as parent_id"),
    ("dovecote:upload/upl_aaaaaaaaaaaaaaaaaaaaaaaaaa;image/png", "write a reference as an object"),
    ({"upload": "x", "result": 0}, "input.image"),
]


async def test_reference_to_nothing_is_refused_at_once(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("luma/official")) as world:
        for image, words in NOTHING:
            refused = await submit(world, 422, **LUMA, input={"prompt": "a dove", "image": image})
            assert words in json.dumps(refused), image


async def test_reference_in_place_of_a_text_is_refused(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("luma/official")) as world:
        image = {"upload": await upload(world)}
        refused = await submit(world, 422, **LUMA, input={"prompt": image, "image": image})
        assert [each["path"] for each in refused["errors"]] == ["input.prompt"]


async def test_file_of_another_kind_is_refused(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("luma/official")) as world:
        image = {"upload": await upload(world, MP4)}
        refused = await submit(world, 422, **LUMA, input={"prompt": "a dove", "image": image})
        assert "the upload is video/mp4" in refused["detail"]


async def test_upload_of_another_client_is_refused(sqlite_url: str) -> None:
    keys = {"DOVECOTE_API_KEYS": "shop=a-key-of-the-shop-0001,blog=a-key-of-the-blog-0001"}
    async with World.opened(sqlite_url, **at("luma/official"), **keys) as world:
        shop, blog = ({"Authorization": f"Bearer a-key-of-the-{name}-0001"} for name in ("shop", "blog"))
        image = {"upload": await upload(world, headers=shop)}
        request = {**LUMA, "input": {"prompt": "a dove", "image": image}}
        refused = await world.client.post("/v1/tasks", json=request, headers=blog)
        assert (refused.status_code, "there is no upload" in refused.text) == (422, True)
        assert (await world.client.post("/v1/tasks", json=request, headers=shop)).status_code == 202


async def test_task_whose_upload_was_deleted_fails_before_the_purchase(database_url: str) -> None:
    async with World.opened(database_url, **at("luma/official")) as world:
        name = await upload(world)
        shown = await submit(world, **LUMA, input={"prompt": "a dove", "image": {"upload": name}})
        await world.client.delete(f"/v1/uploads/{name}")
        task = await worked(world, shown["id"])
        assert (task.state, world.sandbox.ledger.jobs) == (State.FAILED, [])
        assert task.failure is not None
        assert "has expired or was deleted" in (task.failure.message or "")


async def test_storage_in_trouble_is_tried_again(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("openai/images")) as world:
        name = await upload(world)
        shown = await submit(
            world, family="openai", operation="image_to_image", input={"prompt": "x", "image": {"upload": name}}
        )
        assert world.context.objects is not None
        world.context.objects._readers.shutdown()
        task = await worked(world, shown["id"])
        assert (task.state.ended, world.sandbox.ledger.jobs) == (False, [])


async def parent_of(world: World, **results: Any) -> tuple[str, Task]:
    """Return the id of a task that has succeeded, and the task."""
    shown = await submit(world, **LUMA, input={"prompt": "a dove", "image": "https://example.com/a.png"})
    await world.work()
    world.clock.forward(20)
    await world.sandbox.deliver_due()
    await world.work()
    task = await world.task(UUID(shown["id"]))
    assert task.state is State.SUCCEEDED
    return shown["id"], task


async def test_result_of_a_parent_is_taken_by_another_family(database_url: str) -> None:
    dialects = {"DOVECOTE_UPSTREAMS__ELKAPI__DIALECTS": "luma/official,any/elk-task"}
    async with World.opened(database_url, **{**at("luma/official"), **dialects}) as world:
        parent, task = await parent_of(world)
        request = {"prompt": "wilder", "video": {"result": 0}}
        shown = await submit(world, family="luma", operation="video_to_video", input=request, parent_id=parent)
        assert (shown["parent_id"], shown["input"]["video"]) == (parent, {"result": 0})
        made = await worked(world, shown["id"])
        assert made.state is State.SUBMITTED, made.last_error
        sent = world.sandbox.ledger.jobs[-1].order.document
        assert sent["media"]["url"] == task.results[0].url


async def test_result_that_a_parent_has_not_is_refused(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("luma/official")) as world:
        parent, _ = await parent_of(world)
        for number in (7, -1, "0", True, 0.5):
            given = {"prompt": "wilder", "video": {"result": number}}
            refused = await submit(world, 422, family="luma", operation="video_to_video", input=given, parent_id=parent)
            assert "the parent has no result" in refused["detail"], number


async def test_result_of_another_kind_is_refused(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("luma/official")) as world:
        parent, _ = await parent_of(world)
        request = {"prompt": "still", "image": {"result": 0}}
        refused = await submit(world, 422, family="luma", operation="image_to_image", input=request, parent_id=parent)
        assert "is a video" in refused["detail"]


async def test_parent_without_a_reference_still_does_not_fit(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("luma/official")) as world:
        parent, _ = await parent_of(world)
        request = {"prompt": "x", "image": "https://example.com/a.png"}
        refused = await submit(world, 422, **LUMA, input=request, parent_id=parent)
        assert "parent_id" in refused["detail"]


async def test_result_that_the_provider_has_deleted_is_refused_before_the_purchase(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **at("luma/official")) as world:
        parent, task = await parent_of(world)
        first = dataclasses.replace(task.results[0], expires_at=world.context.now())
        await forget(world, dataclasses.replace(task, results=(first, *task.results[1:])))
        request = {"prompt": "wilder", "video": {"result": 0}}
        shown = await submit(world, family="luma", operation="video_to_video", input=request, parent_id=parent)
        before = len(world.sandbox.ledger.jobs)
        made = await worked(world, shown["id"])
        assert (made.state, len(world.sandbox.ledger.jobs)) == (State.FAILED, before)
        assert made.failure is not None
        assert "has deleted result 0" in (made.failure.message or "")


@pytest.mark.parametrize("links", [True, False], ids=["public", "no-address"])
async def test_kept_copy_is_taken_when_the_provider_has_deleted_the_file(database_url: str, *, links: bool) -> None:
    """A picture of a task becomes the first frame of a film, after the provider's URL has expired."""
    address = {} if links else {"DOVECOTE_PUBLIC_URL": ""}
    async with keeping(database_url, **{**at("luma/official"), **address}) as world:
        request = {"family": "luma", "operation": "text_to_image", "callback_url": None}
        parent = await finished(world, **request, input={"prompt": "a dove", "aspect_ratio": "16:9"})
        await world.until(120)
        parent = await world.task(parent.id)
        assert parent.results[0].kept is not None
        assert parent.results[0].kept.state == "kept"
        gone = dataclasses.replace(parent.results[0], expires_at=world.context.now())
        await forget(world, dataclasses.replace(parent, results=(gone, *parent.results[1:])))
        given = {"prompt": "[fetch] it flies", "image": {"result": 0}}
        shown = await submit(world, **LUMA, input=given, parent_id=str(parent.id))
        await world.work()
        made = await world.task(UUID(shown["id"]))
        if not links:  # the upstream takes links, and the only one has expired
            assert (made.state, made.failure and made.failure.code) == (State.FAILED, "invalid_input")
            return
        assert made.state is State.SUBMITTED, made.failure
        url = world.sandbox.ledger.jobs[-1].order.document["keyframes"]["frame0"]["url"]
        assert url.startswith("http://dovecote.test/callbacks/media/")
        [fetched] = world.sandbox.ledger.fetched
        assert (fetched.status, fetched.sha256) == (200, parent.results[0].kept.sha256)
        assert len(await names(world)) == len(set(await names(world)))
        world.clock.forward(10 * 86_400)
        await uploads.expire_due(world.context)
        [copy] = [each for each in await assets_of(world, parent) if each.id == parent.results[0].kept.asset]
        assert await stored(world, copy.object), "the link has ended, and the copy stays"


async def forget(world: World, task: Task) -> None:
    """Write the results of a task."""
    from sqlalchemy import update

    from service.store.tables import tasks

    async with world.context.database.writing() as connection:
        results = [each.as_json() for each in task.results]
        await connection.execute(update(tasks).where(tasks.c.id == task.id).values(results=results))
