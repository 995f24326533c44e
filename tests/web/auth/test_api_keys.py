"""API keys in the database: the scope of each, its lifetime, and the number of queries for them."""

import asyncio
import datetime as dt
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, insert, select
from sqlalchemy.exc import IntegrityError

from service.app import NoKey, require_key
from service.domain.api_key import ApiKey, Scope, allowed, hash_key, looks_like_one, prefix_of, write_key
from service.store import api_keys as api_keys_module
from service.store import tables
from service.store.database import Database
from service.web.api import ENDPOINTS
from service.web.auth import key_cache as key_cache_module
from service.web.auth.key_cache import KeyCache
from service.web.auth.rate_limit import WINDOW, RateLimiter
from tests.support.cases import case
from tests.support.clients import A_KEY, ALICE, a_key
from tests.support.contract import CONTRACT
from tests.support.values import NOW, later, new_id
from tests.support.values import opened as database_at
from tests.support.world import TASK_REQUEST, Hasty, World

OPERATOR = "operator-key-that-is-long-enough"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def give_key(world: World, **more: Any) -> str:
    """Create a key as the command does: in the database, beside the server."""
    text = write_key(secrets.token_bytes(4), secrets.token_bytes(32))
    async with world.context.database.writing() as connection:
        await api_keys_module.add(connection, a_key(text, **more))
    return text


async def revoke(world: World, text: str) -> None:
    async with world.context.database.writing() as connection:
        await api_keys_module.revoke(connection, prefix_of(text), now=world.clock())


def selects(world: World) -> list[str]:
    """Collect the queries about keys from now on."""
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "api_keys" in statement:
            seen.append(statement)

    for engine in {world.context.database.writer, world.context.database.reader}:
        event.listen(engine.sync_engine, "before_cursor_execute", note)
    return seen


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with World.opened(database_url, **settings) as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        yield world


# ── the value ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=32, max_size=32))
def test_key_format_hides_the_secret(prefix: bytes, secret: bytes) -> None:
    key = write_key(prefix, secret)
    assert looks_like_one(key)
    assert prefix_of(key) == f"dove_{prefix.hex()}"
    assert len(key) - len(prefix_of(key)) == 65
    assert len(hash_key(key)) == 32


@pytest.mark.parametrize(
    "text", ["", "dove_", A_KEY[:-1], A_KEY + "0", A_KEY.upper(), A_KEY + "\n", ALICE, "dove_\ud800", "é" * 78]
)
def test_malformed_key_is_not_looked_up(text: str) -> None:
    assert not looks_like_one(text)
    assert hash_key(text) != hash_key(A_KEY)


def test_key_has_enough_entropy() -> None:
    for prefix, secret in ((3, 32), (4, 31), (0, 0)):
        with pytest.raises(ValueError, match="4 and 32"):
            write_key(bytes(prefix), bytes(secret))


def test_admin_implies_the_other_scopes() -> None:
    assert allowed({Scope.ADMIN}) == set(Scope)
    assert allowed({Scope.READ}) == {Scope.READ}
    assert allowed({Scope.SUBMIT}) == {Scope.SUBMIT}
    assert allowed(()) == set()


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({}, None),
        ({"expires_at": later(1)}, None),
        ({"expires_at": NOW}, "expired"),
        ({"revoked_at": later(-1)}, "revoked"),
        ({"revoked_at": NOW, "expires_at": NOW}, "revoked"),
    ],
)
def test_invalid_key_has_a_reason(more: dict[str, Any], fault: str | None) -> None:
    assert a_key(**more).fault(now=NOW) == fault


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with database_at(database_url) as opened:
        yield opened


async def test_key_round_trips_through_the_database(database: Database) -> None:
    full = a_key(name="shop", expires_at=later(9), revoked_at=later(5), last_used_at=later(3))
    other = a_key(write_key(b"abcd", bytes(32)), scopes=frozenset({Scope.ADMIN}))
    async with database.writing() as connection:
        await api_keys_module.add(connection, full)
        await api_keys_module.add(connection, other)
    async with database.reading() as connection:
        assert await api_keys_module.every(connection) == [other, full]
        found = await api_keys_module.by_hash(connection, [full.hash, hash_key("nothing"), other.hash])
        assert found == {full.hash: full, other.hash: other}
        kept = str((await connection.execute(select(tables.api_keys))).all())
    assert A_KEY not in kept
    assert A_KEY.rpartition("_")[2] not in kept


async def test_revoke_keeps_the_first_time(database: Database) -> None:
    key = a_key()
    async with database.writing() as connection:
        await api_keys_module.add(connection, key)
        for seconds in (1, 2):
            revoked = await api_keys_module.revoke(connection, key.prefix, now=later(seconds))
            assert revoked is not None
            assert revoked.revoked_at == later(1)
        assert await api_keys_module.revoke(connection, "dove_nothing", now=NOW) is None


@pytest.mark.parametrize(
    ("more", "good"),
    [({}, True), ({"expires_at": later(1)}, True), ({"expires_at": NOW}, False), ({"revoked_at": NOW}, False)],
)
async def test_database_and_code_agree_on_valid_keys(database: Database, more: dict[str, Any], *, good: bool) -> None:
    async with database.writing() as connection:
        assert not await api_keys_module.any_created(connection)
        assert not await api_keys_module.any_valid(connection, now=NOW)
        await api_keys_module.add(connection, a_key(**more))
        assert await api_keys_module.any_valid(connection, now=NOW) is good
        assert await api_keys_module.any_created(connection)


@pytest.mark.parametrize("same", ["prefix", "hash"])
async def test_keys_are_unique(database: Database, same: str) -> None:
    async with database.writing() as connection:
        await api_keys_module.add(connection, a_key())
    again = a_key(write_key(b"abcd", bytes(32)), **{same: getattr(a_key(), same)})
    with pytest.raises(IntegrityError):
        async with database.writing() as connection:
            await api_keys_module.add(connection, again)


async def test_key_without_client_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.writing() as connection:
            await connection.execute(insert(tables.api_keys), {**vars_of(a_key()), "client": ""})


def vars_of(key: ApiKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in ApiKey.__slots__} | {"scopes": sorted(key.scopes)}


async def test_last_use_is_recorded_once_and_never_earlier(database: Database) -> None:
    key = a_key()
    async with database.writing() as connection:
        await api_keys_module.add(connection, key)
        assert (
            await api_keys_module.touch(connection, [(key.id, later(2)), (key.id, later(5)), (new_id(), NOW)])
            == [None] * 3
        )
        await api_keys_module.touch(connection, [(key.id, later(1))])
        [kept] = await api_keys_module.every(connection)
    assert kept.last_used_at == later(5)


# ── at the door ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_database_key_authenticates_its_client(keyed: World) -> None:
    key = await give_key(keyed)
    task = (await keyed.client.post("/v1/tasks", json=TASK_REQUEST, headers=bearer(key))).json()
    assert "client" not in task
    for same in (key, ALICE):
        answer = await keyed.client.get(f"/v1/tasks/{task['id']}", headers=bearer(same))
        assert answer.status_code == 200
    other = await give_key(keyed, client="bob")
    assert (await keyed.client.get(f"/v1/tasks/{task['id']}", headers=bearer(other))).status_code == 404


@pytest.mark.parametrize("held", [Scope.READ, Scope.SUBMIT, None])
async def test_endpoint_refuses_a_key_without_its_scope(sqlite_url: str, held: Scope | None) -> None:
    async with World.opened(sqlite_url) as world:
        world.client._transport = Hasty(world.client._transport.app)  # type: ignore[attr-defined]
        world.client.event_hooks["response"].append(CONTRACT.check)
        key = await give_key(world, scopes=frozenset({held} if held else ()))
        for endpoint in ENDPOINTS:
            with case(endpoint.name):
                task = await world.submit()
                path = endpoint.path.replace("{id}", str(task.id))
                answer = await world.client.request(endpoint.method, path, headers=bearer(key), json={})
                if endpoint.scope is held:
                    assert answer.status_code not in {401, 403}
                else:
                    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
                    assert f"`{endpoint.scope}`" in answer.json()["detail"]


def test_every_endpoint_has_a_scope() -> None:
    assert {endpoint.scope for endpoint in ENDPOINTS} <= set(Scope)
    only_look = {endpoint.name for endpoint in ENDPOINTS if endpoint.method == "POST" and endpoint.scope is Scope.READ}
    assert only_look == {"quoteTask"}  # a POST for its body: it stores nothing
    reads = [endpoint for endpoint in ENDPOINTS if endpoint.method == "GET"]
    # With the secret a reader could forge messages to the client's own receivers.
    assert {endpoint.name for endpoint in reads if endpoint.scope is Scope.SUBMIT} == {"getWebhookSecret"}


async def test_admin_sees_all_tasks_with_their_client(keyed: World) -> None:
    made = {}
    for client in ("alice", "bob"):
        key = await give_key(keyed, client=client)
        made[client] = (await keyed.client.post("/v1/tasks", json=TASK_REQUEST, headers=bearer(key))).json()["id"]
    in_database = await give_key(keyed, client="ops", scopes=frozenset({Scope.ADMIN}))
    for operator in (OPERATOR, in_database):
        listed = (await keyed.client.get("/v1/tasks", headers=bearer(operator))).json()["tasks"]
        assert {task["client"]: task["id"] for task in listed} == made
        of_bob = await keyed.client.get("/v1/tasks", params={"client": "bob"}, headers=bearer(operator))
        assert [task["id"] for task in of_bob.json()["tasks"]] == [made["bob"]]
        one = await keyed.client.get(f"/v1/tasks/{made['alice']}", headers=bearer(operator))
        assert one.json()["client"] == "alice"
        assert (await keyed.client.get(f"/v1/tasks/{made['bob']}/events", headers=bearer(operator))).status_code == 200
    cancelled = await keyed.client.post(f"/v1/tasks/{made['bob']}/cancel", headers=bearer(OPERATOR))
    assert (cancelled.json()["state"], cancelled.json()["client"]) == ("cancelled", "bob")
    own = await keyed.client.post("/v1/tasks", json=TASK_REQUEST, headers=bearer(OPERATOR))
    assert own.json()["client"] == "ops"


async def test_other_keys_list_their_own_client_only(keyed: World) -> None:
    await keyed.client.post("/v1/tasks", json=TASK_REQUEST, headers=bearer(ALICE))
    own = await keyed.client.get("/v1/tasks", params={"client": "alice"}, headers=bearer(ALICE))
    assert len(own.json()["tasks"]) == 1
    for other in ("bob", "ops", ""):
        answer = await keyed.client.get("/v1/tasks", params={"client": other}, headers=bearer(ALICE))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "`admin`" in answer.json()["detail"]


async def status(world: World, key: str) -> int:
    return (await world.client.get("/v1/tasks", headers=bearer(key))).status_code


async def test_revoked_key_is_refused_within_seconds(keyed: World) -> None:
    key = await give_key(keyed)
    assert await status(keyed, key) == 200
    await revoke(keyed, key)
    assert await status(keyed, key) == 200  # remembered
    keyed.clock.forward(key_cache_module.LIFETIME.total_seconds())
    answer = await keyed.client.get("/v1/tasks", headers=bearer(key))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "revoked" in answer.json()["detail"]
    assert key not in answer.text


async def test_cached_key_expires_on_time(keyed: World) -> None:
    key = await give_key(keyed, expires_at=keyed.clock() + dt.timedelta(seconds=2))
    assert await status(keyed, key) == 200
    keyed.clock.forward(1)
    assert await status(keyed, key) == 200
    asked = selects(keyed)
    keyed.clock.forward(1)
    assert await status(keyed, key) == 401
    assert asked == []


async def test_key_created_after_a_miss_works_within_seconds(keyed: World) -> None:
    text = write_key(b"late", bytes(32))
    assert await status(keyed, text) == 401
    async with keyed.context.database.writing() as connection:
        await api_keys_module.add(connection, a_key(text))
    keyed.clock.forward(key_cache_module.LIFETIME.total_seconds())
    assert await status(keyed, text) == 200


async def test_clock_set_back_does_not_revive_a_revoked_key(keyed: World) -> None:
    key = await give_key(keyed)
    assert await status(keyed, key) == 200
    await revoke(keyed, key)
    keyed.clock.forward(-3600)
    assert await status(keyed, key) == 401


# ── what it costs ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_key_is_queried_once_per_cache_lifetime(keyed: World) -> None:
    key, stranger = await give_key(keyed), write_key(b"none", bytes(32))
    asked = selects(keyed)
    for _ in range(3):
        assert set(await asyncio.gather(*(status(keyed, key) for _ in range(50)))) == {200}
        assert set(await asyncio.gather(*(status(keyed, stranger) for _ in range(50)))) == {401}
    assert [statement.split()[0] for statement in asked].count("SELECT") == 2
    keyed.clock.forward(key_cache_module.LIFETIME.total_seconds())
    assert await status(keyed, key) == 200
    assert [statement.split()[0] for statement in asked].count("SELECT") == 3


async def test_settings_keys_cause_no_query(keyed: World) -> None:
    asked = selects(keyed)
    assert (await status(keyed, ALICE), await status(keyed, "not-of-the-form"), await status(keyed, "")) == (
        200,
        401,
        401,
    )
    assert asked == []


async def test_guesses_do_not_evict_cached_keys(keyed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache_module, "MAX_ENTRIES", 100)
    key = await give_key(keyed)
    assert await status(keyed, key) == 200
    asked = selects(keyed)
    guesses = [write_key(number.to_bytes(4), bytes(32)) for number in range(1, 301)]
    assert set(await asyncio.gather(*(status(keyed, guess) for guess in guesses))) == {401}
    assert len(asked) < 30
    asked.clear()
    assert await status(keyed, key) == 200
    assert asked == []


async def test_key_cache_evicts_the_oldest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache_module, "MAX_ENTRIES", 2)
    ring = KeyCache(world.context)
    for number in range(4):
        assert await ring.find(bytes([number])) is None
    asked = selects(world)
    assert await ring.find(bytes([3])) is None
    assert asked == []
    assert await ring.find(bytes([0])) is None
    assert len(asked) == 1


async def test_key_check_without_database_is_503() -> None:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE}"}
    async with World.opened("postgresql://nobody@127.0.0.1:1/nothing", **settings) as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        for answer in await asyncio.gather(
            *(world.client.get("/v1/families", headers=bearer(A_KEY)) for _ in range(5))
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert (await world.client.get("/v1/families", headers=bearer(ALICE))).status_code == 200


async def last_used(world: World) -> dt.datetime | None:
    async with world.context.database.reading() as connection:
        [key] = await api_keys_module.every(connection)
    return key.last_used_at


async def test_last_use_is_written_in_the_background(keyed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await give_key(keyed)
    free = asyncio.Event()
    batch = keyed.context.writers.journeys.batch

    async def held_up(*write: Any) -> Any:
        await free.wait()
        return await batch(*write)

    monkeypatch.setattr(keyed.context.writers.journeys, "batch", held_up)
    began = keyed.clock()
    assert await status(keyed, key) == 200  # though nothing is written
    assert await last_used(keyed) is None
    free.set()
    asked = selects(keyed)
    for seconds, noted in ((0, 0), (30, 0), (29, 0), (2, 61), (59, 61), (2, 122)):
        keyed.clock.forward(seconds)
        assert await status(keyed, key) == 200
        await until_written()
        assert await last_used(keyed) == began + dt.timedelta(seconds=noted)
    assert sum(statement.startswith("UPDATE") for statement in asked) == 3


async def until_written() -> None:
    """Wait until the writer has run."""
    others = [task for task in asyncio.all_tasks() if task.get_name() == "key used"]
    await asyncio.gather(*others)


async def test_failed_last_use_write_is_ignored(world: World) -> None:
    ring, key = KeyCache(world.context), a_key()
    world.context.writers.close()
    ring.note_use(key)
    await ring.settle()


# ── without keys ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_first_key_ends_keyless_access(world: World) -> None:
    async def asks(**headers: str) -> int:
        return (await world.client.get("/v1/tasks", headers=headers)).status_code

    assert await asks() == 200
    key = await give_key(world, expires_at=world.clock() + dt.timedelta(seconds=20))
    world.clock.forward(key_cache_module.LIFETIME.total_seconds())
    assert (await asks(), await asks(**bearer(key))) == (401, 200)
    world.clock.forward(20)
    await revoke(world, key)
    assert (await asks(), await asks(**bearer(key))) == (
        401,
        401,
    )  # no key is left, and still no request is served without one


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "https://localhost.evil"])
async def test_keyless_access_refuses_other_origins(api: httpx.AsyncClient, origin: str) -> None:
    answer = await api.post("/v1/tasks", json=TASK_REQUEST, headers={"Origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await api.get("/v1/tasks", headers={"Origin": "http://localhost"})).json()["tasks"] == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "dovecote.example"])  # noqa: S104 - refused, which is what is tested
async def test_public_address_needs_a_key(database_url: str, host: str) -> None:
    async with World.opened(database_url, DOVECOTE_HOST=host) as world:
        with pytest.raises(NoKey, match="anyone could spend your credit"):
            await require_key(world.context)
        assert (await world.client.get("/v1/tasks", headers={"Host": "localhost"})).status_code == 401
        key = await give_key(world)
        await require_key(world.context)
        assert await status(world, key) == 200
        await revoke(world, key)
        with pytest.raises(NoKey, match=f"host: {host} can be reached by others"):
            await require_key(world.context)


async def test_settings_keys_allow_the_start(keyed: World) -> None:
    await require_key(keyed.context)


# ── how often ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def limited(sqlite_url: str) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},ops={OPERATOR}", "DOVECOTE_RATE_LIMIT": "3"}
    async with World.opened(sqlite_url, **settings) as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        yield world


async def test_rate_limit_is_enforced_and_reported(limited: World) -> None:
    told = []
    for path in ("/v1/tasks", "/v1/nothing", "/v1/tasks/x", "/v1/tasks?limit=0", "/v1/tasks"):
        answer = await limited.client.get(path, headers=bearer(ALICE))
        told.append((answer.status_code, answer.headers.get("ratelimit")))
        assert answer.headers.get("ratelimit-policy") in {None, '"per-key";q=3;w=60'}
    assert told == [
        (200, '"per-key";r=2;t=20'),
        (404, None),  # no such route: the key was not checked
        (404, '"per-key";r=1;t=40'),
        (422, '"per-key";r=0;t=60'),
        (429, '"per-key";r=0;t=60'),
    ]
    assert (answer.json()["code"], answer.headers["retry-after"]) == ("rate_limited", "20")
    assert (await limited.client.get("/v1/tasks", headers=bearer(OPERATOR))).status_code == 200
    limited.clock.forward(19)
    assert await status(limited, ALICE) == 429
    limited.clock.forward(1)
    assert (await status(limited, ALICE), await status(limited, ALICE)) == (200, 429)


async def test_rate_limit_excludes_unauthenticated_requests_and_callbacks(limited: World) -> None:
    answer = await limited.client.get("/v1/tasks", headers=bearer("stranger"))
    assert (answer.status_code, "ratelimit" in answer.headers) == (401, False)
    for _ in range(5):
        assert (await limited.client.post("/callbacks/x", content=b"{}")).status_code == 404


async def test_no_rate_limit_headers_without_a_limit(keyed: World) -> None:
    answer = await keyed.client.get("/v1/tasks", headers=bearer(ALICE))
    assert not {"ratelimit", "ratelimit-policy"} & set(answer.headers)


@given(
    st.integers(1, 500),
    st.lists(st.floats(-50, 200, allow_nan=False), min_size=1, max_size=60),
)
def test_rate_limit_is_a_token_bucket(limit: int, steps: list[float]) -> None:
    rates, at, forward, let_in = RateLimiter(limit), 1000.0, 0.0, 0
    for step in steps:
        at += step
        forward += max(step, 0)
        allowance = rates.take("key", at=at)
        let_in += allowance.wait is None
        assert 0 <= allowance.left <= limit
        assert 0 <= allowance.full_in <= WINDOW
        if allowance.wait is not None:
            assert 1 <= allowance.wait <= WINDOW
    assert let_in <= limit + forward * limit / WINDOW + 1


@given(st.integers(1, 500))
def test_request_after_retry_after_is_admitted(limit: int) -> None:
    rates, at = RateLimiter(limit), 0.0
    for _ in range(limit):
        assert rates.take("key", at=at).wait is None
    for _ in range(5):
        wait = rates.take("key", at=at).wait
        assert wait is not None
        at += wait
        assert rates.take("key", at=at).wait is None
        while rates.take("key", at=at).wait is None:
            pass
    assert rates.take("other", at=at).wait is None
