"""Traces: one for each task, in order, without contents; and no cost and no package where they are off."""

import contextlib
import datetime as dt
import sys
from collections.abc import AsyncIterator

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from service.app import application
from service.flows.metrics.tracing import NoOpenTelemetry, Traces, incoming
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextlib.asynccontextmanager
async def traced(database_url: str) -> AsyncIterator[tuple[World, InMemorySpanExporter]]:
    async with World.opened(database_url) as world:
        exporter = InMemorySpanExporter()
        world.context.traces = Traces(SimpleSpanProcessor(exporter), instance="a process")
        yield world, exporter
        world.context.traces.close()


def names(spans: tuple[ReadableSpan, ...]) -> list[str]:
    return [f"{span.name} {(span.attributes or {}).get('dovecote.event', '')}".strip() for span in spans]


async def test_task_has_one_trace_from_the_request_to_the_delivery(database_url: str) -> None:
    async with traced(database_url) as (world, exporter):
        task = await world.submit()
        await world.until(JOB_SECONDS * 3)
        spans = exporter.get_finished_spans()
        found = names(spans)
        assert found[0] == "dovecote accept"
        assert {"dovecote submit", "dovecote callback", "dovecote apply succeeded", "dovecote delivery"} <= set(found)
        contexts = [span.get_span_context() for span in spans]
        assert len({context.trace_id for context in contexts if context is not None}) == 1
        root = spans[0].get_span_context()
        assert root is not None
        assert all(span.parent is not None and span.parent.span_id == root.span_id for span in spans[1:])
        assert {(span.attributes or {})["dovecote.task"] for span in spans} == {str(task.id)}
        assert all(span.start_time <= span.end_time for span in spans if span.start_time and span.end_time)
        kept = (await world.task(task)).traceparent
        assert (kept or "").rpartition("-")[0] == f"00-{root.trace_id:032x}-{root.span_id:016x}"


async def test_spans_name_no_prompt_address_or_key(database_url: str) -> None:
    async with traced(database_url) as (world, exporter):
        world.edge.down.add("receiver.test")
        await world.submit("canary-prompt", options={"style": "canary-option"}, labels={"a": "canary-label"})
        await world.until(JOB_SECONDS * 3)
        told = " ".join(span.to_json() for span in exporter.get_finished_spans())
        assert "dovecote delivery" in told
        for secret in ("canary", "receiver.test", "sandbox.test", "sandbox-key"):
            assert secret not in told


async def test_failures_are_marked(database_url: str) -> None:
    async with traced(database_url) as (world, exporter):
        world.edge.down.add("receiver.test")
        await world.submit("[refuse] a dove")
        await world.work()
        by_name = {span.name: span for span in exporter.get_finished_spans()}
        for name in ("dovecote submit", "dovecote apply", "dovecote delivery"):
            assert by_name[name].status.status_code is StatusCode.ERROR
        assert (by_name["dovecote submit"].attributes or {})["dovecote.outcome"] == "refused"


async def test_trace_of_the_request_goes_on_and_reaches_the_receiver(database_url: str) -> None:
    async with traced(database_url) as (world, exporter):
        transport = httpx.ASGITransport(application(world.context))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            more = {"callback_url": "http://receiver.test/done"}
            answer = await client.post("/v1/tasks", json={**TASK_REQUEST, **more}, headers={"traceparent": PARENT})
            assert answer.status_code == 202
        assert incoming.get() is None
        await world.until(JOB_SECONDS * 8)
        spans = exporter.get_finished_spans()
        assert {f"{span.get_span_context().trace_id:032x}" for span in spans} == {PARENT.split("-")[1]}  # type: ignore[union-attr]
        [sent] = [each for each in world.edge.requests if each.url.host == "receiver.test"]
        assert sent.headers["traceparent"].split("-")[1] == PARENT.split("-")[1]
        providers = [each for each in world.edge.requests if each.url.host == "sandbox.test"]
        assert providers
        assert not any("traceparent" in each.headers for each in providers)


@pytest.mark.parametrize("header", ["", "nonsense", "00-0-0-01", "é"])
async def test_wrong_header_begins_a_new_trace(database_url: str, header: str) -> None:
    async with traced(database_url) as (world, _):
        assert world.context.traces is not None
        now = dt.datetime.now(dt.UTC)
        made = world.context.traces.record("accept", header, now, now)
        assert made is not None
        assert made.startswith("00-")


async def test_without_traces_a_task_has_no_context_and_messages_no_header(database_url: str) -> None:
    async with World.opened(database_url) as world:
        task = await world.submit()
        await world.until(JOB_SECONDS * 3)
        assert (await world.task(task)).traceparent is None
        sent = [each for each in world.edge.requests if each.url.host == "receiver.test"]
        assert sent
        assert not any("traceparent" in each.headers for each in sent)


def test_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(NoOpenTelemetry, match=r"pip install 'dovecote\[otel\]'"):
        Traces.exporting(instance="a process")


@pytest.mark.long
async def test_opentelemetry_is_not_imported_where_traces_are_off() -> None:
    import asyncio

    program = "import service.cli.serve, sys; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"
