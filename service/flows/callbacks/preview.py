"""Read a stored callback as this version reads it, without applying it."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from service.domain.errors import UpstreamError
from service.domain.redaction import Redactor
from service.domain.task import Submission, Update
from service.flows.context import Context
from service.flows.conversation import complete, secrets_of
from service.providers.registry import DIALECTS
from service.providers.wire import Callback
from service.store.callbacks import Received


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """The content of a callback, as this version reads it."""

    updates: tuple[Update, ...] = ()
    error: str | None = None
    """Why it understands nothing."""
    signed: bool = False
    """Whether the provider signs its callbacks."""

    @property
    def says(self) -> str:
        """The content in few words, such as ``succeeded, 1 video``."""
        return "; ".join(filter(None, map(_said, self.updates)))


def preview(context: Context, received: Received, submission: Submission | None) -> Preview:
    """Return what this version reads in a stored callback."""
    dialect = None if submission is None else DIALECTS.get(submission.dialect)
    if submission is None or dialect is None:
        return Preview(error="this database has no such submission, or this version no such dialect")
    upstream = context.upstreams.get(submission.upstream)
    secrets = () if upstream is None else secrets_of(upstream)
    redactor = Redactor(context.tokens, secrets)
    callback = Callback(received.headers, received.body, received.received_at.timestamp(), secrets)
    try:
        updates: Sequence[Update] = redactor.value(dialect.read_callback(callback))
        if upstream is not None:
            updates = [complete(update, upstream, received.body) for update in updates]
    except UpstreamError as error:
        return Preview(error=redactor.error(error).message or error.code, signed=dialect.facts.signs)
    except Exception as error:  # noqa: BLE001 - a reader's own fault is what a preview is to show
        return Preview(error=redactor.text(f"{type(error).__name__}: {error}")[:300], signed=dialect.facts.signs)
    return Preview(tuple(updates), signed=dialect.facts.signs)


def _said(update: Update) -> str:
    if update.unknown_word is not None:
        return f"unknown status {update.unknown_word[:40]!r}"
    parts = [] if update.state is None else [update.state.replace("_", " ")]
    if update.progress is not None and parts and parts[0] == "running":
        parts[0] += f" {update.progress} %"
    kinds = Counter(each.kind if each.role == "result" else each.role.replace("_", " ") for each in update.results)
    parts += [f"{number} {kind}{'s' * (number > 1 and not kind.endswith('s'))}" for kind, number in kinds.items()]
    if update.actions:
        parts.append(f"{len(update.actions)} follow-ups")
    if update.failure is not None and update.failure.message:
        parts.append(update.failure.message[:120])
    return ", ".join(parts)
