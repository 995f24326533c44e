"""Server-sent events, read piece by piece as they come, without a network in sight."""

import dataclasses
from collections.abc import Iterator
from typing import Final

LARGEST: Final = 4 * 1024 * 1024
"""Bytes that one event may take."""
LONGEST_RETRY: Final = 60.0
"""Seconds that a server may ask us to stay away."""


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """One event as it stands in the stream."""

    type: str
    data: str
    id: str | None
    """The cursor after it; None where none has been given so far."""


class TooLarge(ValueError):
    """One event takes more than any event does."""


class Parser:
    """Reads a stream by the rules of the HTML standard: lines end with LF, CR or both, and nothing else ends a line."""

    def __init__(self, last_id: str | None = None, retry: float | None = None) -> None:
        """Begin, perhaps with what was seen on another connection."""
        self.last_id = last_id
        self.retry = retry
        """Seconds to wait before connecting again, where the server has said so."""
        self._rest = b""
        self._size = 0
        self._type = ""
        self._data: list[str] = []
        self._id = last_id
        """Counts once its event is complete: what was cut off is to be sent again."""

    def feed(self, piece: bytes) -> Iterator[Block]:
        """Take in a piece, and give the events that are complete with it.

        :raises TooLarge: when one takes more than :data:`LARGEST` bytes
        """
        *lines, self._rest = _lines(self._rest + piece)
        for line in lines:
            self._size += len(line)
            block = self._take(line.decode("utf-8", "replace"))
            if block is not None:
                yield block
        if self._size + len(self._rest) > LARGEST:
            raise TooLarge(f"an event takes more than {LARGEST} bytes")

    def _take(self, line: str) -> Block | None:
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
            self.retry = min(int(value[:9]) / 1000, LONGEST_RETRY)
        return None

    def _dispatch(self) -> Block | None:
        self.last_id = self._id
        block = Block(self._type or "message", "\n".join(self._data), self.last_id) if self._data else None
        self._type, self._data, self._size = "", [], 0
        return block


def _lines(text: bytes) -> list[bytes]:
    """Split into lines; the last is what no line end follows yet. A CR at the very end may be half of a line end."""
    held = b"\r" if text.endswith(b"\r") else b""
    lines = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines[-1] += held
    return lines
