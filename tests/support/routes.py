"""A world with three upstreams for Runway."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from service.domain.task import Task
from service.sandbox import Faults, InProcessTransport, Sandbox
from tests.support.world import JOB_SECONDS, World

THREE_UPSTREAMS = {
    "COMETAPI_KEY": "comet-key",
    "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://comet.test",
    "RUNWAYML_API_SECRET": "runway-key",
    "DOVECOTE_UPSTREAMS__RUNWAYML__BASE_URL": "http://runwayml.test",
}
WITHOUT_WEBHOOK: dict[str, Any] = {"operation": "text_to_video", "callback_url": None}


def another_sandbox(world: World, key: str, faults: Faults | None = None) -> Sandbox:
    async def nobody(_url: str, _body: bytes) -> int:
        return 0

    return Sandbox(seconds=JOB_SECONDS, key=key, clock=world.clock.seconds, faults=faults or Faults(), send=nobody)


class Route:
    """A world with three upstreams for Runway."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.elk, self.comet, self.runway = (
            world.sandbox,
            another_sandbox(world, "comet-key"),
            another_sandbox(world, "runway-key"),
        )
        world.edge.hosts |= {
            "comet.test": InProcessTransport(self.comet.app),
            "runwayml.test": InProcessTransport(self.runway.app),
        }

    @property
    def jobs(self) -> list[int]:
        return [len(each.ledger.jobs) for each in (self.elk, self.comet, self.runway)]

    async def history(self, task: Task) -> list[tuple[str, str]]:
        return [(each.upstream, each.outcome) for each in await self.world.submissions(task)]


@contextlib.asynccontextmanager
async def three_upstreams(url: str, **more: str) -> AsyncIterator[Route]:
    async with World.opened(url, **{**THREE_UPSTREAMS, **more}) as world:
        yield Route(world)
