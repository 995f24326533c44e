"""The limits of retention at a moment, by the settings. Pure."""

import datetime as dt

from service.settings.retention import RetentionSettings
from service.store.retention import Limits


def limits_at(settings: RetentionSettings, kind: str, now: dt.datetime) -> Limits | None:
    """Return what may be removed of a kind; None where it is kept without an end."""
    age, keys = settings.age(kind), settings.age("idempotency_keys")
    if age is None:
        return None
    return Limits(before=now - age, keys_before=None if keys is None else now - keys, now=now)
