"""Serve the files of jobs: with ranges, as providers do, and with faults on demand."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.sandbox.connections import break_off
from service.sandbox.files import FILES
from service.sandbox.jobs import Job

_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_AT_ONCE: Final = 256 * 1024
_PAGE: Final = b"<!DOCTYPE html><html><head><title>Gone</title></head><body>This file has expired.</body></html>"
_NOISE: Final = hashlib.shake_256(b"sandbox").digest(_AT_ONCE)


class ServedFiles:
    """The files of all jobs. It counts the requests for each job's files."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Keep the sandbox's clock."""
        self._clock = clock
        self._asked: Counter[str] = Counter()

    def answer(self, request: Request, job: Job, ending: str) -> Response:
        """Return the answer to a request for a file of a job."""
        faults, self._asked[job.id] = job.faults, self._asked[job.id] + 1
        asked = self._asked[job.id]
        if faults.filegone is not None and self._clock() >= job.life.ended_at + faults.filegone:
            return Response("no such file", 404, media_type="text/plain")
        if asked <= (faults.file_unavailable or 0):
            return Response("try again", 503, media_type="text/plain", headers={"Retry-After": "1"})
        media_type, content = FILES[ending]
        if faults.filepage:
            return Response(_PAGE, media_type=media_type)
        return _File(
            request,
            media_type,
            content,
            size=max(faults.filebytes or 0, len(content)),
            breaks_off=asked <= (faults.filereset or 0),
            tells_length=not faults.filechunked,
            lies=faults.fileshort,
        )


class _File(Response):
    """A file of any size, which is never whole in memory."""

    def __init__(
        self,
        request: Request,
        media_type: str,
        head: bytes,
        *,
        size: int,
        breaks_off: bool,
        tells_length: bool,
        lies: bool,
    ) -> None:
        super().__init__(media_type=media_type)
        self._head, self._size = head, size
        self._breaks_off, self._lies = breaks_off, lies
        etag = f'"{hashlib.sha256(head).hexdigest()[:12]}-{size}"'
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        same = request.headers.get("if-range", etag) == etag
        self._start, self._end = 0, size
        if asked is not None and same and int(asked[1]) < size and int(asked[1]) <= int(asked[2] or size):
            self._start = int(asked[1])
            self._end = min(int(asked[2] or size - 1) + 1, size)
            self.status_code = 206
            self.headers["Content-Range"] = f"bytes {self._start}-{self._end - 1}/{size}"
        self.headers["ETag"] = etag
        self.headers["Accept-Ranges"] = "bytes"
        del self.headers["content-length"]
        if tells_length:
            self.headers["Content-Length"] = str((self._end - self._start) * (2 if lies else 1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        end = (self._start + self._end) // 2 if self._breaks_off else self._end
        at = self._start
        while at < end and scope["method"] != "HEAD":
            block = self._block(at, min(at + _AT_ONCE, end))
            await send({"type": "http.response.body", "body": block, "more_body": True})
            at += len(block)
        if self._breaks_off or self._lies:
            await break_off("close", scope, receive)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _block(self, start: int, end: int) -> bytes:
        """Return some bytes of the file: its head, and noise behind it."""
        if start < len(self._head):
            return self._head[start:end]
        at = (start - len(self._head)) % _AT_ONCE
        return _NOISE[at : at + end - start]


def content(ending: str, size: int) -> bytes:
    """Return the whole content of a file, to compare with a copy."""
    head = FILES[ending][1]
    rest = max(size - len(head), 0)
    return head + (_NOISE * (rest // _AT_ONCE + 1))[:rest]
