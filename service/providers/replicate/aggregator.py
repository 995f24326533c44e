"""Replicate's predictions at gateways (/replicate/v1), under the gateway's key."""

from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers import market
from service.providers.dialect import Dialect, Facts
from service.providers.predictions import is_prediction, read_prediction, refusal_of
from service.providers.replicate.guests import model_of, offers
from service.providers.replicate.inputs import body_of, input_mistakes, is_name
from service.providers.wire import Call, Callback, Reply

_ROUTE = "/replicate/v1/models/{owner}/{name}/predictions"
_POLL_TIMEOUT = 90.0
"""CometAPI saw a query that took more than 45 seconds."""


class Aggregator(Dialect):
    """POST /replicate/v1/models/{owner}/{name}/predictions of CometAPI and its siblings.

    No page documents that a gateway passes on ``webhook`` or a cancel, so neither is sent. The ``urls`` of an answer are those of
    Replicate and are never called.
    """

    facts = Facts(
        family="replicate",
        name="aggregator",
        operations=dict.fromkeys(market.SECONDS, _ROUTE),
        reserved=frozenset({"callback_url", "webhook", "webhook_events_filter"}),
        typical_seconds=market.SECONDS,
        result_lifetime=3600.0,
    )

    def offers(self, family: str, operation: str) -> bool:
        """Return whether it serves an operation: its own, and those of makers whose models it runs."""
        return super().offers(family, operation) or offers(family, operation)

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the prediction."""
        del callback_url
        path = f"/replicate/v1/models/{quote(model_of(task))}/predictions"
        return Call(method="POST", path=path, json=body_of(task, {}, None))

    def query(self, task: Task) -> Call:
        """Return the call that queries the prediction."""
        path = f"/replicate/v1/predictions/{quote(task.external_id or '', safe='')}"
        return Call(method="GET", path=path, read_timeout=_POLL_TIMEOUT)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: Replicate's prediction, which comes through unchanged."""
        if not reply.ok or not is_prediction(reply.document):
            raise refusal_of(reply, creating=True)
        return read_prediction(reply.document)

    def read_status(self, reply: Reply) -> Update:
        """Read the prediction."""
        if not reply.ok or not is_prediction(reply.document):
            raise refusal_of(reply, creating=False)
        return read_prediction(reply.document)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback that came through although none was asked for."""
        if not is_prediction(callback.document):
            raise Unreadable("no prediction in it")
        return [read_prediction(callback.document)]

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that the gateway's pages rule out: they name models by ``owner/name`` only."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        if "deployment" in task.input:
            found.append(Mistake("input.deployment", "Gateways have no deployments: name a model."))
        if not is_name(model_of(task)):
            found.append(Mistake("input.model", "must be owner/name here: gateways take no versions"))
        return found + input_mistakes(task)
