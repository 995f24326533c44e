"""Whether a sentence about a task was true when it was told: compared with the clock and with the providers' own list of jobs."""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import Final

from tests.chaos.evidence import Job, Reading

TOLERANCE: Final = 1.5
"""Seconds by which two clocks of this machine may differ, with the second that a sentence rounds to."""
_MOMENT: Final = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC"
_OVERDUE: Final = re.compile(rf"has been due since {_MOMENT}")
_EXPIRES: Final = re.compile(rf"otherwise it expires at {_MOMENT}")
_WITHIN: Final = re.compile(r"is due within (-?\d+) s")
_NOTHING_PAID: Final = re.compile("nothing has been paid", re.IGNORECASE)
_HAS_JOB: Final = re.compile(
    r"^\S+ (has it in its queue|is working on it|waits for your input|reports that it is done)"
)
_OVERDUE_MAX: Final = 60.0
_ENDED: Final = ("succeeded", "failed")


def _seconds(text: str) -> float:
    return dt.datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=dt.UTC).timestamp()


def lies(told: Reading, jobs: Sequence[Job], *, times: bool = True) -> Iterator[str]:
    """Yield what was not true of a sentence.

    :param jobs: the paid jobs of the task
    :param times: whether times can be compared: no clock has been wrong so far
    """
    sentence = told.explanation
    if times and not told.clock_off:
        yield from _wrong_times(told, sentence)
    bought = [job for job in jobs if job.created_at < told.asked]
    if _NOTHING_PAID.search(sentence) and bought:
        yield f"says that nothing has been paid, but {bought[0].upstream} had made job {bought[0].id}"
    if _HAS_JOB.match(sentence) and not any(job.created_at <= told.at for job in jobs):
        yield "says that a provider has the job, but no provider had made one"
    if sentence.startswith("Succeeded at ") and not any(
        job.state == "succeeded" and (job.ended_at or 0) <= told.at + TOLERANCE for job in jobs
    ):
        yield "says that it succeeded, but no job of it had"


def _wrong_times(told: Reading, sentence: str) -> Iterator[str]:
    for found in _OVERDUE.finditer(sentence):
        if _seconds(found[1]) > told.at + TOLERANCE:
            yield f"calls a time in the future past: {found[0]}"
    for found in _EXPIRES.finditer(sentence):
        if _seconds(found[1]) < told.asked - TOLERANCE:
            yield f"calls a time in the past future: {found[0]}"
    for found in _WITHIN.finditer(sentence):
        if int(found[1]) < 0:
            yield f"names a negative span: {found[0]}"
    finished, deadline = told.document.get("finished_at"), told.document.get("deadline_at")
    if finished is not None and _iso(finished) > told.at + TOLERANCE:
        yield f"finished in the future: {finished}"
    if finished is None and deadline is not None and _iso(deadline) < told.asked - _OVERDUE_MAX:
        yield f"is open a minute after its deadline: {deadline}"


def _iso(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
