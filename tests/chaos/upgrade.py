"""A rolling upgrade: the processes of an older commit are replaced, one after another, by those of this one."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from service.cli.processes import clean_environment
from tests.chaos.evidence import Evidence, Fault
from tests.chaos.installation import HERE, Installation, path_of

BEGINS_AT: Final = 0.2
"""The share of the load that the older processes serve alone."""
PAUSE: Final = 2.0
"""Seconds for which old and new processes work side by side before the next one is replaced."""


class NoSuchCommit(Exception):
    """The history does not have the commit, as in a shallow clone."""


def _git(*arguments: str) -> str:
    command = [shutil.which("git") or "git", "-C", str(HERE), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - git
    if done.returncode:
        raise NoSuchCommit(done.stderr.strip() or f"git {arguments[0]} failed")
    return done.stdout.strip()


@contextlib.contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """Yield a checkout of an older commit.

    :raises NoSuchCommit: when there is none
    """
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    tree = folder / "older"
    _git("worktree", "add", "--detach", "--quiet", str(tree), commit)
    try:
        yield tree
    finally:
        with contextlib.suppress(NoSuchCommit):
            _git("worktree", "remove", "--force", str(tree))


def head_of(tree: Path) -> str:
    """Return the newest revision of the schema in a checkout."""
    return max(each.stem for each in (tree / "migrations" / "versions").glob("[0-9]*.py"))


async def migrate_with(tree: Path, database_url: str, folder: Path) -> None:
    """Migrate a database with the code of a checkout."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "tests" / "chaos" / "launch.py"), "migrate"),
        cwd=folder,
        env={**clean_environment(), "DOVECOTE_DATABASE_URL": database_url, "PYTHONPATH": path_of(tree)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    written, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"cannot migrate with {tree.name}: {written.decode(errors='replace')[-2000:]}")


async def replace_all(installation: Installation, evidence: Evidence, say: Callable[[str], None]) -> None:
    """Migrate the database, then replace one process after another."""
    await migrate_with(HERE, installation.direct_url, installation.folder)
    say(f"database migrated to {head_of(HERE)}")
    for each in installation.servers:
        await asyncio.sleep(PAUSE)
        assert each.process is not None
        each.down = True
        each.process.terminate()
        await asyncio.to_thread(each.process.wait, 30)
        each.tree = HERE
        await installation.start(each)
        each.down = False
        evidence.add(Fault(name="upgrade", target=each.name, event="begins"))
        say(f"{each.name} replaced")
