"""A cache of the database's API keys: a request rarely waits for a query."""

import asyncio
import dataclasses
import datetime as dt
from collections import OrderedDict
from typing import Final
from uuid import UUID

from service.domain.api_key import ApiKey
from service.flows.context import Context, log
from service.store import api_keys
from service.store.database import StoreUnavailable

LIFETIME: Final = dt.timedelta(seconds=5)
"""How long an entry is valid, and so how long a revoked key is still accepted."""
MAX_ENTRIES: Final = 10_000
"""Entries of each kind. Known and unknown keys are kept apart, so that guesses evict no key that is in use."""
MAX_IN_QUERY: Final = 500
TOUCH_INTERVAL: Final = dt.timedelta(minutes=1)
"""Precision of ``last_used_at``."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    key: ApiKey | None
    at: dt.datetime


class KeyCache:
    """Finds keys by their hash."""

    def __init__(self, context: Context) -> None:
        """Start empty."""
        self._context = context
        self._known: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: OrderedDict[bytes, _Entry] = OrderedDict()
        self._requested: dict[bytes, asyncio.Future[ApiKey | None]] = {}
        self._query: asyncio.Task[None] | None = None
        self._any: bool | None = None
        self._any_at = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._touched: dict[UUID, dt.datetime] = {}
        self._touching: set[asyncio.Task[None]] = set()

    async def find(self, digest: bytes) -> ApiKey | None:
        """Return the key with a hash, valid or not, as the database had it at most :data:`LIFETIME` ago.

        :raises StoreUnavailable: when the database is needed and does not answer
        """
        entry = self._known.get(digest) or self._unknown.get(digest)
        if entry is not None and self._is_fresh(entry.at):
            return entry.key
        requested = self._requested.get(digest)
        if requested is None:
            requested = self._requested[digest] = asyncio.get_running_loop().create_future()
        if self._query is None:
            self._query = asyncio.create_task(self._run_queries(), name="keys")
        return await asyncio.shield(requested)

    async def is_empty(self) -> bool:
        """Return whether the database has never had a key.

        :raises StoreUnavailable: when the database is needed and does not answer
        """
        # Keys are revoked and never deleted: once there is one, there always is.
        if not self._any and (self._any is None or not self._is_fresh(self._any_at)):
            before = self._any
            async with self._context.database.reading() as connection:
                self._any = await api_keys.any_created(connection)
            self._any_at = self._context.now()
            if before is False and self._any:
                log.warning("first API key created: requests without a key are refused from now on")
        return not self._any

    def note_use(self, key: ApiKey) -> None:
        """Write in the background that a key was used, at most once a minute."""
        now = self._context.now()
        last = max(filter(None, (key.last_used_at, self._touched.get(key.id))), default=None)
        if last is not None and dt.timedelta() <= now - last < TOUCH_INTERVAL:
            return
        self._touched[key.id] = now
        task = asyncio.create_task(self._touch(key.id, now), name="key used")
        self._touching.add(task)
        task.add_done_callback(self._touching.discard)

    async def settle(self) -> None:
        """Wait for the work in the background; for the end of a process, and for tests."""
        await asyncio.gather(*self._touching, *filter(None, [self._query]), return_exceptions=True)

    async def _touch(self, key_id: UUID, at: dt.datetime) -> None:
        try:
            await self._context.writers.journeys.batch(api_keys.touch, (key_id, at))
        except StoreUnavailable as error:
            log.debug("use of a key not written error=%s", error)

    def _is_fresh(self, at: dt.datetime) -> bool:
        # A clock that is set back makes no entry live longer.
        return dt.timedelta(0) <= self._context.now() - at < LIFETIME

    async def _run_queries(self) -> None:
        """Query the requested keys, one query at a time, so that a flood of guesses takes one connection."""
        try:
            while self._requested:
                await self._run_query(list(self._requested)[:MAX_IN_QUERY])
        finally:
            self._query = None

    async def _run_query(self, digests: list[bytes]) -> None:
        try:
            async with self._context.database.reading() as connection:
                found = await api_keys.by_hash(connection, digests)
        except BaseException as error:
            self._resolve(digests, error)
            if isinstance(error, Exception):
                return
            raise
        now = self._context.now()
        for digest in digests:
            self._store(digest, _Entry(found.get(digest), now))
        self._resolve(digests, found)

    def _resolve(self, digests: list[bytes], outcome: dict[bytes, ApiKey] | BaseException) -> None:
        for digest in digests:
            requested = self._requested.pop(digest)
            if requested.done():
                continue
            if isinstance(outcome, dict):
                requested.set_result(outcome.get(digest))
                continue
            requested.set_exception(outcome if isinstance(outcome, Exception) else StoreUnavailable("shutting down"))
            requested.exception()  # marked as retrieved: the request may be gone

    def _store(self, digest: bytes, entry: _Entry) -> None:
        kept, other = (self._unknown, self._known) if entry.key is None else (self._known, self._unknown)
        other.pop(digest, None)
        kept[digest] = entry
        kept.move_to_end(digest)
        if len(kept) > MAX_ENTRIES:
            kept.popitem(last=False)
