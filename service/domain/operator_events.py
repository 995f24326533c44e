"""The events that an operator is told of, and how often. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from service.domain.text import shortened, storable

MAX_EXCERPT: Final = 2000
"""Characters of a provider's message that an event shows."""
MAX_SUBJECT: Final = 200
_HOUR, _DAY = 3600.0, 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A type of event for operators."""

    type: str
    when: str
    """When it is sent, for the documentation."""
    data: tuple[str, ...]
    """The fields of its ``data``."""
    again_after: float | None = None
    """Seconds after which the same occurrence is reported again; None: only after it has ended."""


ENDPOINT_DISABLED: Final = Kind(
    "operator.endpoint_disabled",
    "a client's endpoint was disabled, because it answered 410 or only failed for 120 hours",
    ("endpoint_id", "client", "url", "reason"),
    0.0,
)
MESSAGES_EXHAUSTED: Final = Kind(
    "operator.messages_exhausted",
    "a receiver accepted a message in none of its attempts; once a day for each receiver",
    ("message_id", "client", "destination", "error"),
    _DAY,
)
CALLBACKS_STOPPED: Final = Kind(
    "operator.callbacks_stopped",
    "fewer than half of the expected callbacks of an upstream's dialect come; Dovecote polls instead",
    ("upstream", "dialect", "share"),
)
LOW_CREDIT: Final = Kind(
    "operator.low_credit", "the credit of an account fell below `low_credit`", ("upstream", "credit", "unit", "limit")
)
ACCOUNT_REFUSED: Final = Kind(
    "operator.account_refused",
    "an upstream refused the key or the account; once an hour for each upstream",
    ("upstream", "code"),
    _HOUR,
)
CIRCUIT_OPEN: Final = Kind(
    "operator.circuit_open", "an upstream failed several times and gets no submissions", ("upstream", "dialect"), 0.0
)
UNKNOWN_WORD: Final = Kind(
    "operator.unknown_status_word",
    "a provider used a status word that this version does not know; once in 30 days for each word",
    ("dialect", "word", "task_id", "message"),
    30 * _DAY,
)
WORKER_MISSING: Final = Kind(
    "operator.worker_missing",
    "no worker has been alive for a minute, or none of a flow (`serve --flows`); once for each of them",
    ("silent_seconds", "flows"),
)
CLOCK_SKEW: Final = Kind(
    "operator.clock_skew",
    "the clock of a machine jumped, or differs from the database's; once an hour for each machine",
    ("machine", "seconds", "kind"),
    _HOUR,
)
BACKUP_RESTORED: Final = Kind(
    "operator.backup_restored",
    "the database was restored from a backup or set back; tasks that may have been bought since are unconfirmed",
    ("reason", "unconfirmed_tasks"),
    0.0,
)
SOFT_BUDGET: Final = Kind(
    "operator.soft_budget",
    "a budget passed its soft limit; once in each period",
    ("budget", "scope", "period", "used", "limit", "unit"),
    0.0,
)
HARD_BUDGET: Final = Kind(
    "operator.hard_budget",
    "a budget has no room for a task; once a day for each part of a budget and period",
    ("budget", "scope", "period", "needed", "left", "limit", "unit"),
    _DAY,
)
PRICE_CHANGED: Final = Kind(
    "operator.price_changed",
    "three charges in a row were outside the quoted range; once a day for each price",
    ("upstream", "price", "quoted", "charged", "unit"),
    _DAY,
)
CREDIT_SHORT: Final = Kind(
    "operator.credit_short",
    "the credit of an account will not last the day at the present rate; once a day for each upstream",
    ("upstream", "credit", "unit", "used_in_a_day"),
    _DAY,
)
KINDS: Final = (
    SOFT_BUDGET,
    HARD_BUDGET,
    PRICE_CHANGED,
    CREDIT_SHORT,
    ENDPOINT_DISABLED,
    MESSAGES_EXHAUSTED,
    CALLBACKS_STOPPED,
    LOW_CREDIT,
    ACCOUNT_REFUSED,
    CIRCUIT_OPEN,
    UNKNOWN_WORD,
    WORKER_MISSING,
    CLOCK_SKEW,
    BACKUP_RESTORED,
)
OPERATOR_TYPES: Final = tuple(kind.type for kind in KINDS)
"""Every type of a message to operators."""


@dataclasses.dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened once, however many processes notice it."""

    kind: Kind
    subject: str
    """The upstream, endpoint or machine that it is about; the same kind about the same subject is the same occurrence."""
    data: Mapping[str, Any]


def excerpt(body: bytes, word: str) -> str:
    """Return the part of a provider's message that has a word in its middle; its beginning where the word is not found."""
    text = storable(body.decode("utf-8", "replace"))
    at = max(text.lower().find(word.lower()), 0)
    start = max(at - MAX_EXCERPT // 2, 0)
    return shortened(text[start:], MAX_EXCERPT)
