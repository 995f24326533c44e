"""Signals to other processes: the connection is tried for as long as the process runs, and what waits for it is bounded."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.flows.signals import postgres
from service.flows.signals.local import Signals
from tests.support.waiting import until


def test_hints_that_wait_for_a_connection_are_bounded() -> None:
    unsent = postgres.Hints()
    for number in range(3 * postgres.MAX_UNSENT):
        unsent.add(f"{number:08}")
        unsent.add("submit")
    taken = unsent.take()
    assert len(taken) == postgres.MAX_UNSENT
    assert "submit" in taken
    assert unsent.take() == []
    assert not unsent.wake.is_set()


async def test_connection_is_tried_again_after_any_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgres, "RECONNECT", 0.0)
    settings = SimpleNamespace(database_listen_url="postgresql://nowhere?unknown=1")  # no URL that can be read
    context: Any = SimpleNamespace(settings=settings, signals=Signals())
    task = asyncio.create_task(postgres.stay_connected(context, postgres.Hints()))
    await until(lambda: len(caplog.records) >= 3)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
