"""Set the memory management of a server: large blocks go back to the operating system, and garbage collections are rare."""

import contextlib
import ctypes
import gc
from typing import Final

LARGE_BLOCK: Final = 1024 * 1024
"""Bytes from which on a block is mapped on its own, and unmapped when it is freed."""

_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2


def return_large_blocks() -> None:
    """Set two parameters of glibc's allocator. On other systems, do nothing.

    By default the threshold grows with the freed blocks, up to 32 MiB, and every thread has its own heap. After some large
    request bodies the process would keep several times their size.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(_M_ARENA_MAX, _ARENAS)


def collect_later() -> None:
    """Collect no garbage until :func:`collect_rarely`. Imports make few cycles, and a start is a tenth shorter without collections."""
    gc.disable()


def collect_rarely() -> None:
    """Exclude all present objects from garbage collections, and collect only after many new objects.

    Nothing is collected before: that takes a tenth of a start, and finds 1 MB.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)
