"""Kept copies and uploads go with their task: from the storage too, also where that is away for a while."""

from typing import Any

import pytest

from service.object_errors import StorageError
from service.store import tables
from tests.support.kept_results import assets_of, finished, keeping, names
from tests.support.retention import DAY, WORDS, count, dump, keep, newest, sweep
from tests.support.world import JOB_SECONDS, World

PICTURE = b"\x89PNG\r\n\x1a\n" + b"0" * 100
LATER = 7200.0
"""Seconds after which a failed deletion has been tried again."""


async def with_upload(world: World, upload: dict[str, Any]) -> str:
    request = {
        "family": "runway",
        "operation": "image_to_video",
        "input": {"prompt": WORDS, "image": {"upload": upload["id"]}},
    }
    answer = await world.client.post("/v1/tasks", json=request)
    assert answer.status_code == 202, answer.text
    await world.until(JOB_SECONDS * 4)
    return str(answer.json()["id"])


async def uploaded(world: World, name: str) -> dict[str, Any]:
    answer = await world.client.post("/v1/uploads", params={"name": name}, content=PICTURE)
    assert answer.status_code < 300, answer.text
    return dict(answer.json())


async def test_erasure_deletes_kept_copies_and_their_provenance(sqlite_url: str) -> None:
    async with keeping(sqlite_url) as world:
        erased, other = await finished(world, f"{WORDS} [filebytes=1000]"), await finished(world, "[filebytes=1000]")
        before = len(await names(world))
        answer = await world.client.delete(f"/v1/tasks/{erased.id}")
        assert answer.json()["erased"] == 1
        await world.until(LATER)
        assert [name for name in await names(world) if str(erased.id) in name] == []
        assert len(await names(world)) == before / 2
        assert await assets_of(world, erased) == []
        assert {asset.state for asset in await assets_of(world, other)} == {"kept"}
        assert "Zebrafink" not in await dump(world)


async def test_copy_that_is_being_made_during_an_erasure_is_deleted(sqlite_url: str) -> None:
    async with keeping(sqlite_url) as world:
        task = await finished(world, "[file503=2][filebytes=1000]")
        assert "pending" in [asset.state for asset in await assets_of(world, task)]
        await world.client.delete(f"/v1/tasks/{task.id}")
        await world.until(LATER)
        assert await names(world) == []
        assert await assets_of(world, task) == []
        assert (await world.task(task)).results == ()


async def test_copies_are_deleted_when_the_storage_is_back(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with keeping(sqlite_url) as world:
        task = await finished(world, "[filebytes=1000]")

        async def away(*_: Any) -> None:
            raise StorageError("away")

        with monkeypatch.context() as broken:
            broken.setattr(type(world.context.objects), "delete", away)
            assert (await world.client.delete(f"/v1/tasks/{task.id}")).json()["erased"] == 1
            await world.until(60)
            assert await names(world) != []
        await world.until(LATER)
        assert await names(world) == []


async def test_erasure_deletes_the_uploads_of_the_input(world: World) -> None:
    used, other = await uploaded(world, f"{WORDS}.png"), await uploaded(world, "other.png")
    task = await with_upload(world, used)
    await world.client.delete(f"/v1/tasks/{task}")
    await world.until(LATER)
    found = (await world.client.get("/v1/uploads")).json()["uploads"]
    assert [each["id"] for each in found] == [other["id"]]
    assert len(await names(world)) == 1
    assert "Zebrafink" not in await dump(world)


@pytest.mark.parametrize("kind", ["results", "tasks"])
async def test_retention_deletes_kept_copies(sqlite_url: str, kind: str) -> None:
    async with keeping(sqlite_url) as world:
        task = await finished(world, "[filebytes=1000]", callback_url=None)
        copies = len(await names(world))
        world.clock.forward(10 * DAY)
        await newest(world)
        keep(world, **{kind: "7d"})
        assert (await sweep(world))[kind] == 1
        await world.until(LATER)
        assert len(await names(world)) == copies  # those of the newest task
        assert await count(world, tables.assets, tables.assets.c.task_id == task.id) == 0
