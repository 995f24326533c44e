"""``dovecote keys`` alone and beside a running server, on both databases."""

import asyncio
import dataclasses
import datetime as dt
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from service.cli import exits, main
from service.cli.processes import LOOPBACK, ProcessGroup, free_ports
from service.domain.api_key import looks_like_one
from service.store.migrate import newest
from service.web.auth.key_cache import LIFETIME
from tests.support.processes import client_of, dovecote, run, started
from tests.support.world import TASK_REQUEST

pytestmark = pytest.mark.xdist_group("demo")


def keys(url: str, *arguments: str, **settings: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments], env={"DOVECOTE_DATABASE_URL": url, **settings})


def made(url: str, *arguments: str) -> str:
    result = keys(url, "create", *arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout).strip()


def shown(url: str, *arguments: str) -> Any:
    result = keys(url, *arguments, "--json")
    said = "" if arguments[0] != "create" else result.stderr
    assert (result.exit_code, result.stderr) == (0, said), result.output
    return json.loads(result.stdout)


def database_file(url: str) -> bytes:
    path = Path(url.removeprefix("sqlite:///"))
    return b"".join(each.read_bytes() for each in path.parent.glob("dovecote.db*"))


def test_created_key_is_printed_once_and_not_stored(sqlite_url: str) -> None:
    result = keys(sqlite_url, "create", "shop", "--name", "web shop")
    text = result.stdout.strip()
    assert looks_like_one(text)
    assert result.stdout.count("\n") == 1
    assert "For shop: read, submit. It is shown this once: store it now" in result.stderr
    assert text not in result.stderr
    assert text.rpartition("_")[2].encode() not in database_file(sqlite_url)
    assert text[:13].encode() in database_file(sqlite_url)
    listed = keys(sqlite_url, "list")
    assert "web shop" in listed.stdout
    assert f"{text[:13]}_…" in listed.stdout
    assert text[14:] not in listed.output


def test_key_has_the_given_scopes_and_expiry(sqlite_url: str) -> None:
    document = shown(sqlite_url, "create", "ops", "--scope", "admin", "--scope", "read", "--expires", "90d")
    assert looks_like_one(document["key"])
    assert (document["client"], document["scopes"], document["valid"]) == ("ops", ["admin", "read"], True)
    until = dt.datetime.fromisoformat(document["expires_at"]) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=89, hours=23) < until < dt.timedelta(days=90)
    later = shown(sqlite_url, "create", "ops", "--expires", "2999-12-31T00:00:00Z")
    assert later["expires_at"] == "2999-12-31T00:00:00+00:00"
    assert later["scopes"] == ["read", "submit"]
    [first, second] = shown(sqlite_url, "list")["keys"]
    assert (first, second) == tuple(
        {name: value for name, value in each.items() if name != "key"} for each in (later, document)
    )


def test_first_key_of_an_installation_comes_with_a_warning(sqlite_url: str) -> None:
    """The first key ends the access without a key, also from this machine."""
    first, second = (keys(sqlite_url, "create", "shop") for _ in range(2))
    assert "This is the first API key" in first.stderr
    assert f"within {LIFETIME.seconds} seconds" in first.stderr
    assert "DOVECOTE_API_KEY" in first.stderr
    assert "first API key" not in second.stderr


def test_first_key_beside_a_key_of_the_settings_needs_no_warning(sqlite_url: str) -> None:
    result = keys(sqlite_url, "create", "shop", DOVECOTE_API_KEYS="old=a-key-that-is-long-enough")
    assert "first API key" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create"], "Missing argument 'CLIENT'"),
        (["create", " "], "must have 1 to 200 printable characters"),
        (["create", "a\nb"], "must have 1 to 200 printable characters"),
        (["create", "a", "--name", "x" * 201], "must have 1 to 200 printable characters"),
        (["create", "a", "--scope", "root"], "'root' is not one of 'read', 'submit', 'admin'"),
        (["create", "a", "--expires", "tomorrow"], "neither a span"),
        (["create", "a", "--expires", "2020-01-01"], "is in the past"),
        (["create", "a", "--expires", "0"], "is in the past"),
        (["create", "a", "--expires", "999999999999d"], "neither a span"),
        (["revoke", "dove_00000000"], "no key in the database has this prefix"),
    ],
)
def test_mistake_is_reported_and_creates_no_key(sqlite_url: str, arguments: list[str], words: str) -> None:
    result = keys(sqlite_url, *arguments)
    assert result.exit_code == exits.USAGE
    assert words in " ".join(re.sub("[│╭╰─╮╯]", " ", result.stderr).split())
    assert shown(sqlite_url, "list") == {"keys": []}


def test_key_is_revoked_by_its_prefix_or_the_whole_key(sqlite_url: str) -> None:
    first, second = made(sqlite_url, "shop"), made(sqlite_url, "shop")
    for given in (first[:13], second):
        result = keys(sqlite_url, "revoke", given)
        assert (result.exit_code, result.stdout) == (0, "")
        assert f"{given[:13]} of shop is revoked" in result.stderr
        assert given[14:] not in result.output or given == first[:13]
    once = shown(sqlite_url, "list")["keys"]
    assert [key["valid"] for key in once] == [False, False]
    assert shown(sqlite_url, "revoke", first)["revoked_at"] == once[1]["revoked_at"]  # and stays so
    assert keys(sqlite_url, "list").stdout.count("revoked") == 2


def test_list_filters_by_client_and_names_the_keys_of_the_settings(sqlite_url: str) -> None:
    assert "No keys found" in keys(sqlite_url, "list").stderr
    for client in ("shop", "studio"):
        made(sqlite_url, client)
    result = keys(sqlite_url, "list", "--client", "shop", DOVECOTE_API_KEYS="old=a-key-that-is-long-enough")
    assert ("shop" in result.stdout, "studio" in result.stdout) == (True, False)
    assert "In the settings: old." in result.stderr
    assert "long-enough" not in result.output


def test_missing_database_is_not_created(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nothing' / 'dovecote.db'}"
    for arguments in (["create", "shop"], ["list"], ["revoke", "dove_00000000"]):
        result = keys(url, *arguments)
        assert (result.exit_code, result.stdout) == (exits.UNAVAILABLE, "")
        assert "run `dovecote migrate` first" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_old_schema_is_refused(sqlite_url: str) -> None:
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.commit()
    result = keys(sqlite_url, "create", "shop")
    assert (result.exit_code, result.stdout) == (exits.UNAVAILABLE, "")
    assert f"schema 0000, this version needs schema {newest()}: run `dovecote migrate` first" in result.stderr
    assert connection.execute("SELECT count(*) FROM api_keys").fetchone() == (0,)
    connection.close()


def test_unreachable_database_is_reported() -> None:
    (port,) = free_ports(1)
    result = keys(f"postgresql://dovecote:hunter2@{LOOPBACK}:{port}/dovecote", "list")
    assert (result.exit_code, result.stdout) == (exits.UNAVAILABLE, "")
    assert "nothing listens at the database's address" in result.stderr
    assert "hunter2" not in result.stderr


# ── beside a server ────────────────────────────────────────────────────────────────────────────────────────────────


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.long
async def test_key_created_beside_a_busy_server_is_valid_at_once(database_url: str, tmp_path: Path) -> None:
    (callback_port,) = free_ports(1)
    served = dovecote(tmp_path, database_url, "http://127.0.0.1:9", "web")
    served = dataclasses.replace(
        served,
        environment={
            **served.environment,
            "DOVECOTE_API_KEYS": "busy=a-key-that-is-long-enough",
            "DOVECOTE_CALLBACK_PORT": str(callback_port),
        },
    )
    with ProcessGroup() as group:
        await started(group, served)
        async with client_of(served) as client:
            done = asyncio.Event()

            async def keep_busy() -> int:
                count = 0
                while not done.is_set():
                    headers = bearer("a-key-that-is-long-enough")
                    assert (await client.post("/v1/tasks", json=TASK_REQUEST, headers=headers)).status_code == 202
                    count += 1
                return count

            busy = [asyncio.create_task(keep_busy()) for _ in range(4)]
            for number in range(2):
                code, out, said = await run(tmp_path, database_url, "keys", "create", f"client-{number}")
                assert code == 0, said
                answer = await client.post("/v1/tasks", json=TASK_REQUEST, headers=bearer(out.strip()))
                assert answer.status_code == 202, answer.text
                listed = await client.get("/v1/tasks", headers=bearer(out.strip()))
                assert [task["id"] for task in listed.json()["tasks"]] == [answer.json()["id"]]
            done.set()
            assert sum(await asyncio.gather(*busy)) > 8
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{callback_port}", trust_env=False) as door:
            assert (await door.get("/healthz")).status_code == 200
            assert (await door.get("/v1/tasks", headers=bearer(out.strip()))).status_code == 404
            assert (await door.post("/callbacks/forged", content=b"{}")).status_code == 404
        assert f"callback port open url=http://{LOOPBACK}:{callback_port}" in served.log.read_text()
        assert await asyncio.to_thread(stopped, served) == 0
    listed_keys = (await asyncio.to_thread(shown, database_url, "list"))["keys"]
    assert len(listed_keys) == 2


def stopped(served: Any) -> int:
    served.process.terminate()
    return int(served.process.wait(60))


@pytest.mark.long
async def test_server_on_a_public_address_starts_only_with_a_key(sqlite_url: str, tmp_path: Path) -> None:
    # An unusual spelling of loopback, which no other machine can reach.
    reached = {"DOVECOTE_HOST": "127.1"}
    served = dovecote(tmp_path, sqlite_url, "http://127.0.0.1:9", "web")
    served = dataclasses.replace(served, environment={**served.environment, **reached})
    with ProcessGroup() as group:
        group.start(served)
        assert served.process is not None
        assert await asyncio.to_thread(served.process.wait, 60) == exits.SETTINGS
        said = served.tail()
        assert "127.1 can be reached by others and there is no API key: anyone could spend your credit" in said
        assert "Traceback" not in said
        key = await asyncio.to_thread(made, sqlite_url, "shop")
        await started(group, served)
        async with client_of(served) as client:
            assert (await client.get("/v1/tasks")).status_code == 401
            assert (await client.get("/v1/tasks", headers=bearer(key))).status_code == 200
