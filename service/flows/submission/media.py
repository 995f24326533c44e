"""Download the media that a provider takes as files, before anything is bought."""

import asyncio
import base64
import dataclasses
import mimetypes
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx

from service.domain.errors import Refused, Unavailable, UpstreamError
from service.domain.task import Task
from service.flows.context import Context
from service.http.client import Answer, AnswerTooLarge, build, send
from service.http.ssrf.guard import ForbiddenAddress, forbidden
from service.providers.dialect import Dialect

WITHIN: Final = 60.0
"""Seconds for all media of a task. A submission that downloads has so much more time until it is sent."""
MAX_MEDIUM: Final = 50 * 1024 * 1024
"""Bytes of one medium."""
_SILENCE: Final = 20.0
"""Seconds without a byte."""
_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429, *range(500, 600)})
_UNTYPED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}


def seconds_for(dialect: Dialect, task: Task) -> float:
    """Return how much later a submission may be sent because of its media."""
    return WITHIN if _wanted(dialect, task) else 0.0


async def with_files(context: Context, dialect: Dialect, task: Task) -> Task:
    """Return a task whose media are ``data:`` where the provider takes files. The stored task is not changed.

    :raises Refused: when a medium cannot be had: its URL is not allowed, there is nothing, or it is too large
    :raises Unavailable: when its host has trouble; nothing was sent to the provider
    """
    names = _wanted(dialect, task)
    if not names:
        return task
    try:
        async with context.large.downloads, asyncio.timeout(WITHIN):
            files = {name: await _downloaded(context, name, task.input[name]) for name in names}
    except TimeoutError:
        raise Unavailable("provider_timeout", f"the media could not be downloaded within {WITHIN:g} s") from None
    return dataclasses.replace(task, input={**task.input, **files})


def _wanted(dialect: Dialect, task: Task) -> list[str]:
    """Return the fields of a task that are to be downloaded."""
    names = dialect.facts.uploads.get(task.operation, ())
    return [name for name in names if any(map(_is_remote, _listed(task.input.get(name))))]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_remote(value: Any) -> bool:
    return isinstance(value, str) and value[:8].lower().startswith(("http://", "https://"))


async def _downloaded(context: Context, name: str, value: Any) -> Any:
    """Return the value of a field with its media downloaded."""
    if isinstance(value, list):
        return [await _downloaded(context, f"{name}[{number}]", each) for number, each in enumerate(value)]
    return await download(context, name, value) if _is_remote(value) else value


async def download(context: Context, name: str, url: str) -> str:
    """Return a medium as a ``data:`` URL.

    :param name: the field that holds it, for errors
    :raises Refused: when it cannot be had: its URL is not allowed, there is nothing, or it is too large
    :raises Unavailable: when its host has trouble
    """
    answer, url = await _answer(context, name, url)
    content_type = _type_of(answer.headers, url)
    return f"data:{content_type};base64,{base64.b64encode(answer.body).decode()}"


async def _answer(context: Context, name: str, url: str) -> tuple[Answer, str]:
    """Return the answer of the medium's host and its URL, through redirects: each is checked as the URL itself."""
    for _ in range(_MAX_REDIRECTS + 1):
        answer = await _get(context, name, url)
        location = {key.lower(): value for key, value in answer.headers.items()}.get("location")
        if answer.status not in _REDIRECTS or location is None:
            break
        url = urljoin(url, location)
    if answer.failure is not None:
        raise Unavailable("provider_error", _words(name, url, "its host broke the answer off"))
    if answer.status in _TRANSIENT:
        raise Unavailable("provider_error", _words(name, url, f"HTTP {answer.status}"))
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - the class 2xx
        raise Refused("invalid_input", _words(name, url, f"HTTP {answer.status}"))
    if not answer.body:
        raise Refused("invalid_input", _words(name, url, "it is empty"))
    return answer, url


async def _get(context: Context, name: str, url: str) -> Answer:
    try:
        client = context.http.messages
        request = build(client, "GET", url, headers=_HEADERS, read_timeout=_SILENCE)
        return await send(client, request, limit=MAX_MEDIUM)
    except AnswerTooLarge:
        most = MAX_MEDIUM // (1024 * 1024)
        raise Refused("invalid_input", _words(name, url, f"it has more than {most} MiB")) from None
    except ForbiddenAddress as refused:
        raise Refused("invalid_input", _words(name, url, str(refused))) from None
    except (httpx.HTTPError, OSError) as error:
        raise _unreachable(name, url, error) from None


def _unreachable(name: str, url: str, error: Exception) -> UpstreamError:
    refused = forbidden(error)
    if refused is not None:
        return Refused("invalid_input", _words(name, url, str(refused)))
    return Unavailable("provider_error", _words(name, url, f"no connection ({type(error).__name__})"))


def _words(name: str, url: str, why: str) -> str:
    """Return what is wrong with a medium. Its URL may be signed, so only the host is named."""
    try:
        host = (urlsplit(url).hostname or "")[:80]
    except ValueError:
        host = ""
    return f"input.{name} could not be downloaded from {host}: {why}"


def _type_of(headers: Mapping[str, str], url: str) -> str:
    """Return the type of a medium: as stated, or else by the extension in its URL."""
    stated = {name.lower(): value for name, value in headers.items()}.get("content-type", "")
    plain = stated.partition(";")[0].strip().lower()
    if plain not in _UNTYPED:
        return plain
    return mimetypes.guess_type(urlsplit(url).path)[0] or "application/octet-stream"
