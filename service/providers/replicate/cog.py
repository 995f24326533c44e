"""Cog: a self-hosted model server with Replicate's protocol (seen on cog 0.23.1)."""

from urllib.parse import quote

from service.domain.errors import NotFound, Unavailable, Unreadable
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers import market
from service.providers.dialect import Dialect, Facts, about
from service.providers.predictions import is_prediction, read_prediction, refusal_of
from service.providers.read import fields, word
from service.providers.replicate.inputs import body_of
from service.providers.wire import Call, Callback, Exchange, Reply

_ROUTE = "/predictions/{id}"
_ASYNCHRONOUS = {"Prefer": "respond-async"}
_SYNCHRONOUS_SECONDS = 600.0
_NOT_FOUND = 404
_WELL = frozenset({"READY", "BUSY"})
_WAITING = "a Cog server cannot be asked about a prediction: its webhook is awaited"


class Cog(Dialect):
    """PUT /predictions/{id} of a Cog server. Only its webhook reports the end of a prediction.

    The id is the task's. While the prediction runs, the same call returns it, and creates no second one. After the end
    it would run again: so a call is never repeated. Where no callback can come, the answer is the result.
    """

    facts = Facts(
        family="replicate",
        name="cog",
        operations=dict.fromkeys(market.SECONDS, _ROUTE),
        callbacks=True,
        reserved=frozenset({"callback_url", "webhook", "webhook_events_filter", "id"}),
        submit_timeout=_SYNCHRONOUS_SECONDS,
        typical_seconds=market.SECONDS,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that runs the model. A client that hangs up cancels a synchronous run."""
        headers = {} if callback_url is None else _ASYNCHRONOUS
        body = body_of(task, {}, callback_url)
        return Call(method="PUT", path=f"/predictions/{task.id}", json=body, headers=headers)

    def query(self, task: Task) -> Call:
        """Return the call that queries the server's health. No call queries a prediction."""
        del task
        return Call(method="GET", path="/health-check")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the prediction, in its first state or at its end."""
        if not reply.ok or not is_prediction(reply.document):
            raise refusal_of(reply, creating=True)
        return read_prediction(reply.document)

    def read_status(self, reply: Reply) -> Update:
        """Read a prediction; or the server's health, which has no information about a prediction."""
        if reply.ok and is_prediction(reply.document):
            return read_prediction(reply.document)
        if not reply.ok or word(fields(reply.document).get("status")) is None:
            raise refusal_of(reply, creating=False)
        return Update()

    def poll(self, task: Task) -> Exchange:
        """Request the server's health.

        :raises Unavailable: with the reason why nothing is known of the prediction
        """
        reply = yield self.query(task)
        update = about(task, self.read_status(reply))
        if is_prediction(reply.document):
            return update
        status = word(fields(reply.document).get("status")) or ""
        state = "" if status.upper() in _WELL else f", and the server is {status[:40]}"
        raise Unavailable("provider_error", _WAITING + state)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the prediction. Some arrive after the last one; the task's state does not go back."""
        if not is_prediction(callback.document):
            raise Unreadable("no prediction in it")
        return [read_prediction(callback.document)]

    def cancel(self, task: Task) -> Exchange:
        """Request the cancellation. The webhook reports it."""
        reply = yield Call(method="POST", path=f"/predictions/{quote(task.external_id or '', safe='')}/cancel")
        try:
            return self.read_cancelled(reply)
        except NotFound:  # it is over: its webhook reports the outcome, which a cancel must not decide
            return Update()

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer: an empty object; or a 404 for a prediction that is over or unknown."""
        if reply.ok:
            return Update()
        if reply.status == _NOT_FOUND:
            raise NotFound("not_found")
        raise refusal_of(reply, creating=False)

    def validate(self, task: Task) -> list[Mistake]:
        """Return the fields that a server with one model does not have."""
        found = super().validate(task)
        if "deployment" in task.input:
            found.append(Mistake("input.deployment", "A Cog server runs one model: leave it out."))
        return found
