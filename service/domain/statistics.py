"""Statistics: the usual duration of tasks of a kind, and whether an upstream's callbacks still arrive."""

import dataclasses
import statistics
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping

from service.domain.task import Task

ENOUGH_SAMPLES = 30
"""Endings of a kind before their median replaces the default."""
CALLBACK_SAMPLES = 20
"""The last endings of an upstream's dialect that its callback share is taken from."""
FEWEST_SAMPLES = 8
"""Fewer endings than this say nothing about callbacks, or about one upstream."""
UNRELIABLE_SHARE = 0.5

_Kind = tuple[str, str, str | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """How long a task took, and how its end was learned."""

    family: str
    operation: str
    model: str | None
    upstream: str
    dialect: str
    seconds: float
    by_callback: bool
    """Whether a callback told of it, or had it asked for at once."""
    callback_expected: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Accuracy:
    """How often forecasts were right."""

    tasks: int
    """Ended tasks for which there was a forecast."""
    within_usual: int
    """Those that ended within the usual duration: one half, if forecasts are right."""
    within_most: int
    """Those that ended within the duration of nine in ten."""


MAX_BEFORE = 200
"""The last durations of a kind that a forecast is compared with."""


def accuracy(durations: Iterable[tuple[Hashable, float]]) -> Accuracy:
    """Compare each duration with the forecast from those of its kind before it.

    :param durations: the kind and the seconds of tasks that succeeded, in the order of their ends
    """
    before: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_BEFORE))
    in_order: dict[Hashable, list[float]] = defaultdict(list)
    tasks = usual = most = 0
    for kind, seconds in durations:
        known, ordered = before[kind], in_order[kind]
        if len(ordered) >= ENOUGH_SAMPLES:
            tasks += 1
            usual += seconds <= statistics.median(ordered)
            most += seconds <= ordered[min(int(len(ordered) * 0.9), len(ordered) - 1)]
        if len(known) == MAX_BEFORE:
            del ordered[bisect_left(ordered, known[0])]
        known.append(seconds)
        insort(ordered, seconds)
    return Accuracy(tasks, usual, most)


@dataclasses.dataclass(slots=True)
class Statistics:
    """Medians by family, operation and model; and callback shares by upstream and dialect."""

    _medians: dict[_Kind, float] = dataclasses.field(default_factory=dict)
    _ninths: dict[_Kind, float] = dataclasses.field(default_factory=dict)
    _medians_there: dict[tuple[str, _Kind], float] = dataclasses.field(default_factory=dict)
    _shares: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)

    def replace(self, endings: Iterable[Ending]) -> None:
        """Replace the statistics by those of the last ended tasks, newest first."""
        durations: dict[_Kind, list[float]] = defaultdict(list)
        there: dict[tuple[str, _Kind], list[float]] = defaultdict(list)
        came: dict[tuple[str, str], list[bool]] = defaultdict(list)
        for ending in endings:
            kind = (ending.family, ending.operation, ending.model)
            durations[kind].append(ending.seconds)
            there[ending.upstream, kind].append(ending.seconds)
            if ending.callback_expected:
                came[ending.upstream, ending.dialect].append(ending.by_callback)
        self._medians = {
            kind: statistics.median(seconds) for kind, seconds in durations.items() if len(seconds) >= ENOUGH_SAMPLES
        }
        self._medians_there = {
            where: statistics.median(seconds) for where, seconds in there.items() if len(seconds) >= FEWEST_SAMPLES
        }
        self._ninths = {
            kind: statistics.quantiles(durations[kind], n=10, method="inclusive")[-1] for kind in self._medians
        }
        self._shares = {
            where: statistics.fmean(last[:CALLBACK_SAMPLES])
            for where, last in came.items()
            if len(last) >= FEWEST_SAMPLES
        }

    def median(self, task: Task) -> float | None:
        """Seconds that tasks of this kind took, once there were enough of them."""
        return self._medians.get((task.family, task.operation, task.model))

    def median_at(self, task: Task, upstream: str) -> float | None:
        """Return the seconds that tasks of this kind took at one upstream, once there were some."""
        return self._medians_there.get((upstream, (task.family, task.operation, task.model)))

    def nine_in_ten(self, task: Task) -> float | None:
        """Seconds within which nine in ten tasks of this kind ended, once there were enough of them."""
        return self._ninths.get((task.family, task.operation, task.model))

    def callbacks_unreliable(self, upstream: str | None, dialect: str | None) -> bool:
        """Return whether callbacks of an upstream's dialect have all but stopped coming."""
        return self.callback_share(upstream, dialect) < UNRELIABLE_SHARE

    def unreliable_callbacks(self) -> set[tuple[str, str]]:
        """Return every upstream and dialect whose callbacks are unreliable."""
        return {where for where, share in self._shares.items() if share < UNRELIABLE_SHARE}

    def callback_shares(self) -> Mapping[tuple[str, str], float]:
        """Return the callback share of each upstream and dialect with enough ends."""
        return self._shares

    def callback_share(self, upstream: str | None, dialect: str | None) -> float:
        """Share of the last ends that were learned by callback, where one was expected; 1 until there are enough."""
        return self._shares.get((upstream or "", dialect or ""), 1.0)
