"""Sweeps without pauses."""

import pytest

from service.flows.retention import sweep


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "PAUSE", {True: 0.0, False: 0.0})
    monkeypatch.setattr(sweep, "MIN_PAUSE", 0.0)
