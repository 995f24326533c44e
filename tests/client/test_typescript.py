"""The TypeScript client: built, and run by Node against a whole Dovecote. Without Node or its packages, it is skipped aloud."""

import hashlib
import json
import re

import pytest
from click.testing import CliRunner

from service.cli.openapi import command as openapi
from tests.support.doors import KEY, doors_on_sockets
from tests.support.node import CLIENT, NODE, run

COMPILER = CLIENT / "node_modules" / ".bin" / "tsc"


def test_types_are_those_of_the_openapi_document() -> None:
    """The generated file names the hash of the document, so that this needs no Node."""
    stated = re.search(r"sha256:([0-9a-f]{64})", (CLIENT / "src" / "schema.ts").read_text(encoding="utf-8"))
    written = CliRunner().invoke(openapi, catch_exceptions=False).output
    assert stated is not None
    assert stated[1] == hashlib.sha256(written.encode()).hexdigest(), "run `make typescript` and commit src/schema.ts"


def test_package_needs_nothing_at_run_time_and_its_lock_names_no_host() -> None:
    package = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((CLIENT / "package-lock.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["devDependencies"].values())
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert [name for name, each in packages.items() if "resolved" in each or "integrity" not in each] == []
    assert [name for name, each in packages.items() if not each.get("dev")] == []


@pytest.mark.long
@pytest.mark.skipif(NODE is None or not COMPILER.exists(), reason="no Node, or no packages: run `make typescript`")
async def test_client_builds_and_works_against_a_server(sqlite_url: str) -> None:
    assert NODE is not None
    code, said = await run(NODE, str(COMPILER), "--project", "tsconfig.json")
    assert code == 0, said
    async with doors_on_sockets(sqlite_url) as stand:
        files = ("test/unit.test.mjs", "test/server.test.mjs")
        code, said = await run(NODE, "--test", *files, DOVECOTE_URL=stand.url, DOVECOTE_API_KEY=KEY)
        assert code == 0, said[-6000:]
        assert "# skipped 0" in said, said[-600:]
        assert stand.paid("a lost typed dove") == 1
