"""The money of a task: what each upstream was expected to charge, what is reserved, and what was booked."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.events import Event
from service.domain.money.delivered import differences
from service.domain.money.quotes import Quote
from service.domain.task import Task
from service.store.money import reservations
from service.store.money.reservations import Reservation
from service.web.dashboard import words
from service.web.dashboard.paid import Tone

BOUNDS: Final[Mapping[str, str]] = {
    "exact": "the price",
    "upper": "at most",
    "observed": "at most, as learned",
    "none": "not known",
}
TONES: Final[Mapping[str, Tone]] = {
    "charged": "good",
    "refunded": "calm",
    "probably_charged": "doubt",
    "probably_refunded": "doubt",
    "free": "calm",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """The quote of an upstream."""

    upstream: str
    amount: str
    usd: str
    bound: str
    rule: str
    why: str
    skipped: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A reservation that is not settled."""

    upstream: str
    amount: str
    since: dt.datetime
    budgets: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A settlement, or a correction of one."""

    key: str
    correction: bool
    upstream: str
    verdict: str
    tone: Tone
    amount: str
    change: str
    basis: str
    reason: str
    quoted: str
    at: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskMoney:
    """Everything about the money of a task."""

    offers: tuple[Offered, ...]
    held: tuple[Held, ...]
    booked: tuple[Booked, ...]
    limit: str
    differences: tuple[str, ...] = ()
    """The quantities that were billed otherwise than they were made."""

    @property
    def anything(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.offers or self.held or self.booked or self.limit or self.differences)


async def open_reservations(connection: AsyncConnection, task: Task) -> list[Reservation]:
    """Return the reservations of a task that are not settled."""
    found = (await reservations.of_tasks(connection, [task.id])).values()
    return [each for each in found if each.settled_at is None]


def money_of(task: Task, events: Sequence[Event], held: Sequence[Reservation]) -> TaskMoney:
    """Return the money of a task."""
    most = task.terms.max_cost
    return TaskMoney(
        offers=tuple(offered(each, task.skipped_upstreams.get(each.upstream, "")) for each in task.quotes),
        held=tuple(_held(each) for each in held),
        booked=tuple(booked(each.data) for each in events if each.type in {"settled", "cost_corrected"}),
        limit="" if most is None else str(most),
        differences=tuple(each.as_json()["said"] for each in differences(task)),
    )


def offered(quote: Quote, skipped: str) -> Offered:
    """Return a quote as the page shows it."""
    shown = quote.as_json()
    if not quote.known:
        amount = "not known"
    elif quote.low == quote.high:
        amount = _amount(shown["max"], quote.unit)
    else:
        amount = _amount(f"{shown['low'] or 0} to {shown['max']}", quote.unit)
    dated = "" if quote.checked is None else f", read on {quote.checked}"
    return Offered(
        upstream=quote.upstream,
        amount=amount,
        usd=f"{shown['usd_max']}{words.NARROW}USD" if shown["usd_max"] is not None and quote.unit != "USD" else "",
        bound=BOUNDS[quote.bound],
        rule="" if quote.price_id is None else f"{quote.price_id}{dated}",
        why=", ".join(quote.why),
        skipped=skipped,
    )


def _held(each: Reservation) -> Held:
    quote = each.quote
    amount = "a price that is not known" if quote.high is None else _amount(quote.as_json()["max"], quote.unit)
    budgets = tuple(f"{_amount(hold.as_json()['amount'], hold.unit)} of {hold.key[0]}" for hold in each.holds)
    return Held(upstream=each.upstream, amount=amount, since=each.reserved_at, budgets=budgets)


def booked(entry: Mapping[str, Any]) -> Booked:
    """Return an entry of the ledger as the page shows it."""
    quoted = entry.get("quoted_max")
    verdict = str(entry["verdict"])
    return Booked(
        key=str(entry["key"]),
        correction=entry["kind"] == "correction",
        upstream=str(entry["upstream"]),
        verdict=verdict.replace("_", " "),
        tone=TONES.get(verdict, "calm"),
        amount="not known" if entry["amount"] is None else _amount(entry["amount"], entry["unit"]),
        change="" if entry["change"] is None else _amount(entry["change"], entry["unit"]),
        basis=str(entry["basis"]),
        reason=str(entry["reason"] or ""),
        quoted="" if quoted is None else _amount(quoted, entry["unit"]),
        at=str(entry["booked_at"])[:19].replace("T", " "),
    )


def _amount(number: Any, unit: Any) -> str:
    return f"{number}{words.NARROW}{unit or ''}".rstrip()
