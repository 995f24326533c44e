"""The keys of the database, remembered for a few seconds: no request waits for a query that another has just made."""

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
"""For how long an answer of the database counts: so long a revoked key may still open."""
MAX_REMEMBERED: Final = 10_000
"""Answers of each kind that are kept: strangers' guesses never push out the keys that are used."""
MAX_AT_ONCE: Final = 500
NOTED_EVERY: Final = dt.timedelta(minutes=1)
"""How exact ``last_used_at`` is."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Read:
    key: ApiKey | None
    at: dt.datetime


class KeyRing:
    """Finds keys by their hash."""

    def __init__(self, context: Context) -> None:
        """Start with nothing known."""
        self._context = context
        self._known: OrderedDict[bytes, _Read] = OrderedDict()
        self._unknown: OrderedDict[bytes, _Read] = OrderedDict()
        self._wanted: dict[bytes, asyncio.Future[ApiKey | None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._any: bool | None = None
        self._any_at = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._noted: dict[UUID, dt.datetime] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def find(self, digest: bytes) -> ApiKey | None:
        """Give the key with a hash, good still or not, as the database had it at most :data:`LIFETIME` ago.

        :raises StoreUnavailable: when the database has to be asked and does not answer
        """
        remembered = self._known.get(digest) or self._unknown.get(digest)
        if remembered is not None and self._fresh(remembered.at):
            return remembered.key
        wanted = self._wanted.get(digest)
        if wanted is None:
            wanted = self._wanted[digest] = asyncio.get_running_loop().create_future()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_up(), name="keys")
        return await asyncio.shield(wanted)

    async def is_empty(self) -> bool:
        """Whether no key was ever made here.

        :raises StoreUnavailable: when the database has to be asked and does not answer
        """
        # Keys are revoked and never deleted: once there is one, there always is.
        if not self._any and (self._any is None or not self._fresh(self._any_at)):
            async with self._context.database.reading() as connection:
                self._any = await api_keys.are_there(connection)
            self._any_at = self._context.now()
        return not self._any

    def note_use(self, key: ApiKey) -> None:
        """Have it written down that a key was used: soon, beside other writes, and at most once a minute."""
        now = self._context.now()
        last = max(filter(None, (key.last_used_at, self._noted.get(key.id))), default=None)
        if last is not None and now - last < NOTED_EVERY:
            return
        self._noted[key.id] = now
        task = asyncio.create_task(self._note(key.id, now), name="key used")
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def settle(self) -> None:
        """Wait until what is under way has ended; for the end of a process, and for tests."""
        await asyncio.gather(*self._noting, *filter(None, [self._looking]), return_exceptions=True)

    async def _note(self, key_id: UUID, at: dt.datetime) -> None:
        try:
            await self._context.writers.journeys.batch(api_keys.touch, (key_id, at))
        except StoreUnavailable as error:
            log.debug("the use of a key was not noted: %s", error)

    def _fresh(self, at: dt.datetime) -> bool:
        # A clock that was set back makes nothing live longer.
        return dt.timedelta(0) <= self._context.now() - at < LIFETIME

    async def _look_up(self) -> None:
        """Look up what is wanted, all of it in one query at a time: a flood of guesses takes one connection."""
        try:
            while self._wanted:
                await self._look_up_some(list(self._wanted)[:MAX_AT_ONCE])
        finally:
            self._looking = None

    async def _look_up_some(self, digests: list[bytes]) -> None:
        try:
            async with self._context.database.reading() as connection:
                found = await api_keys.by_hash(connection, digests)
        except BaseException as error:
            self._answer(digests, error)
            if isinstance(error, Exception):
                return
            raise
        now = self._context.now()
        for digest in digests:
            self._remember(digest, _Read(found.get(digest), now))
        self._answer(digests, found)

    def _answer(self, digests: list[bytes], outcome: dict[bytes, ApiKey] | BaseException) -> None:
        for digest in digests:
            wanted = self._wanted.pop(digest)
            if wanted.done():
                continue
            if isinstance(outcome, dict):
                wanted.set_result(outcome.get(digest))
                continue
            wanted.set_exception(outcome if isinstance(outcome, Exception) else StoreUnavailable("shutting down"))
            wanted.exception()  # heard: whoever asked may be gone

    def _remember(self, digest: bytes, read: _Read) -> None:
        kept, other = (self._unknown, self._known) if read.key is None else (self._known, self._unknown)
        other.pop(digest, None)
        kept[digest] = read
        kept.move_to_end(digest)
        if len(kept) > MAX_REMEMBERED:
            kept.popitem(last=False)
