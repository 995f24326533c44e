"""Check that the lock files satisfy pyproject.toml. A dependency that is not locked is an error."""

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
    """Return the requirements that a lock file does not satisfy."""
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
groups = project["dependency-groups"]
development = [need for need in groups["dev"] if isinstance(need, str)]
wrong += missing(groups["build"], "requirements-build.lock")
wrong += missing(groups["docs"], "requirements-docs.lock")
wrong += missing(runtime + groups["build"] + development, "requirements-dev.lock")
known = locked("requirements-dev.lock")
wrong += [
    f"requirements-build.lock: {name} has another version than in requirements-dev.lock"
    for name, version in locked("requirements-build.lock").items()
    if known.get(name) != version
]
wrong += [
    f"requirements-docs.lock: {name} has another version than in requirements-dev.lock"
    for name, version in locked("requirements-docs.lock").items()
    if known.get(name, version) != version
]
sys.stdout.write("\n".join(wrong or ["all locks satisfy pyproject.toml"]) + "\n")
sys.exit(bool(wrong))
