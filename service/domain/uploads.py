"""An upload: a file of a client that tasks take as a medium."""

import dataclasses
from datetime import datetime
from uuid import UUID


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A stored file. It is kept until it expires, and at least until the deadline of each task that takes it."""

    id: UUID
    client: str
    name: str
    """The name of the file, as the client stated it."""
    content_type: str
    """Recognised by the first bytes."""
    size: int
    """Bytes; while the file arrives those that it may have."""
    sha256: str | None = None
    object: str
    """Its name in the storage."""
    shared: bool = False
    """Whether the object belongs to a kept result, which outlives this upload."""
    task_id: UUID | None = None
    """The task for which Dovecote made it of a medium in the input; None for an upload of a client."""
    created_at: datetime
    stored_at: datetime | None = None
    """When the whole file was stored; None while it arrives."""
    expires_at: datetime
    deleted_at: datetime | None = None
    """When its deletion began."""

    def usable(self, now: datetime) -> bool:
        """Return whether it can be read."""
        return self.stored_at is not None and self.deleted_at is None and now < self.expires_at
