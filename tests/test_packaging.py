"""The image and compose.yaml: pinned with hashes, without default passwords, and with enough time to stop."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.domain.flows import FLOWS, parse_flows
from tests.support.stops import slowest_stop

ROOT = Path(__file__).parents[1]
FILES = ("compose.yaml", "deploy/compose/fleet.yaml")
COMPOSE: dict[str, dict[str, Any]] = {
    file: yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"] for file in FILES
}
DOVECOTE = {f"{file}: {name}": each for file, found in COMPOSE.items() for name, each in found.items() if name != "db"}


def test_image_installs_only_locked_packages() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"pip (?:install|wheel)[^&\n]*", text)
    assert len(commands) >= 3
    assert [each for each in commands if "--require-hashes" not in each and "--no-index" not in each] == []
    assert "--no-build-isolation" in text, "build isolation downloads a build backend that nothing pins"


def test_image_copies_only_files_that_dockerignore_allows() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for line in copied for name in line.split()} <= allowed


def test_image_runs_as_a_user_that_is_not_root_by_number() -> None:
    users = re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert users == ["10001"], "Kubernetes cannot tell a name from root's"


@pytest.mark.parametrize("file", FILES)
def test_compose_has_no_default_password(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert {name for name, value in defaults.items() if value} == set()
    assert "POSTGRES_PASSWORD" not in defaults
    assert "DOVECOTE_API_KEYS" not in defaults


def test_compose_confines_the_services() -> None:
    for name, service in DOVECOTE.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["init"] is True, name


def test_compose_gives_a_stop_as_long_as_the_slowest_submit_may_take() -> None:
    for service in DOVECOTE.values():
        minutes = re.fullmatch(r"(\d+)m", service["stop_grace_period"])
        assert minutes is not None
        assert int(minutes[1]) * 60 >= slowest_stop()


def test_compose_passes_every_variable_of_the_env_file() -> None:
    for service in DOVECOTE.values():
        assert {"path": ".env", "required": False} in service["env_file"]


@pytest.mark.parametrize("file", FILES)
def test_compose_has_one_worker_for_each_flow(file: str) -> None:
    commands = [each["command"] for name, each in COMPOSE[file].items() if name not in {"db", "migrate"}]
    workers = [command for command in commands if command[:3] == ["serve", "--role", "worker"]]
    assert {command[2] for command in commands} >= {"web", "worker"}
    flows = [flow for each in workers for flow in parse_flows(each[4] if "--flows" in each else "all")]
    assert sorted(flows) == sorted(FLOWS)
