"""Words of closed lists with the tone and the icon of each. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Final

from service.web.dashboard.paid import Tone


@dataclasses.dataclass(frozen=True, slots=True)
class Chip:
    """A word of a closed list."""

    tone: Tone
    icon: str
    word: str


DECISIONS: Final[Mapping[str, Chip]] = {
    "unreadable": Chip("bad", "alert", "unreadable"),
    "unmatched": Chip("doubt", "question", "unmatched"),
    "parked": Chip("doubt", "pause", "parked"),
    "forged": Chip("bad", "shield-x", "forged"),
    "applied": Chip("good", "check", "applied"),
    "hastened": Chip("work", "bolt", "hastened"),
    "duplicate": Chip("calm", "copy", "duplicate"),
    "stale": Chip("calm", "late", "stale"),
    "late": Chip("over", "late", "late"),
    "ignored": Chip("calm", "minus", "ignored"),
}
"""The decisions on callbacks, those that need somebody first."""
NOT_UNDERSTOOD: Final = ("unreadable", "unmatched", "parked", "forged")
MESSAGE_STATES: Final[Mapping[str, Chip]] = {
    "pending": Chip("doubt", "late", "pending"),
    "delivered": Chip("good", "check", "delivered"),
    "exhausted": Chip("bad", "x", "exhausted"),
    "discarded": Chip("calm", "minus", "discarded"),
}
