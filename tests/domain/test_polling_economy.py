"""The cost of polling and how late it finds an end, for 1,000 tasks of one kind on a simulated clock."""

import pytest

from bench.polling import MEDIANS, SPREADS, simulate

KINDS = pytest.mark.parametrize(
    ("median", "spread", "batch"),
    [(median, spread, batch) for median in MEDIANS for spread in SPREADS for batch in (False, True)],
    ids=str,
)


@KINDS
def test_lost_callbacks_are_found_soon_with_few_polls(median: float, spread: float, *, batch: bool) -> None:
    found = simulate(median=median, spread=spread, callbacks=True, batch=batch)
    assert found.polls <= 2.5
    assert found.delay <= 0.25 * median + 5


@KINDS
def test_ends_are_found_soon_without_callbacks(median: float, spread: float, *, batch: bool) -> None:
    found = simulate(median=median, spread=spread, callbacks=False, batch=batch)
    assert found.delay <= 0.07 * median + 2
