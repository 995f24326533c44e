"""The Helm chart: what it renders is valid for Kubernetes, confined, without secrets, and has time to stop."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.cli.server import serve
from service.domain.flows import FLOWS, parse_flows
from service.settings.load import load
from tests.support.stops import slowest_stop

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")
pytestmark = pytest.mark.long

CHART = Path(__file__).parents[1] / "deploy/helm/dovecote"
VERSIONS = ["1.30", "1.34"]
VALUES: dict[str, dict[str, Any]] = {
    "least": {"secretName": "keys"},
    "most": {
        "secretName": "keys",
        "image": {"repository": "registry.example.com/dovecote", "digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "registry"}],
        "settings": {"DOVECOTE_MAX_BODY": 33554432, "DOVECOTE_KEEP_ALIVE": 80, "DOVECOTE_LOG_FORMAT": "text"},
        "worker": {"replicas": 7, "flows": [flow for flow in FLOWS if flow != "webhooks"]},
        "workers": {"delivery": {"flows": ["webhooks"], "replicas": 3, "resources": {"limits": {"memory": "512Mi"}}}},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "tls", "annotations": {"a": "b"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "media", "operator": "Exists"}],
    },
}


@cache
def rendered(values: str) -> tuple[dict[str, Any], ...]:
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(VALUES[values], name="demo", namespace="media")
    return tuple(each for text in files.values() for each in yaml.safe_load_all(text) if each)


def of_kind(values: str, kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in rendered(values) if each["kind"] == kind}


def pods(values: str) -> dict[str, dict[str, Any]]:
    found = {**of_kind(values, "Deployment"), **of_kind(values, "Job")}
    return {name: each["spec"]["template"] for name, each in found.items()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_valid_for_kubernetes(values: str, version: str) -> None:
    import kubernetes_validate

    assert len(rendered(values)) >= 9
    for each in rendered(values):
        kubernetes_validate.validate(each, version, strict=True)


def test_helm_finds_no_fault_in_the_chart() -> None:
    found = helm.lint(str(CHART))
    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


def test_every_role_has_its_deployment_and_a_disruption_budget_that_selects_its_pods() -> None:
    [role] = [option for option in serve.params if option.name == "role"]
    deployments = of_kind("least", "Deployment")
    commands = [each["spec"]["template"]["spec"]["containers"][0]["args"] for each in deployments.values()]
    assert {tuple(command[:3]) for command in commands} == {
        ("serve", "--role", name) for name in set(getattr(role.type, "choices", ())) - {"all"}
    }
    assert [command[3:] for command in commands if command[2] == "worker"] == [["--flows", "all"]]
    budgets, selected = of_kind("least", "PodDisruptionBudget"), []
    assert budgets.keys() == deployments.keys()
    for name, each in deployments.items():
        labels = each["spec"]["template"]["metadata"]["labels"].items()
        for selector in (each["spec"]["selector"], budgets[name]["spec"]["selector"]):
            assert selector["matchLabels"].items() <= labels
        selected.append(each["spec"]["selector"]["matchLabels"])
    assert all(selected.count(each) == 1 for each in selected), "two Deployments select the same Pods"


def test_further_workers_have_their_flows_and_take_the_rest_from_worker() -> None:
    deployments = of_kind("most", "Deployment")
    flows = []
    for name, replicas, memory in (("demo-dovecote-worker", 7, "1Gi"), ("demo-dovecote-worker-delivery", 3, "512Mi")):
        spec = deployments[name]["spec"]
        [container] = spec["template"]["spec"]["containers"]
        assert spec["replicas"] == replicas
        assert container["resources"]["limits"]["memory"] == memory
        assert container["args"][:4] == ["serve", "--role", "worker", "--flows"]
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= slowest_stop()
        assert name in of_kind("most", "PodDisruptionBudget")
        assert name not in of_kind("most", "Service")
        flows += sorted(parse_flows(container["args"][4]))
    assert sorted(flows) == sorted(FLOWS), "each flow has one Deployment"


def test_chart_knows_every_flow() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["definitions"]["flows"]["items"]["enum"] == ["all", *FLOWS]


def test_services_and_ingress_lead_to_a_named_port_of_the_role() -> None:
    services, deployments = of_kind("most", "Service"), of_kind("most", "Deployment")
    [ingress] = of_kind("most", "Ingress").values()
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert {each["path"]: each["backend"]["service"]["name"].rpartition("-")[2] for each in paths} == {
        "/callbacks": "callbacks",
        "/": "web",
    }
    for each in paths:
        service = services[each["backend"]["service"]["name"]]
        pod = deployments[service["metadata"]["name"]]["spec"]["template"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert [port["name"] for port in pod["spec"]["containers"][0]["ports"]] == ["http"]


@pytest.mark.parametrize("values", VALUES)
def test_pods_are_confined_and_take_secrets_by_reference(values: str) -> None:
    for name, pod in pods(values).items():
        spec = pod["spec"]
        [container] = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["automountServiceAccountToken"] is False, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}], name
        assert spec["enableServiceLinks"] is False, "a Service with the name dovecote would set DOVECOTE_PORT"
        assert "memory" in container["resources"]["limits"], name
    assert of_kind(values, "Secret") == {}


def test_workers_have_time_to_stop_and_others_leave_their_service_first() -> None:
    for name, pod in pods("least").items():
        spec = pod["spec"]
        if name.endswith("-worker"):
            assert spec["terminationGracePeriodSeconds"] >= slowest_stop()
        elif not name.endswith("-migrate"):
            waits = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert spec["terminationGracePeriodSeconds"] >= waits + 10 + 15, "requests in flight get 10 s"


def test_probes_query_a_path_that_every_role_serves() -> None:
    for each in of_kind("least", "Deployment").values():
        [container] = each["spec"]["template"]["spec"]["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_migration_runs_before_an_installation_and_an_upgrade() -> None:
    [job] = of_kind("least", "Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]


@pytest.mark.parametrize("values", VALUES)
def test_dovecote_reads_the_settings_of_the_pods(values: str) -> None:
    for pod in pods(values).values():
        given = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
        settings = load({**given, "DOVECOTE_API_KEYS": "me=0123456789abcdef"}, None)
        assert (settings.host, settings.port) == ("0.0.0.0", 8080)  # noqa: S104 - all addresses of the Pod
        assert settings.max_body == 33554432


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "secretName"),
        ({"secretName": "keys", "settings": {"DOVECOTE_PORT": "81"}}, "DOVECOTE_PORT"),
        ({"secretName": "keys", "worker": {"replicas": "two"}}, "replicas"),
        ({"secretName": "keys", "replicas": 3}, "replicas"),
        ({"secretName": "keys", "worker": {"flows": ["sumbit"]}}, "flows"),
        ({"secretName": "keys", "workers": {"delivery": {"replicas": 3}}}, "flows"),
        ({"secretName": "keys", "image": {"digest": "sha256:1"}}, "digest"),
    ],
    ids=["no-secret", "port-of-the-probes", "type", "unknown-value", "unknown-flow", "worker-without-flows", "digest"],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with helm.Chart.load(str(CHART)) as chart, pytest.raises(helm.HelmError, match=message):
        chart.render(values, name="demo", namespace="media")
