"""Fail-over from a gateway to OpenAI's own API, for images and chat, over real sockets.

A refusal before anything was made goes to OpenAI. A refusal of the input ends the task. A request that may have arrived is never sent again.
"""

import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from service.domain.task import State, Task
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from service.providers import dialect as dialects
from tests.support.breakage import HEAD, Handle, Server, answering, hang, nowhere, reset
from tests.support.scripted_upstream import Answer, ScriptedUpstream
from tests.support.world import World

GATEWAY_KEY, OFFICIAL_KEY = "sk-gateway-key", "sk-official-key"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n a picture").decode()
REQUESTS: dict[str, dict[str, Any]] = {
    "image": {"operation": "text_to_image", "input": {"prompt": "a dove"}},
    "chat": {"operation": "chat", "input": {"prompt": "Name three colours."}},
}
OFFICIAL = {
    "POST /v1/images/generations": [Answer({"created": 1, "data": [{"b64_json": PNG}]})],
    "POST /v1/chat/completions": [
        Answer(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": "gpt-6-luna",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "Red."}, "finish_reason": "stop"}],
            }
        )
    ],
}
RESULTS = {"image": f"data:image/png;base64,{PNG}", "chat": "Red."}


def error(status: int, message: str, *, code: str = "", kind: str = "comet_api_error") -> Answer:
    return Answer({"error": {"message": message, "type": kind, "param": "", "code": code}}, status)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A gateway's answer, and what comes of the task."""

    answer: Answer | None
    state: State = State.SUCCEEDED
    asked: int = 1
    """How often the gateway is asked."""
    failure: str | None = None

    @property
    def fails_over(self) -> bool:
        """Whether OpenAI serves the task in the end."""
        return self.state is State.SUCCEEDED


NOTHING_MADE = {
    "401 key": Case(error(401, "无效的令牌 (request id: 1)")),
    "403 permission": Case(error(403, "this token may not use the model (request id: 1)")),
    "403 quota": Case(error(403, "用户额度不足, 剩余额度: $0.00", code="insufficient_user_quota")),
    "429 rate limit": Case(error(429, "too many requests"), asked=3),
    "429 quota": Case(error(429, "You exceeded your current quota", code="insufficient_quota")),
    "400 billing limit": Case(error(400, "Billing hard limit has been reached", code="billing_hard_limit_reached")),
    "503 no channel": Case(error(503, "无可用渠道 (distributor)", code="model_not_found"), asked=3),
    "500 no channel": Case(error(500, "get channel failed", code="get_channel_failed"), asked=3),
    "404 no such route": Case(error(404, "Invalid URL (POST /v1)", kind="invalid_request_error")),
}
INPUT_REFUSED = {
    "400 input": Case(
        error(400, "Invalid value: '7x7'.", code="invalid_value"), state=State.FAILED, failure="invalid_input"
    ),
    "400 moderation": Case(
        error(400, "Your request was rejected by the safety system.", code="moderation_blocked"),
        state=State.FAILED,
        failure="content_policy",
    ),
}
PERHAPS_MADE = {
    "500 without a reason": Case(error(500, "server had an error", kind="server_error"), state=State.UNCONFIRMED),
    "502 page": Case(Answer(b"<html><title>502 Bad Gateway</title></html>", 502), state=State.UNCONFIRMED),
    "200 page": Case(Answer(b"<html><title>Welcome</title></html>"), state=State.UNCONFIRMED),
}
BROKEN: dict[str, Handle] = {
    "read time-out": answering(then=hang),
    "read time-out in the body": answering(HEAD, b"{", then=hang),
    "reset after the request": answering(then=reset),
}
CASES = NOTHING_MADE | INPUT_REFUSED | PERHAPS_MADE


@contextlib.asynccontextmanager
async def world_of(url: str, gateways: dict[str, str], official: str) -> AsyncIterator[World]:
    """Open a world with real connections: gateways by name and base URL, and OpenAI."""
    settings = {"OPENAI_API_KEY": OFFICIAL_KEY, "DOVECOTE_UPSTREAMS__OPENAI__BASE_URL": official}
    for name, base_url in gateways.items():
        mine = {"BASE_URL": base_url, "KEY": GATEWAY_KEY, "DIALECTS": "openai/images,openai/chat"}
        settings |= {f"DOVECOTE_UPSTREAMS__{name.upper()}__{field}": value for field, value in mine.items()}
    async with World.opened(url, **settings) as world:
        world.context.http = Http.real(Guard(Rules()))
        try:
            yield world
        finally:
            await world.context.http.close()


async def play(world: World, gateways: Sequence[str]) -> dict[tuple[str, str], Task]:
    """Submit an image and a chat to each gateway with OpenAI behind it, and follow them until nothing is due."""
    tasks = {}
    for gateway in gateways:
        for name, request in REQUESTS.items():
            route = [gateway, "openai"]
            tasks[gateway, name] = await world.submit(family="openai", **request, route=route, callback_url=None)
    for _ in range(8):
        await world.work()
        world.clock.forward(10)
    return {key: await world.task(task) for key, task in tasks.items()}


def bought(upstream: ScriptedUpstream, case: str) -> int:
    """Count the requests that create something."""
    return sum(each.method == "POST" for each in upstream.asked[case])


def outputs(task: Task) -> list[str | None]:
    return [result.url or result.text for result in task.results]


async def test_answer_of_a_gateway_decides_whether_openai_is_asked(sqlite_url: str) -> None:
    names = {f"g{number}": name for number, name in enumerate(CASES)}
    scripts = {gateway: {"POST /v1": [CASES[name].answer or Answer()]} for gateway, name in names.items()}
    async with ScriptedUpstream.running({**scripts, "official": OFFICIAL}) as upstream:
        addresses = {gateway: upstream.base_url(gateway) for gateway in names}
        async with world_of(sqlite_url, addresses, upstream.base_url("official")) as world:
            tasks = await play(world, list(names))
        wrong = {}
        for (gateway, request), task in tasks.items():
            case = CASES[names[gateway]]
            seen = task.state, task.failure and task.failure.code, task.upstream
            wanted = case.state, case.failure, "openai" if case.fails_over else gateway
            results = [RESULTS[request]] if case.fails_over else []
            if (seen, outputs(task)) != (wanted, results):
                wrong[names[gateway], request] = seen, task.failure, task.last_error
        assert wrong == {}
        for gateway, name in names.items():
            assert bought(upstream, gateway) == len(REQUESTS) * CASES[name].asked, name
        served = [case for case in CASES.values() if case.fails_over]
        assert bought(upstream, "official") == len(REQUESTS) * len(served), "each is bought once"
        for at, key in ((upstream.asked["official"], OFFICIAL_KEY), (upstream.asked["g0"], GATEWAY_KEY)):
            assert {each.headers["authorization"] for each in at} == {f"Bearer {key}"}


@pytest.mark.parametrize("how", ["refused"])
async def test_gateway_without_a_connection_fails_over(sqlite_url: str, how: str) -> None:
    async with nowhere(how) as address, ScriptedUpstream.running({"official": OFFICIAL}) as upstream:
        async with world_of(sqlite_url, {"gateway": address}, upstream.base_url("official")) as world:
            tasks = await play(world, ["gateway"])
        for (_, request), task in tasks.items():
            assert (task.state, task.upstream) == (State.SUCCEEDED, "openai")
            assert outputs(task) == [RESULTS[request]]
        assert bought(upstream, "official") == len(REQUESTS)


@pytest.mark.parametrize("how", BROKEN)
async def test_request_that_may_have_arrived_is_unconfirmed(
    sqlite_url: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "SYNCHRONOUS_TIMEOUT", 0.2)
    async with Server.running(BROKEN[how]) as gateway, ScriptedUpstream.running({"official": OFFICIAL}) as upstream:
        async with world_of(sqlite_url, {"gateway": gateway.url}, upstream.base_url("official")) as world:
            tasks = await play(world, ["gateway"])
        assert {task.state for task in tasks.values()} == {State.UNCONFIRMED}
        assert {task.upstream for task in tasks.values()} == {"gateway"}
        assert gateway.connections == len(REQUESTS)
        assert bought(upstream, "official") == 0
