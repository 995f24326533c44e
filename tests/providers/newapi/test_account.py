"""A gateway's answers to the owner of an account: balances and the list of jobs, each in both spellings."""

import datetime as dt
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from service.domain.errors import UpstreamError
from service.providers.newapi import account
from service.providers.wire import Balance, Reply

QUOTA = {"username": "u", "total_quota": 42.5, "total_used_quota": 7.5, "request_count": 3, "keys": []}
AT = dt.datetime(2026, 5, 1, tzinfo=dt.UTC).timestamp()


def reply(document, status=200):
    return Reply(status, {}, document if isinstance(document, bytes) else json.dumps(document).encode())


def drive(exchange, *answers):
    """Run an exchange. Return the calls and the result."""
    calls, left = [], list(answers)
    try:
        call = next(exchange)
        while True:
            calls.append(call)
            call = exchange.send(left.pop(0))
    except StopIteration as done:
        assert not left
        return calls, done.value
    except UpstreamError as error:
        return calls, error


def key(name, left):
    return {"name": name, "remain_quota": left, "used_quota": 1}


# Balances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "name", "left"),
    [
        (QUOTA, None, 42.5),
        ({**QUOTA, "total_quota": "42.5"}, None, 42.5),
        ({**QUOTA, "total_quota": -1}, None, -1.0),  # overdrawn: only keys are without a limit
        ({**QUOTA, "keys": [key("mine", 3), key("query", 0)]}, None, 42.5),
        ({**QUOTA, "keys": [key("mine", 3), key("query", 0)]}, "mine", 3.0),
        ({**QUOTA, "keys": [key("mine", 99)]}, "mine", 42.5),
        ({**QUOTA, "keys": [key("mine", -1)]}, "mine", 42.5),
        ({**QUOTA, "keys": [key("mine", 999999999)]}, "mine", 42.5),
        ({**QUOTA, "keys": [None, "?", {}, key("mine", "?")]}, "mine", 42.5),
        ({**QUOTA, "keys": None}, "mine", 42.5),
    ],
)
def test_quota_is_read(document, name, left):
    (call,), balance = drive(account.quota(name), reply(document))
    assert (call.path, call.asks_quota, call.account, call.creates) == ("/user/quota", True, False, False)
    assert balance == Balance(left, "USD")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply({"error": {"message": "Invalid Token"}}, 401), "account"),
        (reply(b"<html>", 200), "unreadable"),
        (reply(b"", 301), "account"),
        (reply({"total_quota": None}), "unreadable"),
        (reply(QUOTA, 502), "unavailable"),
    ],
)
def test_missing_balance_is_an_error(answer, outcome):
    for exchange in (account.quota(), account.billing()):
        _, error = drive(exchange, answer)
        assert error.outcome == outcome


def test_billing_usage_is_in_cents():
    calls, balance = drive(account.billing(), reply({"hard_limit_usd": 50}), reply({"total_usage": 1234.5}))
    assert [call.path.rpartition("/")[2] for call in calls] == ["subscription", "usage"]
    assert balance == Balance(37.655, "USD")
    assert drive(account.billing(), reply({"hard_limit_usd": 100000000}))[1] == Balance(None, "USD")
    _, error = drive(account.billing(), reply({"hard_limit_usd": 50}), reply({"error": {"message": "no"}}))
    assert error.outcome == "unreadable"


# Jobs ------------------------------------------------------------------------------------------------------------


def rows(*numbers):
    return [{"task_id": f"t{number}", "platform": "suno", "action": "MUSIC", "submit_time": AT} for number in numbers]


def newer(total, *numbers):
    return reply({"success": True, "data": {"page": 1, "page_size": 100, "total": total, "items": rows(*numbers)}})


def older(*numbers):
    return reply({"success": True, "data": rows(*numbers)})


def pages(calls):
    return [parse_qs(urlsplit(call.path).query)["p"] for call in calls]


def listing(*answers):
    calls, found = drive(account.jobs(platform="suno", since=AT, until=AT + 1.5), *answers)
    named = found if isinstance(found, UpstreamError) else [row.task_id for row in found]
    return [int(page) for (page,) in pages(calls)], named


def test_list_with_total_is_read_to_its_end():
    assert listing(newer(0)) == ([1], [])
    assert listing(newer(2, 1, 2)) == ([1], ["t1", "t2"])
    assert listing(newer(3, 1, 2), newer(3, 3)) == ([1, 2], ["t1", "t2", "t3"])
    assert listing(newer(9, 1, 2), newer(9)) == ([1, 2], ["t1", "t2"])


def test_list_without_total_may_start_at_page_zero():
    assert listing(older(1, 2), older(1, 2), older()) == ([1, 0, 2], ["t1", "t2"])
    assert listing(older(), older(7), older()) == ([1, 0, 2], ["t7"])
    assert listing(older(3, 4), older(1, 2), older(5), older(5)) == ([1, 0, 2, 3], ["t3", "t4", "t1", "t2", "t5"])


def test_endless_list_is_an_error():
    exchange = account.jobs(platform="suno", since=AT, until=AT)
    next(exchange)
    for number in range(account.MAX_PAGES - 2):
        exchange.send(newer(10_000, number))
    with pytest.raises(UpstreamError, match="goes on"):
        exchange.send(newer(10_000, 999))


def test_list_rows_may_use_milliseconds_and_lack_fields():
    answer = reply(
        {
            "success": True,
            "data": {
                "total": 7,
                "items": [
                    {**rows(1)[0], "submit_time": AT * 1000},
                    {**rows(2)[0], "submit_time": 0, "created_at": AT},
                    {**rows(3)[0], "submit_time": 0},
                    {**rows(4)[0], "task_id": None},
                    None,
                    {**rows(5)[0], "submit_time": -5},
                    {**rows(6)[0], "submit_time": 10**18},
                ],
            },
        }
    )
    _, found = drive(account.jobs(platform="suno", since=AT, until=AT), answer)
    assert [(row.task_id, row.submitted_at) for row in found] == [("t1", AT), ("t2", AT)]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply({"success": False, "message": "无权进行此操作，access token 无效"}), "account"),
        (reply({"success": False, "message": "no"}, 401), "account"),
        (reply({"success": True, "data": None}), "unreadable"),
        (reply({"success": True, "data": {"total": 3}}), "unreadable"),
        (reply(b"<html>"), "unreadable"),
        (reply(b"", 502), "unavailable"),
    ],
)
def test_refused_list_is_an_error(answer, outcome):
    _, error = drive(account.jobs(platform="suno", since=AT, until=AT), answer)
    assert error.outcome == outcome
