"""Read the media of a task from where they are: a host, the storage, or the parent's results."""

import base64
import dataclasses
import functools
import mimetypes
from collections.abc import Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx

from service.domain.errors import Refused, Unavailable, UpstreamError
from service.domain.media_references import MediaReference, place, reference_in, replaced, upload_id
from service.domain.media_types import extension
from service.domain.task import Result, Task
from service.domain.uploads import Upload
from service.flows.assets.media_links import link_to, share_kept, store_inline
from service.flows.assets.uploads import NoStorage, storage_of
from service.flows.context import Context, Upstream
from service.flows.conversation import run_exchange
from service.http import form as http_form
from service.http.client import Answer, AnswerTooLarge, build, send
from service.http.ssrf.guard import ForbiddenAddress, forbidden
from service.object_errors import NoSuchObject
from service.providers.capabilities import StoresMedia
from service.providers.dialect import Dialect
from service.providers.form import content_of
from service.providers.media import Form, Medium, mistakes_at
from service.providers.wire import StoredMedium
from service.store import assets as asset_store
from service.store import tasks as task_store
from service.store import uploads as upload_store
from service.store.assets import Asset

MAX_MEDIUM: Final = 50 * 1024 * 1024
"""Bytes of one medium that is sent in a request."""
_SILENCE: Final = 20.0
"""Seconds without a byte."""
_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429, *range(500, 600)})
_UNTYPED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_MAX_CONFIRMATION: Final = 64 * 1024
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}


class Sources:
    """The places of the media of one task."""

    def __init__(self, context: Context, upstream: Upstream, dialect: Dialect, task: Task) -> None:
        """Read nothing yet."""
        self._context = context
        self._upstream = upstream
        self._dialect = dialect
        self._task = task
        self._parent: Task | None = None

    async def value(self, medium: Medium, form: Form) -> str:
        """Return what stands for a medium in the request to the provider: a URL, or ``data:``.

        :raises Refused: when it cannot be had
        :raises Unavailable: when its host has trouble
        :raises StorageError: when the storage has trouble
        :raises StoreUnavailable: when the database has
        """
        where = place(medium.path)
        found = reference_in(medium.value)
        try:
            if form == "stored":
                inline = medium.value if found is None else await self._referred(medium, found, "inline")
                return inline if self._takes(medium, inline) else await self._stored(where, inline)
            if found is not None:
                return await self._referred(medium, found, form)
            if medium.is_inline:
                return await self._linked(medium)
            return await download(self._context, where, medium.value)
        except (NoStorage, NoSuchObject) as error:
            raise Refused("invalid_input", f"{where}: {error}") from None

    def _takes(self, medium: Medium, inline: str) -> bool:
        """Return whether the provider takes a medium in the request."""
        values = {medium.path: inline}
        task = dataclasses.replace(self._task, input=replaced(self._task.input, values.get))
        return not mistakes_at(self._dialect.validate(self._upstream.in_its_names(task)), medium.field)

    async def _stored(self, where: str, inline: str) -> str:
        """Put a medium into the provider's storage; return what stands for it there."""
        content = await self._context.large.run(len(inline), functools.partial(content_of, inline))
        if content is None or not isinstance(self._dialect, StoresMedia):
            raise Refused("invalid_input", f"{where} is no readable data: URL")
        content_type = inline[5:].partition(";")[0].partition(",")[0]
        name = f"input.{extension(content_type)}"
        exchange = self._dialect.store_medium(name)
        stored = await run_exchange(self._context, self._upstream, self._dialect, exchange)
        await _post(self._context, where, stored, (name, content, content_type))
        return stored.uri

    async def _linked(self, medium: Medium) -> str:
        content = await self._context.large.run(len(medium.value), functools.partial(content_of, medium.value))
        if content is None:
            raise Refused("invalid_input", f"{place(medium.path)} is no readable data: URL")
        return await link_to(self._context, await store_inline(self._context, self._task, medium.path, content))

    async def _referred(self, medium: Medium, found: MediaReference, form: Form) -> str:
        where = place(medium.path)
        if found.source == "upload":
            upload = await self._upload(where, found.name)
            return await (link_to(self._context, upload) if form == "link" else self._inline(where, upload))
        result = await self._result(where, int(found.name))
        copy = await self._copy_of(result)
        if copy is not None and (form == "inline" or self._upstream.gives_links):
            upload = await share_kept(self._context, self._task, medium.path, copy)
            return await (link_to(self._context, upload) if form == "link" else self._inline(where, upload))
        if result.expires_at is not None and result.expires_at <= self._context.now():
            raise Refused("invalid_input", f"{where}: the provider has deleted result {found.name} of the parent")
        url = result.url or ""
        if url[:5].lower() == "data:":
            return url if form == "inline" else await self._linked(dataclasses.replace(medium, value=url))
        return url if form == "link" else await download(self._context, where, url)

    async def _upload(self, where: str, name: str) -> Upload:
        wanted = upload_id(name)
        async with self._context.database.reading() as connection:
            known = {} if wanted is None else await upload_store.by_id(connection, [wanted])
        upload = None if wanted is None else known.get(wanted)
        if upload is None or not upload.usable(self._context.now()):
            raise Refused("invalid_input", f"{where}: the upload {name} has expired or was deleted")
        return upload

    async def _inline(self, where: str, upload: Upload) -> str:
        if upload.size > MAX_MEDIUM:
            raise Refused(
                "invalid_input", f"{where} has more than {MAX_MEDIUM // 2**20} MiB, and this provider takes no URL"
            )
        blocks = [block async for block in storage_of(self._context).read(upload.object)]
        content = b"".join(blocks)
        encoded = await self._context.large.run(len(content), functools.partial(base64.b64encode, content))
        return f"data:{upload.content_type};base64,{encoded.decode()}"

    async def _result(self, where: str, number: int) -> Result:
        """Return a result of the parent."""
        if self._parent is None and self._task.parent_id is not None:
            async with self._context.database.reading() as connection:
                self._parent = await task_store.find(connection, self._task.parent_id, self._task.client)
        results = () if self._parent is None else self._parent.results
        result = results[number] if number < len(results) else None
        if result is None or result.url is None:
            raise Refused("invalid_input", f"{where}: result {number} of the parent does not exist any more")
        return result

    async def _copy_of(self, result: Result) -> Asset | None:
        """Return the kept copy of a result; None where none is kept."""
        if result.kept is None or result.kept.state != "kept" or self._context.objects is None:
            return None
        async with self._context.database.reading() as connection:
            found = await asset_store.find(connection, result.kept.asset)
        return found if found is not None and found.state == "kept" and found.object else None


async def _post(context: Context, where: str, stored: StoredMedium, file: tuple[str, bytes, str]) -> None:
    """Post a file to a provider's storage, which is a host of its own: the upstream's key is not sent there.

    :raises Unavailable: when it is not stored
    """
    parts: list[tuple[str, http_form.Part]] = [*stored.fields.items(), ("file", file)]
    content, content_type = await context.large.run(len(file[1]), functools.partial(http_form.encode, parts))
    headers = {"Content-Type": content_type}
    try:
        client = context.http.messages
        request = build(client, "POST", stored.url, headers=headers, content=content, read_timeout=_SILENCE)
        answer = await send(client, request, limit=_MAX_CONFIRMATION)
    except (httpx.HTTPError, OSError, AnswerTooLarge) as error:
        raise _unreachable(where, stored.url, error) from None
    if answer.status not in range(200, 300):
        raise Unavailable("provider_error", f"{where} could not be stored at the provider: HTTP {answer.status}")


async def download(context: Context, where: str, url: str) -> str:
    """Return a medium at a URL as ``data:``.

    :param where: the field that holds it, for errors
    :raises Refused: when it cannot be had: its URL is not allowed, there is nothing, or it is too large
    :raises Unavailable: when its host has trouble
    """
    answer, found_at = await _answer(context, where, url)
    content_type = _type_of(answer.headers, found_at)
    encoded = await context.large.run(len(answer.body), functools.partial(base64.b64encode, answer.body))
    return f"data:{content_type};base64,{encoded.decode()}"


async def _answer(context: Context, name: str, url: str) -> tuple[Answer, str]:
    """Return the answer of the medium's host and its URL, through redirects: each is checked as the URL itself."""
    for _ in range(_MAX_REDIRECTS + 1):
        answer = await _get(context, name, url)
        location = {key.lower(): value for key, value in answer.headers.items()}.get("location")
        if answer.status not in _REDIRECTS or location is None:
            break
        url = _joined(name, url, location)
    if answer.failure is not None:
        raise Unavailable("provider_error", _words(name, url, "its host broke the answer off"))
    if answer.status in _TRANSIENT:
        raise Unavailable("provider_error", _words(name, url, f"HTTP {answer.status}"))
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - the class 2xx
        raise Refused("invalid_input", _words(name, url, f"HTTP {answer.status}"))
    if not answer.body:
        raise Refused("invalid_input", _words(name, url, "it is empty"))
    return answer, url


def _joined(name: str, url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise Refused("invalid_input", _words(name, url, "it redirects to what is no URL")) from None


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
    except (httpx.InvalidURL, UnicodeError):
        raise Refused("invalid_input", _words(name, url, "it is no URL")) from None
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
    return f"{name} could not be downloaded from {host}: {why}"


def _type_of(headers: Mapping[str, str], url: str) -> str:
    """Return the type of a medium: as stated, or else by the extension in its URL."""
    stated = {name.lower(): value for name, value in headers.items()}.get("content-type", "")
    plain = stated.partition(";")[0].strip().lower()
    if plain not in _UNTYPED:
        return plain
    return mimetypes.guess_type(urlsplit(url).path)[0] or "application/octet-stream"
