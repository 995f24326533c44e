"""The columns that sums of money have in common, whether they are summed from entries or kept."""

from typing import Any, Final

from sqlalchemy import BigInteger, Numeric, cast, func, literal_column, type_coerce

from service.domain.money.amounts import PLACES
from service.store.tables import money_entries

_BILLION: Final = 10**PLACES


def _exact(column: Any) -> tuple[Any, Any]:
    """Return an amount as whole units and billionths: the sum of large numbers overflows on SQLite."""
    raw = type_coerce(func.coalesce(column, literal_column("0")), BigInteger)
    return raw.op("/")(literal_column(str(_BILLION))), raw.op("%")(literal_column(str(_BILLION)))


ALIKE: Final = ("unit", "verdict", "usd", "delivered", "computed")
"""The columns that are equal for all entries of a sum, beside its groups."""
NUMBERS: Final = ("amount_whole", "amount_parts", "gross_whole", "gross_parts")
OF_ENTRIES: Final = dict(zip(NUMBERS, (*_exact(money_entries.c.amount), *_exact(money_entries.c.gross)), strict=True))
"""The parts of the amounts of an entry, by the names of :data:`NUMBERS`."""


def sums_of_entries() -> list[Any]:
    """Return the number of entries, and the sums of :data:`NUMBERS`."""
    return [func.count(), *(cast(func.sum(column), Numeric) for column in OF_ENTRIES.values())]
