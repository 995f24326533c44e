"""Limit the stored callbacks of one submission. Anyone with its URL could fill the database otherwise."""

import dataclasses
from collections import OrderedDict
from typing import Final
from uuid import UUID

from service.flows.context import Context, log
from service.store import callbacks as callback_store
from service.store import queue, submissions
from service.web.problems import Problem

MAX_ROWS: Final = 1_000
"""Different callbacks of one submission."""
MAX_BYTES: Final = 20 * 1024 * 1024
"""Bytes of the bodies of these callbacks."""
RETRY_AFTER: Final = 3_600
"""Seconds after which a refused callback may be sent again."""

_FIRST_ROWS: Final = 10
_FIRST_BYTES: Final = 512 * 1024
"""Callbacks, or their bytes, before the first query: few submissions get so many."""
_CHECK_ROWS: Final = 50
_CHECK_BYTES: Final = 2 * 1024 * 1024
"""The most of them between two queries."""
_MAX_COUNTED: Final = 10_000


@dataclasses.dataclass(slots=True)
class _Count:
    rows: int = 0
    size: int = 0
    """Rows and bytes since the database was queried."""
    rows_until_query: int = dataclasses.field(default_factory=lambda: min(_FIRST_ROWS, _CHECK_ROWS))
    bytes_until_query: int = dataclasses.field(default_factory=lambda: min(_FIRST_BYTES, _CHECK_BYTES))
    exceeded: bool = False


class CallbackLimits:
    """Counts the callbacks of each submission, and queries the database the more often the nearer the limit is."""

    def __init__(self, context: Context) -> None:
        """Start with nothing counted."""
        self._context = context
        self._counts: OrderedDict[UUID, _Count] = OrderedDict()

    async def check(self, submission_id: UUID, size: int) -> None:
        """Count a callback.

        :param size: bytes of its body
        :raises Problem: 429 when the submission has too many
        :raises StoreUnavailable: when the database is needed and does not answer
        """
        count = self._counts.setdefault(submission_id, _Count())
        self._counts.move_to_end(submission_id)
        if len(self._counts) > _MAX_COUNTED:
            self._counts.popitem(last=False)
        if not count.exceeded:
            count.rows += 1
            count.size += size
            if count.rows < count.rows_until_query and count.size < count.bytes_until_query:
                return
            # This callback is not among those that are stored. Others are counted while the database is queried.
            count.rows, count.size = 1, size
            async with self._context.database.reading() as connection:
                rows, stored = await callback_store.stored_for(connection, submission_id)
            if rows < MAX_ROWS and stored + size <= MAX_BYTES:
                count.rows_until_query = min(_CHECK_ROWS, MAX_ROWS - rows) + 1
                count.bytes_until_query = min(_CHECK_BYTES, MAX_BYTES - stored) + 1
                return
            count.exceeded = True
            log.warning("callbacks refused submission=%s stored=%d bytes=%d", submission_id, rows, stored)
            await self._poll(submission_id)
        detail = (
            f"{MAX_ROWS} different callbacks or {MAX_BYTES} bytes are stored for this submission; it is polled instead"
        )
        raise Problem(429, "too_many_callbacks", detail, headers={"Retry-After": str(RETRY_AFTER)})

    async def _poll(self, submission_id: UUID) -> None:
        """Poll the task now: nothing that a refused callback reports is lost."""
        async with self._context.database.reading() as connection:
            found = (await submissions.by_id(connection, [submission_id])).get(submission_id)
        if found is not None:
            await self._context.writers.requests.run(queue.hasten, [found.task_id], now=self._context.now())
            self._context.signals.wake("poll")
