"""Download the results of a task to files: the kept copies, else the provider's originals. No I/O but the files."""

import base64
import binascii
import hashlib
import mimetypes
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote_to_bytes, urlsplit

import httpx

from dovecote.errors import DovecoteError, Unreachable
from dovecote.protocol import PAUSES, Request, Response, refusal, unexpected
from dovecote.tasks import Result, Task

ATTEMPTS: Final = 8
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PARTIAL: Final = 206
_OK: Final = 200
_PLAIN: Final = re.compile(r"[a-z0-9]{1,5}")
_BY_KIND: Final = {"video": "mp4", "image": "png", "audio": "mp3", "text": "txt", "json": "json", "model": "glb"}


class Download:
    """One file on its way to a path. It goes on where its connection broke, and appears under its name when it is whole."""

    def __init__(self, task: Task, number: int, folder: Path) -> None:
        """Choose the source and the name.

        :param number: which result, counted from 0
        """
        self.result = task.results[number]
        self.path = folder / f"{task.family}-{task.id}-{number}.{_extension(self.result)}"
        self._content_path = f"/v1/tasks/{task.id}/results/{number}/content"
        self._part = self.path.with_name(f"{self.path.name}.part")
        self._file: BinaryIO | None = None
        self._etag: str | None = None
        self._elsewhere = None if self.result.kept == "kept" else self.result.url
        self._digest = hashlib.sha256()
        self._received = 0
        self._expected: int | None = None

    @property
    def elsewhere(self) -> str | None:
        """The URL at another host than Dovecote's, which gets no API key; None: the file is at Dovecote."""
        return self._elsewhere

    def write_at_once(self) -> bool:
        """Write a text or a data URL, and return whether the result was one of these."""
        url = self.result.url
        if self.result.text is not None and url is None:
            self.path.write_text(self.result.text, encoding="utf-8")
        elif url is not None and self._elsewhere is not None and url[:5].lower() == "data:":
            self.path.write_bytes(_of_data_url(url))
        else:
            return False
        return True

    def request(self) -> Request:
        """Return the next request, for the bytes that are missing."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self._received and self._etag is not None:
            headers |= {"Range": f"bytes={self._received}-", "If-Range": self._etag}
        return Request(method="GET", path=self._elsewhere or self._content_path, headers=headers)

    def opened(self, response: Response) -> bool:
        """Note the head of a response, and return whether its body is to be read. It may lead elsewhere.

        :raises DovecoteError: when there is no file
        """
        if response.status in _REDIRECTS and "location" in response.headers and self._elsewhere is None:
            self._elsewhere = response.headers["location"]
            return False
        if response.status not in {_OK, _PARTIAL}:
            raise refusal(response)
        if response.status == _OK:
            self._start_again()
        self._etag = response.headers.get("etag")
        length = response.headers.get("content-length", "")
        self._expected = self._received + int(length) if length.isdecimal() else None
        return True

    def _start_again(self) -> None:
        self.close()
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")
        self._digest, self._received = hashlib.sha256(), 0

    def feed(self, chunk: bytes) -> None:
        """Write some bytes."""
        if self._file is not None:
            self._file.write(chunk)
            self._digest.update(chunk)
            self._received += len(chunk)

    def finish(self) -> Path:
        """Rename the whole file to its own name, and return its path.

        :raises Unreachable: when bytes are missing, or others than the server states
        """
        self.close()
        if self._expected is not None and self._received < self._expected:
            raise Unreachable(f"{self._received} of {self._expected} bytes arrived")
        is_copy = self.result.kept == "kept" and not self.result.marked
        if self.result.sha256 is not None and is_copy and self._digest.hexdigest() != self.result.sha256:
            self._received = 0
            raise Unreachable("the bytes that arrived have another hash than the server states")
        return self._part.replace(self.path)

    def pause_after(self, number: int, error: Exception) -> float:
        """Return the seconds before another attempt.

        :param number: how many attempts have failed
        :raises DovecoteError: when there is no further one
        """
        if self._file is not None and not self._file.closed:
            self._file.flush()
        transient = isinstance(error, httpx.TransportError) or (isinstance(error, DovecoteError) and error.transient)
        if not transient or number >= ATTEMPTS:
            self.close()
            if isinstance(error, DovecoteError):
                raise error
            raise Unreachable(f"the file could not be downloaded ({type(error).__name__})") from error
        return PAUSES[min(number - 1, len(PAUSES) - 1)]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None and not self._file.closed:
            self._file.close()


def downloads(task: Task, folder: Path) -> Iterator[Download]:
    """Yield a download for each result of a task that is a file or a text."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, result in enumerate(task.results):
        if result.kept == "kept" or result.url is not None or result.text is not None:
            yield Download(task, number, folder)


def head(response: httpx.Response, body: bytes = b"") -> Response:
    """Return the head of a response of httpx."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, headers, body)


def _extension(result: Result) -> str:
    guessed = mimetypes.guess_extension(result.media_type) if result.media_type else None
    suffix = (guessed or Path(urlsplit(result.url or "").path).suffix).lstrip(".").lower()
    if result.url is not None and result.url[:5].lower() == "data:":
        stated = mimetypes.guess_extension(result.url[5:].partition(",")[0].partition(";")[0])
        suffix = (stated or "").lstrip(".")
    return suffix if _PLAIN.fullmatch(suffix) else _BY_KIND.get(result.kind, "bin")


def _of_data_url(url: str) -> bytes:
    stated, _, body = url[5:].partition(",")
    try:
        raw = unquote_to_bytes(body)
        return base64.b64decode(raw) if stated.lower().endswith(";base64") else raw
    except (binascii.Error, ValueError):
        raise unexpected(Response(_OK, {}, b"a damaged data URL")) from None
