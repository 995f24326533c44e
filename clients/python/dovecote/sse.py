"""Parse server-sent events incrementally, without doing I/O."""

import dataclasses
from collections.abc import Iterator
from typing import Final

MAX_EVENT: Final = 4 * 1024 * 1024
"""Maximum bytes of one event."""
MAX_RETRY: Final = 60.0
"""Maximum seconds before a reconnection that a server may ask for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """One event of a stream."""

    type: str
    data: str
    id: str | None
    """The cursor behind it; None where the stream has sent none so far."""


class TooLarge(ValueError):
    """An event exceeds :data:`MAX_EVENT`."""


class Parser:
    """Parses a stream by the rules of the HTML standard: a line ends with LF, CR or CRLF, and with nothing else."""

    def __init__(self, last_id: str | None = None, retry: float | None = None) -> None:
        """Start, with the state of an earlier connection where there was one."""
        self.last_id = last_id
        self.retry = retry
        """Seconds to wait before connecting again, where the server has said so."""
        self._rest = b""
        self._size = 0
        self._type = ""
        self._data: list[str] = []
        self._id = last_id
        """Takes effect when its event is complete: an event that was cut off has to come again."""

    def feed(self, piece: bytes) -> Iterator[Block]:
        """Parse a piece and yield the events that it completes.

        :raises TooLarge: when an event exceeds :data:`MAX_EVENT` bytes
        """
        *lines, self._rest = _lines(self._rest + piece)
        for line in lines:
            self._size += len(line)
            block = self._process(line.decode("utf-8", "replace"))
            if block is not None:
                yield block
        if self._size + len(self._rest) > MAX_EVENT:
            raise TooLarge(f"an event exceeds {MAX_EVENT} bytes")

    def _process(self, line: str) -> Block | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\x00" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self.retry = min(int(value[:9]) / 1000, MAX_RETRY)
        return None

    def _dispatch(self) -> Block | None:
        self.last_id = self._id
        block = Block(self._type or "message", "\n".join(self._data), self.last_id) if self._data else None
        self._type, self._data, self._size = "", [], 0
        return block


def _lines(text: bytes) -> list[bytes]:
    """Split into lines; the last item is the incomplete line. A final CR stays in it: it may be half of a CRLF."""
    pending = b"\r" if text.endswith(b"\r") else b""
    lines = text.removesuffix(pending).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines[-1] += pending
    return lines
