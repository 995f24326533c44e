"""Traces by OpenTelemetry: one for each task, across processes. Its context is kept in the task's row and its messages' rows.

The package is optional: ``pip install dovecote[otel]``. Where traces are off, no step does more than to see that they are.
"""

import contextvars
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from service import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

Step = Literal["accept", "submit", "callback", "apply", "delivery"]
Value = str | int | float | bool

incoming: contextvars.ContextVar[str | None] = contextvars.ContextVar("traceparent", default=None)
"""The header ``traceparent`` of the request that is being served. Its trace goes on with the task that the request makes."""

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_HEADER: Final = "traceparent"


class NoOpenTelemetry(Exception):
    """Traces are on, and the package is not installed."""


class Traces:
    """Records the steps of tasks as spans."""

    def __init__(self, processor: "SpanProcessor", *, instance: str) -> None:
        """Open a tracer. The environment (``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER`` …) configures it.

        :param processor: gets every span that has ended
        :param instance: the name of this process
        """
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        own = {"service.name": "dovecote", "service.version": __version__, "service.instance.id": instance}
        detected = {name: value for name, value in OTELResourceDetector().detect().attributes.items() if value}
        self._provider = TracerProvider(resource=Resource.create({**own, **detected}), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("dovecote", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def exporting(cls, *, instance: str) -> "Traces":
        """Open a tracer that sends its spans by OTLP over HTTP, to where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says.

        :raises NoOpenTelemetry: when the package is not installed
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise NoOpenTelemetry(
                "observability.traces needs OpenTelemetry, which is not installed: pip install 'dovecote[otel]'"
            ) from error
        return cls(BatchSpanProcessor(OTLPSpanExporter()), instance=instance)

    def record(
        self,
        step: Step,
        parent: str | None,
        begin: dt.datetime,
        end: dt.datetime,
        *,
        failed: bool = False,
        **fields: Value | None,
    ) -> str | None:
        """Record a step that has ended, and return its context for the steps that follow it.

        :param parent: the context of the task; None: a new trace begins
        :param failed: whether the step failed
        :param fields: attributes, named ``dovecote.NAME``; None is left out
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        above = self._propagator.extract({} if parent is None else {_HEADER: parent})
        attributes: Mapping[str, Any] = {
            f"dovecote.{name}": value for name, value in fields.items() if value is not None
        }
        kind = {"accept": SpanKind.SERVER, "submit": SpanKind.CLIENT, "delivery": SpanKind.PRODUCER}.get(step)
        span = self._tracer.start_span(
            f"dovecote {step}",
            context=above,
            kind=kind or SpanKind.INTERNAL,
            attributes=attributes,
            start_time=_nanoseconds(begin),
        )
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        span.end(_nanoseconds(max(begin, end)))
        return carrier.get(_HEADER)

    def close(self) -> None:
        """Send what has not been sent yet. It blocks for a while where the receiver is away."""
        self._provider.shutdown()


def _nanoseconds(at: dt.datetime) -> int:
    return (at - _EPOCH) // dt.timedelta(microseconds=1) * 1000
