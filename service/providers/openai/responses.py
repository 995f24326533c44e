"""OpenAI's Responses API (POST /v1/responses): in the background at OpenAI itself, in the foreground at gateways."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from urllib.parse import quote

from service.domain.task import Task, Update
from service.domain.text import storable
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about, merge
from service.providers.openai import response_record as record
from service.providers.openai.refusals import carries_error, refusal
from service.providers.read import fields, word
from service.providers.stream import MAX_STREAM, Event, Piece
from service.providers.talk import talk_mistakes
from service.providers.wire import Call, DeleteExchange, Exchange, Reply

_PATH = "/v1/responses"
_WINDOWS = {"2h": 2.0, "8h": 8.0}
"""Hours that a cheaper response may stay queued (``background_options.completion_window``)."""


class Responses(Dialect):
    """Responses in the background: created, polled, cancelled by their id.

    A lost submit cannot be found, because there is no list. ``store`` keeps an answer beyond 10 minutes after its end.
    """

    facts = Facts(
        family="openai",
        name="responses",
        operations={"response": _PATH},
        typical_seconds={"response": 30.0},
        reserved=frozenset({"callback_url", "background", "stream"}),
        queries=("/cancel",),
        result_lifetime=30 * 86400.0,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the response; ``metadata`` names the task."""
        del callback_url
        body = {**record.body_of(task), "background": True, "store": True, "metadata": {"task": str(task.id)}}
        return Call(method="POST", path=self.facts.operations[task.operation], json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the response."""
        return Call(method="GET", path=f"{_PATH}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the response."""
        return record.read_status(reply)

    def cancel(self, task: Task) -> Exchange:
        """Cancel the response. One that has ended is returned as it is."""
        path = f"{self.query(task).path}/cancel"
        return about(task, self.read_cancelled((yield Call(method="POST", path=path))))

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to a cancel: the response."""
        return record.read_status(reply)

    def delete(self, task: Task) -> DeleteExchange:
        """Delete the stored response."""
        reply = yield dataclasses.replace(self.query(task), method="DELETE")
        if not reply.ok or carries_error(fields(reply.document)):
            raise refusal(reply, creating=False)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is wrong with the words, and a deadline that ends before a cheaper response may begin."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        window = word(fields(task.options.get("background_options")).get("completion_window"))
        hours = _WINDOWS.get(window or "")
        if hours is not None and task.deadline_at - task.created_at < dt.timedelta(hours=hours):
            found.append(Mistake("deadline", f"A window of {window} needs a deadline of {hours:g} hours or more."))
        return found + talk_mistakes(task, field="input")


class Foreground(Dialect):
    """Responses in the foreground: the answer is the result.

    Both gateways document POST /v1/responses, and neither documents the background. A response that was made there can be
    asked for only where it was made, so none is made in the background.
    """

    facts = Facts(
        family="openai",
        name="responses-foreground",
        operations={"response": _PATH},
        synchronous=frozenset({"response"}),
        typical_seconds={"response": 30.0},
        reserved=frozenset({"callback_url", "background"}),
        queries=("/cancel",),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the response."""
        del callback_url
        body = {**record.body_of(task), "background": False}
        return Call(method="POST", path=self.facts.operations[task.operation], json=merge(body, task.options))

    def streamed(self, call: Call) -> Call:
        """Return the call with a stream for its answer."""
        return dataclasses.replace(call, json={**call.json, "stream": True}, max_answer=MAX_STREAM)

    def read_pieces(self, event: Event) -> Sequence[Piece]:
        """Return the piece of a text in an event."""
        document = fields(event.document)
        index, text = document.get("output_index"), document.get("delta")
        if event.name != "response.output_text.delta" or not isinstance(text, str) or not text:
            return []
        return [Piece(index if isinstance(index, int) else 0, storable(text))]

    def query(self, task: Task) -> Call:
        """Return the call that queries the response, for a gateway that made it in the background nevertheless."""
        return Call(method="GET", path=f"{_PATH}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer, which is at its end already."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the response."""
        return record.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is wrong with the words."""
        found = super().validate(task)
        return found + talk_mistakes(task, field="input") if task.operation in self.facts.operations else found
