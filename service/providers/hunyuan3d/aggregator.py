"""Hunyuan3D by gateways: Tencent's own fields and answers behind a Bearer key (302.ai's page), or OpenAI's form.

ElkAPI and CometAPI list it under OpenAI's form, and show no body. A gateway that lacks a path refuses it unpaid.
"""

from typing import Any

from service.domain.task import Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import SYNCHRONOUS_TIMEOUT, Dialect, Facts, merge
from service.providers.hunyuan3d import answers
from service.providers.hunyuan3d.family import body_of, mistakes_in
from service.providers.read import fields, identifier, items, kind_of, link
from service.providers.wire import Call, Reply

_BASE = "/tencent/hunyuan3d"
_IMAGES = "/v1/images/generations"
_MADE = ("text_to_3d", "image_to_3d")
_VERSIONS = frozenset({"3.0", "3.1"})
"""Tencent's names of models. Any other is a gateway's own, and goes by OpenAI's path."""
_OPENAIS = frozenset({"prompt", "image", "model"})


class Aggregator(Dialect):
    """POST /tencent/hunyuan3d/pro-job and rapid-job, or /v1/images/generations, whose answer holds the files."""

    facts = Facts(
        family="hunyuan3d",
        name="aggregator",
        operations=dict.fromkeys(_MADE, f"{_BASE}/pro-job"),
        queries=("/query-",),
        typical_seconds=dict.fromkeys(_MADE, 240.0),
        submit_timeout=SYNCHRONOUS_TIMEOUT,
        result_lifetime=86400.0,
        cost_unit="credits",
        models_are_listed=False,
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job, by the path of its model."""
        del callback_url
        if _is_gateways(task):
            body = {name: value for name, value in task.input.items() if name in _OPENAIS}
            return Call(method="POST", path=_IMAGES, json=merge(body, task.options))
        return Call(method="POST", path=f"{_BASE}/{_job(task)}", json=merge(body_of(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the job."""
        return Call(method="POST", path=f"{_BASE}/query-{_job(task)}", json={"JobId": task.external_id})

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: Tencent's id of the job, files in OpenAI's form, or a reseller's id."""
        said = fields(reply.document)
        if answers.response_of(reply) or not reply.ok or fields(said.get("error")):
            return answers.read_created(reply)
        results, job = _files(said.get("data")), identifier(said.get("task_id"))
        if results:
            return Update(state=State.SUCCEEDED, results=results)
        return answers.read_created(reply) if job is None else Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the job in Tencent's form, or its files in OpenAI's."""
        outside = reply.ok and not answers.response_of(reply)
        results = _files(fields(reply.document).get("data")) if outside else ()
        return Update(state=State.SUCCEEDED, results=results) if results else answers.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Tencent's pages rule out."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        if not _is_gateways(task):
            return found + mistakes_in(task)
        unknown = [name for name in task.input if name not in _OPENAIS]
        return found + [Mistake(f"input.{name}", "goes only with the model 3.0 or 3.1, or rapid") for name in unknown]


def _is_gateways(task: Task) -> bool:
    """Return whether the model is a gateway's own name."""
    return not task.input.get("rapid") and task.input.get("model", "3.0") not in _VERSIONS


def _files(data: Any) -> tuple[Result, ...]:
    """Return the files of OpenAI's ``data``: URLs, or bytes that count as a ``data:`` URL."""
    found = []
    for each in items(data):
        inline = fields(each).get("b64_json")
        url = link(each, relative=False)
        if url is None and isinstance(inline, str):
            url = link(f"data:model/gltf-binary;base64,{inline}")
        if url is not None:
            found.append(Result(kind_of(url, "model"), url))
    return tuple(found)


def _job(task: Task) -> str:
    return "rapid-job" if task.input.get("rapid") else "pro-job"
