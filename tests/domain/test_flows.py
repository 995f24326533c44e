"""The names of flows: what a list means, and when a worker of each was last alive."""

import datetime as dt
from pathlib import Path

import pytest

from service.domain.flows import DESCRIPTIONS, FLOWS, last_seen, parse_flows, stored

NOW = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("submit", {"submit"}),
        ("submit,poll", {"submit", "poll"}),
        (" Submit , poll,, submit ", {"submit", "poll"}),
        ("all", set(FLOWS)),
        ("poll,all", set(FLOWS)),
    ],
)
def test_list_of_flows_is_parsed(text: str, expected: set[str]) -> None:
    assert parse_flows(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sumbit", "unknown flow 'sumbit'; did you mean 'submit'?"),
        ("submit,webhook", "unknown flow 'webhook'; did you mean 'webhooks'?"),
        ("qqqq", "unknown flow 'qqqq'; there are all, callbacks, credit"),
        (",", "name at least one flow; there are callbacks"),
        ("x" * 500, f"unknown flow '{'x' * 80}'"),
    ],
    ids=["typo", "singular", "far", "none", "long"],
)
def test_unknown_flow_is_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="flow") as caught:
        parse_flows(text)
    assert str(caught.value).startswith(message)


def test_flow_was_last_alive_with_the_latest_worker_that_does_it() -> None:
    workers = [("poll,submit", at(-5)), (stored(["poll"]), at(-2)), ("webhooks,future", at(-9))]
    assert last_seen(workers) == {"submit": at(-5), "poll": at(-2), "webhooks": at(-9)}


def test_worker_that_stores_no_flows_does_all_of_them() -> None:
    assert last_seen([(None, at(-3)), ("poll", at(-7))]) == dict.fromkeys(FLOWS, at(-3))


def test_documentation_describes_every_flow() -> None:
    assert tuple(DESCRIPTIONS) == FLOWS
    page = (Path(__file__).parents[2] / "docs/operating.md").read_text(encoding="utf-8")
    rows = [f"| `{flow}` | {meaning} |" for flow, meaning in DESCRIPTIONS.items()]
    assert "\n".join(rows) in page
