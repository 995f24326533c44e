"""Forms for endpoints, their bars, and saved views."""

import datetime as dt
from collections.abc import AsyncIterator

import pytest

from service.domain.statistics import ENOUGH_SAMPLES, accuracy
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints as endpoint_store
from service.store.webhooks.attempts import Made
from service.store.webhooks.endpoints import Endpoint
from service.web.dashboard.endpoints import HOURS, bars_of
from service.web.dashboard.views import MAX_VIEWS
from tests.support.clients import ALICE, BOB
from tests.support.pages import OPERATOR, inline_code, visitor
from tests.support.values import NOW
from tests.support.world import World

URL = "http://receiver.test/e"


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with World.opened(database_url, **settings) as world:
        yield world


async def endpoints_of(world: World, client: str) -> list[Endpoint]:
    async with world.context.database.reading() as connection:
        return list(await endpoint_store.of_client(connection, client))


async def test_endpoint_is_registered_changed_rotated_and_deleted_by_forms(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        assert inline_code(await alice.get("/ui/webhooks/endpoints/new")) == []
        wrong = await alice.post("/ui/webhooks/endpoints", url="ftp://x", format="standard", callback_format="dovecote")
        assert wrong.status == 422
        assert "ftp://x" in wrong.response.text
        made = await alice.post(
            "/ui/webhooks/endpoints", url=URL, description="<b>shop</b>", events=["task.succeeded", "task.failed"],
            format="standard", callback_format="dovecote",
        )  # fmt: skip
        [endpoint] = await endpoints_of(keyed, "alice")
        assert endpoint.secret in made.text
        assert made.response.headers["cache-control"] == "no-store"
        assert endpoint.events == ("task.succeeded", "task.failed")
        address = f"/ui/webhooks/endpoints/{endpoint.id}"
        page = await alice.get(address)
        assert "<b>shop</b>" not in page.response.text
        assert endpoint.secret not in page.response.text
        await alice.post(address, url=f"{URL}2", description="shop", format="standard", callback_format="dovecote")
        await alice.post(address, enabled="false")
        [changed] = await endpoints_of(keyed, "alice")
        assert (changed.url, changed.events, changed.disabled_reason) == (f"{URL}2", (), "client")
        rotated = await alice.post(f"{address}/rotate")
        [again] = await endpoints_of(keyed, "alice")
        assert again.secret != endpoint.secret
        assert again.secret in rotated.text
        gone = await alice.post(f"{address}/remove")
    assert "The endpoint is deleted." in gone.text
    assert await endpoints_of(keyed, "alice") == []


async def test_endpoint_of_another_client_is_not_found(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        await alice.post("/ui/webhooks/endpoints", url=URL, format="standard", callback_format="dovecote")
    [endpoint] = await endpoints_of(keyed, "alice")
    address = f"/ui/webhooks/endpoints/{endpoint.id}"
    async with visitor(keyed, BOB) as bob:
        for path in (address, f"{address}?client=alice"):
            assert (await bob.get(path)).status == 404
        for path in (address, f"{address}/rotate", f"{address}/remove"):
            assert (await bob.post(path, client="alice", enabled="false")).status == 404
    assert await endpoints_of(keyed, "alice") == [endpoint]
    async with visitor(keyed, OPERATOR) as ops:
        assert (await ops.get(f"{address}?client=alice")).status == 200


async def test_client_cannot_register_an_endpoint_for_operators(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        await alice.post(
            "/ui/webhooks/endpoints", url=URL, format="standard", callback_format="dovecote", scope="admin"
        )
    assert [each.scope for each in await endpoints_of(keyed, "alice")] == ["client"]


async def test_attempts_of_the_last_day_are_bars(world: World) -> None:
    await world.client.post("/v1/endpoints", json={"url": URL})
    await world.submit("a dove")
    await world.pass_time(15)
    [endpoint] = await endpoints_of(world, "default")
    since = world.clock.now - dt.timedelta(hours=HOURS)
    async with world.context.database.reading() as connection:
        made = await attempt_store.made_since(connection, endpoint.id, since)
        assert await attempt_store.made_since(connection, endpoint.id, world.clock.now + dt.timedelta(hours=1)) == []
    assert {each.status for each in made} == {401}, "the receiver does not know the secret of the endpoint"
    async with visitor(world) as someone:
        assert f"0 attempts succeeded, {len(made)} failed" in str((await someone.get("/ui/webhooks")).response.text)


def test_bar_tells_whether_an_hour_was_well() -> None:
    hour = dt.timedelta(hours=1)
    made = [Made(NOW, 200), Made(NOW - hour, 500), Made(NOW - 2 * hour, 204), Made(NOW - 2 * hour, None)]
    bars = bars_of([*made, Made(NOW - 30 * hour, 500), Made(NOW + hour, 200)], now=NOW)
    assert [bar.tone for bar in bars.bars] == ["calm"] * 21 + ["doubt", "bad", "good"]
    assert bars.label == "Last 24 hours: 2 attempts succeeded, 2 failed, in 2 of the hours"


# Saved views -----------------------------------------------------------------------------------------------------


async def test_view_is_saved_under_a_name_and_removed(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        page = await alice.post("/ui/views", name="broken & <late>", address="?state=failed&since=24h&x=1")
        assert str(page.response.url).endswith("/ui/tasks?state=failed&since=24h")
        assert "broken & <late>" in page.text
        assert "<late>" not in page.response.text
        cookie = next(each for each in alice.client.cookies.jar if each.name == "dovecote_views")
        assert cookie.path == "/ui"
        assert "state=failed" in str((await alice.get("/ui/tasks?family=suno")).response.text)
        gone = await alice.post("/ui/views", remove="broken & <late>", address="?state=failed")
    assert "broken" not in gone.text


async def test_view_leads_nowhere_else_and_has_a_bounded_size(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        page = await alice.post("/ui/views", name="away", address="https://example.com/?state=failed")
        assert page.status == 422
        page = await alice.post("/ui/views", remove="x", address="https://example.com/?state=failed")
        assert page.response.url.host == "localhost"
        for name in ("", "x" * 41):
            assert (await alice.post("/ui/views", name=name, address="?state=failed")).status == 422
        for number in range(MAX_VIEWS):
            assert (await alice.post("/ui/views", name=f"view {number}", address="?state=failed")).status == 200
        assert (await alice.post("/ui/views", name="one more", address="?state=failed")).status == 422
        alice.client.cookies.set("dovecote_views", "%00=%00&a=https://x&=;", path="/ui", domain="localhost.local")
        assert (await alice.get("/ui/tasks?state=failed")).status == 200


# The forecast ----------------------------------------------------------------------------------------------------


def test_forecast_is_compared_with_the_ends_before_each_task() -> None:
    assert accuracy([("a", 1.0)] * ENOUGH_SAMPLES).tasks == 0
    steady = accuracy([("a", float(10 + number % 10)) for number in range(330)])
    assert steady.tasks == 300
    assert 140 <= steady.within_usual <= 180
    assert 260 <= steady.within_most <= 300
    slower = accuracy([("a", 10.0)] * ENOUGH_SAMPLES + [("a", 99.0)] + [("b", 1.0)])
    assert (slower.tasks, slower.within_usual, slower.within_most) == (1, 0, 0)
