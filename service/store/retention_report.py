"""Counts of what retention would remove now, and of what it keeps although it is old enough. For operators: it reads much."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Text, and_, cast, exists, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import retention
from service.store.retention import Limits, first_id_at
from service.store.tables import (
    CURRENT,
    INPUT_KEPT,
    RESULTS_KEPT,
    callbacks,
    events,
    ledger_entries,
    money_entries,
    tasks,
    webhook_messages,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The rows of one kind."""

    rows: int
    """Rows that would be removed, or whose content would be."""
    size: int
    """Bytes of their content, about; without indexes and overhead."""
    kept: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Rows that are old enough and are kept, by the reason."""


def _length(*columns: Any) -> Any:
    first, *others = (func.coalesce(func.length(cast(each, Text)), 0) for each in columns)
    return sum(others, start=first)


_FIRST_ID: Final = retention.FIRST_ID
_SETTLED: Final = retention.NOBODY_WORKS
_OLD_ENTRIES: Final = (
    select(func.count())
    .select_from(ledger_entries)
    .where(ledger_entries.c.sent_at < retention.BEFORE)
    .scalar_subquery()
)
_OLD_MONEY: Final = (
    select(func.count())
    .select_from(money_entries)
    .where(CURRENT, money_entries.c.purchased_at < retention.BEFORE)
    .where(~exists().where(tasks.c.id == money_entries.c.task_id))
    .scalar_subquery()
)
_COUNTS: Final[Mapping[str, Any]] = {
    "callbacks": select(func.count(), func.sum(func.length(callbacks.c.body))).where(
        callbacks.c.id < _FIRST_ID, retention.OLD_CALLBACKS
    ),
    "messages": select(func.count(), func.sum(func.length(webhook_messages.c.body))).where(
        webhook_messages.c.id < _FIRST_ID, retention.OLD_MESSAGES
    ),
    "inputs": select(func.count(), func.sum(_length(tasks.c.input, tasks.c.options))).where(_SETTLED, INPUT_KEPT),
    "results": select(func.count(), func.sum(_length(tasks.c.results, tasks.c.failure))).where(_SETTLED, RESULTS_KEPT),
    "events": select(func.count(), func.sum(_length(events.c.data))).where(retention.OLD_EVENTS),
    "tasks": select(func.count(), func.sum(_length(tasks.c.input, tasks.c.options, tasks.c.results))).where(
        retention.REMOVABLE
    ),
    "ledger": select(_OLD_ENTRIES + _OLD_MONEY, literal(0)),
}
_KEPT_TASKS: Final = {
    reason: select(func.count()).select_from(tasks).where(and_(tasks.c.finished_at < retention.BEFORE, condition))
    for reason, condition in retention.REASONS.items()
}


async def report(connection: AsyncConnection, kind: str, limits: Limits) -> Report:
    """Count what retention would remove of a kind now."""
    given = {
        "before": limits.before,
        "keys_before": limits.keys_before,
        "first_id": first_id_at(limits.before),
    }
    rows, size = (await connection.execute(_COUNTS[kind], given)).one()
    kept: dict[str, int] = {}
    if kind == "tasks":
        for reason, statement in _KEPT_TASKS.items():
            if count := int(await connection.scalar(statement, given) or 0):
                kept[reason] = count
    return Report(rows=int(rows), size=int(size or 0), kept=kept)
