"""Proofs of jobs that come when nobody expects them: together, late, or while somebody else looks at the same job."""

import asyncio
from typing import Any

import pytest

from service.domain.task import State
from service.flows import submit
from service.flows.underway import Underway
from service.sandbox import Faults
from tests.test_routing import route

WISH: dict[str, Any] = {"operation": "text_to_video", "callback_url": None}
AGAIN = {"confirm_double_payment": True}


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_the_client_wants_cancelled_is_neither_bought_again_nor_looked_at_for_ever(
    database_url: str, *, cancelled: bool
) -> None:
    async with route(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi") as three, asyncio.timeout(30):
        three.elk.faults = Faults.named(["cut", "drop"])
        task = await three.world.submit(**WISH, on_uncertain="resubmit_once", deadline=400)
        await three.world.work()
        if cancelled:
            await three.world.client.post(f"/v1/tasks/{task.id}/cancel")
        await three.world.until(300)
        assert three.jobs == [1 if cancelled else 2, 0, 0]
        assert (await three.world.task(task)).state is State.UNCONFIRMED
        await three.world.until(110)
        assert (await three.world.task(task)).state is State.EXPIRED


async def test_who_waits_for_a_place_is_not_looked_at_without_a_pause(database_url: str) -> None:
    """A submit would fit into the second, and there is no place: no timer ends that, but a place that is given back."""
    limits = {"OPEN_TASKS": "1", "SUBMITS_PER_SECOND": "5"}
    more = {f"DOVECOTE_UPSTREAMS__ELKAPI__{name}": value for name, value in limits.items()}
    async with route(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi", **more) as three:
        for _ in range(2):
            await three.world.submit("[stuck] a dove", **WISH)
        await three.world.work()
        three.world.clock.forward(10)
        bell = three.world.runtime.bells.journeys["submit"]
        bell.clear()
        assert await submit.run_due(three.world.runtime, Underway(1)) == 0
        await asyncio.sleep(0.05)
        assert not bell.is_set()
