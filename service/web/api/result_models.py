"""The schemas of responses about kept results."""

from typing import Annotated, Final

from typing_extensions import TypedDict

from service.domain.task import ResultKind, ResultRole
from service.web.api.schema import Id, Time, about


class ResultLink(TypedDict):
    """A link to the kept copy of a result."""

    url: Annotated[str, about("The file. It needs no API key.")]
    expires_at: Time


class Provenance(TypedDict):
    """Where the kept copy of a result came from."""

    task: Id
    asset: Annotated[Id, about("The copy's own id.")]
    family: str
    operation: str
    model: str | None
    upstream: str | None
    dialect: str | None
    external_id: Annotated[str | None, about("The provider's id of the job.")]
    kind: ResultKind
    role: ResultRole
    item: str | None
    accepted_at: Time
    submitted_at: Time | None
    finished_at: Time | None
    fetched_at: Time
    input_sha256: Annotated[str, about('SHA-256 of the input as JSON with sorted keys: `{"input": …, "options": …}`.')]
    sha256: Annotated[str, about("SHA-256 of the file as the provider made it.")]
    size: int
    media_type: str
    digital_source_type: Annotated[str, about("IPTC's term for media that a trained model made.")]


MODELS: Final = (ResultLink, Provenance)
