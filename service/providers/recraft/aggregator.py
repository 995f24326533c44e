"""Recraft at gateways (/recraft/v1), under the gateway's key."""

from typing import Any

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.form import file, form, is_inline
from service.providers.recraft.answers import read, refusal_of
from service.providers.recraft.family import MEDIA, fields_of, media_of, mistakes_in
from service.providers.wire import Call, Reply

_IMAGES = "/recraft/v1/images"
_ROUTES = {
    "text_to_image": f"{_IMAGES}/generations",
    "vectorize": f"{_IMAGES}/vectorize",
    "remove_background": f"{_IMAGES}/removeBackground",
    "image_upscale": f"{_IMAGES}/clarityUpscale",  # the gateways' name of Recraft's crispUpscale
    "create_style": "/recraft/v1/styles",
}
_CREATIVE = f"{_IMAGES}/generativeUpscale"
_MAX_ANSWER = 32 * 1024 * 1024
_DAY = 86400.0


class Aggregator(Dialect):
    """POST /recraft/v1/* of CometAPI and its siblings. Every answer is the result; media are files of a form."""

    facts = Facts(
        family="recraft",
        name="aggregator",
        operations=_ROUTES,
        synchronous=frozenset(_ROUTES),
        typical_seconds=dict.fromkeys(_ROUTES, 20.0),
        result_lifetime=_DAY,
        uploads=dict.fromkeys(_ROUTES.keys() - {"text_to_image"}, MEDIA),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the picture."""
        del callback_url
        path = _CREATIVE if task.input.get("mode") == "creative" else _ROUTES[task.operation]
        body = merge({**fields_of(task), **_files(task)}, task.options)
        if task.operation == "text_to_image":
            return Call(method="POST", path=path, json=body, max_answer=_MAX_ANSWER)
        return Call(method="POST", path=path, form=form(body), max_answer=_MAX_ANSWER)

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: there is no job."""
        del task
        return Call(method="GET", path="/v1/models")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer: pictures, or the id of a style."""
        update = read(reply) if reply.ok else None
        if update is None:
            raise refusal_of(reply, creating=True)
        return update

    def read_status(self, reply: Reply) -> Update:
        """Read an answer as a poll would."""
        update = read(reply) if reply.ok else None
        if update is None:
            raise refusal_of(reply, creating=False)
        return update

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that the gateways' pages rule out."""
        found = super().validate(task)
        return found + mistakes_in(task) if task.operation in self.facts.operations else found


def _files(task: Task) -> dict[str, Any]:
    """Return the media as files: ``file``, and ``file2`` and so on where a style has several."""
    media = [each for value in media_of(task).values() for each in (value if isinstance(value, list) else [value])]
    names = ["file" if at == 1 else f"file{at}" for at in range(1, len(media) + 1)]
    return {name: file(each, name) if is_inline(each) else each for name, each in zip(names, media, strict=True)}
