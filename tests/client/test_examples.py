"""The examples of docs/client.md and the README run against a real server."""

import asyncio
import contextlib
import io
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup
from service.domain.webhook_events import TYPES
from service.flows.render import MAX_BRIEF
from service.flows.webhooks.signing import signed_headers
from service.sandbox import Sandbox, running
from service.web.sse import HEARTBEAT, RETRY
from tests.support.processes import dovecote, started
from tests.support.world import WEBHOOK_SECRET, World

pytestmark = pytest.mark.xdist_group("demo")

ROOT = Path(__file__).parents[2]
STREAMS = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")


def examples(path: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(code: str, given: dict[str, Any]) -> str:
    """Run an example as a reader would, and return its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, given)  # noqa: S102 - the page's own code
    return printed.getvalue()


@pytest.fixture
async def server(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async with running(Sandbox(seconds=0.3, key=SANDBOX_KEY)) as upstream:
        served = dovecote(tmp_path, sqlite_url, upstream)
        with ProcessGroup() as group:
            await started(group, served)
            monkeypatch.setenv("DOVECOTE_URL", served.url)
            yield


async def test_first_example_of_the_readme_works(server: None) -> None:
    first, *_ = examples("README.md")
    said = (await asyncio.to_thread(run, first, {})).splitlines()
    assert said[0].startswith("task.submitted ")
    assert [line.split()[0] for line in said if line.startswith("task.")][-2:] == ["task.succeeded", "task.settled"]
    assert re.fullmatch(r"\('http://\S+',\)", said[-1])


@pytest.mark.long
async def test_examples_of_the_client_page_work_in_order(server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, keyed, streaming, feed, wrong, webhook, concurrent = examples("docs/client.md")
    given: dict[str, Any] = {}

    async def said(code: str) -> list[str]:
        return (await asyncio.to_thread(run, code, given)).splitlines()

    state, url = await said(waiting)
    assert state.startswith("succeeded Succeeded at elkapi")
    assert url.startswith("http://")
    assert len(await said(keyed)) == 1
    told = await said(streaming)
    types = [line.split()[0] for line in told]
    assert (types[0], *types[-2:]) == ("task.submitted", "task.succeeded", "task.settled")
    assert {line.split()[1] for line in await said(feed)} == {"succeeded"}
    refused = await said(wrong)
    assert refused[0] == "invalid_request"
    assert any(line.startswith("input.promt ") for line in refused)
    await said(concurrent)
    [made] = await given["make"]("a dove")
    assert made.startswith("http://")
    monkeypatch.setitem(os.environ, "DOVECOTE_WEBHOOK_SECRET", WEBHOOK_SECRET)
    await said(webhook)


async def test_receiver_of_the_client_page_accepts_genuine_webhooks_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await world.submit()
    await world.until(60)
    [message] = await world.messages(task)
    monkeypatch.setenv("DOVECOTE_WEBHOOK_SECRET", WEBHOOK_SECRET)
    given: dict[str, Any] = {}
    run(examples("docs/client.md")[5], given)
    headers = signed_headers(WEBHOOK_SECRET, str(message.id), world.clock(), message.body)
    assert given["receive"](headers, message.body.encode()) == 204
    assert given["receive"](headers, message.body.encode() + b" ") == 401


def test_streams_page_matches_the_code() -> None:
    assert set(re.findall(r"`(task\.\w+)`", STREAMS)) == set(TYPES)
    assert f"After every {HEARTBEAT:.0f} s without an event Dovecote sends a comment" in STREAMS
    assert f"retry: {RETRY * 1000:.0f}\n" in STREAMS
    assert f"than {MAX_BRIEF // 1000} kB of JSON" in STREAMS
