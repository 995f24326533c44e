"""The exit codes of the command: fixed, and listed in this one place."""

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
    OK: "it went well",
    NOT_SUCCEEDED: "what was asked about did not go well: the task waited for failed, was cancelled or expired; "
    "the demo did not hold; a line could not be explained; the doctor found a mistake",
    USAGE: "the command line has a mistake",
    REFUSED: "Dovecote refused the request (HTTP 4xx)",
    UNAVAILABLE: "a server, a database or a port is not available; it may be later",
    SETTINGS: "the settings have mistakes",
    INTERRUPTED: "interrupted (Ctrl-C)",
}
"""Every code that the command ends with, and what it tells a script."""
