"""Runway by its own API (https://api.dev.runwayml.com/v1). It has no callbacks."""

import dataclasses
from collections.abc import Mapping
from urllib.parse import quote

from service.domain.errors import NotFound
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about
from service.providers.models import model_list
from service.providers.newapi import errors as newapi_errors
from service.providers.read import fields, link, number, word
from service.providers.runway import composed
from service.providers.runway.family import FAMILY
from service.providers.runway.native import MODELS, VERSION, native_body, native_mistakes
from service.providers.runway.record import OWN_WORDS, read_created, read_status
from service.providers.wire import (
    Balance,
    BalanceExchange,
    Call,
    DeleteExchange,
    Exchange,
    ModelsExchange,
    Reply,
    StoredMedium,
    StoringExchange,
)

_UPLOADS = "/v1/uploads"
_TYPICAL: Mapping[str, float] = {"video": 90.0, "image": 30.0, "audio": 15.0}
"""A first guess: nothing is published, and medians of our own take over."""


class Official(Dialect):
    """Runway's own API: https://api.dev.runwayml.com/v1. It has no callbacks."""

    facts = Facts(
        family="runway",
        name="official",
        operations={**{name: f"/v1/{name}" for name in MODELS}, **composed.ROUTES},
        typical_seconds={known.name: _TYPICAL.get(known.produces, 180.0) for known in FAMILY.operations.values()},
        cost_unit="credits",
        queries=(_UPLOADS,),
        result_lifetime=86400.0,  # "24-48 hours"; a new poll gives new URLs
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        if task.operation in composed.ROUTES:
            return Call(method="POST", path=composed.path_of(task), json=composed.body_of(task), headers=VERSION)
        body = native_body(task, MODELS)
        return Call(method="POST", path=self.facts.operations[task.operation], json=body, headers=VERSION)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task, or the run of a workflow."""
        route = composed.INVOCATIONS if task.operation == "workflow" else "/v1/tasks"
        return Call(method="GET", path=f"{route}/{quote(task.external_id or '', safe='')}", headers=VERSION)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: a bare id, in newer versions with an estimate of the cost."""
        return read_created(reply, OWN_WORDS)

    def read_status(self, reply: Reply) -> Update:
        """Read the task."""
        return read_status(reply, OWN_WORDS)

    def cancel(self, task: Task) -> Exchange:
        """Stop the task. It is queried first: a DELETE of a finished one would destroy its outputs.

        A workflow cannot be stopped: no page has a route for it.
        """
        seen = about(task, self.read_status((yield self.query(task))))
        if seen.state not in {State.SUBMITTED, State.RUNNING} or task.operation == "workflow":
            return seen
        reply = yield dataclasses.replace(self.query(task), method="DELETE")
        return dataclasses.replace(self.read_cancelled(reply), external_id=task.external_id)

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to a DELETE: 204 without a body. From then on the task is unknown, hardly ever CANCELLED."""
        refusal = newapi_errors.refusal_in(reply, creating=False)
        if not reply.ok and not isinstance(refusal, NotFound):
            raise refusal
        return Update(state=State.CANCELLED)

    def delete(self, task: Task) -> DeleteExchange:
        """Delete the task: of an ended one this destroys the outputs, too."""
        self.read_deleted((yield dataclasses.replace(self.query(task), method="DELETE")))

    def read_deleted(self, reply: Reply) -> None:
        """Read the answer to a deletion: 204 without a body."""
        if not reply.ok:
            raise newapi_errors.refusal_in(reply, creating=False)

    def balance(self) -> BalanceExchange:
        """Request the organization's credits; one is worth US$0.01."""
        reply = yield Call(method="GET", path="/v1/organization", headers=VERSION)
        credit = number(fields(reply.document).get("creditBalance"))
        if not reply.ok or credit is None:
            raise newapi_errors.refusal_in(reply, creating=False)
        return Balance(credit, self.facts.cost_unit)

    def list_models(self) -> ModelsExchange:
        """Request the models of the organization's tier."""
        reply = yield Call(method="GET", path="/v1/organization", headers=VERSION)
        models = fields(fields(reply.document).get("tier")).get("models")
        if not reply.ok or not isinstance(models, dict):
            raise newapi_errors.refusal_in(reply, creating=False)
        return model_list(models)

    def store_medium(self, file_name: str) -> StoringExchange:
        """Request a place for a file, which Runway keeps for 24 hours."""
        body = {"filename": file_name, "type": "ephemeral"}
        reply = yield Call(method="POST", path=_UPLOADS, json=body, headers=VERSION)
        said = fields(reply.document)
        url, uri, stated = link(said.get("uploadUrl"), relative=False), word(said.get("runwayUri")), said.get("fields")
        if not reply.ok or url is None or uri is None or not isinstance(stated, dict):
            raise newapi_errors.refusal_in(reply, creating=False)
        return StoredMedium(url, {name: str(value) for name, value in stated.items()}, uri)

    def stored_medium(self) -> str:
        """Return the form of a stored file's URI."""
        return "runway://input"

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Runway's reference rules out."""
        found = super().validate(task)
        if task.operation in composed.ROUTES:
            return found + composed.mistakes_in(task)
        return found + native_mistakes(task, MODELS) if task.operation in self.facts.operations else found
