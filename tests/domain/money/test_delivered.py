"""What was made and what was billed: seconds, pictures and resolution, and what is no difference."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from service.domain.kept import Kept
from service.domain.money.delivered import differences
from service.domain.money.quotes import Quote
from service.domain.task import Result, State, Task
from tests.support.values import a_task, new_id

A_SUBMISSION = new_id()


def a_file(kind: str = "video", **facts: Any) -> Result:
    role = facts.pop("role", "result")
    kept = Kept(asset=new_id(), state="kept", **facts) if facts else None
    return Result(kind=kind, url="http://x/1", role=role, kept=kept)  # type: ignore[arg-type]


def ended(results: Sequence[Result], *, charged: str | None = None, **more: Any) -> Task:
    entry = {"submission": str(A_SUBMISSION), "computed": False, "unit": "credits", "gross": charged}
    plain = {"state": State.SUCCEEDED, "upstream": "x", "submission_id": A_SUBMISSION, "results": tuple(results)}
    settlements = () if charged is None else (entry,)
    return a_task(**{**plain, "settlements": settlements, **more})


def quote(per: str, rate: str, high: str) -> tuple[Quote, ...]:
    return (Quote(upstream="x", bound="exact", rate=Decimal(rate), per=per, high=Decimal(high), unit="credits"),)


SECONDS = quote("second", "12", "60")
FIVE: Mapping[str, Any] = {"prompt": "a", "duration": 5}


@pytest.mark.parametrize(
    ("task", "found"),
    [
        pytest.param(ended([a_file(duration=5.04)], input=FIVE, quotes=SECONDS), [], id="as-ordered"),
        pytest.param(ended([a_file(duration=4.5)], input=FIVE, quotes=SECONDS), [], id="half-a-second-less"),
        pytest.param(ended([a_file(duration=4.0)], input=FIVE, quotes=SECONDS), [("seconds", "5", "4", "request")], id="too-short"),
        pytest.param(ended([a_file(duration=10.0)], input=FIVE, quotes=SECONDS), [("seconds", "5", "10", "request")], id="too-long"),
        pytest.param(ended([a_file(duration=5.0)], input={"duration": "5s"}, quotes=SECONDS), [], id="text-with-its-unit"),
        pytest.param(ended([a_file(duration=29.0)], input={"duration": 30}, quotes=SECONDS), [], id="within-five-percent"),
        pytest.param(
            ended([a_file(duration=5.0)], input=FIVE, usage={"seconds": 8.0}),
            [("seconds", "8", "5", "answer")],
            id="answer-states-more",
        ),
        pytest.param(
            ended([a_file(duration=5.0)], input=FIVE, quotes=SECONDS, charged="120"),
            [("seconds", "10", "5", "charge and rate")],
            id="charged-for-more",
        ),
        pytest.param(ended([a_file(duration=5.0)], input=FIVE, quotes=SECONDS, charged="60"), [], id="charged-right"),
        pytest.param(
            ended([a_file(duration=5.0)], input=FIVE, quotes=quote("second", "12", "70"), charged="70"),
            [],
            id="price-with-an-addition-says-nothing-of-seconds",
        ),
        pytest.param(ended([a_file(duration=5.0)] * 2, input={"duration": 10}, quotes=SECONDS), [], id="both-films-together"),
        pytest.param(ended([a_file()], input=FIVE, quotes=SECONDS), [], id="nothing-kept"),
        pytest.param(ended([a_file(duration=5.0), a_file()], input=FIVE, quotes=SECONDS), [], id="one-is-not-kept"),
        pytest.param(ended([a_file(duration=3.0)], input=FIVE), [], id="no-price-by-seconds"),
        pytest.param(ended([a_file(duration=3.0)], input=FIVE, quotes=quote("job", "9", "9")), [], id="price-of-a-job"),
        pytest.param(ended([a_file("audio", duration=3.0)], input={}), [], id="nothing-ordered"),
        pytest.param(
            ended([a_file("image")] * 3, input={"count": 4}, quotes=quote("image", "3", "12")), [("outputs", "4", "3", "request")], id="picture-is-missing"
        ),
        pytest.param(ended([a_file("image")] * 4, input={"n": 4}), [], id="every-picture"),
        pytest.param(ended([a_file("image"), a_file("image", role="preview")], input={"n": 1}), [], id="preview"),
        pytest.param(
            ended([a_file("image")], input={"n": 1}, quotes=quote("image", "3", "3"), charged="6"),
            [("outputs", "2", "1", "charge and rate")],
            id="charged-for-two-pictures",
        ),
        pytest.param(
            ended([a_file(width=1280, height=720)], input={"resolution": "1080p"}),
            [("resolution", "1080", "720", "request")],
            id="too-small",
        ),
        pytest.param(ended([a_file(width=1920, height=1080)], input={"resolution": "720p"}), [], id="larger"),
        pytest.param(ended([a_file(width=720, height=1280)], input={"resolution": "720P"}), [], id="upright"),
        pytest.param(ended([a_file(width=2176, height=928)], input={"resolution": "1080p"}), [], id="wide"),
        pytest.param(ended([a_file(width=1920, height=1080)], input={"resolution": "4k"}), [("resolution", "2160", "1080", "request")], id="4k"),
        pytest.param(
            ended([a_file("image", width=512, height=512)], input={"size": "1024x1024"}),
            [("resolution", "1024", "512", "request")],
            id="small-picture",
        ),
        pytest.param(
            ended([a_file("image", width=512, height=768)], input={"width": 1024, "height": 1536}),
            [("resolution", "1024", "512", "request")],
            id="width-and-height",
        ),
        pytest.param(ended([a_file("image", width=800, height=600)], input={"size": "16:9"}), [], id="ratio"),
        pytest.param(ended([a_file("image", width=800, height=600)], input={"resolution": "2k"}), [], id="2k-picture"),
        pytest.param(ended([a_file(duration=1.0)], input=FIVE, state=State.FAILED), [], id="failed"),
        pytest.param(ended([a_file(duration=1.0)], input=FIVE, adopted=True), [], id="adopted"),
        pytest.param(ended([], input=FIVE), [], id="no-result"),
    ],
)  # fmt: skip
def test_difference_between_billed_and_made(task: Task, found: list[tuple[str, ...]]) -> None:
    assert [(each.kind, each.billed, each.made, each.basis) for each in differences(task)] == found


@pytest.mark.parametrize("value", [None, [], {"a": 1}, True, "x" * 10_000, -5, float("inf"), "1e400", 10**30])
def test_hostile_values_are_no_difference(value: Any) -> None:
    task = ended(
        [a_file(duration=5.0, width=1280, height=720)],
        input=dict.fromkeys(("duration", "count", "resolution", "size", "width", "height"), value),
        usage={"seconds": 0.0},
        quotes=SECONDS,
    )
    assert differences(task) == ()
