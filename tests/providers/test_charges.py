"""Every message about money is understood as it is meant: charges, refunds, prices, balances, and what says nothing."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.domain.money.amounts import Amount, plain, read_number
from service.domain.money.quotes import PriceBook
from service.domain.money.rules import Purchase
from service.domain.money.settlement import Facts, settle
from service.domain.task import State, Update
from service.providers import price_lists
from service.providers.charges import with_charges
from service.providers.newapi import account, charge_log
from service.providers.registry import DIALECTS
from service.providers.wire import Call, Callback, Reply
from service.settings.prices import load_prices

MESSAGES = {
    each["id"][:2]: each
    for each in json.loads((Path(__file__).parents[1] / "recordings" / "money" / "messages.json").read_text("utf-8"))
}
ON = dt.date(2026, 11, 27)


def reply(number: str, *, status: int = 200, body: Any = None) -> Reply:
    message = MESSAGES[number]
    content = message["body"] if body is None else body
    return Reply(status, message.get("headers", {}), json.dumps(content).encode())


def read_by(dialect: str, number: str, *, created: bool = False, status: int = 200) -> Update:
    found = reply(number, status=status)
    known = DIALECTS[dialect]
    update = known.read_created(found) if created else known.read_status(found)
    return with_charges(update, found.document, found.headers)


def called(dialect: str, number: str) -> Update:
    callback = Callback({}, json.dumps(MESSAGES[number]["body"]).encode(), 1_795_000_000.0)
    [update] = DIALECTS[dialect].read_callback(callback)
    return with_charges(update, callback.document, {})


def stated(number: str) -> Decimal:
    return Decimal(MESSAGES[number]["amount"])


def quote(prices: PriceBook, upstream: str, family: str, model: str, **fields: Any) -> Any:
    bought = Purchase(
        upstream=upstream,
        kind=upstream,
        dialect="",
        family=family,
        operation="text_to_video",
        model=model,
        fields=fields,
    )
    return prices.quote(bought, on=ON)


def test_01_price_of_a_call_takes_the_dearest_usable_group() -> None:
    [price] = price_lists.read_pricing(reply("01"))
    assert (price.rate, price.unit, price.per, price.base_only) == (0.1, "USD", "job", True)
    [own] = price_lists.read_pricing(reply("01"), "vip")
    assert own.rate == pytest.approx(0.08)


def test_02_price_by_an_expression_is_unknown_and_by_a_ratio_is_per_token() -> None:
    [price] = price_lists.read_pricing(reply("02"))
    assert price.rate is None
    body = json.loads(json.dumps(MESSAGES["02"]["body"]))
    del body["data"][0]["billing_mode"]
    [price] = price_lists.read_pricing(reply("02", body=body))
    assert (price.rate, price.output_rate, price.per) == (5, 40, "1M_tokens")


def test_03_factors_of_a_submit_make_the_price() -> None:
    update = read_by("any/newapi-video", "03", created=True)
    book = {"id": "a", "upstream": "u", "unit": "USD", "rate": "0.1", "checked": "2026-11-27"}
    from service.domain.money.book import read_book

    prices, _ = read_book({"schema": 1, "price": [book]})
    usage = {name: Decimal(str(value)) for name, value in update.usage.items()}
    found = settle(Facts(ending="succeeded", quote=quote(prices, "u", "any", "m"), usage=usage))
    assert found.amount is not None
    assert abs(found.amount - stated("03")) < Decimal("0.000001")


@pytest.mark.parametrize("number", ["04", "05"])
def test_04_05_quota_is_a_charge_and_says_nothing_of_a_refund(number: str) -> None:
    update = read_by("any/newapi-video", number)
    assert (update.cost, update.cost_unit, update.refunded) == (416666, "quota", None)
    assert update.state is (State.SUCCEEDED if number == "04" else State.FAILED)


def test_05_words_that_keep_the_price_are_read() -> None:
    body = json.loads(json.dumps(MESSAGES["05"]["body"]))
    body["data"]["fail_reason"] = "旧系统遗留任务，不进行退款"
    found = reply("05", body=body)
    update = with_charges(DIALECTS["any/newapi-video"].read_status(found), found.document, {})
    assert update.refunded is False


def test_06_refund_row_names_the_job() -> None:
    rows = charge_log.read_log(reply("06"))
    found = charge_log.charged([*rows, *rows], "task_standin0002")
    assert found is not None
    assert (found.amount, found.gross, found.refunded) == (0, 416666, True)
    assert charge_log.charged(rows, "task_standin0001") is None


def test_07_supplement_settles_the_whole_and_is_not_added() -> None:
    found = charge_log.charged(charge_log.read_log(reply("07")), "task_standin0003")
    assert found is not None
    assert (found.amount, found.refunded) == (405000, False)


def test_08_points_of_a_key() -> None:
    assert charge_log.usage_of_key(reply("08")) == 3750000


def test_09_unlimited_key_has_no_balance() -> None:
    exchange = account.billing()
    next(exchange)
    with pytest.raises(StopIteration) as done:
        exchange.send(reply("09", body=MESSAGES["09"]["body"]["subscription"]))
    assert done.value.value.left is None


def test_10_balance_of_an_account() -> None:
    exchange = account.quota("dovecote")
    assert isinstance(next(exchange), Call)
    with pytest.raises(StopIteration) as done:
        exchange.send(reply("10"))
    assert (plain(read_number(done.value.value.left) or Decimal(0)), done.value.value.unit) == ("105.234088", "USD")


def test_11_refund_of_a_gateway() -> None:
    update = called("runway/aggregator", "11")
    assert (update.state, update.refunded) == (State.FAILED, True)


def test_12_price_list_without_model_ids() -> None:
    [price] = price_lists.read_kie_prices(reply("12"))
    assert (price.rate, price.unit, price.per) == (84, "credits", "video")


def test_13_14_credits_of_a_job() -> None:
    assert called("kie/jobs", "13").cost == 4
    failed = read_by("kie/jobs", "14")
    assert (failed.state, failed.cost, failed.refunded) == (State.FAILED, None, None)


def test_15_price_by_a_quantity_of_the_output_only() -> None:
    [price] = price_lists.read_fal_pricing(reply("15"))
    assert (price.rate, price.per) == (0.025, "image")
    body = {"prices": [{"endpoint_id": "a", "unit_price": 0.5, "unit": "units", "currency": "USD"}]}
    [unknown] = price_lists.read_fal_pricing(reply("15", body=body))
    assert unknown.rate is None


def test_16_billable_units_at_the_frozen_price() -> None:
    found = reply("16")
    update = with_charges(Update(state=State.SUCCEEDED), found.document, found.headers)
    usage = {name: Decimal(str(value)) for name, value in update.usage.items()}
    quoted = quote(load_prices(), "fal", "any", "fal-ai/flux/dev")
    assert settle(Facts(ending="succeeded", quote=quoted, usage=usage)).amount == Decimal("0.05")


def test_17_18_record_of_charges_and_balance() -> None:
    assert price_lists.read_fal_charges(reply("17")) == {"standin": 0.05}
    assert price_lists.read_fal_credits(reply("18")) == 24.5


def test_19_refused_result_is_not_free() -> None:
    quoted = quote(load_prices(), "fal", "any", "fal-ai/flux/dev")
    found = settle(Facts(ending="moderated", quote=quoted))
    assert (found.verdict, found.amount) == ("probably_charged", Decimal("0.025"))


def test_20_estimate_is_no_charge() -> None:
    update = read_by("runway/official", "20", created=True)
    assert (update.cost, update.usage) == (None, {"estimated_cost": 60.0})


def test_21_moderated_job_is_charged() -> None:
    update = read_by("runway/official", "21")
    assert (update.cost, update.refunded) == (60, False)
    found = settle(Facts(ending="moderated", stated=Amount(Decimal(60), "credits"), refunded=False))
    assert (found.verdict, found.amount) == ("charged", 60)


def test_22_seconds_of_hardware() -> None:
    update = read_by("replicate/official", "22")
    assert update.usage == {"hardware_seconds": 12.1}
    body = {**MESSAGES["22"]["body"], "started_at": None, "metrics": {}}
    found = reply("22", body=body)
    before_start = with_charges(DIALECTS["replicate/official"].read_status(found), found.document, {})
    assert before_start.cost == 0


def test_23_tokens_of_a_picture() -> None:
    found = reply("23")
    update = with_charges(Update(state=State.SUCCEEDED), found.document, {})
    usage = {name: Decimal(str(value)) for name, value in update.usage.items()}
    quoted = quote(load_prices(), "openai", "openai", "gpt-image-1-mini", quality="medium")
    assert settle(Facts(ending="succeeded", quote=quoted, usage=usage)).amount == stated("23")


def test_24_units_of_a_pack() -> None:
    assert read_by("kling/official", "24").cost == 4


def test_25_tokens_of_a_video() -> None:
    update = read_by("seedance/ark", "25")
    usage = {name: Decimal(str(value)) for name, value in update.usage.items()}
    quoted = quote(load_prices(), "ark", "seedance", "doubao-seedance-2-0-260128", duration=5, resolution="720p")
    assert settle(Facts(ending="succeeded", quote=quoted, usage=usage)).amount == stated("25")


@pytest.mark.parametrize("value", [0, -1, "nan", "1e400", None, True, [], {}, "x"], ids=repr)
def test_cost_that_is_no_amount_is_not_read(value: Any) -> None:
    document = {"usage": {"cost": value, "cost_in_usd_ticks": value}, "quota": value, "platform": "50"}
    assert with_charges(Update(state=State.SUCCEEDED), document, {}).cost is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"seconds": 0}', '{"seconds": "x"}', '{"a": 1e300, "b": 1e300}', "{"]
)
def test_factors_that_are_no_numbers_are_not_read(text: str) -> None:
    assert with_charges(Update(), {}, {"X-New-Api-Other-Ratios": text}).usage == {}


def test_quota_counts_in_a_record_of_new_api_only() -> None:
    assert with_charges(Update(), {"quota": 5}, {}).cost is None


def test_known_cost_of_a_dialect_is_kept() -> None:
    update = with_charges(Update(cost=3.0), {"usage": {"cost": 5}}, {})
    assert (update.cost, update.cost_unit) == (3, None)
