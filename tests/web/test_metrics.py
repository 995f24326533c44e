"""The metrics: what they count, who may read them, and that the database's absence hides only its own numbers."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.app import metrics_application
from service.domain.api_key import Scope, write_key
from service.domain.kept import GONE_FOR
from service.flows.apply import FIRST_TIMES
from service.flows.metrics.process import Metrics
from service.flows.metrics.rows import ROWS
from service.flows.statistics import MAX_WORDS, count_unknown_word, times_counted
from service.store import api_keys, health
from service.store.database import StoreUnavailable
from service.store.metrics import QUEUES
from tests.support.clients import a_key
from tests.support.kept_results import finished, keeping
from tests.support.metrics import number, numbers_in, scraped
from tests.support.world import JOB_SECONDS, RECEIVER_URL, World


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with World.opened(database_url, DOVECOTE_UPSTREAMS__ELKAPI__LOW_CREDIT="5") as opened:
        yield opened


async def test_life_of_a_task_is_counted(world: World) -> None:
    await world.submit()
    await world.until(JOB_SECONDS * 3)
    found = await scraped(world)
    runway = {"family": "runway", "operation": "text_to_video"}
    assert number(found, "tasks_accepted_total", **runway) == 1
    assert number(found, "submissions_total", upstream="elkapi", outcome="taken") == 1
    assert number(found, "upstream_calls_total", upstream="elkapi", purpose="create", result="2xx") == 1
    assert number(found, "upstream_call_seconds_count", upstream="elkapi", purpose="create") == 1
    assert number(found, "callbacks_stored_total") >= 1
    assert number(found, "callbacks_processed_total", upstream="elkapi", decision="applied") >= 1
    ended = {"upstream": "elkapi", "family": "runway", "state": "succeeded", "source": "callback"}
    assert number(found, "tasks_finished_total", **ended) == 1
    assert number(found, "task_duration_seconds_count", upstream="elkapi", **runway) == 1
    assert JOB_SECONDS <= number(found, "task_duration_seconds_sum", upstream="elkapi", **runway) < JOB_SECONDS * 3
    assert number(found, "webhook_attempts_total", result="delivered") >= 1
    assert number(found, "webhook_delay_seconds_count") == number(found, "webhook_attempts_total", result="delivered")
    assert number(found, "http_requests_total", area="callbacks", status="2xx") >= 1
    assert number(found, "commit_writes_count", writer="requests") >= 1
    assert number(found, "commit_seconds_count", writer="journeys") >= 1


async def test_kept_and_lost_results_are_counted(database_url: str) -> None:
    async with keeping(database_url) as world:
        await finished(world, "[filebytes=30000]")
        found = await scraped(world)
        assert number(found, "results_total", result="kept") >= 1
        assert number(found, "result_bytes_total") >= 30_000
        assert number(found, "results_total", result="lost") == 0
        await finished(world, "[filegone=0]")
        await world.until(3 * GONE_FOR)
        found = await scraped(world)
        assert number(found, "results_total", result="lost") >= 1
        assert number(found, "results_total", result="not_fetched") >= 1


async def test_lost_callback_counts_polls_and_source(world: World) -> None:
    await world.submit("[drop] a dove")
    await world.until(JOB_SECONDS * 8)
    found = await scraped(world)
    assert number(found, "polls_total", upstream="elkapi", result="answered") >= 1
    ended = {"upstream": "elkapi", "family": "runway", "state": "succeeded", "source": "poll"}
    assert number(found, "tasks_finished_total", **ended) == 1


async def test_failures_are_counted_by_kind(world: World) -> None:
    world.edge.down |= {"sandbox.test", "receiver.test"}
    for _ in range(6):
        await world.submit()
        await world.pass_time(6)
    found = await scraped(world)
    assert number(found, "submissions_total", upstream="elkapi", outcome="unavailable") >= 5
    assert number(found, "upstream_calls_total", upstream="elkapi", purpose="create", result="none") >= 5
    assert number(found, "circuit_openings_total", upstream="elkapi", dialect="runway/aggregator") == 1
    assert number(found, "circuit_open", upstream="elkapi", dialect="runway/aggregator") == 1
    assert number(found, "waiting_tasks", upstream="elkapi") >= 1
    world.edge.down.remove("sandbox.test")
    await world.pass_time(40, step=10)
    await world.until(600)
    found = await scraped(world)
    assert number(found, "circuit_open", upstream="elkapi", dialect="runway/aggregator") == 0
    assert number(found, "webhook_attempts_total", result="failed") >= 1
    assert number(found, "webhook_attempts_total", result="delivered") == 0


async def test_exhausted_message_is_counted_once_and_unknown_word_by_dialect(world: World) -> None:
    world.edge.down.add("receiver.test")
    await world.submit()
    await world.until(JOB_SECONDS * 8 + 8 * 86_400)
    found = await scraped(world)
    assert number(found, "webhook_attempts_total", result="exhausted") == 1
    assert number(found, "webhook_attempts_total", result="failed") == 9
    assert number(found, "unknown_status_words_total", dialect="runway/aggregator") == 0
    assert ("dovecote_unknown_status_words_total", (("dialect", "runway/aggregator"),)) in found
    count_unknown_word(world.context, "runway/aggregator", "pondering")
    assert number(await scraped(world), "unknown_status_words_total", dialect="runway/aggregator") == 1


async def test_queues_show_depth_and_age(world: World) -> None:
    for _ in range(3):
        await world.submit()
    world.clock.forward(90)
    found = await scraped(world)
    assert number(found, "queue_due_rows", queue="submissions") == 3
    assert number(found, "queue_oldest_due_seconds", queue="submissions") == pytest.approx(90, abs=1)
    assert number(found, "open_tasks", state="queued") == 3
    assert {name for name in QUEUES if number(found, "queue_due_rows", queue=name)} == {"submissions"}
    assert number(found, "database_up") == 1


async def test_row_that_is_due_later_is_not_counted_as_due(world: World) -> None:
    await world.submit()
    await world.work()
    found = await scraped(world)
    assert number(found, "queue_due_rows", queue="polls") == 0
    assert number(found, "queue_oldest_due_seconds", queue="polls") == 0
    assert number(found, "open_tasks", state="submitted") + number(found, "open_tasks", state="running") == 1


async def test_silence_of_workers_counts_from_the_start_or_the_last_heartbeat(world: World) -> None:
    world.clock.forward(100)
    assert number(await scraped(world), "worker_silent_seconds") == 100
    async with world.context.database.writing() as connection:
        await health.beat(connection, "worker a", "worker", now=world.clock())
    world.clock.forward(7)
    assert number(await scraped(world), "worker_silent_seconds") == 7
    async with world.context.database.writing() as connection:
        await health.beat(connection, "worker a", "worker", now=world.clock(), flows=["poll", "submit"])
    found = await scraped(world)
    assert number(found, "worker_silent_seconds") == 0
    assert number(found, "flow_silent_seconds", flow="submit") == 0
    assert number(found, "flow_silent_seconds", flow="webhooks") == 107


async def test_numbers_are_read_once_a_second_for_all_scrapers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(world.context, "monotonic", lambda: now)
    await scraped(world)
    await world.submit()
    assert number(await scraped(world, anew=False), "open_tasks", state="queued") == 0
    now += 1.0
    assert number(await scraped(world, anew=False), "open_tasks", state="queued") == 1


async def test_without_the_database_counters_stay_and_gauges_of_rows_are_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.submit()

    def away() -> Any:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(world.context.database, "reading", away)
    transport = httpx.ASGITransport(metrics_application(world.context))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        found = numbers_in((await client.get("/metrics")).text)
    assert found["dovecote_database_up", ()] == 0
    assert number(found, "tasks_accepted_total", family="runway", operation="text_to_video") == 1
    assert not any(name.startswith("dovecote_queue") for name, _ in found)


async def test_every_sample_belongs_to_a_described_metric_with_its_labels(world: World) -> None:
    await world.submit("[drop] a dove", callback_url=RECEIVER_URL)
    await world.until(JOB_SECONDS * 5)
    described = {each.name: set(each.labels) for each in [*ROWS, *Metrics().descriptions]}
    found = await scraped(world)
    for name, labels in found:
        if not name.startswith("dovecote_"):
            assert name.startswith("process_")
            continue
        metric = re.sub(r"_(bucket|sum|count|created)$", "", name)
        metric = metric if metric in described else f"{metric}_total"
        assert {label for label, _ in labels} - {"le"} == described[metric], name


async def test_openmetrics_is_answered_to_a_scraper_that_prefers_it(world: World) -> None:
    response = await world.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        pytest.param({Scope.METRICS}, 200, id="metrics"),
        pytest.param({Scope.ADMIN}, 200, id="admin"),
        pytest.param({Scope.READ, Scope.SUBMIT}, 403, id="read-and-submit"),
    ],
)
async def test_scope_decides_who_reads_metrics(database_url: str, scopes: set[Scope], status: int) -> None:
    key = write_key(b"metr", b"k" * 32)
    async with World.opened(database_url) as world:
        async with world.context.database.writing() as connection:
            await api_keys.add(connection, a_key(key, client="prometheus", scopes=frozenset(scopes)))
        bearer = {"Authorization": f"Bearer {key}"}
        assert (await world.client.get("/metrics", headers=bearer)).status_code == status
        assert (await world.client.get("/metrics")).status_code == 401
        if scopes == {Scope.METRICS}:
            assert (await world.client.get("/v1/tasks", headers=bearer)).status_code == 403


async def test_port_of_its_own_serves_metrics_without_a_key_and_nothing_else(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_API_KEYS="shop=a-key-of-sixteen-letters") as world:
        transport = httpx.ASGITransport(metrics_application(world.context))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert numbers_in((await client.get("/metrics")).text)["dovecote_database_up", ()] == 1
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/v1/tasks")).status_code == 404
            assert (await client.post("/metrics")).status_code == 405


async def test_unknown_words_with_numbers_in_them_take_a_bounded_part_of_the_memory(world: World) -> None:
    for percent in range(3 * MAX_WORDS):
        count_unknown_word(world.context, "runway/aggregator", f"pondering {percent} %")
    assert len(world.context.unknown_words) == MAX_WORDS + 1
    assert times_counted(world.context, "runway/aggregator", "pondering 7 %") == 1
    assert times_counted(world.context, "runway/aggregator", "never seen before") > FIRST_TIMES
