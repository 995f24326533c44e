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


LOCAL = {"dovecote-client": "clients/python/pyproject.toml"}
"""Requirements that are installed from this checkout: their own requirements have to be in the locks instead."""


def expanded(wanted: list[str]) -> list[str]:
    """Replace each local requirement by its own requirements."""
    kept = [line for line in wanted if line not in LOCAL]
    for name in set(wanted) & set(LOCAL):
        kept += tomllib.loads(Path(LOCAL[name]).read_text())["project"]["dependencies"]
    return kept


project = tomllib.loads(Path("pyproject.toml").read_text())
runtime = expanded(project["project"]["dependencies"])
wrong = missing(runtime, "requirements.lock")
wrong += missing(runtime + project["dependency-groups"]["dev"], "requirements-dev.lock")
sys.stdout.write("\n".join(wrong or ["both locks satisfy pyproject.toml"]) + "\n")
sys.exit(bool(wrong))
