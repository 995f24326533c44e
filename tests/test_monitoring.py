"""Alert rules and the dashboard: they name metrics and labels that exist, and a real Prometheus agrees with them."""

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.cli.processes import LOOPBACK, ProcessGroup, free_ports
from service.flows.metrics.process import Metrics
from service.flows.metrics.rows import ROWS
from tests.support.processes import client_of, dovecote, started, submit, until
from tests.support.waiting import LIMIT

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy/monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
DESCRIBED = {each.name: each for each in [*ROWS, *Metrics().descriptions]}
OF_PROMETHEUS = {"instance", "job", "le"}
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="prometheus is not installed: apt-get install prometheus"
)


def dashboard_queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


QUERIES = [*(rule["expr"] for rule in RULES), *dashboard_queries()]


def faults_in(query: str) -> list[str]:
    """Return the metrics and labels of a query that Dovecote does not have."""
    faults, known = [], set(OF_PROMETHEUS)
    for name, matchers in re.findall(r"\b(dovecote_\w+)(?:\{([^}]*)\})?", query):
        metric = DESCRIBED.get(name) or DESCRIBED.get(re.sub(r"_(bucket|sum|count)$", "", name))
        if metric is None or (metric.kind == "histogram") == (metric.name == name):
            faults.append(name)
            continue
        known |= set(metric.labels)
        faults += [label for label in re.findall(r"(\w+)\s*=", matchers or "") if label not in metric.labels]
    grouped = [label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", group)]
    return faults + [label for label in grouped if label not in known]


@pytest.mark.parametrize("query", QUERIES)
def test_query_names_existing_metrics_and_labels(query: str) -> None:
    assert faults_in(query) == []


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        pytest.param("dovecote_queue_depth > 1", ["dovecote_queue_depth"], id="unknown-metric"),
        pytest.param("dovecote_polls{upstream='x'}", ["dovecote_polls"], id="counter-without-total"),
        pytest.param("dovecote_open_tasks{status='x'}", ["status"], id="unknown-label"),
        pytest.param("sum by (client) (dovecote_open_tasks)", ["client"], id="unknown-group"),
        pytest.param("dovecote_commit_seconds > 1", ["dovecote_commit_seconds"], id="histogram-without-part"),
    ],
)
def test_wrong_query_is_noticed(query: str, faults: list[str]) -> None:
    assert faults_in(query) == faults


def test_dashboard_shows_every_metric_once_at_least() -> None:
    shown = " ".join(dashboard_queries())
    left_out = {"dovecote_build_info", "dovecote_upstream_credit_low"}
    assert {name for name in DESCRIBED if name not in shown} == left_out
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_alert_has_a_unit_test_and_says_what_to_know() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    fires = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert fires == {rule["alert"] for rule in RULES}
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_every_alert_is_documented() -> None:
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in RULES] == re.findall(r"^\| `(Dovecote\w+)` \|", page, re.MULTILINE)


async def ran(*command: str, given: bytes = b"") -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(given), LIMIT)
    assert process.returncode == 0, said.decode()
    return said.decode()


@needs_prometheus
@pytest.mark.long
async def test_rules_and_configuration_pass_promtool() -> None:
    assert f"{len(RULES)} rules found" in await ran(str(PROMTOOL), "check", "config", str(FOLDER / "prometheus.yml"))
    assert "SUCCESS" in await ran(str(PROMTOOL), "test", "rules", str(FOLDER / "alerts_test.yml"))


@contextlib.asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run Prometheus with the rules as they are, except that nothing waits for minutes."""
    [port] = free_ports(1)
    hasty = re.sub(r"for: \d+[ms]", "for: 1s", (FOLDER / "alerts.yml").read_text())
    (folder / "alerts.yml").write_text(hasty)
    example = (FOLDER / "prometheus.yml").read_text().replace("15s", "1s").replace("127.0.0.1:9464", target)
    (folder / "prometheus.yml").write_text(example)
    process = await asyncio.create_subprocess_exec(
        str(PROMETHEUS),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--log.level=error",
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", trust_env=False, timeout=LIMIT) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()


@needs_prometheus
@pytest.mark.long
async def test_prometheus_reads_a_real_server_and_an_alert_fires(tmp_path: Path, database_url: str) -> None:
    [metrics_port, closed] = free_ports(2)
    server = dovecote(tmp_path, database_url, f"http://{LOOPBACK}:{closed}")
    target = f"{LOOPBACK}:{metrics_port}"
    settings = {**server.environment, "DOVECOTE_OBSERVABILITY__METRICS_LISTEN": target}
    server.environment = settings
    with ProcessGroup() as group:
        await started(group, server)
        async with client_of(server) as api, prometheus(tmp_path, target) as asked:
            for _ in range(6):
                await submit(api)

            async def fires() -> bool:
                with contextlib.suppress(httpx.TransportError, KeyError, ValueError):
                    alerts = (await asked.get("/api/v1/alerts")).json()["data"]["alerts"]
                    return ("DovecoteCircuitOpen", "firing") in {
                        (each["labels"]["alertname"], each["state"]) for each in alerts
                    }
                return False

            await until(fires)
            found = (await asked.get("/api/v1/query", params={"query": "dovecote_circuit_open == 1"})).json()
            assert [each["metric"]["upstream"] for each in found["data"]["result"]] == ["elkapi"]
            for query in dashboard_queries():
                plain = query.replace("$__rate_interval", "1m").replace("$upstream", ".*")
                if not plain.startswith("label_values"):
                    answer = (await asked.get("/api/v1/query", params={"query": plain})).json()
                    assert answer["status"] == "success", plain
            own = httpx.AsyncClient(base_url=f"http://{target}", trust_env=False)
            async with own:
                text = (await own.get("/metrics")).content
            assert await ran(str(PROMTOOL), "check", "metrics", given=text) == ""
