"""Statistics: the usual duration of tasks of a kind, and whether an upstream's callbacks still arrive."""

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping

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
