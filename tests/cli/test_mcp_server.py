"""``dovecote mcp``, called with the SDK's own client, against a whole Dovecote over real sockets."""

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import httpx2
import pytest
from click.testing import CliRunner

from service.cli import exits, main
from service.cli.mcp_server import _is_loopback, _is_private, _security
from service.cli.processes import clean_environment
from service.domain.task import State
from service.sandbox import running
from tests.support.clients import add_key
from tests.support.serving import served
from tests.support.world import JOB_SECONDS, World

if TYPE_CHECKING:
    from mcp.client import Client  # slow to import: only the tests do

DOVE = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}


@dataclasses.dataclass
class Served:
    app: Any


@pytest.fixture
async def url(world: World) -> AsyncIterator[str]:
    async with running(Served(world.client._transport.app)) as url:  # type: ignore[attr-defined]
        yield url
        world.context.signals.close()


@contextlib.asynccontextmanager
async def over_stdio(url: str, *arguments: str) -> "AsyncIterator[Client]":
    from mcp import StdioServerParameters
    from mcp.client import Client
    from mcp.client.stdio import stdio_client

    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "service.cli", "mcp", *arguments],
        env={**clean_environment(), "DOVECOTE_URL": url},
        cwd=Path(__file__).parents[2],
    )
    async with Client(stdio_client(parameters)) as client:
        yield client


@contextlib.asynccontextmanager
async def over_http(url: str, *, shared_key: bool = True, **headers: str) -> "AsyncIterator[Client]":
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    from service.cli.mcp_server.server import build

    app = build(url, shared_key=shared_key).streamable_http_app(stateless_http=True)
    async with (
        app.router.lifespan_context(app),
        served(app) as port,
        httpx2.AsyncClient(headers=headers, trust_env=False) as http,
        Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)) as client,
    ):
        yield client


async def result_of(client: "Client", tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert isinstance(answer.structured_content, dict)
    return answer.structured_content


async def error_of(client: "Client", tool: str, **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error
    return str(answer.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_agent_buys_one_task_waits_and_fetches_its_results(world: World, url: str, transport: str) -> None:
    connected = over_stdio(url) if transport == "stdio" else over_http(url)
    async with connected as agent:
        tools = {tool.name for tool in (await agent.list_tools()).tools}
        assert tools == {"families", "submit", "wait", "get", "list", "fetch_results", "cancel"}
        assert "SAME `request_id`" in (agent.instructions or "")
        schema = await result_of(agent, "families", family="runway", operation="text_to_video")
        assert "prompt" in schema["input"]["properties"]
        task = await result_of(agent, "submit", **DOVE, request_id="purchase-1", labels={"film": "intro"})
        again = await result_of(agent, "submit", **DOVE, request_id="purchase-1", labels={"film": "intro"})
        assert again["id"] == task["id"]
        other = await result_of(agent, "submit", **DOVE, request_id="purchase-2")
        assert other["id"] != task["id"]
        assert (await result_of(agent, "wait", task_id=task["id"], seconds=1))["ended"] is False
        waiting = asyncio.create_task(result_of(agent, "wait", task_id=task["id"]))
        await world.until(JOB_SECONDS * 2)
        ended = await waiting
        assert (ended["state"], ended["ended"], ended["results"]) == ("succeeded", True, 3)
        listed = await result_of(agent, "list", labels={"film": "intro"})
        assert [each["id"] for each in listed["tasks"]] == [task["id"]]
        assert await result_of(agent, "get", task_id=task["id"]) == ended
        fetched = await result_of(agent, "fetch_results", task_id=task["id"])
        assert len(fetched["results"]) == 3
        assert fetched["results"][0]["url"].startswith("http")
        assert "files" not in fetched
        assert {each["id"] for each in (await result_of(agent, "list"))["tasks"]} == {task["id"], other["id"]}
    assert len(world.sandbox.ledger.jobs) == 2


async def test_results_are_saved_into_a_folder_of_the_task(world: World, url: str, tmp_path: Path) -> None:
    lyrics = {"family": "suno", "operation": "lyrics", "input": {"prompt": "a dove"}}
    async with over_stdio(url, "--output", str(tmp_path)) as agent:
        task = await result_of(agent, "submit", **lyrics, request_id="purchase-1")
        await world.until(JOB_SECONDS * 2)
        fetched = await result_of(agent, "fetch_results", task_id=task["id"])
    assert fetched["files"]
    assert all(Path(each).parent == tmp_path / task["id"] for each in fetched["files"])
    assert [path.read_text() for path in (tmp_path / task["id"]).iterdir()][:1] == [fetched["results"][0]["text"]]


async def test_call_that_the_agent_gives_up_loses_no_task_and_its_repeat_buys_nothing(world: World, url: str) -> None:
    async with over_http(url) as agent:
        task = await result_of(agent, "submit", **DOVE, request_id="purchase-1")
        with pytest.raises(Exception, match=r"(?i)timed out"):
            await agent.call_tool("wait", {"task_id": task["id"]}, read_timeout_seconds=0.2)
    async with over_http(url) as later:
        assert (await result_of(later, "submit", **DOVE, request_id="purchase-1"))["id"] == task["id"]
        assert len((await result_of(later, "list"))["tasks"]) == 1


async def test_agent_reads_what_is_wrong_with_a_call(world: World, url: str) -> None:
    async with over_http(url) as agent:
        task = await result_of(agent, "submit", **DOVE, request_id="purchase-1")
        changed = {**DOVE, "input": {"prompt": "two doves"}, "request_id": "purchase-1"}
        assert "idempotency_key_reused" in await error_of(agent, "submit", **changed)
        wrong = {**DOVE, "input": {"prompt": 7}, "request_id": "purchase-2"}
        assert "input.prompt" in await error_of(agent, "submit", **wrong)
        assert "request_id" in await error_of(agent, "submit", **DOVE)
        assert "request_id" in await error_of(agent, "submit", **DOVE, request_id="short")
        assert "no results" in await error_of(agent, "fetch_results", task_id=task["id"])
        assert "not_found" in await error_of(agent, "get", task_id="01a1fdfb-6590-78b2-9217-c49a4ce509c0")
        for tool in ("get", "wait", "cancel", "fetch_results"):
            assert "is not an id" in await error_of(agent, tool, task_id="the last one/../x")
        assert "Families: " in await error_of(agent, "families", family="pigeon")
        assert "Operations: " in await error_of(agent, "families", family="runway", operation="fly")
        assert "without family" in await error_of(agent, "families", operation="text_to_video")
        assert (await result_of(agent, "cancel", task_id=task["id"]))["id"] == task["id"]


async def test_each_agent_has_the_rights_of_its_own_key_over_http(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await add_key(world)
    async with over_http(url, authorization=f"Bearer {alice}") as agent:
        assert (await result_of(agent, "list"))["tasks"] == []
    monkeypatch.setenv("DOVECOTE_API_KEY", alice)
    async with over_http(url, shared_key=True) as agent:
        assert (await result_of(agent, "list"))["tasks"] == []
    async with over_http(url, shared_key=False) as agent:
        assert "unauthorized" in await error_of(agent, "list")
    for forwarding in ("x-forwarded-for", "forwarded", "via", "cf-connecting-ip"):
        async with over_http(url, shared_key=True, **{forwarding: "203.0.113.7"}) as agent:
            assert "unauthorized" in await error_of(agent, "list"), forwarding
    async with over_http(url, authorization=f"Bearer {alice}", via="1.1 proxy") as agent:
        assert (await result_of(agent, "list"))["tasks"] == []
    async with over_http(url, authorization="Bearer dove_wrong") as agent:
        assert "401" in await error_of(agent, "list")


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_submit_that_the_agent_gives_up_is_bought_once(world: World, url: str, transport: str) -> None:
    connected = over_stdio(url) if transport == "stdio" else over_http(url)
    async with connected as agent:
        await agent.list_tools()
        for _ in range(3):
            with pytest.raises(Exception, match=r"(?i)timed out"):
                await agent.call_tool("submit", {**DOVE, "request_id": "purchase-1"}, read_timeout_seconds=0.001)
        task = await result_of(agent, "submit", **DOVE, request_id="purchase-1")
        await world.until(JOB_SECONDS * 2)
        with pytest.raises(Exception, match=r"(?i)timed out"):
            await agent.call_tool("wait", {"task_id": task["id"]}, read_timeout_seconds=0.001)
        assert (await result_of(agent, "wait", task_id=task["id"]))["state"] == "succeeded"
        assert [each["id"] for each in (await result_of(agent, "list"))["tasks"]] == [task["id"]]
    assert len(world.sandbox.ledger.jobs) == 1


async def test_agent_reaches_no_task_of_another_client(world: World, url: str) -> None:
    alice, bob = await add_key(world, client="alice"), await add_key(world, client="bob")
    async with over_http(url, authorization=f"Bearer {bob}") as other:
        hidden = await result_of(other, "submit", **DOVE, request_id="purchase-1", labels={"film": "secret"})
    async with over_http(url, authorization=f"Bearer {alice}") as agent:
        for tool in ("get", "wait", "fetch_results", "cancel"):
            assert "not_found" in await error_of(agent, tool, task_id=hidden["id"])
        for wanted in ({}, {"labels": {"film": "secret"}}, {"state": ["queued"]}):
            assert (await result_of(agent, "list", **wanted))["tasks"] == []
        own = await result_of(agent, "submit", **DOVE, request_id="purchase-1")
        assert own["id"] != hidden["id"]
    async with over_http(url, authorization=f"Bearer {bob}") as other:
        assert (await result_of(other, "get", task_id=hidden["id"]))["state"] == "queued"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"host": "evil.example"}, 421, id="another host is refused"),
        pytest.param({"origin": "https://evil.example"}, 403, id="another origin is refused"),
        pytest.param({"host": "mcp.example.com"}, 200, id="an allowed host is served"),
    ],
)
async def test_page_in_a_browser_cannot_reach_the_tools(headers: dict[str, str], status: int) -> None:
    from service.cli.mcp_server.server import build

    security = _security("127.0.0.1", 8090, ("mcp.example.com",))
    app = build("http://127.0.0.1:9", shared_key=True).streamable_http_app(
        stateless_http=True, json_response=True, transport_security=security
    )
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}},
    }
    accept = {"host": "127.0.0.1:8090", "accept": "application/json, text/event-stream", **headers}
    async with app.router.lifespan_context(app), served(app) as port, httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"http://127.0.0.1:{port}/mcp", json=request, headers=accept)
    assert answer.status_code == status


def test_files_are_not_saved_for_agents_of_other_machines() -> None:
    result = CliRunner().invoke(main, ["mcp", "--http", "--output", "results"])
    assert result.exit_code == exits.USAGE
    assert "--output" in result.stderr


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "service.cli.mcp_server.server")
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    result = CliRunner().invoke(main, ["mcp"])
    assert result.exit_code == 1
    assert "pip install 'dovecote[mcp]'" in result.stderr


def test_every_state_can_be_listed() -> None:
    from service.cli.mcp_server.server import State as ListedState

    assert set(get_args(ListedState)) == {str(state) for state in State}


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("192.0.2.7", False), ("mcp.example.com", False)],
)
def test_key_of_the_process_is_shared_on_loopback_only(host: str, expected: bool) -> None:  # noqa: FBT001
    assert _is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "hosts", "expected"),
    [
        ("127.0.0.1", (), True),
        ("::1", ("localhost",), True),
        ("127.0.0.1", ("mcp.example.com",), False),
        ("localhost", ("localhost", "mcp.example.com"), False),
        ("192.0.2.7", (), False),
    ],
)
def test_key_of_the_process_is_not_shared_behind_a_proxy(host: str, hosts: tuple[str, ...], *, expected: bool) -> None:
    assert _is_private(host, hosts) is expected
