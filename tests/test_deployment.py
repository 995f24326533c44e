"""The systemd units: systemd accepts them, and they give a stop its time."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.cli import exits
from service.cli.server import serve
from tests.support.stops import slowest_stop

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
SERVERS = [unit for unit in UNITS if "migrate" not in unit.name]
SYSTEMD = shutil.which("systemd-analyze")
PROGRAM = "/opt/dovecote/bin/dovecote"


def options(unit: Path) -> dict[str, list[str]]:
    """Return the options of a unit's section ``Service``: each may be there several times."""
    found: dict[str, list[str]] = {}
    section = unit.read_text(encoding="utf-8").partition("[Service]\n")[2].partition("\n[")[0]
    for name, value in re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def verified(folder: Path, unit: Path, text: str) -> str:
    """Return the complaints of systemd about a unit. The program is replaced by one that is installed here."""
    assert SYSTEMD is not None
    for each in UNITS:
        (folder / each.name).write_text(each.read_text().replace(PROGRAM, "/bin/true"))
    (folder / unit.name).write_text(text.replace(PROGRAM, "/bin/true"))
    command = [SYSTEMD, "verify", "--man=no", "--recursive-errors=no", str(folder / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a command of ours
    about = [line for line in done.stderr.splitlines() if "dovecote" in line]
    return "\n".join(about) if about or done.returncode == 0 else done.stderr


needs_systemd = pytest.mark.skipif(SYSTEMD is None, reason="systemd-analyze is not installed: apt-get install systemd")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    assert verified(tmp_path, unit, unit.read_text()) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("KillMode=mixed", "KillMode=gentle"), ("UMask=", "Umask="), ("RestartSec=2", "RestartSec=soon")],
    ids=["value", "option", "duration"],
)
def test_mistake_in_a_unit_is_noticed(right: str, wrong: str, tmp_path: Path) -> None:
    text = SERVERS[0].read_text()
    assert right in text
    assert verified(tmp_path, SERVERS[0], text.replace(right, wrong)) != ""


def test_units_run_every_role_and_the_migration() -> None:
    commands = [options(unit)["ExecStart"][0].removeprefix(PROGRAM).split() for unit in UNITS]
    [role] = [option for option in serve.params if option.name == "role"]
    roles = {command[2] for command in commands if command[:2] == ["serve", "--role"]}
    assert roles == set(getattr(role.type, "choices", ())) - {"all"}
    assert ["migrate"] in commands


@pytest.mark.parametrize("unit", SERVERS, ids=lambda unit: unit.stem)
def test_unit_gives_a_stop_as_long_as_the_slowest_submit_may_take(unit: Path) -> None:
    [minutes] = re.findall(r"^(\d+)min$", options(unit)["TimeoutStopSec"][0])
    assert int(minutes) * 60 >= slowest_stop()
    assert options(unit)["KillMode"] == ["mixed"], (
        "a signal to every process would stop one twice, which ends it at once"
    )
    assert options(unit)["RestartPreventExitStatus"] == [str(exits.SETTINGS)], (
        "a restart mends no mistake in the settings"
    )


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_is_confined_and_holds_no_secret(unit: Path) -> None:
    found = options(unit)
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictNamespaces"):
        assert found[name] == ["yes"], name
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]
    assert "@resources" not in " ".join(found["SystemCallFilter"]), (
        "Dovecote raises its limit of open files at the start"
    )
    assert [line for line in found["Environment"] if re.search("KEY|SECRET|PASSWORD|DATABASE", line)] == []
