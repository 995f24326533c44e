"""A process that crashes at a chosen step: after a commit, or after an answer from the network."""

import dataclasses
from typing import Any

import httpx

from service.app import application
from service.flows.context import Context
from service.http.client import Http
from service.store.writer import Batch, Submit, Writers
from tests.support.world import World
from tests.support.writers import intercepted

DEADLINE = 400
"""Seconds after which a task of these tests expires."""
LONGEST_LEASE = 250
"""Seconds after which every lease of a dead process has ended."""


class Crash(BaseException):
    """The process is dead. No handler of Dovecote catches it."""


class CrashPoint:
    """Count steps and end the process at one of them."""

    def __init__(self, last_step: int) -> None:
        self._last = last_step
        self.steps = 0

    @property
    def dead(self) -> bool:
        return self.steps >= self._last

    def check(self) -> None:
        if self.dead:
            raise Crash

    def step(self) -> None:
        self.steps += 1
        self.check()


def crashing(writers: Writers, crash_point: CrashPoint) -> Writers:
    """Return writers that commit, and crash after the commit at the chosen step."""

    async def around(submit: Submit, function: Batch[Any, Any], item: Any) -> Any:
        crash_point.check()
        answer = await submit(function, item)
        if answer != []:  # a claim that found nothing is no step
            crash_point.step()
        return answer

    return intercepted(writers, around)


class CrashingNetwork(httpx.AsyncBaseTransport):
    """Delivers a request, and crashes before the answer is read at the chosen step."""

    def __init__(self, network: httpx.AsyncBaseTransport, crash_point: CrashPoint) -> None:
        self._network, self._fate = network, crash_point

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._fate.check()
        response = await self._network.handle_async_request(request)
        self._fate.step()
        return response


class CrashingServer(httpx.AsyncBaseTransport):
    """The process as a caller sees it. A dead process refuses connections; one that crashes while it answers resets them."""

    def __init__(self, context: Context, crash_point: CrashPoint) -> None:
        self._app, self._fate = httpx.ASGITransport(application(context)), crash_point

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._fate.dead:
            raise httpx.ConnectError("connection refused", request=request)
        try:
            return await self._app.handle_async_request(request)
        except Crash:
            raise httpx.ReadError("connection reset", request=request) from None


def start_process(world: World, healthy: Context, crash_point: CrashPoint) -> None:
    """Start a process with this crash point over the same database, network and clock."""
    client = httpx.AsyncClient(transport=CrashingNetwork(world.edge, crash_point), follow_redirects=False)
    writers = crashing(healthy.writers, crash_point)
    world.context = dataclasses.replace(healthy, writers=writers, http=Http(client, client, client, client))
    world.check_alive = crash_point.check
    world.edge.hosts["dovecote.test"] = CrashingServer(world.context, crash_point)
