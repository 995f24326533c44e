"""Check that both locks satisfy pyproject.toml: a dependency that was added there and not locked is found here."""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version


def locked(path: str) -> dict[str, Version]:
    """Read the pinned versions of a lock."""
    lines = [
        line.split()[0].partition("==")
        for line in Path(path).read_text().splitlines()
        if "==" in line and line[0].isalnum()
    ]
    return {name.lower(): Version(version) for name, _, version in lines}


def missing(wanted: list[str], path: str) -> list[str]:
    """Name what a lock does not satisfy."""
    pinned = locked(path)
    needs = [Requirement(line) for line in wanted]
    return [
        f"{path}: {need}"
        for need in needs
        if not need.specifier.contains(pinned.get(need.name.lower(), Version("0")), prereleases=True)
    ]


project = tomllib.loads(Path("pyproject.toml").read_text())
wrong = missing(project["project"]["dependencies"], "requirements.lock")
wrong += missing(project["project"]["dependencies"] + project["dependency-groups"]["dev"], "requirements-dev.lock")
sys.stdout.write("\n".join(wrong or ["both locks satisfy pyproject.toml"]) + "\n")
sys.exit(bool(wrong))
