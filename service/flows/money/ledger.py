"""The ledger: which jobs were paid, which perhaps, which were refunded, and what they cost. Pure."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from service.domain.task import WITHOUT_PURCHASE, Outcome
from service.providers.registry import DIALECTS
from service.store.ledger import Entry

Kind = Literal["paid", "perhaps_paid", "refunded", "perhaps_refunded", "unpaid", "adopted"]


@dataclasses.dataclass(slots=True)
class Account:
    """The sums of one group of submissions. Every submission counts in exactly one of the six."""

    paid: int = 0
    """Jobs that a provider took, and did not give the price of back."""
    perhaps_paid: int = 0
    """Submissions whose answer got lost, and jobs made besides the one that serves their task."""
    refunded: int = 0
    """Jobs of which the provider says that it gave the price back."""
    perhaps_refunded: int = 0
    """Jobs that came to nothing, where only the provider's pages say that the price of such is given back."""
    unpaid: int = 0
    """Submissions that created nothing, and questions that buy nothing."""
    adopted: int = 0
    """Jobs that were bought elsewhere, and are followed only. Their costs are not counted."""
    cost: dict[str, float] = dataclasses.field(default_factory=lambda: defaultdict(float))
    """The cost of paid, perhaps paid and perhaps refunded submissions, by unit, as far as providers report it."""

    @property
    def submissions(self) -> int:
        """All of them."""
        return self.paid + self.perhaps_paid + self.refunded + self.perhaps_refunded + self.unpaid + self.adopted

    def add(self, entry: Entry) -> None:
        """Add some submissions."""
        kind, dialect = kind_of(entry), DIALECTS.get(entry.dialect)
        setattr(self, kind, getattr(self, kind) + entry.count)
        if entry.cost and kind not in {"refunded", "unpaid", "adopted"}:
            self.cost["units" if dialect is None else dialect.facts.cost_unit] += entry.cost

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that the command writes."""
        return {
            "submissions": self.submissions,
            "paid": {"known": self.paid, "probable": self.perhaps_paid},
            "refunded": {"known": self.refunded, "probable": self.perhaps_refunded},
            "unpaid": self.unpaid,
            "adopted": self.adopted,
            "cost": {unit: round(amount, 6) for unit, amount in sorted(self.cost.items())},
        }


def kind_of(entry: Entry) -> Kind:
    """Return what submissions came to."""
    dialect = DIALECTS.get(entry.dialect)
    if entry.adopted:
        return "adopted"
    if entry.outcome in WITHOUT_PURCHASE or (dialect and entry.operation in dialect.facts.free):
        return "unpaid"
    if entry.succeeded:  # even if an earlier report stated another price
        return _paid(entry)
    if entry.refunded:
        return "refunded"
    if entry.came_to_nothing and entry.refunded is None and dialect is not None and dialect.facts.refunds:
        return "perhaps_refunded"
    return _paid(entry)


def _paid(entry: Entry) -> Kind:
    return "paid" if entry.outcome == Outcome.TAKEN and entry.serves else "perhaps_paid"


def summarize(entries: Iterable[Entry]) -> tuple[Mapping[tuple[str, ...], Account], Account]:
    """Return an account for each group, in order, and one for all."""
    groups: dict[tuple[str, ...], Account] = defaultdict(Account)
    total = Account()
    for entry in entries:
        groups[entry.group].add(entry)
        total.add(entry)
    return dict(sorted(groups.items())), total
