"""The journey of kept results: claim the copies that are due, fetch each file into the storage, and write what became of it."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain import kept, media_types
from service.domain.changes import ResultKept
from service.domain.events import rfc3339
from service.domain.kept import Kept
from service.domain.schedules import LEASE
from service.domain.task import Result, Task
from service.domain.text import storable
from service.flows import apply as apply_module
from service.flows.apply import Applied, announce
from service.flows.assets import provenance
from service.flows.assets.describe import Facts, describe
from service.flows.assets.download import Download, Origin, Unfetchable
from service.flows.assets.marks import SUFFIX as MARKED
from service.flows.assets.marks import mark
from service.flows.concurrency import TaskPool
from service.flows.context import Context, log
from service.flows.polling import ask_again
from service.object_errors import ObjectTooLarge, StorageError
from service.objects import Objects
from service.store import asset_claims, queue
from service.store import assets as asset_store
from service.store import tasks as task_store
from service.store.assets import Asset, asset_of
from service.store.database import StoreUnavailable

SWEEP_EVERY: Final = 3600.0
DELETIONS: Final = 2
"""How many copies one process deletes at once, beside those that it fetches."""
_FETCH: Final = "fetch"
_DELETION: Final = "deletion"
RENEW_EVERY: Final = LEASE / 3
_MAX_ERROR: Final = 300
FOLDER: Final = "results"
"""The first segment of the names of kept results."""


async def run_due(context: Context, pool: TaskPool) -> int:
    """Claim the copies that are due and start to work on them; return how many were claimed.

    Deletions have slots of their own: retention makes many due at once, and a new result must not wait behind them.
    """
    if context.objects is None:
        return 0
    reserved = max(DELETIONS - pool.count(_DELETION), 0)
    keeping = min(pool.free - reserved, context.settings.results.concurrency)
    now = context.now()
    until = now + dt.timedelta(seconds=LEASE)
    claimed = 0
    for claim, most, name in (
        (asset_claims.claim_assets, keeping, _FETCH),
        (asset_claims.claim_deletions, reserved, _DELETION),
    ):
        if most <= 0 or not pool.free:
            continue
        rows = await context.writers.journeys.run(claim, now=now, until=until, most=min(most, pool.free))
        for row in rows:
            pool.start(_work(context, context.objects, asset_of(row)), name=name)
        claimed += len(rows)
    return claimed


async def sweep(context: Context) -> int:
    """Delete the half-written files of killed processes, and return how many there were."""
    swept = 0 if context.objects is None else await context.objects.sweep()
    if swept:
        log.info("half-written files deleted count=%d", swept)
    return swept


async def _work(context: Context, objects: Objects, asset: Asset) -> None:
    """Work on a claimed copy, and extend its claim meanwhile."""
    work = asyncio.create_task(
        _delete(context, objects, asset) if asset.state == "deleting" else _keep(context, objects, asset)
    )
    renewing = asyncio.create_task(_renew(context, asset))
    try:
        await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        renewing.cancel()
        stopped = not work.done()
        if stopped:
            work.cancel()
        await asyncio.wait({work, renewing})
        if stopped:
            await _release(context, asset)
    if not work.cancelled():
        work.result()


async def _renew(context: Context, asset: Asset) -> None:
    """Extend the claim of a copy for as long as it is held."""
    while True:
        await asyncio.sleep(RENEW_EVERY)
        until = context.now() + dt.timedelta(seconds=LEASE)
        try:
            if not await context.writers.journeys.run(queue.renew_asset, asset.id, asset.attempts, until=until):
                log.warning("claim of a result lost asset=%s task=%s", asset.id, asset.task_id)
                return
        except StoreUnavailable as error:
            log.warning("claim of a result not renewed asset=%s error=%s", asset.id, error)


async def _release(context: Context, asset: Asset) -> None:
    """Make a copy due at once whose work was stopped."""
    with contextlib.suppress(StoreUnavailable):
        await context.writers.journeys.run(queue.renew_asset, asset.id, asset.attempts, until=context.now())


def folder_of(asset: Asset) -> str:
    """Return the first segments of the names of a task's files."""
    return f"{FOLDER}/{asset.task_id}"


async def _keep(context: Context, objects: Objects, asset: Asset) -> None:
    """Fetch one file, and write what became of it."""
    async with context.database.reading() as connection:
        task = await task_store.find(connection, asset.task_id)
        taken = await asset_store.size_of_task(connection, asset.task_id)
    result = None if task is None else next((each for each in task.results if _is_of(each, asset)), None)
    if task is None or result is None or result.url is None:
        await _forget(context, asset)
        return
    name = f"{folder_of(asset)}/{asset.id}-{asset.attempts}"
    try:
        try:
            copy = await _fetched(context, objects, task, result, asset, name=name, taken=taken)
        except Unfetchable as error:
            renewed = await _renewed(context, task, result) if error.gone else None
            if renewed is None:
                raise
            copy = await _fetched(context, objects, task, renewed, asset, name=name, taken=taken)
    except (Unfetchable, StorageError) as error:
        await _settle_failure(context, asset, error)
        return
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours is tried again as any other, and not without an end
        log.exception("result cannot be fetched asset=%s", asset.id)
        await _settle_failure(context, asset, Unfetchable(f"it could not be fetched: {type(error).__name__}"))
        return
    if await _settle(context, asset, copy, object=name):
        context.metrics.results.labels("kept").inc()
        context.metrics.result_bytes.inc(copy.size or 0)
        log.info("result kept task=%s asset=%s size=%s type=%s", task.id, asset.id, copy.size, copy.media_type)
        try:
            await _remove_others(objects, asset, name)
        except StorageError as error:  # what is left is deleted with the copy
            log.warning("files of earlier attempts not deleted asset=%s error=%s", asset.id, error)
    else:
        await _remove(objects, asset, name)


async def _renewed(context: Context, task: Task, result: Result) -> Result | None:
    """Ask the provider for a URL of a file that the known URL does not give any more. Many URLs are signed for a while only.

    One poll serves all files of the task.
    """
    ask = functools.partial(ask_again, context, task)
    report = await context.renewals.get(task.id, ask, now=context.monotonic)
    url = None if report is None else kept.renewed_url(task, result, report.results)
    if url is None:
        return None
    log.info("result has a new URL task=%s asset=%s", task.id, None if result.kept is None else result.kept.asset)
    return dataclasses.replace(result, url=url)


def _is_of(result: Result, asset: Asset) -> bool:
    return result.kept is not None and result.kept.asset == asset.id


async def _fetched(
    context: Context, objects: Objects, task: Task, result: Result, asset: Asset, *, name: str, taken: int
) -> Kept:
    """Store a file and its provenance, and return the facts of the copy.

    :raises Unfetchable: when the provider does not give it
    :raises StorageError: when the storage does not take it
    """
    settings = context.settings.results
    limit = min(settings.max_file, settings.max_task - taken)
    if limit <= 0:
        raise Unfetchable(f"the files of the task have more than {settings.max_task} bytes", final=True)
    upstream = context.upstreams.get(task.upstream or "")
    download = Download(
        context, Origin(url=result.url or "", upstream=upstream, dialect=context.dialect(task)), limit=limit
    )
    async with contextlib.aclosing(download.chunks()) as chunks:
        content = _Content(context, chunks, result)
        await content.start()
        names = {
            "content_type": media_types.served_type(content.media_type),
            "disposition": disposition(task, content.media_type),
        }
        try:
            stored = await objects.put(name, content.blocks(), limit=limit, **names)
        except ObjectTooLarge:
            raise Unfetchable(f"it has more bytes than the limit of {limit}", final=True) from None
    facts = await _described(objects, name, stored.size, content.media_type)
    copy = Kept(
        asset=asset.id,
        state="kept",
        sha256=stored.sha256,
        size=stored.size,
        media_type=content.media_type,
        **dataclasses.asdict(facts),
    )
    written = await _provenance(context, task, result, copy)
    await objects.put(name + provenance.SUFFIX, provenance.encoded(written), limit=provenance.MAX_SIZE)
    return await mark(objects, name, copy, settings, written, **names)


async def _provenance(context: Context, task: Task, result: Result, copy: Kept) -> dict[str, Any]:
    """Return the provenance of a file. A large input is read and hashed only here, outside of the event loop."""
    make = functools.partial(provenance.document, result=result, copy=copy, fetched_at=rfc3339(context.now()) or "")
    if not task.large_input:
        return make(task)
    async with context.database.reading() as connection:
        whole = await task_store.with_whole_input(connection, task)
    return await asyncio.to_thread(make, whole)


async def _described(objects: Objects, name: str, size: int, media_type: str) -> Facts:
    return await objects.inspect(name, lambda file: describe(file, size, media_type))


class _Content:
    """The content of a file on its way into the storage. Its first bytes tell its type before anything is stored."""

    def __init__(self, context: Context, chunks: AsyncIterator[bytes], result: Result) -> None:
        self.media_type = "application/octet-stream"
        self._context = context
        self._chunks = chunks
        self._result = result
        self._head = bytearray()

    async def start(self) -> None:
        """Read the first bytes.

        :raises Unfetchable: when the file is empty, or no output of its kind
        """
        async for chunk in self._chunks:
            self._head += chunk
            if len(self._head) >= media_types.HEAD:
                break
        if not self._head:
            raise Unfetchable("it is empty")
        self.media_type = media_types.sniff(bytes(self._head[: media_types.HEAD]))
        if media_types.contradicts(self._result.kind, self.media_type):
            raise Unfetchable(f"it is of the type {self.media_type} and no {self._result.kind}", gone=True)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the whole content."""
        rate = self._context.settings.results.bandwidth
        yield bytes(self._head)
        async for chunk in self._chunks:
            await self._context.throttle.take(len(chunk), rate)
            yield chunk


def disposition(task: Task, media_type: str) -> str:
    """Return the ``Content-Disposition`` of a file: its name, and whether a browser may show it."""
    name = f"{task.family}-{task.id.hex[-12:]}.{media_types.extension(media_type)}"
    kind = "inline" if media_types.is_inert(media_type) else "attachment"
    return f'{kind}; filename="{name}"'


async def _settle_failure(context: Context, asset: Asset, error: Unfetchable | StorageError) -> None:
    """Write that an attempt failed, and when the next one is; without a next one the file is lost."""
    now = context.now()
    is_gone = isinstance(error, Unfetchable) and error.gone
    gone_since = (asset.gone_since or now) if is_gone else None
    attempt = kept.Attempt(
        number=asset.attempts,
        at=now,
        created_at=asset.created_at,
        expires_at=asset.expires_at,
        gone_since=gone_since,
        ours=isinstance(error, StorageError),
        final=isinstance(error, Unfetchable) and error.final,
    )
    reason = storable(f"the storage failed: {error}" if attempt.ours else str(error))[:_MAX_ERROR]
    due_at = kept.next_fetch(attempt, retry_for=context.settings.results.retry_seconds)
    context.metrics.results.labels("lost" if due_at is None else "not_fetched").inc()
    log.log(
        logging.WARNING if due_at is None else logging.INFO,
        "result %s task=%s asset=%s attempt=%d error=%r",
        "lost" if due_at is None else "not fetched",
        asset.task_id,
        asset.id,
        asset.attempts,
        reason,
    )
    copy = Kept(asset=asset.id, state="lost", lost_because=_because(asset, reason, now)) if due_at is None else None
    await _settle(context, asset, copy, due_at=due_at, gone_since=gone_since, last_error=reason)


def _because(asset: Asset, reason: str, now: dt.datetime) -> str:
    """Return why a file is lost."""
    if asset.expires_at is not None and now >= asset.expires_at:
        return f"the provider deleted it at {rfc3339(asset.expires_at)}; before that: {reason}"
    return reason


async def _settle(context: Context, asset: Asset, copy: Kept | None, **fields: Any) -> bool:
    """Write what became of a copy, and return whether the claim was still held."""
    now = context.now()
    row = {
        "of_row": asset.id,
        "of_attempt": asset.attempts,
        "state": "pending" if copy is None else copy.state,
        "object": fields.get("object"),
        "size": None if copy is None else copy.size,
        "sha256": None if copy is None else copy.sha256,
        "media_type": None if copy is None else copy.media_type,
        "marked": copy is not None and copy.marked,
        "expires_at": asset.expires_at,
        "settled_at": None if copy is None else now,
        "gone_since": fields.get("gone_since"),
        "last_error": fields.get("last_error"),
        "due_at": fields.get("due_at"),
    }
    applied = await context.writers.journeys.run(_write, context, asset, row, copy)
    if applied is None:
        return False
    announce(context, applied)
    return True


async def _write(
    connection: AsyncConnection, context: Context, asset: Asset, row: dict[str, Any], copy: Kept | None
) -> list[Applied] | None:
    """Write the row of a copy and its task in one transaction; None where the claim was lost.

    A copy that its task does not know any more, because the task was erased meanwhile, is due to be deleted.
    """
    if not await queue.settle_asset(connection, row):
        return None
    if copy is None:
        return []
    applied = await apply_module.apply(context, connection, [ResultKept(task_id=asset.task_id, copy=copy)])
    task = applied[0].task
    if task is None or not any(_is_of(each, asset) for each in task.results):
        await queue.delete_asset(connection, asset.id, now=context.now())
    return applied


async def _forget(context: Context, asset: Asset) -> None:
    """Make a copy due to be deleted that no task knows any more."""
    await context.writers.journeys.run(queue.delete_asset, asset.id, now=context.now())
    context.signals.wake("results")


async def _delete(context: Context, objects: Objects, asset: Asset) -> None:
    """Delete the files of a copy, whichever attempt stored them, and then its row."""
    try:
        await _remove_others(objects, asset, None)
    except StorageError as error:
        log.warning("kept result not deleted yet asset=%s error=%s", asset.id, error)
        wait = kept.FETCH_BACKOFF[min(asset.attempts, len(kept.FETCH_BACKOFF)) - 1]
        until = context.now() + dt.timedelta(seconds=wait)
        await context.writers.journeys.run(queue.renew_asset, asset.id, asset.attempts, until=until)
        return
    await context.writers.journeys.run(asset_store.remove, asset.id, asset.attempts)
    log.info("kept result deleted task=%s asset=%s", asset.task_id, asset.id)


async def _remove_others(objects: Objects, asset: Asset, name: str | None) -> None:
    """Delete the files of a copy that another attempt than the kept one stored; None: of every attempt."""
    if name is not None and asset.attempts == 1:
        return
    prefix = f"{folder_of(asset)}/{asset.id}-"
    found = [each.name async for each in objects.list(folder_of(asset)) if each.name.startswith(prefix)]
    await objects.delete(each for each in found if name is None or each.partition(".")[0] != name)


async def _remove(objects: Objects, asset: Asset, name: str) -> None:
    """Delete the files of an attempt whose claim was lost."""
    log.warning("copy dropped, since its claim was lost asset=%s task=%s", asset.id, asset.task_id)
    with contextlib.suppress(StorageError):
        await objects.delete([name, name + provenance.SUFFIX, name + MARKED])
