"""Read what a provider says that it charged: quantities and costs that many protocols state in the same fields.

A dialect reads the fields of its own protocol. This module reads those that are the same in many of them, and never replaces
what a dialect has read.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

from service.domain.task import State, Update
from service.providers.read import fields, number, word

Record = Mapping[str, Any]

RATIOS: Final = "x-new-api-other-ratios"
"""A header of new-api's answer to a submit: the factors of the price, such as seconds and size."""
BILLABLE: Final = "x-fal-billable-units"
"""A header of fal's result: the units that it charges."""
QUOTA: Final = "quota"
"""The unit of new-api: what it is worth is a setting of each gateway."""
MAX_RATIO: Final = 1e6
_TICKS: Final = 1e10
"""xAI's ticks of a US dollar."""
_OF_NEWAPI: Final = frozenset({"platform", "submit_time", "finish_time", "fail_reason", "channel_id"})
"""Fields of a task record of new-api: ``quota`` has its meaning there only."""
_OF_KIE: Final = ("creditsConsumed", "consumeCredits")
"""Fields of kie.ai's records and callbacks, of every model."""
_NOT_REFUNDED: Final = "不进行退款"
"""new-api's words for a task whose price it keeps."""
_TOKENS: Final = {
    "tokens": ("completion_tokens", "total_tokens"),
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "text_tokens": ("text_tokens",),
    "image_tokens": ("image_tokens",),
    "seconds": ("output_seconds", "total_seconds"),
}


def with_charges(update: Update, document: Any, headers: Mapping[str, str]) -> Update:
    """Return an update with the quantities and the cost that an answer states in common fields."""
    records = [record for record in (fields(document), fields(fields(document).get("data"))) if record]
    usage = {**_of_headers(headers)}
    for record in records:
        usage |= _of_record(record)
    cost, unit = _cost(records)
    if update.cost is None and cost is not None:
        update = dataclasses.replace(update, cost=cost, cost_unit=unit)
    if update.refunded is None and update.state is State.FAILED and _keeps(records):
        update = dataclasses.replace(update, refunded=False)
    if update.cost is None and update.state is State.CANCELLED and _never_started(records):
        update = dataclasses.replace(update, cost=0.0, cost_unit="USD")
    return dataclasses.replace(update, usage={**usage, **update.usage}) if usage else update


def _of_headers(headers: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in headers.items():
        if name.lower() == BILLABLE and (units := number(value)) is not None and units > 0:
            found["units"] = float(units)
        elif name.lower() == RATIOS and (ratio := _product(value)) is not None:
            found["ratio"] = ratio
    return found


def _product(text: str) -> float | None:
    """Return the product of the factors of a price; None where one of them is no number."""
    try:
        stated = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    factors = [number(value) for value in fields(stated).values()]
    if not factors or any(each is None or each <= 0 for each in factors):
        return None
    product = math.prod(each for each in factors if each is not None)
    return float(product) if product < MAX_RATIO else None


def _of_record(record: Record) -> dict[str, float]:
    usage = fields(record.get("usage"))
    found: dict[str, float] = {}
    holders = [usage, fields(usage.get("input_tokens_details")), fields(usage.get("prompt_tokens_details"))]
    for name, stated in _TOKENS.items() if usage else ():
        values = (number(holder.get(each)) for each in stated for holder in holders)
        value = next((each for each in values if each is not None and each > 0), None)
        if value is not None:
            found[name] = float(value)
    seconds = number(fields(record.get("metrics")).get("predict_time"))
    if seconds is not None and seconds >= 0:
        found["hardware_seconds"] = float(seconds)
    estimated = number(fields(record.get("estimatedCost")).get("credits"))
    if estimated is not None and estimated >= 0:
        found["estimated_cost"] = float(estimated)
    return found


def _cost(records: list[Record]) -> tuple[float | None, str | None]:
    """Return a cost that is stated with its unit."""
    for record in records:
        ticks = number(fields(record.get("usage")).get("cost_in_usd_ticks"))
        dollars = number(fields(record.get("usage")).get("cost"))
        quota = number(record.get("quota")) if _OF_NEWAPI & record.keys() else None
        if ticks is not None and ticks > 0:
            return ticks / _TICKS, "USD"
        if dollars is not None and dollars > 0:
            return float(dollars), "USD"
        if quota is not None and quota > 0:
            return float(quota), QUOTA
        spent = (number(record.get(name)) for name in _OF_KIE)
        credits_ = next((each for each in spent if each is not None and each > 0), None)
        if credits_ is not None:
            return float(credits_), "credits"
    return None, None


def _keeps(records: list[Record]) -> bool:
    """Return whether a failure says that the price is kept."""
    return any(_NOT_REFUNDED in (word(record.get("fail_reason")) or "") for record in records)


def _never_started(records: list[Record]) -> bool:
    """Return whether a prediction of Replicate's was cancelled before it ran: it costs nothing."""
    return any(
        "metrics" in record and "started_at" in record and record["started_at"] is None and record.get("completed_at")
        for record in records
    )
