"""The ping to a dead man's switch: success, failure with its reason, once over all processes, and no URL in the log."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.flows.metrics.ping import failing, ping
from service.settings.load import SettingsError, load
from service.store.database import StoreUnavailable
from service.worker import Worker
from tests.support.world import World

URL = "http://checks.test/secret-uuid"


class Checks(httpx.AsyncBaseTransport):
    """A service like healthchecks.io."""

    def __init__(self) -> None:
        self.pings: list[tuple[str, str]] = []
        self.status = 200

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.pings.append((request.url.path, (await request.aread()).decode()))
        return httpx.Response(self.status, stream=httpx.ByteStream(b"OK"))


@contextlib.asynccontextmanager
async def pinging(database_url: str, url: str = URL) -> AsyncIterator[tuple[World, Checks]]:
    async with World.opened(database_url, DOVECOTE_OBSERVABILITY__PING_URL=url) as world:
        checks = Checks()
        world.edge.hosts["checks.test"] = checks
        yield world, checks


async def test_working_installation_reports_success(database_url: str) -> None:
    async with pinging(database_url) as (world, checks):
        assert await ping(world.context) is True
        assert checks.pings == [("/secret-uuid", "")]


async def test_late_queue_reports_failure_with_the_reason_and_success_after_it(database_url: str) -> None:
    async with pinging(database_url) as (world, checks):
        await world.submit()
        world.clock.forward(100)
        assert await ping(world.context) is False
        await world.work()
        assert await ping(world.context) is True
        assert checks.pings == [
            ("/secret-uuid/fail", "the oldest of the due submissions has waited for 100 s"),
            ("/secret-uuid", ""),
        ]


async def test_one_process_pings_until_it_is_gone(database_url: str) -> None:
    async with pinging(database_url) as (world, checks):
        other = dataclasses.replace(world.context, process="another")
        assert [await ping(world.context), await ping(other), await ping(world.context)] == [True, None, True]
        world.clock.forward(91)
        assert [await ping(other), await ping(world.context)] == [True, None]
        assert len(checks.pings) == 3


async def test_unreachable_database_is_reported(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("no connection")

    async with pinging(database_url) as (world, checks):
        monkeypatch.setattr(world.context.writers.journeys, "run", away)
        assert await ping(world.context) is False
        assert checks.pings == [("/secret-uuid/fail", "the database cannot be used: no connection")]


@pytest.mark.parametrize("how", ["refused", "away"])
async def test_failed_ping_is_logged_without_its_url(
    database_url: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with pinging(database_url) as (world, checks):
        checks.status = 500
        if how == "away":
            world.edge.down.add("checks.test")
        assert await ping(world.context) is True
        [line] = [each for each in caplog.messages if each.startswith("ping")]
        assert "host=checks.test" in line
        assert "secret-uuid" not in caplog.text


@pytest.mark.parametrize(
    ("url", "fails"),
    [
        pytest.param("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/fail", id="path"),
        pytest.param("https://hc-ping.com/uuid/", "https://hc-ping.com/uuid/fail", id="slash"),
        pytest.param("https://up.test/push/x?rid=1", "https://up.test/push/x/fail?rid=1", id="query"),
        pytest.param("https://up.test", "https://up.test/fail", id="bare"),
    ],
)
def test_failure_is_reported_behind_the_path(url: str, fails: str) -> None:
    assert failing(url) == fails


@pytest.mark.parametrize("url", ["hc-ping.com/uuid", "ftp://x/y", "https://", "https://x/y#z"])
def test_url_that_cannot_be_pinged_is_a_mistake_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"DOVECOTE_OBSERVABILITY__PING_URL": url})
    assert caught.value.mistakes == [
        "observability.ping_url: is not an http(s) URL, such as https://hc-ping.com/your-uuid"
    ]


async def test_worker_pings_only_where_there_is_a_url(sqlite_url: str) -> None:
    async with pinging(sqlite_url) as (world, _):
        assert "ping" in {each.name for each in Worker(world.context)._journeys}
        bare = dataclasses.replace(world.context, settings=load({"DOVECOTE_DATABASE_URL": sqlite_url}))
        assert "ping" not in {each.name for each in Worker(bare)._journeys}
