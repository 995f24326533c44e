"""The responses and requests of erasures as types."""

from typing import Annotated, Any, Final

from typing_extensions import TypedDict

from service.flows.submission.request import REQUEST as TASK_REQUEST
from service.web.api.schema import Id, Time, about, one_of


class Erasure(TypedDict):
    """A request to erase tasks, and how far it has come."""

    id: Annotated[Id | None, about("The id of the request. Null: only counted.")]
    state: Annotated[
        str,
        one_of(
            ["counted", "pending", "complete"],
            "`counted`: nothing is erased, as `dry_run` asks. `complete`: nothing is left to do.",
        ),
    ]
    requested_at: Time | None
    tasks: Annotated[int, about("Tasks that the request concerns.")]
    open: Annotated[int, about("Tasks that are not erased yet, because they have not ended.")]
    erased: Annotated[int, about("Tasks whose content is removed from the database.")]
    complete: Annotated[int, about("Tasks whose erasure is complete, also outside of the database.")]
    deleted_at_provider: Annotated[int, about("Tasks whose jobs the provider has deleted.")]
    failed_at_provider: Annotated[int, about("Tasks whose jobs the provider did not delete in a day of attempts.")]


REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["labels"],
    "properties": {
        "labels": {
            **TASK_REQUEST["properties"]["labels"],
            "minProperties": 1,
            "description": "Erase the tasks that have all of these labels.",
        },
        "client": {
            "type": "string",
            "maxLength": 200,
            "description": "Only tasks of this client. Keys without the scope `admin` may name their own client only.",
        },
        "cancel": {"type": "boolean", "default": False, "description": "Whether to cancel tasks that are open."},
        "dry_run": {
            "type": "boolean",
            "default": False,
            "description": "Whether to count the tasks only, and erase nothing.",
        },
    },
}
"""JSON Schema of the body of ``POST /v1/erasures``."""

MODELS: Final = (Erasure,)
