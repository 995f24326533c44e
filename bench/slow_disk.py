"""A slower disk: every fsync of the measured processes and of their databases takes some milliseconds more.

An fsync of a virtual machine on a fast disk takes 0.1 ms, that of a cloud disk 0.5 to 5 ms. A small library in C, compiled here and loaded before all others,
waits before each call. Without a compiler nothing is slower, and a line says so.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MILLISECONDS: Final = "BENCH_FSYNC_MS"
"""The variable that the library reads."""
_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_first(void) {
    const char *given = getenv("BENCH_FSYNC_MS");
    double ms = given ? atof(given) : 0;
    struct timespec span = {(time_t)(ms / 1000), (long)((ms - 1000 * (long)(ms / 1000)) * 1e6)};
    if (ms > 0) nanosleep(&span, NULL);
}

int fsync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_first();
    return real(descriptor);
}

int fdatasync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_first();
    return real(descriptor);
}
"""


@contextlib.contextmanager
def slowed(milliseconds: float) -> Iterator[bool]:
    """Make every fsync of the processes that start meanwhile slower; yield whether they are."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if milliseconds <= 0 or compiler is None:
        if milliseconds > 0:
            print("no C compiler: every fsync takes as long as this disk needs", file=sys.stderr, flush=True)
        yield False
        return
    before = {name: os.environ.get(name) for name in ("LD_PRELOAD", MILLISECONDS)}
    with tempfile.TemporaryDirectory(prefix="dovecote-bench-fsync-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as a user of its own and must read it
        library = Path(folder) / "slow_fsync.so"
        command = [compiler, "-shared", "-fPIC", "-O2", "-x", "c", "-", "-o", str(library), "-ldl"]
        subprocess.run(command, input=_SOURCE, text=True, check=True)  # noqa: S603 - our own source
        os.environ |= {"LD_PRELOAD": str(library), MILLISECONDS: str(milliseconds)}
        try:
            yield True
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
