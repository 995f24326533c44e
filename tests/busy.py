"""Run a command beside busy loops. `python -m tests.busy COMMAND …` shows which tests depend on the machine's speed."""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator

LOOP = "while True: pass"


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[list[int]]:
    """Keep this number of busy loops running, each in its own process, and yield their process ids."""
    loops = [subprocess.Popen([sys.executable, "-c", LOOP], stdin=subprocess.DEVNULL) for _ in range(count)]  # noqa: S603
    try:
        yield [loop.pid for loop in loops]
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", type=int, default=4, help="how many busy loops run beside the command")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run, with its arguments")
    given = parser.parse_args()
    if not given.command:
        parser.error("name a command, such as: python -m pytest -q tests/system")
    with busy_loops(given.loops):
        return subprocess.run(given.command, check=False).returncode  # noqa: S603 - the developer's own command


if __name__ == "__main__":
    sys.exit(main())
