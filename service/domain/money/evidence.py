"""Evidence about a price that comes later, from other sources than the answers about a job."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from service.domain.money.settlement import Settlement


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CostEvidence:
    """The statement of a source about the price of a submission."""

    submission_id: UUID
    upstream: str
    dialect: str
    settlement: Settlement
    source: str
    """``log``, ``balance`` or ``operator``."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
