"""Veo by Vertex AI, as google-genai 3.6.1 calls it. The upstream's base URL ends with the project and its region."""

import re

from service.domain.errors import NotFound
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.veo import google
from service.providers.veo.family import OPERATIONS, PICTURES, google_body, google_mistakes, model_of
from service.providers.wire import Call, Reply

_MODELS = "/publishers/google/models"
_ROUTE = f"{_MODELS}/{{model}}:predictLongRunning"
_MODEL = "veo-3.1-generate-001"
_NAME = re.compile(r"projects/[^/]+/locations/[^/]+/publishers/google/models/([\w.-]+)/operations/[\w.-]+", re.ASCII)
_PLAIN = re.compile(r"[\w.-]+", re.ASCII)


class Vertex(Dialect):
    """POST …/models/{model}:predictLongRunning, and a POST to query. The key is an OAuth access token.

    Set ``base_url`` to ``https://REGION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/REGION``.
    Without ``storage`` the video comes in the answer itself.
    """

    facts = Facts(
        family="veo",
        name="vertex",
        operations=dict.fromkeys(OPERATIONS, _ROUTE),
        typical_seconds=dict.fromkeys(OPERATIONS, 120.0),
        uploads=PICTURES,
        queries=(":fetchPredictOperation",),
        models_are_listed=False,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the operation."""
        del callback_url
        return Call(method="POST", path=_ROUTE.replace("{model}", model_of(task, _MODEL)), json=google_body(task))

    def query(self, task: Task) -> Call:
        """Return the call that queries the operation, below the model that its name states.

        :raises NotFound: when the task's id is no name of an operation
        """
        stated = _NAME.fullmatch(task.external_id or "")
        if stated is None:
            raise NotFound("not_found", "the id is no name of an operation")
        path = f"{_MODELS}/{stated[1]}:fetchPredictOperation"
        return Call(method="POST", path=path, json={"operationName": task.external_id})

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the operation's name."""
        return google.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the operation."""
        return google.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Google's pages rule out."""
        found = google_mistakes(task, super().validate(task), storage=True)
        if _PLAIN.fullmatch(model_of(task, _MODEL)) is None:
            found.append(Mistake("input.model", "must be the name of a model, without a path"))
        return found
