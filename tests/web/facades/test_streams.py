"""What a door writes at the end of a stream, given what its client has got already."""

import dataclasses
from typing import Any

import orjson
import pytest

from service.domain.task import Result, State, Task
from service.web.facades.openai.chat import chunks_of
from service.web.facades.outcome import succeeded
from service.web.problems import Problem
from tests.support.operations import task as example


def ended(*texts: str, state: State = State.SUCCEEDED) -> Task:
    made = example("openai/chat", "openai chat")
    results = tuple(Result("text", text=each) for each in texts)
    return dataclasses.replace(made, state=state, results=results, finished_at=made.created_at)


def deltas(task: Task, sent: dict[int, str]) -> list[Any]:
    events = [each.removeprefix(b"data: ").strip() for each in chunks_of(task, sent)]
    assert events[-1] == b"[DONE]"
    return [choice["delta"] for each in events[:-1] for choice in orjson.loads(each)["choices"]]


def test_client_gets_what_it_has_not_got_yet() -> None:
    task = ended("Once upon")
    assert deltas(task, {}) == [{"role": "assistant", "content": "Once upon"}, {}]
    assert deltas(task, {0: "Once"}) == [{"content": " upon"}, {}]
    assert deltas(task, {0: "Once upon"}) == [{}]
    assert deltas(ended("a", "b"), {1: "b"}) == [{"role": "assistant", "content": "a"}, {}, {}]


def test_client_that_has_got_another_text_gets_an_error_with_the_task() -> None:
    task = ended("Another")
    with pytest.raises(Problem, match=str(task.id)):
        chunks_of(task, {0: "Once"})


def test_unconfirmed_task_is_named_as_such() -> None:
    with pytest.raises(Problem, match="not submitted again") as raised:
        succeeded(ended(state=State.UNCONFIRMED))
    assert (raised.value.status, raised.value.headers) == (504, {"x-should-retry": "false"})
