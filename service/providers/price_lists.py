"""Prices that upstreams publish for machines: new-api's pricing route, fal's and kie.ai's."""

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from service.providers.newapi.errors import refusal_in
from service.providers.read import fields, items, number, word
from service.providers.wire import Call, Reply

PRICING: Final = "/api/pricing"
MAX_ROWS: Final = 5_000
PER_RATIO: Final = 2.0
"""US dollars of a million input tokens at the ratio 1 (new-api)."""
_FAL_UNITS: Final[Mapping[str, str]] = {
    "image": "image",
    "images": "image",
    "megapixel": "megapixel",
    "megapixels": "megapixel",
    "second": "second",
    "seconds": "second",
}
"""fal's units that are quantities of the output. Others, such as ``units``, are no price without observed units."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListedPrice:
    """A price as an upstream lists it."""

    model: str
    rate: float | None
    """None: the row has no number that is a price."""
    unit: str
    per: str
    base_only: bool = False
    """Whether factors that are not listed multiply it: seconds, size and the like."""
    output_rate: float | None = None
    note: str = ""


def pricing(group: str | None = None) -> Generator[Call, Reply, list[ListedPrice]]:
    """Query new-api's prices.

    :param group: the group of the key; None: the dearest group that may use a model counts
    """
    reply = yield Call(method="GET", path=PRICING)
    return read_pricing(reply, group)


def read_pricing(reply: Reply, group: str | None = None) -> list[ListedPrice]:
    """Read new-api's prices. A price by an expression is not known: its ratios do not count then."""
    document = fields(reply.document)
    rows = document.get("data")
    if not reply.ok or not isinstance(rows, list):
        raise refusal_in(reply, creating=False)
    ratios = {
        name: ratio for name, each in fields(document.get("group_ratio")).items() if (ratio := number(each)) is not None
    }
    found = (_newapi_row(fields(each), ratios, group) for each in rows[:MAX_ROWS])
    return [each for each in found if each is not None]


def _newapi_row(row: Mapping[str, Any], ratios: Mapping[str, float], group: str | None) -> ListedPrice | None:
    model = word(row.get("model_name"))
    if model is None:
        return None
    groups = [name for each in items(row.get("enable_groups")) if (name := word(each)) is not None]
    usable = [ratios[name] for name in groups if name in ratios]
    factor = ratios.get(group or "") or max(usable, default=1.0)
    if word(row.get("billing_mode")) not in {None, "ratio", "per_call"}:
        return ListedPrice(model=model, rate=None, unit="USD", per="job", note="priced by an expression")
    if number(row.get("quota_type")) == 1:
        price = number(row.get("model_price"))
        rate = None if price is None else round(price * factor, 9)
        return ListedPrice(model=model, rate=rate, unit="USD", per="job", base_only=True)
    ratio, completion = number(row.get("model_ratio")), number(row.get("completion_ratio"))
    if ratio is None:
        return None
    rate = round(ratio * PER_RATIO * factor, 9)
    output = None if completion is None else round(rate * completion, 9)
    return ListedPrice(model=model, rate=rate, unit="USD", per="1M_tokens", output_rate=output)


def fal_pricing(endpoints: Sequence[str]) -> Generator[Call, Reply, list[ListedPrice]]:
    """Query fal's prices of up to 50 endpoints."""
    asked = urlencode([("endpoint_id", each) for each in endpoints])
    reply = yield Call(method="GET", path=f"/v1/models/pricing?{asked}", host="api.fal.ai")
    return read_fal_pricing(reply)


def read_fal_pricing(reply: Reply) -> list[ListedPrice]:
    """Read fal's prices."""
    rows = fields(reply.document).get("prices")
    if not reply.ok or not isinstance(rows, list):
        raise refusal_in(reply, creating=False)
    found: list[ListedPrice] = []
    for row in map(fields, rows[:MAX_ROWS]):
        model, rate, unit = word(row.get("endpoint_id")), number(row.get("unit_price")), word(row.get("unit")) or ""
        per = _FAL_UNITS.get(unit.lower())
        if model is not None:
            note = "" if per is not None else f"the unit {unit!r} is no quantity of the output"
            currency = word(row.get("currency")) or "USD"
            found.append(
                ListedPrice(model=model, rate=rate if per else None, unit=currency, per=per or "job", note=note)
            )
    return found


def read_kie_prices(reply: Reply) -> list[ListedPrice]:
    """Read a page of kie.ai's price list. Its rows have descriptions and no model ids: a person has to map them."""
    data = fields(fields(reply.document).get("data"))
    rows = data.get("records")
    if not reply.ok or not isinstance(rows, list):
        raise refusal_in(reply, creating=False)
    found: list[ListedPrice] = []
    for row in map(fields, rows[:MAX_ROWS]):
        name, rate = word(row.get("modelDescription")), number(row.get("creditPrice"))
        unit = (word(row.get("creditUnit")) or "").removeprefix("per ").strip()
        if name is not None:
            found.append(
                ListedPrice(
                    model=name, rate=rate, unit="credits", per=unit or "job", note=word(row.get("anchor")) or ""
                )
            )
    return found


def read_fal_charges(reply: Reply) -> dict[str, float]:
    """Read fal's records of charges: the US dollars of each request."""
    rows = fields(reply.document).get("billing_events")
    if not reply.ok or not isinstance(rows, list):
        raise refusal_in(reply, creating=False)
    found: dict[str, float] = {}
    for row in map(fields, rows[:MAX_ROWS]):
        request, cost = word(row.get("request_id")), number(row.get("cost_total"))
        if request is not None and cost is not None and cost >= 0:
            found[request] = found.get(request, 0.0) + cost
    return found


def read_fal_credits(reply: Reply) -> float | None:
    """Read the balance of a fal account in US dollars. It may be below zero."""
    return number(fields(fields(reply.document).get("credits")).get("current_balance"))
