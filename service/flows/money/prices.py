"""Read the prices that an upstream publishes for machines. Nothing is bought, and nothing is written."""

from decimal import Decimal

from service.domain.money.amounts import is_unit, read_number
from service.domain.money.refresh import Row
from service.flows.context import Context, Upstream
from service.flows.conversation import run_exchange
from service.providers import price_lists
from service.providers.price_lists import ListedPrice

_PERS = frozenset({"job", "second", "image", "megapixel"})


async def listed(context: Context, upstream: Upstream, *, group: str | None = None) -> tuple[list[Row], int]:
    """Return the prices of a new-api gateway that a row can state, and the number of those that none can.

    :param group: the group of the key at the gateway
    :raises UpstreamError: when it does not show its prices
    """
    found = await run_exchange(context, upstream, upstream.dialects[0], price_lists.pricing(group))
    rows = [row for row in map(_row, found) if row is not None]
    return rows, len(found) - len(rows)


def _row(price: ListedPrice) -> Row | None:
    rate = None if price.rate is None else read_number(price.rate)
    if rate is None or price.per not in _PERS or not is_unit(price.unit) or any(each in price.model for each in "*?["):
        return None
    return Row(model=price.model, unit=price.unit, per=price.per, rate=Decimal(rate), base_only=price.base_only)
