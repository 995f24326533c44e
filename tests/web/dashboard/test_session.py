"""Sessions: an API key exchanged for a signed cookie that ends with the key, and forms that only its pages can send."""

import datetime as dt
from collections.abc import AsyncIterator

import pytest

from service.domain.api_key import Scope
from service.store import api_keys
from service.web.auth import key_cache
from service.web.dashboard.session import (
    LIFETIME,
    Session,
    cookie_name,
    form_token,
    is_form_token,
    read_session,
    signing_key,
    write_session,
)
from tests.support.clients import ALICE, add_key
from tests.support.pages import OPERATOR, Visitor, inline_code, visitor
from tests.support.values import NOW
from tests.support.world import World

KEY = signing_key("whsec_c2VjcmV0")
SESSION = Session(bytes(range(32)), NOW.replace(microsecond=0) + LIFETIME, "nonce")
COOKIE = cookie_name(secure=False)


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with World.opened(database_url, **settings) as world:
        yield world


# The cookie ------------------------------------------------------------------------------------------------------


def test_session_is_read_as_it_was_written() -> None:
    assert read_session(write_session(SESSION, KEY), KEY, now=NOW) == SESSION


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        ".",
        "a.b",
        "é.b",
        "x" * 10_000,
        write_session(SESSION, signing_key("another")),
        write_session(SESSION, KEY)[:-2],
        "A" + write_session(SESSION, KEY),
        write_session(Session(b"short", NOW + LIFETIME, "n"), KEY),
        write_session(Session(bytes(32), NOW, "n"), KEY),
    ],
    ids=["none", "dot", "no-content", "not-ascii", "huge", "other-secret", "cut", "changed", "short-digest", "over"],
)
def test_forged_damaged_or_ended_session_is_refused(cookie: str) -> None:
    assert read_session(cookie, KEY, now=NOW) is None


def test_form_token_belongs_to_one_session() -> None:
    other = Session(SESSION.digest, SESSION.expires_at, "another")
    assert is_form_token(form_token(SESSION, KEY), SESSION, KEY)
    assert not is_form_token(form_token(other, KEY), SESSION, KEY)
    assert not is_form_token(form_token(None, KEY), SESSION, KEY)
    assert not is_form_token("ключ\ud800", SESSION, KEY)


# Signing in and out ----------------------------------------------------------------------------------------------


async def test_key_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_gets(keyed: World) -> None:
    async with visitor(keyed) as alice:
        answer = await alice.sign_in(ALICE)
        cookie = answer.headers["set-cookie"]
        page = await alice.get("/ui/tasks")
    assert answer.headers["location"] == "/ui/tasks"
    assert {"HttpOnly", "SameSite=strict", "Path=/ui", f"Max-Age={12 * 3600}"} <= set(cookie.split("; "))
    assert ALICE not in cookie
    assert page.status == 200


async def test_cookie_is_secure_behind_https(database_url: str) -> None:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE}", "DOVECOTE_API_URL": "https://dovecote.example/prefix"}
    async with World.opened(database_url, **settings) as world, visitor(world) as alice:
        answer = await alice.sign_in(ALICE)
    assert answer.headers["set-cookie"].startswith("__Secure-dovecote_session=")
    assert {"Secure", "Path=/prefix/ui"} <= set(answer.headers["set-cookie"].split("; "))
    assert answer.headers["location"] == "/prefix/ui/tasks"


@pytest.mark.parametrize(
    ("key", "said"),
    [("", "Paste an API key"), ("no-key-of-this-server", "no such key"), ("dove_00000000_" + "0" * 64, "no such key")],
    ids=["empty", "unknown", "unknown-of-the-right-form"],
)
async def test_wrong_key_opens_no_session(keyed: World, key: str, said: str) -> None:
    async with visitor(keyed) as someone:
        answer = await someone.sign_in(key)
    assert answer.status_code in {401, 422}
    assert said in answer.text
    assert "set-cookie" not in answer.headers
    assert not key or key not in answer.text


@pytest.mark.parametrize(
    "origin", ["null", "http://[", "https://evil.example", "", "localhost", "http://localhost.evil"]
)
async def test_sign_in_from_another_site_is_refused_without_its_name_too(database_url: str, origin: str) -> None:
    """Over plain http a browser sends no Sec-Fetch-Site, and a page in a frame without rights has the origin null."""
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE}", "DOVECOTE_PUBLIC_URL": "", "DOVECOTE_API_URL": ""}
    async with World.opened(database_url, **settings) as world, visitor(world) as someone:
        form = {"key": ALICE}
        answer = await someone.client.post("/ui/sign-in", data=form, headers={"Origin": origin})
        own = await someone.client.post("/ui/sign-in", data=form, headers={"Origin": "http://localhost"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert own.status_code == 303


async def test_page_without_session_leads_to_sign_in_and_back(keyed: World) -> None:
    async with visitor(keyed) as someone:
        answer = await someone.client.get("/ui/tasks?state=failed")
        assert answer.status_code == 303
        page = await someone.get(answer.headers["location"])
        following = next(each["value"] for each in page.attributes("input") if each["name"] == "next")
        assert following is not None
        back = await someone.sign_in(ALICE, following)
    assert back.headers["location"] == "/ui/tasks?state=failed"


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/ui/tasks", "//evil.example", "/ui//evil.example", "/ui/\\evil", "/v1/tasks", "/ui/a\nb"],
)
async def test_sign_in_leads_to_pages_of_the_dashboard_only(keyed: World, address: str) -> None:
    async with visitor(keyed) as someone:
        answer = await someone.sign_in(ALICE, address)
    assert answer.headers["location"] == "/ui/tasks"


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_session_ends_with_its_key(keyed: World, end: str) -> None:
    expires = keyed.clock() + dt.timedelta(hours=1)
    key = await add_key(keyed, client="carol", expires_at=expires)
    async with visitor(keyed, key) as carol:
        assert (await carol.get("/ui/tasks")).response.url.path == "/ui/start"
        if end == "revoked":
            async with keyed.context.database.writing() as connection:
                await api_keys.revoke(connection, key.rpartition("_")[0], now=keyed.clock())
            keyed.clock.forward(key_cache.LIFETIME.total_seconds())
        else:
            keyed.clock.forward(3600)
        page = await carol.get("/ui/tasks")
    assert page.response.url.path == "/ui/sign-in"
    assert end in page.text


async def test_session_ends_after_its_time(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        keyed.clock.forward(LIFETIME.total_seconds())
        page = await alice.get("/ui/tasks")
    assert page.response.url.path == "/ui/sign-in"
    assert "Your session has ended" in page.text


async def test_sign_out_removes_the_cookie(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        page = await alice.post("/ui/sign-out")
        assert page.response.url.path == "/ui/sign-in"
        assert COOKIE not in alice.client.cookies


async def test_session_does_not_open_the_api(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        cookie = alice.client.cookies[COOKIE]
        answer = await alice.client.get("/v1/tasks", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert answer.status_code == 401


# Forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "x", form_token(None, KEY)], ids=["none", "wrong", "of-another-secret"])
async def test_form_without_the_token_of_its_session_is_refused(keyed: World, token: str) -> None:
    async with visitor(keyed, ALICE) as alice:
        page = await alice.post("/ui/theme", token=token, theme="dark")
    assert page.status == 403
    assert "set-cookie" not in page.response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
    ids=["fetch-site", "subdomain", "origin", "opaque-origin"],
)
@pytest.mark.parametrize("path", ["/ui/theme", "/ui/sign-in"])
async def test_form_of_another_site_is_refused(keyed: World, path: str, headers: dict[str, str]) -> None:
    async with visitor(keyed, ALICE) as alice:
        fields = {"token": await alice.token(), "theme": "dark", "key": ALICE}
        answer = await alice.client.post(path, data=fields, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_theme_is_kept_in_a_cookie_and_written_into_the_page(keyed: World) -> None:
    async with visitor(keyed, ALICE) as alice:
        await alice.post("/ui/theme", theme="dark")
        dark = await alice.get("/ui/tasks")
        await alice.post("/ui/theme", theme="")
        system = await alice.get("/ui/tasks")
    assert dark.attributes("html")[0]["data-theme"] == "dark"
    assert "data-theme" not in system.attributes("html")[0]


# Without keys ----------------------------------------------------------------------------------------------------


async def test_without_keys_this_machine_needs_no_session(world: World) -> None:
    async with visitor(world) as someone:
        assert (await someone.get("/")).response.url.path == "/ui/start"
        assert (await someone.get("/ui/sign-in")).response.url.path == "/ui/start"
        assert (await someone.post("/ui/theme", theme="dark")).status == 200


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"X-Forwarded-For": "10.0.0.1"}], ids=["other-name", "proxy"]
)
async def test_without_keys_no_indirect_visit_is_served(world: World, headers: dict[str, str]) -> None:
    async with visitor(world) as someone:
        for path in ("/ui/tasks", "/ui/sign-in"):
            assert (await someone.client.get(path, headers=headers)).status_code == 421


# Every answer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ui/sign-in", "/ui/nothing", "/ui/tasks", "/ui/tasks/no-id"])
async def test_answer_has_a_strict_policy_and_no_inline_code(keyed: World, path: str) -> None:
    async with visitor(keyed, ALICE) as alice:
        page = await alice.get(path)
    policy = page.response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.response.headers["cache-control"] == "no-store"
    assert page.response.headers["x-content-type-options"] == "nosniff"
    assert inline_code(page) == []


async def test_read_key_may_not_send_a_form(keyed: World) -> None:
    key = await add_key(keyed, client="alice", scopes=frozenset({Scope.READ}))
    async with visitor(keyed, key) as reader:
        page = await reader.get("/ui/tasks")
    assert not page.has_button()


async def test_static_file_is_kept_by_browsers_while_its_address_names_its_content(world: World) -> None:
    async with visitor(world) as someone:
        page = await someone.get("/ui/tasks")
        sheet = next(str(each["href"]) for each in page.attributes("link") if each["rel"] == "stylesheet")
        current = await someone.client.get(sheet)
        other = await someone.client.get("/ui/static/dashboard.css?v=old")
        missing = await someone.client.get("/ui/static/..%2Fvisit.py")
    assert "immutable" in current.headers["cache-control"]
    assert other.headers["cache-control"] == "no-cache"
    assert missing.status_code == 404


async def test_visitor_behind_a_prefix_stays_behind_it(database_url: str) -> None:
    settings = {"DOVECOTE_API_URL": "http://proxy.example/prefix", "DOVECOTE_API_KEYS": f"alice={ALICE}"}
    async with World.opened(database_url, **settings) as world, visitor(world) as someone:
        page = Visitor(someone.client)
        shown = await page.get("/ui/sign-in")
    links = [each.get("href") or each.get("src") for name in ("a", "link", "script") for each in shown.attributes(name)]
    assert [each for each in links if each and not each.startswith(("/prefix/ui/", "#"))] == []


def test_cookie_over_https_has_a_protected_name() -> None:
    assert cookie_name(secure=True) == "__Secure-dovecote_session"
