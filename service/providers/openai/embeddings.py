"""Embeddings (POST /v1/embeddings): the answer is the vectors."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import Uncertain
from service.domain.task import Result, State, Task, Update
from service.providers.dialect import Dialect, Facts, merge
from service.providers.openai.family import model_of
from service.providers.openai.refusals import carries_error, refusal
from service.providers.read import compact, fields, prose
from service.providers.wire import Call, Reply


class Embeddings(Dialect):
    """Embeddings. They are synchronous."""

    facts = Facts(
        family="openai",
        name="embeddings",
        operations={"embeddings": "/v1/embeddings"},
        synchronous=frozenset({"embeddings"}),
        typical_seconds={"embeddings": 2.0},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the vectors."""
        del callback_url
        body = {"model": model_of(task), "input": task.input.get("texts"), "dimensions": task.input.get("dimensions")}
        return Call(method="POST", path=self.facts.operations[task.operation], json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: there is no job."""
        del task
        return Call(method="GET", path="/v1/models")

    def read_created(self, reply: Reply) -> Update:
        """Read the vectors, in the order of their index: each one as compact JSON, or as its text in base64."""
        if not reply.ok or carries_error(reply.document):
            raise refusal(reply, creating=True)
        data = fields(reply.document).get("data")
        held = [fields(each) for each in data] if isinstance(data, list) else []
        found = [_vector(each) for each in sorted(held, key=_index)]
        if not found or None in found:
            raise Uncertain("unreadable", "the answer has no vectors")
        return Update(state=State.SUCCEEDED, results=tuple(each for each in found if each is not None))

    def read_status(self, reply: Reply) -> Update:
        """Raise the error of a poll: there is no job."""
        raise refusal(reply, creating=False)


def _index(item: Mapping[str, Any]) -> int:
    index = item.get("index")
    return index if isinstance(index, int) else 0


def _vector(item: Mapping[str, Any]) -> Result | None:
    vector = item.get("embedding")
    if isinstance(vector, list) and vector and all(isinstance(each, int | float) for each in vector):
        return Result("json", text=compact(vector))
    encoded = prose(vector)
    return None if encoded is None else Result("text", text=encoded)
