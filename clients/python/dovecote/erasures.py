"""Erasures: requests to remove the content of tasks, and how far they have come."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A request to erase tasks, and how far it has come."""

    id: str | None = None
    """None: the tasks were only counted."""
    state: str
    """``counted``, ``pending`` or ``complete``."""
    requested_at: dt.datetime | None = None
    tasks: int
    open: int = 0
    """Tasks that are not erased yet, because they have not ended."""
    erased: int = 0
    """Tasks whose content is removed from the database."""
    complete: int = 0
    """Tasks whose erasure is complete, also outside of the database."""
    deleted_at_provider: int = 0
    failed_at_provider: int = 0
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
