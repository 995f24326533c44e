"""BFL's own API (/v1)."""

import dataclasses
from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.flux.family import FAMILY, IMAGES, VIDEOS, body_of, mistakes_in, model_of
from service.providers.flux.record import host_of, is_answer, read, read_poll, read_submitted, refusal_of
from service.providers.read import fields, number
from service.providers.signatures import header, hex_hmac
from service.providers.wire import Balance, BalanceExchange, Call, Callback, Reply

_MODELS = {
    "text_to_image": "flux-2-pro",
    "image_to_image": "flux-2-pro",
    "inpaint": "flux-pro-1.0-fill",
    "outpaint": "flux-pro-1.0-expand",
    "erase": "flux-tools/erase-v1",
}
"""The model of each operation, where the task names none. Videos are of FLUX 3."""


class Official(Dialect):
    """POST /v1/{model} and GET /v1/get_result of api.bfl.ai and its regions. The key is in ``x-key``."""

    facts = Facts(
        family="flux",
        name="official",
        operations=dict.fromkeys(FAMILY.operations, "/v1/{model}"),
        callbacks=True,
        signs=True,
        cost_unit="credits",
        reserved=frozenset({"callback_url", "webhook_url", "webhook_secret"}),
        queries=("/get_result",),
        typical_seconds={**dict.fromkeys(IMAGES, 15.0), **dict.fromkeys(VIDEOS, 500.0)},
        result_lifetime={**dict.fromkeys(IMAGES, 600.0), **dict.fromkeys(VIDEOS, 7200.0)},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        model = model_of(task, _MODELS)
        return Call(method="POST", path=f"/v1/{quote(model)}", json=body_of(task, model, callback_url))

    def query(self, task: Task) -> Call:
        """Return the call that queries the result, on the host of the region that has the job."""
        path = f"/v1/get_result?id={quote(task.external_id or '', safe='')}"
        return Call(method="GET", path=path, host=task.job_host)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit. Its ``polling_url`` names the region that has the job."""
        host = host_of(fields(reply.document).get("polling_url"))
        return dataclasses.replace(read_submitted(reply), job_host=host)

    def read_status(self, reply: Reply) -> Update:
        """Read the answer to a poll."""
        return read_poll(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback, which has the form of a poll's answer."""
        if not is_answer(callback.document):
            raise Unreadable("no task in it")
        return [read(callback.document)]

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether the signature is right; None where there is none, since BFL signs only when asked to."""
        stated = header(callback, "x-bfl-signature")
        return None if secret is None or not stated else hex_hmac(callback, secret, stated)

    def with_callback_key(self, call: Call, key: str) -> Call:
        """Return the call with the secret by which BFL is to sign the callbacks."""
        signed = {**call.json, "webhook_secret": key}
        return dataclasses.replace(call, json=signed) if call.json.get("webhook_url") else call

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in BFL's own header."""
        return dataclasses.replace(call, headers={**call.headers, "x-key": key})

    def balance(self) -> BalanceExchange:
        """Request the credits; one is worth US$0.01."""
        reply = yield Call(method="GET", path="/v1/credits")
        left = number(fields(reply.document).get("credits"))
        if not reply.ok or left is None:
            raise refusal_of(reply, creating=False)
        return Balance(left, self.facts.cost_unit)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what BFL's pages rule out."""
        found = super().validate(task)
        return found + mistakes_in(task, model_of(task, _MODELS)) if task.operation in self.facts.operations else found
