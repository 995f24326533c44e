"""Sweeps without pauses."""

import dataclasses

import pytest

from service.flows.retention import sweep


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = {sqlite: dataclasses.replace(pace, pause=0.0, min_pause=0.0) for sqlite, pace in sweep.PACES.items()}
    monkeypatch.setattr(sweep, "PACES", paces)
