"""Hunyuan3D by gateways: Tencent's own fields and answers behind a Bearer key (302.ai's page). Experimental."""

from service.domain.task import Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.hunyuan3d import answers
from service.providers.hunyuan3d.family import body_of, mistakes_in
from service.providers.read import fields, kind_of, links
from service.providers.wire import Call, Reply

_BASE = "/tencent/hunyuan3d"
_MADE = ("text_to_3d", "image_to_3d")


class Aggregator(Dialect):
    """POST /tencent/hunyuan3d/pro-job and rapid-job. A gateway may answer in OpenAI's form at once."""

    facts = Facts(
        family="hunyuan3d",
        name="aggregator",
        operations=dict.fromkeys(_MADE, f"{_BASE}/pro-job"),
        queries=("/query-",),
        typical_seconds=dict.fromkeys(_MADE, 240.0),
        result_lifetime=86400.0,
        cost_unit="credits",
        models_are_listed=False,
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        return Call(method="POST", path=f"{_BASE}/{_job(task)}", json=merge(body_of(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the job."""
        return Call(method="POST", path=f"{_BASE}/query-{_job(task)}", json={"JobId": task.external_id})

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: Tencent's id of the job, or files in OpenAI's form."""
        urls = links(fields(reply.document).get("data"))
        if reply.ok and urls and not answers.response_of(reply):
            return Update(state=State.SUCCEEDED, results=tuple(Result(kind_of(url, "model"), url) for url in urls))
        return answers.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the job."""
        return answers.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Tencent's pages rule out."""
        found = super().validate(task)
        return found + mistakes_in(task) if task.operation in self.facts.operations else found


def _job(task: Task) -> str:
    return "rapid-job" if task.input.get("rapid") else "pro-job"
