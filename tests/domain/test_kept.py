"""When a file is fetched next, and which results are kept."""

import datetime as dt
from uuid import UUID

import pytest

from service.domain.kept import FETCH_BACKOFF, GONE_FOR, Attempt, Kept, begin, is_wanted, next_fetch, pending, settle
from service.domain.task import Result, State
from service.domain.transitions import merge_results
from tests.support.values import a_task, new_id

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
DAY = 86_400.0


def after(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def attempt(number: int = 1, age: float = 0.0, **more: object) -> Attempt:
    given = {"number": number, "at": NOW, "created_at": after(-age), "expires_at": None, **more}
    return Attempt(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [1, 2, 3, 6, 7, 100])
def test_waits_grow_and_the_last_one_repeats(number: int) -> None:
    wait = FETCH_BACKOFF[min(number, len(FETCH_BACKOFF)) - 1]
    assert next_fetch(attempt(number), retry_for=DAY) == after(wait)


def test_file_without_expiry_is_lost_after_its_time() -> None:
    assert next_fetch(attempt(9, age=DAY - 60), retry_for=DAY) == after(60)
    assert next_fetch(attempt(9, age=DAY), retry_for=DAY) is None
    assert next_fetch(attempt(9, age=99 * DAY), retry_for=None) == after(3600)


def test_known_expiry_shortens_the_waits_and_ends_the_attempts() -> None:
    assert next_fetch(attempt(6, expires_at=after(600)), retry_for=DAY) == after(300)
    assert next_fetch(attempt(6, expires_at=after(4)), retry_for=DAY) == after(5)
    assert next_fetch(attempt(6, expires_at=NOW), retry_for=DAY) is None


def test_failure_of_our_storage_outlives_the_expiry() -> None:
    assert next_fetch(attempt(6, expires_at=NOW, ours=True), retry_for=DAY) == after(3600)
    assert next_fetch(attempt(6, age=DAY, expires_at=NOW, ours=True), retry_for=DAY) is None


def test_file_that_is_gone_is_asked_for_an_hour() -> None:
    assert next_fetch(attempt(6, gone_since=after(-GONE_FOR + 1)), retry_for=DAY) == after(GONE_FOR / 4)
    assert next_fetch(attempt(6, gone_since=after(-GONE_FOR)), retry_for=DAY) is None


def test_hopeless_file_is_lost_at_once() -> None:
    assert next_fetch(attempt(1, final=True), retry_for=None) is None


@pytest.mark.parametrize(
    ("result", "wanted"),
    [
        (Result("video", "https://a.test/1.mp4"), True),
        (Result("image", "HTTP://a.test/1.png"), True),
        (Result("image", "data:image/png;base64,AA=="), True),
        (Result("video", "gs://bucket/film"), False),
        (Result("text", text="words"), False),
        (Result("image", "https://a.test/p.png", role="preview"), False),
        (Result("image", "https://a.test/p.png", role="cover"), True),
    ],
    ids=["https", "http", "data", "gs", "text", "preview", "cover"],
)
def test_files_that_can_be_fetched_are_wanted(result: Result, wanted: object) -> None:
    assert is_wanted(result) == wanted


def ended(**more: object):
    given = {"state": State.SUCCEEDED, "decided_by": "provider", "results": (Result("video", "https://a.test/1"),)}
    return a_task(**{**given, **more})


@pytest.mark.parametrize(
    ("more", "keeps", "expected"),
    [
        ({}, True, ["pending"]),
        ({}, False, [None]),
        ({"decided_by": None, "state": State.RUNNING}, True, [None]),
        ({"decided_by": "dovecote", "state": State.EXPIRED}, True, [None]),
        ({"results": (Result("text", text="a"), Result("video", "https://a.test/1"))}, True, [None, "pending"]),
    ],
    ids=["ended", "not-kept", "running", "expired", "text"],
)
def test_copies_begin_with_the_outcome_of_the_provider(more: dict, keeps: object, expected: list) -> None:
    task = begin(ended(**more), keeps=lambda _: bool(keeps), new_id=new_id)
    assert [None if each.kept is None else each.kept.state for each in task.results] == expected
    assert begin(task, keeps=lambda _: keeps, new_id=new_id) == task


def test_last_copy_leaves_nothing_pending() -> None:
    results = (Result("video", "https://a.test/1"), Result("image", "https://a.test/2"))
    task = begin(ended(results=results), keeps=lambda _: True, new_id=new_id)
    first, second = (each.kept.asset for each in task.results)
    task = settle(task, {first: Kept(asset=first, state="kept", size=3)})
    assert pending(task)
    task = settle(task, {second: Kept(asset=second, state="lost", lost_because="HTTP 404")})
    assert not pending(task)
    assert [Result.from_json(each.as_json()) for each in task.results] == list(task.results)


def test_repeated_report_keeps_the_copy_of_a_result() -> None:
    known = (Result("video", "https://a.test/1", expires_at=NOW, kept=Kept(asset=UUID(int=1), state="kept")),)
    assert merge_results(known, (Result("video", "https://a.test/1"),)) == known
