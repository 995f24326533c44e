"""Reading of recorded messages, the way the journeys would: for ``dovecote explain`` and the tests."""

from typing import Any

from service.domain.errors import UpstreamError
from service.domain.task import State, Update
from service.providers.capabilities import CanCancel
from service.providers.dialect import Dialect
from service.providers.wire import Callback, MessageKind, Reply


def read_message(dialect: Dialect, kind: MessageKind, reply: Reply) -> Update:
    """Read a message of any kind. The reply's ``endpoint`` shows whether an error answers a creating call."""
    if kind == "callback":
        updates = dialect.read_callback(Callback(reply.headers, reply.body))
        return updates[0] if updates else Update()
    if kind == "cancel_response":
        return dialect.read_cancelled(reply) if isinstance(dialect, CanCancel) else dialect.read_status(reply)
    asked_as_submit = dialect.facts.creates(reply.endpoint) and (kind == "error" or reply.endpoint.startswith("GET "))
    return dialect.read_created(reply) if kind == "submit_response" or asked_as_submit else dialect.read_status(reply)


def reading(update: Update) -> dict[str, Any]:
    """Return an update in the vocabulary of ``dovecote explain``."""
    state = "queued" if update.state is State.SUBMITTED else update.state
    main = [result for result in update.results if result.role == "result"]
    return {
        "state": None if state is None else str(state),
        "external_id": update.external_id,
        "progress": update.progress,
        "results": [result.url if result.url is not None else result.text for result in main],
        "failure": None if update.failure is None else {"code": update.failure.code, "message": update.failure.message},
    }


def refusal(error: UpstreamError) -> dict[str, Any]:
    """Return a refusal in the vocabulary of ``dovecote explain``."""
    return {"error": error.outcome, "code": error.code, "message": error.message}
