"""Flux at gateways (/flux/v1), under the gateway's key."""

from typing import Any
from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.flux.family import body_of, mistakes_in, model_of
from service.providers.flux.record import is_answer, read, read_poll, read_submitted
from service.providers.predictions import STATES, is_prediction, read_prediction
from service.providers.read import fields, word
from service.providers.wire import Call, Callback, Reply

_MODELS = {
    "text_to_image": "flux-pro-1.1",
    "image_to_image": "flux-kontext-pro",
    "inpaint": "flux-pro-1.0-fill",
    "outpaint": "flux-pro-1.0-expand",
}
"""The model of each operation, where the task names none."""


class Aggregator(Dialect):
    """POST /flux/v1/{model} of CometAPI and its siblings.

    ``polling_url`` of an answer leads to BFL and is never called. Some answers are predictions in Replicate's form.
    No page documents how a callback is signed: a poll confirms it.
    """

    facts = Facts(
        family="flux",
        name="aggregator",
        operations=dict.fromkeys(_MODELS, "/flux/v1/{model}"),
        callbacks=True,
        confirms=True,
        reserved=frozenset({"callback_url", "webhook_url"}),
        queries=("/get_result",),
        typical_seconds=dict.fromkeys(_MODELS, 15.0),
        result_lifetime=600.0,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        model = model_of(task, _MODELS)
        return Call(method="POST", path=f"/flux/v1/{quote(model)}", json=body_of(task, model, callback_url))

    def query(self, task: Task) -> Call:
        """Return the call that queries the result."""
        return Call(method="GET", path=f"/flux/v1/get_result?id={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit."""
        return read_prediction(reply.document) if reply.ok and _is_copy(reply.document) else read_submitted(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the answer to a poll."""
        return read_prediction(reply.document) if reply.ok and _is_copy(reply.document) else read_poll(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback."""
        if not is_answer(callback.document):
            raise Unreadable("no task in it")
        return [read_prediction(callback.document) if _is_copy(callback.document) else read(callback.document)]

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that the gateways' pages rule out."""
        found = super().validate(task)
        return found + mistakes_in(task, model_of(task, _MODELS)) if task.operation in self.facts.operations else found


def _is_copy(document: Any) -> bool:
    """Return whether an answer is a prediction: it has an output, or one of Replicate's words, in lower case."""
    said = fields(document)
    status = word(said.get("status"))
    return is_prediction(document) and ("output" in said or status in STATES)
