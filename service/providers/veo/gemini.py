"""Veo by the Gemini API (generativelanguage.googleapis.com): legacy, since newer SDKs of Google refuse it for Veo."""

import dataclasses
import re
from urllib.parse import quote

from service.domain.errors import NotFound, Unreadable
from service.domain.task import Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.read import fields, identifier, link, word
from service.providers.veo import google
from service.providers.veo.family import OPERATIONS, PICTURES, google_body, google_mistakes, model_of
from service.providers.wire import Call, Callback, Reply

_ROUTE = "/v1beta/models/{model}:predictLongRunning"
_MODEL = "veo-3.1-generate-preview"
_NAME = re.compile(r"(models/[\w.-]+/)?operations/[\w.-]+|[\w.-]+", re.ASCII)
_FILES = 2 * 86400.0
_MADE = "video.generated"


class Gemini(Dialect):
    """POST /v1beta/models/{model}:predictLongRunning and GET /v1beta/{operation}. A file is fetched with the key."""

    facts = Facts(
        family="veo",
        name="gemini",
        operations=dict.fromkeys(OPERATIONS, _ROUTE),
        typical_seconds=dict.fromkeys(OPERATIONS, 120.0),
        result_lifetime=_FILES,
        uploads=PICTURES,
        models_are_listed=False,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the operation."""
        del callback_url
        path = _ROUTE.replace("{model}", quote(model_of(task, _MODEL), safe=""))
        return Call(method="POST", path=path, json=google_body(task))

    def query(self, task: Task) -> Call:
        """Return the call that queries the operation. A name of another form is not put into the path.

        :raises NotFound: when the task's id is no name of an operation
        """
        return Call(method="GET", path=f"/v1beta/{_name(task)}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the operation's name."""
        return google.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the operation."""
        return google.read_status(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read an event of an account's webhook: it names one file of the operation, or the operation itself."""
        said = fields(callback.document)
        data = fields(said.get("data"))
        name, url = identifier(data.get("id")), link(data.get("output_file_uri"), relative=False)
        if name is None or word(said.get("type")) is None:
            job = google.operation_in(callback.document)
            if job is None:
                raise Unreadable("no operation in it")
            return [google.read(job)]
        made = word(said.get("type")) == _MADE and url is not None
        results = (Result("video", url),) if made else ()
        return [Update(state=State.SUCCEEDED if made else None, external_id=name, results=results)]

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in Google's own header."""
        return dataclasses.replace(call, headers={**call.headers, "x-goog-api-key": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Google's pages rule out."""
        return google_mistakes(task, super().validate(task), storage=False)


def _name(task: Task) -> str:
    name = task.external_id or ""
    if _NAME.fullmatch(name) is None:
        raise NotFound("not_found", "the id is no name of an operation")
    return name
