"""The exit codes of the command."""

from collections.abc import Mapping
from typing import Final

OK: Final = 0
NOT_SUCCEEDED: Final = 1
USAGE: Final = 2  # click's own
REFUSED: Final = 3
UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
SETTINGS: Final = 78  # EX_CONFIG of sysexits.h
INTERRUPTED: Final = 130  # 128 and SIGINT, as shells have it

MEANINGS: Final[Mapping[int, str]] = {
    OK: "success",
    NOT_SUCCEEDED: "the task failed, was cancelled or expired; a check of the demo failed; a line was not "
    "explained; the doctor found a mistake",
    USAGE: "wrong usage of the command",
    REFUSED: "the server refused the request (HTTP 4xx)",
    UNAVAILABLE: "a server, a database, a storage or a port is not available now",
    SETTINGS: "the settings have mistakes",
    INTERRUPTED: "interrupted (Ctrl-C)",
}
"""Every exit code with its meaning."""
