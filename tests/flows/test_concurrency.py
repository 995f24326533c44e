"""Answers that several callers share."""

import asyncio

import pytest

from service.flows.concurrency import Shared, Spacing


class Questions:
    """Counts questions, and answers each with its number when it is let go on."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0
        self.go_on = asyncio.Event()
        self.shared = Shared[str, int](seconds=20.0, most=2)

    async def ask(self) -> int:
        self.asked += 1
        number = self.asked
        await self.go_on.wait()
        return number

    async def get(self, key: str) -> int:
        return await self.shared.get(key, self.ask, now=lambda: self.now)


async def test_callers_at_once_share_one_question() -> None:
    questions = Questions()
    callers = [asyncio.create_task(questions.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    questions.go_on.set()
    assert await asyncio.gather(*callers) == [1] * 5


async def test_answer_counts_for_its_time_only() -> None:
    questions = Questions()
    questions.go_on.set()
    assert [await questions.get("a"), await questions.get("b"), await questions.get("a")] == [1, 2, 1]
    questions.now = 20.0
    assert await questions.get("a") == 3


async def test_cancelled_caller_leaves_the_question_to_the_next_one() -> None:
    questions = Questions()
    first, second = (asyncio.create_task(questions.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    questions.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == 2


async def test_oldest_answers_are_forgotten_beyond_the_bound() -> None:
    questions = Questions()
    questions.go_on.set()
    for key in ("a", "b", "c"):
        await questions.get(key)
    assert await questions.get("c") == 3
    assert await questions.get("a") == 4


async def test_question_under_way_is_not_forgotten() -> None:
    questions = Questions()
    callers = [asyncio.create_task(questions.get(key)) for key in ("a", "b", "c")]
    await asyncio.sleep(0)
    callers += [asyncio.create_task(questions.get("a"))]
    await asyncio.sleep(0)
    questions.go_on.set()
    assert await asyncio.gather(*callers) == [1, 2, 3, 1]


def test_callers_without_a_slot_come_back_one_after_another() -> None:
    spacing = Spacing(per_second=10, longest=60.0)
    waits = [spacing.wait(100.0, least=2.0) for _ in range(5)]
    assert waits == pytest.approx([2.0, 2.1, 2.2, 2.3, 2.4])
    assert spacing.wait(101.0, least=0.5) == pytest.approx(1.5)  # after those that came before
    assert spacing.wait(500.0, least=2.0) == pytest.approx(2.0)


def test_caller_without_a_slot_waits_no_longer_than_the_bound() -> None:
    spacing = Spacing(per_second=10, longest=5.0)
    assert [spacing.wait(100.0, least=2.0) for _ in range(100)][-1] == pytest.approx(5.0)
    assert spacing.wait(103.0, least=2.0) == pytest.approx(2.1)
