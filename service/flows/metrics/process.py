"""The counters of one process. A label has its values from the settings, the registry or a closed set, never from a client."""

import dataclasses
import platform
import sys
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from service import __version__
from service.domain.task import Outcome

Kind = Literal["counter", "gauge", "histogram"]

FAST: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Buckets, in seconds, of what happens on this machine."""
CALLS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Buckets, in seconds, of requests to others."""
JOBS: Final = (2, 5, 10, 20, 40, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600)
"""Buckets, in seconds, of media jobs."""
DELAYS: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43_200, 259_200)
"""Buckets, in seconds, from the change of a task until its client knows."""
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
UNUSABLE: Final = ("unreadable", "forged", "parked", "unmatched")
"""The decisions on callbacks that an operator should know."""
UNKNOWN: Final = "unknown"
"""The label of a row whose upstream is not configured any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """A metric as the documentation shows it."""

    name: str
    """The name that Prometheus stores; for a histogram without ``_bucket``, ``_sum`` and ``_count``."""
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each counter with the time of its first count would double their number


class Metrics:
    """The counters and histograms of one process, in a registry of their own."""

    def __init__(self) -> None:
        """Start every metric at zero."""
        self.registry = CollectorRegistry()
        self.descriptions: list[Description] = []
        counter, histogram = self._counter, self._histogram

        self.requests = counter("http_requests", "Requests that were answered", "area", "status")
        self.accepted = counter("tasks_accepted", "Tasks that were accepted", "family", "operation")
        self.submissions = counter(
            "submissions", "Requests to create a job, by what is known of the job", "upstream", "outcome"
        )
        self.finished = counter("tasks_finished", "Tasks that ended", "upstream", "family", "state", "source")
        self.task_seconds = histogram(
            "task_duration_seconds",
            "Time from the submission of a task until it succeeded",
            JOBS,
            "upstream",
            "family",
            "operation",
        )
        self.callbacks_stored = counter("callbacks_stored", "Callbacks that were stored and acknowledged")
        self.callbacks = counter("callbacks_processed", "Callbacks, by the decision on each", "upstream", "decision")
        self.polls = counter("polls", "Tasks that were polled, by the provider's answer", "upstream", "result")
        self.calls = counter("upstream_calls", "Requests to upstreams", "upstream", "purpose", "result")
        self.call_seconds = histogram(
            "upstream_call_seconds", "Time until an upstream answered", CALLS, "upstream", "purpose"
        )
        self.circuit_openings = counter("circuit_openings", "Circuits that opened", "upstream", "dialect")
        self.unknown_words = counter(
            "unknown_status_words", "Status words of providers that Dovecote does not know", "dialect"
        )
        self.attempts = counter("webhook_attempts", "Attempts to deliver a message to a client", "result")
        self.attempt_seconds = histogram("webhook_attempt_seconds", "Time until a client's receiver answered", CALLS)
        self.webhook_delay = histogram(
            "webhook_delay_seconds", "Time from the change of a task until its message was delivered", DELAYS
        )
        self.endpoints_disabled = counter(
            "endpoints_disabled", "Endpoints that Dovecote disabled because deliveries failed", "reason"
        )
        self.results = counter("results", "Results of tasks that were fetched to be kept", "result")
        self.result_bytes = counter("result_bytes", "Bytes of the results that were kept")
        self.spend = counter(
            "spend",
            "Amounts that were charged or probably charged, when they were booked",
            "upstream",
            "family",
            "unit",
        )
        self.returned = counter(
            "spend_returned", "Amounts by which later facts reduced what was booked", "upstream", "family", "unit"
        )
        self.double_payments = counter(
            "double_payments", "Submissions that were probably paid beside another paid one of their task", "upstream"
        )
        self.commit_writes = histogram("commit_writes", "Writes that one transaction committed", SIZES, "writer")
        self.commit_seconds = histogram(
            "commit_seconds", "Time that the oldest write of a transaction waited for its commit", FAST, "writer"
        )
        self.round_failures = counter("round_failures", "Rounds of a worker's journey that failed", "journey")
        self._build()

    def start_at_zero(self, dialects: Mapping[str, Iterable[str]]) -> None:
        """Show the series that alarms are about before they happen: Prometheus sees no increase in a series that appears.

        :param dialects: the dialects of each configured upstream
        """
        for upstream, names in dialects.items():
            for outcome in Outcome:
                if outcome is not Outcome.SENDING:
                    self.submissions.labels(upstream, outcome)
            for decision in UNUSABLE:
                self.callbacks.labels(upstream, decision)
            self.double_payments.labels(upstream)
            for name in names:
                self.circuit_openings.labels(upstream, name)
                self.unknown_words.labels(name)
        for decision in UNUSABLE:
            self.callbacks.labels(UNKNOWN, decision)
        for result in ("delivered", "failed", "exhausted", "discarded"):
            self.attempts.labels(result)
        for result in ("kept", "not_fetched", "lost"):
            self.results.labels(result)
        for reason in ("gone", "failing"):
            self.endpoints_disabled.labels(reason)

    def committed(self, writer: str, writes: int, seconds: float) -> None:
        """Count one transaction of a writer."""
        self.commit_writes.labels(writer).observe(writes)
        self.commit_seconds.labels(writer).observe(seconds)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        self.descriptions.append(Description(f"dovecote_{name}_total", "counter", labels, meaning))
        return Counter(f"dovecote_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Iterable[float], *labels: str) -> Histogram:
        self.descriptions.append(Description(f"dovecote_{name}", "histogram", labels, meaning))
        return Histogram(f"dovecote_{name}", meaning, labels, buckets=tuple(buckets), registry=self.registry)

    def _build(self) -> None:
        meaning = "Always 1; the labels have the versions of Dovecote and of Python"
        labels = ("version", "python")
        self.descriptions.append(Description("dovecote_build_info", "gauge", labels, meaning))
        Gauge("dovecote_build_info", meaning, labels, registry=self.registry).labels(
            __version__, platform.python_version()
        ).set(1)
        if sys.platform == "linux":  # it reads /proc
            ProcessCollector(registry=self.registry)


def status_class(status: int | None) -> str:
    """Return the class of an HTTP status, such as ``2xx``; ``none`` where there was no answer."""
    return f"{status // 100}xx" if status else "none"
