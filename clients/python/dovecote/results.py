"""The kept results of tasks: links, provenance, deletion and downloads, for both clients."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx

from dovecote import calls
from dovecote.calls import TaskOrId
from dovecote.downloads import Download, downloads, head
from dovecote.errors import DovecoteError
from dovecote.protocol import Call, Session
from dovecote.settings import Settings
from dovecote.tasks import ResultLink, Task

_T = TypeVar("_T")


class _Run(Protocol):
    def __call__(self, call: Call[_T], /) -> _T: ...


class _RunAsync(Protocol):
    def __call__(self, call: Call[_T], /) -> Awaitable[_T]: ...


class Results:
    """The kept results of tasks, as ``client.results``."""

    def __init__(self, session: Session, run: _Run, settings: Settings, http: httpx.Client) -> None:
        """Keep what executes a call."""
        self._session, self._run, self._settings, self._http = session, run, settings, http

    def link(self, task: TaskOrId, number: int = 0, *, seconds: int | None = None) -> ResultLink:
        """Get a link by which anybody can read a kept copy for a time.

        :param number: which result, counted from 0
        :param seconds: for how long it is valid; default: an hour, unless the server's settings say otherwise
        """
        return self._run(calls.result_link(self._session, task, number, seconds))

    def provenance(self, task: TaskOrId, number: int = 0) -> Mapping[str, Any]:
        """Get where a kept copy came from: model, upstream, times and hashes."""
        return self._run(calls.result_provenance(self._session, task, number))

    def delete(self, task: TaskOrId) -> Task:
        """Delete the kept copies of a task's results."""
        return self._run(calls.delete_results(self._session, task))

    def settled(self, task: TaskOrId, *, wait: float = 60.0) -> Task:
        """Get a task once no copy of a result is pending, at the latest after some seconds."""
        return self._run(calls.settled(self._session, task, wait))

    def save(self, task: TaskOrId, folder: str | Path = ".", *, wait: float = 60.0) -> Sequence[Path]:
        """Download the results of a task: the kept copies, else the provider's originals. Return the files.

        A download goes on where its connection broke. The hash of a kept copy is checked.

        :param wait: seconds to wait for copies that are being made
        :raises DovecoteError: when a file cannot be had
        """
        known = self._run(calls.settled(self._session, task, wait))
        return [self._save(each) for each in downloads(known, Path(folder))]

    def _save(self, download: Download) -> Path:
        if download.write_at_once():
            return download.path
        failed = 0
        while True:
            try:
                with self._open(download) as response:
                    if not 200 <= response.status_code < 300:  # noqa: PLR2004 - the statuses of a success
                        download.opened(head(response, response.read()))
                        continue
                    download.opened(head(response))
                    for chunk in response.iter_raw():
                        download.feed(chunk)
                return download.finish()
            except (DovecoteError, httpx.TransportError) as error:
                failed += 1
                pause = download.pause_after(failed, error)
            time.sleep(pause)

    @contextlib.contextmanager
    def _open(self, download: Download) -> Iterator[httpx.Response]:
        arguments = self._settings.request_arguments(download.request())
        if download.elsewhere is None:
            with self._http.stream(**arguments) as response:
                yield response
            return
        with httpx.Client(follow_redirects=True) as plain, plain.stream(**arguments) as response:
            yield response


class AsyncResults:
    """The kept results of tasks, as ``client.results``."""

    def __init__(self, session: Session, run: _RunAsync, settings: Settings, http: httpx.AsyncClient) -> None:
        """Keep what executes a call."""
        self._session, self._run, self._settings, self._http = session, run, settings, http

    async def link(self, task: TaskOrId, number: int = 0, *, seconds: int | None = None) -> ResultLink:
        """Get a link by which anybody can read a kept copy for a time: see :meth:`Results.link`."""
        return await self._run(calls.result_link(self._session, task, number, seconds))

    async def provenance(self, task: TaskOrId, number: int = 0) -> Mapping[str, Any]:
        """Get where a kept copy came from: model, upstream, times and hashes."""
        return await self._run(calls.result_provenance(self._session, task, number))

    async def delete(self, task: TaskOrId) -> Task:
        """Delete the kept copies of a task's results."""
        return await self._run(calls.delete_results(self._session, task))

    async def settled(self, task: TaskOrId, *, wait: float = 60.0) -> Task:
        """Get a task once no copy of a result is pending: see :meth:`Results.settled`."""
        return await self._run(calls.settled(self._session, task, wait))

    async def save(self, task: TaskOrId, folder: str | Path = ".", *, wait: float = 60.0) -> Sequence[Path]:
        """Download the results of a task: see :meth:`Results.save`."""
        known = await self._run(calls.settled(self._session, task, wait))
        return [await self._save(each) for each in downloads(known, Path(folder))]

    async def _save(self, download: Download) -> Path:
        if download.write_at_once():
            return download.path
        failed = 0
        while True:
            try:
                async with self._open(download) as response:
                    if not 200 <= response.status_code < 300:  # noqa: PLR2004 - the statuses of a success
                        download.opened(head(response, await response.aread()))
                        continue
                    download.opened(head(response))
                    async for chunk in response.aiter_raw():
                        download.feed(chunk)
                return download.finish()
            except (DovecoteError, httpx.TransportError) as error:
                failed += 1
                pause = download.pause_after(failed, error)
            await asyncio.sleep(pause)

    @contextlib.asynccontextmanager
    async def _open(self, download: Download) -> AsyncIterator[httpx.Response]:
        arguments = self._settings.request_arguments(download.request())
        if download.elsewhere is None:
            async with self._http.stream(**arguments) as response:
                yield response
            return
        async with httpx.AsyncClient(follow_redirects=True) as plain, plain.stream(**arguments) as response:
            yield response
