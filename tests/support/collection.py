"""How the tests are collected and distributed over the processes of a run."""

import contextlib
import functools
import importlib
import re
import zlib
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_LONG: Final = re.compile(
    r"^pytestmark = (?:\[\s*)?(?:pytest\.mark\.\w+\(.*?\),\s*)*pytest\.mark\.long\b", re.MULTILINE
)
_WHOLE: Final = re.compile(r'xdist_group|scope="module"')
_PARTS: Final = 4


def is_long(path: Path) -> bool:
    """Return whether a file is marked as long as a whole."""
    return path.match("test_*.py") and bool(_LONG.search(path.read_text(encoding="utf-8")))


@functools.cache
def takes_whole_suite(config: pytest.Config, folder: Path) -> bool:
    """Return whether this is one of the processes of a run over all test files."""
    return hasattr(config, "workerinput") and [Path(each).resolve() for each in config.args] == [folder]


def import_share(config: pytest.Config, folder: Path) -> None:
    """Import a share of the test files in each of several processes, which find those of the others compiled.

    Preparing the assertions takes longer than the rest of the collection. A faulty file is reported later, as usual.
    """
    if not takes_whole_suite(config, folder):
        return
    worker = config.workerinput  # type: ignore[attr-defined]
    number, count = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
    is_ignored = is_long if config.getoption("markexpr") == "not long" else lambda _: False
    for path in sorted(folder.rglob("test_*.py"))[number::count]:
        if not is_ignored(path):
            with contextlib.suppress(Exception):
                importlib.import_module(".".join(path.relative_to(folder.parent).with_suffix("").parts))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process whole files where their tests share a fixture or start processes, and parts of the other files.

    xdist finds its own groups by the names of tests, and loses them with this version of pytest. Its other schedulers take a
    second of the controller for a thousand tests.
    """

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        """Keep the folder that the names of tests start from."""
        super().__init__(config, log)
        self._root = config.rootpath

    def _split_scope(self, nodeid: str) -> str:
        """Return the name of the part that a test belongs to."""
        name = nodeid.partition("::")[0]
        return name if _is_whole(self._root / name) else f"{name} {zlib.crc32(nodeid.encode()) % _PARTS}"


@functools.cache
def _is_whole(path: Path) -> bool:
    return bool(_WHOLE.search(path.read_text(encoding="utf-8")))
