"""Anthropic's Messages API (POST /v1/messages), with its own header for the key."""

import dataclasses

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.anthropic import record
from service.providers.dialect import Dialect, Facts
from service.providers.talk import talk_mistakes
from service.providers.wire import Call, Exchange, Reply


class Messages(Dialect):
    """Messages. They are synchronous: there is nothing to poll, no webhook and no cancel."""

    facts = Facts(
        family="anthropic",
        name="messages",
        operations=record.PATHS,
        synchronous=frozenset(record.PATHS),
        free=frozenset({"count_tokens"}),
        queries=("/count_tokens",),
        typical_seconds={"chat": 10.0, "count_tokens": 1.0},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the message."""
        del callback_url
        return record.create(task)

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Request the message, which has to be at its end."""
        call = self.facts.creating(task.operation, self.create(task, callback_url))
        reply = yield call
        return record.settled(self.read_created(dataclasses.replace(reply, endpoint=call.endpoint)))

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: a message is not kept."""
        del task
        return Call(method="GET", path="/v1/models", headers=record.VERSION)

    def read_created(self, reply: Reply) -> Update:
        """Read the message."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Raise the error of a poll: there is no job."""
        raise record.refusal(reply, creating=False)

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in ``x-api-key``, and the version that every call must have."""
        return dataclasses.replace(call, headers={**record.VERSION, **call.headers, "x-api-key": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is wrong with the words."""
        found = super().validate(task)
        return found + talk_mistakes(task) if task.operation in self.facts.operations else found
