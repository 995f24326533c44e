"""The settings of retention: how long each kind of data is kept."""

import datetime as dt
from typing import Annotated

from pydantic import AfterValidator

from service.settings.strict import Strict
from service.settings.values import check_span, read_span

Span = Annotated[str, AfterValidator(check_span)]
"""A time such as 12h, 90d, 6w or 1y, or "forever"."""


class RetentionSettings(Strict):
    """How long data is kept: 12h, 90d, 6w, 1y or "forever". All times count from the end of the task."""

    inputs: Span = "90d"
    """The input and the options of an ended task. The model is kept with the task."""
    results: Span = "90d"
    """The results of an ended task: URLs, texts, failure messages and kept copies."""
    callbacks: Span = "90d"
    """The callbacks of providers, as they were received."""
    messages: Span = "90d"
    """The messages to clients that are settled, with their bodies and delivery attempts."""
    events: Span = "90d"
    """The history of an ended task, and its events in the feed."""
    tasks: Span = "90d"
    """An ended task with everything that belongs to it, except its entries in the ledger."""
    idempotency_keys: Span = "7d"
    """The least time for which a task with an idempotency key is kept, counted from its acceptance."""
    ledger: Span = "forever"
    """The entries of the ledger: what was paid, without any content."""

    def age(self, name: str) -> dt.timedelta | None:
        """Return how long a kind of data is kept; None: without an end."""
        text: str = getattr(self, name)
        return read_span(text)
