"""Parse HTTP/1 responses leniently: read everything that can be read. No I/O.

A strict parser decides about money. A response with a header of 9 kB, or with bytes after its end, would make a purchase
lost and a delivered message failed. The rules follow what curl accepts; see docs/decisions/0014.
"""

import re
from collections.abc import Iterator
from typing import Final

MAX_FIELD: Final = 64 * 1024
"""Bytes of a header field. A longer one is cut."""
MAX_FIELDS: Final = 1_000
"""Header fields of a response. Further ones are ignored."""
MAX_HEAD: Final = 2 * 1024 * 1024
"""Bytes of the status line and all fields. After that the response is broken."""
_MAX_LINE: Final = 64 * 1024
_SWITCHING_PROTOCOLS: Final = 101
_NO_BODY: Final = frozenset({101, 204, 304})

_STATUS_LINE = re.compile(rb"[ \t]*HTTP/\d+(?:\.\d+)?[ \t]*[ \t]([1-9]\d\d)(?!\d)", re.IGNORECASE)
_END_OF_HEAD = re.compile(rb"\r?\n\r*\n")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:[;\r\t ].*)?", re.DOTALL)
_LENGTH = re.compile(rb"\d{1,18}")


class BrokenResponse(Exception):
    """The bytes are no HTTP response, or its framing cannot be followed any further."""


class Response:
    """A response that is parsed as its bytes arrive."""

    def __init__(self, *, has_body: bool = True) -> None:
        """Start before the first byte.

        :param has_body: whether the request can have a response with a body; False after HEAD
        """
        self.status: int | None = None
        """The final status, known as soon as its line is complete."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.headers_complete = False
        self.complete = False
        self._has_body = has_body
        self._buffer = bytearray()
        self._searched = 0
        self._body: list[bytes] = []
        self._left: int | None = None
        """Bytes of the body, or of its chunk, that are still to come; None: until the connection ends."""
        self._chunked = False
        self._in_chunk = False
        self._is_persistent = False
        self._has_surplus = False

    @property
    def allows_reuse(self) -> bool:
        """Whether it ended where it had to, and the server keeps the connection open for another request."""
        if not (self.complete and self._is_persistent) or self._has_surplus:
            return False
        if bytes(self._buffer) != (b"\r\n" if self._chunked else b""):
            return False
        stated = b",".join(value for name, value in self.headers if name.lower() == b"connection").lower()
        return b"close" not in stated and b"upgrade" not in stated

    def feed(self, data: bytes) -> None:
        """Parse some bytes.

        :raises BrokenResponse: when nothing more can be read
        """
        if self.complete:
            self._has_surplus = True
            return  # bytes after the end are ignored
        if self.headers_complete and not self._chunked:
            self._take(data)
            return
        self._buffer += data
        while not self.headers_complete and self._next_head():
            pass
        if self.headers_complete and self._chunked:
            self._take_chunks()

    def end(self) -> None:
        """Note that the connection has ended.

        :raises BrokenResponse: when the response is not complete
        """
        if self.complete:
            return
        if self.headers_complete and not self._chunked and self._left is None:
            self.complete, self._is_persistent = True, False
            return
        raise BrokenResponse("the connection was closed " + self._where())

    def take_body(self) -> bytes:
        """Return the part of the body that was read since the last call."""
        body = b"".join(self._body)
        self._body.clear()
        return body

    def _where(self) -> str:
        if self.status is None:
            return "in the middle of the headers" if self._buffer else "without an answer"
        return "in the middle of the body" if self.headers_complete else "in the middle of the headers"

    # ── the head ───────────────────────────────────────────────────────────────────────────────────────────────

    def _next_head(self) -> bool:
        """Read the status line and the headers, as far as they are there. Return whether an interim head was skipped."""
        while self._buffer.startswith((b"\r", b"\n")):
            del self._buffer[:1]
        self._read_status()
        found = _END_OF_HEAD.search(self._buffer, max(self._searched - 4, 0))
        if found is None:
            self._searched = len(self._buffer)
            if len(self._buffer) > MAX_HEAD:
                raise BrokenResponse(f"the headers take more than {MAX_HEAD} bytes")
            return False
        head = bytes(self._buffer[: found.start()])
        del self._buffer[: found.end()]
        self._searched = 0
        if self.status is None:
            return True  # an interim response: the final one follows
        self.headers = list(_fields(head.split(b"\n")[1:]))
        self.headers_complete = True
        self._begin_body()
        return False

    def _read_status(self) -> None:
        """Read the status line once it is complete. The status of an interim response (1xx) does not count."""
        end = self._buffer.find(b"\n", 0, _MAX_LINE)
        if end < 0:
            start = bytes(self._buffer[:5]).strip().upper()
            if len(self._buffer) >= _MAX_LINE or not b"HTTP/".startswith(start):
                raise BrokenResponse("the answer is not HTTP")
            return
        found = _STATUS_LINE.match(self._buffer, 0, end)
        if found is None:
            raise BrokenResponse("the answer is not HTTP")
        status = int(found[1])
        self._is_persistent = found[0].lstrip().upper().startswith(b"HTTP/1.1")
        self.status = status if status >= 200 or status == _SWITCHING_PROTOCOLS else None  # noqa: PLR2004 - interim

    def partial_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that were read so far."""
        if self.headers_complete or self.status is None:
            return self.headers
        return list(_fields(bytes(self._buffer).split(b"\n")[1:-1]))

    # ── the body ───────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_body(self) -> None:
        rest = bytes(self._buffer)
        if not self._has_body or self.status in _NO_BODY:
            self.complete = True
            return
        codings = b",".join(value for name, value in self.headers if name.lower() == b"transfer-encoding").lower()
        self._chunked = b"chunked" in codings
        if self._chunked:
            return
        self._buffer.clear()
        self._left = self._stated_length()
        self._take(rest)

    def _stated_length(self) -> int | None:
        """Return the stated length of the body; None when none is stated, or when several contradict each other."""
        stated = {
            part.strip()
            for name, value in self.headers
            if name.lower() == b"content-length"
            for part in value.split(b",")
        }
        if len(stated) != 1:
            return None
        [length] = stated
        return int(length) if _LENGTH.fullmatch(length) else None

    def _take(self, data: bytes) -> None:
        """Read body bytes that are not chunked."""
        if self._left is not None:
            self._has_surplus = self._has_surplus or len(data) > self._left
            data = data[: self._left]
            self._left -= len(data)
            self.complete = not self._left
        if data:
            self._body.append(data)

    def _take_chunks(self) -> None:
        while not self.complete:
            if self._in_chunk:
                if not self._take_chunk():
                    return
            elif not self._read_chunk_size():
                return

    def _take_chunk(self) -> bool:
        """Read bytes of the chunk. Return whether the chunk has ended."""
        assert self._left is not None  # noqa: S101 - for the type checker: set with _in_chunk
        data = bytes(self._buffer[: self._left])
        del self._buffer[: len(data)]
        self._left -= len(data)
        if data:
            self._body.append(data)
        self._in_chunk = self._left > 0
        return not self._in_chunk

    def _read_chunk_size(self) -> bool:
        """Read the line with the size of the next chunk. Return whether the line was complete."""
        while self._buffer.startswith((b"\r", b"\n")):  # the end of the chunk before
            del self._buffer[:1]
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > _MAX_LINE:
                raise BrokenResponse("the size of a chunk cannot be read")
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise BrokenResponse("the size of a chunk cannot be read")
        self._left = int(found[1], 16)
        self._in_chunk = self._left > 0
        self.complete = not self._in_chunk  # trailers are ignored
        return True


def _fields(lines: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Read header fields. A folded line continues the one before; a line without a colon is ignored."""
    unfolded: list[bytes] = []
    for raw in lines:
        line = raw.replace(b"\x00", b"").rstrip(b"\r\n\t ")
        if raw[:1] in {b" ", b"\t"} and unfolded:
            unfolded[-1] = (unfolded[-1] + b" " + line.strip())[:MAX_FIELD]
        elif line:
            unfolded.append(line[:MAX_FIELD])
    for line in unfolded[:MAX_FIELDS]:
        name, colon, value = line.partition(b":")
        name = name.strip()
        if colon and name:
            yield name, value.strip().replace(b"\r", b" ")
