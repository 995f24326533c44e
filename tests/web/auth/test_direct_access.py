"""Without keys only direct requests from this machine are served. Errors name the fault of a key."""

import datetime as dt

import httpx
import pytest

from service.app import NoKey, require_key
from service.domain.api_key import write_key
from tests.support.clients import add_key
from tests.support.world import World

SETTINGS_KEY = "alice-key-that-is-long-enough"


# ── proxies ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "x-forwarded-proto",
            "X-Real-IP",
            "Via",
            "CF-Connecting-IP",
        ),
        *("X-Forwarded", "X-Client-IP", "X-Cluster-Client-IP", "Fly-Client-IP", "True-Client-IP", "Fastly-Client-IP"),
        *("X-Envoy-External-Address", "X-Original-Forwarded-For", "X-Amzn-Trace-Id", "CDN-Loop", "X-Azure-ClientIP"),
        *("X-Remote-Addr", "X-Appengine-User-IP", "X-Vercel-Forwarded-For", "CF-Ray", "DO-Connecting-IP"),
    ],
)
async def test_request_with_a_forwarding_header_is_refused_without_keys(api: httpx.AsyncClient, header: str) -> None:
    answer = await api.get("/v1/tasks", headers={header: "1.2.3.4"})
    assert (answer.status_code, answer.json()["code"]) == (421, "misdirected")


@pytest.mark.parametrize("header", ["X-Request-Id", "Traceparent", "X-Requested-With", "Referer", "Priority", "Doc"])
async def test_usual_header_of_a_client_is_served_without_keys(api: httpx.AsyncClient, header: str) -> None:
    assert (await api.get("/v1/tasks", headers={header: "x"})).status_code == 200


async def test_request_with_a_forwarding_header_is_served_with_a_key(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"alice={SETTINGS_KEY}") as world:
        headers = {"Authorization": f"Bearer {SETTINGS_KEY}", "X-Forwarded-For": "1.2.3.4", "Host": "dovecote.example"}
        assert (await world.client.get("/v1/tasks", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:80@evil.example",
        "localhost:80:80",
        "localhost:",
        "localhost:port",
        "localhost/",
        " localhost",
        "localhost, evil.example",
        "localhost:999999",
        "[::1",
        "::1",
        "127.0.0.1.",
        "127.1",
        "localhost\t",
    ],
)
async def test_host_that_is_no_plain_loopback_name_is_refused_without_keys(api: httpx.AsyncClient, host: str) -> None:
    assert (await api.get("/v1/tasks", headers={"Host": host})).status_code == 421


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"DOVECOTE_PUBLIC_URL": "https://dovecote.example"}, True),
        ({"DOVECOTE_PUBLIC_URL": "http://192.168.1.5:8080"}, True),
        ({"DOVECOTE_PUBLIC_URL": "https://dovecote.example", "DOVECOTE_CALLBACK_PORT": "8081"}, False),
        ({"DOVECOTE_PUBLIC_URL": "https://dovecote.example", "DOVECOTE_API_KEYS": f"alice={SETTINGS_KEY}"}, False),
        ({"DOVECOTE_PUBLIC_URL": "http://127.0.0.1:8080"}, False),
        ({"DOVECOTE_PUBLIC_URL": "http://[::1]:8080"}, False),
        ({"DOVECOTE_PUBLIC_URL": "http://localhost"}, False),
        ({"DOVECOTE_PUBLIC_URL": ""}, False),
        ({"DOVECOTE_PUBLIC_URL": "", "DOVECOTE_HOST": "0.0.0.0"}, True),  # noqa: S104 - refused
    ],
    ids=[
        "name",
        "private address",
        "port for callbacks",
        "key",
        "loopback",
        "loopback 6",
        "localhost",
        "none",
        "public host",
    ],
)
async def test_public_address_without_a_key_refuses_the_start(
    sqlite_url: str, settings: dict[str, str], *, refused: bool
) -> None:
    async with World.opened(sqlite_url, **settings) as world:
        if refused:
            with pytest.raises(NoKey, match="no API key"):
                await require_key(world.context)
            await add_key(world)
        await require_key(world.context)


# ── what is wrong with a key ───────────────────────────────────────────────────────────────────────────────────────


async def test_missing_unknown_expired_and_revoked_keys_have_different_errors(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"alice={SETTINGS_KEY}") as world:
        now = world.clock()
        unknown = write_key(bytes(4), bytes(32))
        cases = {
            "": "unauthorized",
            "Bearer": "unauthorized",
            "Bearer ": "unauthorized",
            "Basic abc": "unauthorized",
            "Bearer wrong": "unknown_key",
            f"Bearer {SETTINGS_KEY}x": "unknown_key",
            f"Bearer {unknown}": "unknown_key",
            f"Bearer {await add_key(world, expires_at=now - dt.timedelta(seconds=1))}": "expired_key",
            f"Bearer {await add_key(world, revoked_at=now)}": "revoked_key",
        }
        for header, code in cases.items():
            answer = await world.client.get("/v1/tasks", headers={"Authorization": header} if header else {})
            assert (answer.status_code, answer.json()["code"]) == (401, code), header
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert "operator" in answer.json()["detail"]
            assert "wrong" not in answer.text.replace("what is wrong", "")


async def test_first_key_is_logged_where_requests_without_a_key_were_served(
    world: World, api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await api.get("/v1/tasks")).status_code == 200
    key = await add_key(world)
    world.clock.forward(6)
    assert (await api.get("/v1/tasks")).json()["code"] == "unauthorized"
    assert (await api.get("/v1/tasks", headers={"Authorization": f"Bearer {key}"})).status_code == 200
    assert [record.getMessage() for record in caplog.records if "first API key" in record.getMessage()] != []
