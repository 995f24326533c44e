"""The values that a dialect exchanges with the journeys: calls, replies, callbacks, and the exchanges made of them."""

import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal

from service.domain.http_dates import retry_after
from service.domain.redaction import redact, redact_document
from service.domain.task import Task, Update
from service.providers import read

UNREACHABLE_CALLBACK = "https://callback.invalid/"
"""Fills a required callback field where no callback is wanted: ``.invalid`` is reserved and never resolves."""


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file in a form."""

    name: str
    """The file's name, with an extension: some providers tell its type by that."""
    content: bytes = dataclasses.field(repr=False)
    content_type: str = "application/octet-stream"


Form = Mapping[str, str | File | Sequence[str | File]]
"""The fields of a form, in their order. A list is a field that is repeated."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request that a dialect describes. It carries no credentials: ``authorize`` adds them."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """Below the upstream's base URL, with a leading slash."""
    json: Any = None
    form: Form | None = None
    """The fields of a ``multipart/form-data`` body, in place of :attr:`json`. ``form.py`` makes them."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    host: str | None = None
    """Another host of the provider's own, such as a region's, which knows the job. It is called by HTTPS, with the
    upstream's key, and only where it is of the same domain as the upstream's base URL."""
    creates: bool = False
    """Whether it buys a job. Such a call is never repeated by itself, and is the last of its exchange."""
    read_timeout: float = 30.0
    """Seconds without a byte from the upstream."""
    max_answer: int = read.MAX_BODY
    """Bytes of the answer that are read. A larger one is uncertain, where the call creates."""
    account: bool = False
    """Whether it is made with the account's own token instead of the API key."""
    asks_quota: bool = False
    """Whether it goes to the upstream's host for balances, with the key for that in the query string."""

    @property
    def endpoint(self) -> str:
        """The method and path: ``POST /v1/text_to_video``."""
        return f"{self.method} {self.path}"

    @property
    def body(self) -> Any:
        """The body before it is encoded: the fields of a form, or the document."""
        return self.json if self.form is None else self.form


@dataclasses.dataclass(frozen=True)
class Reply:
    """An upstream's answer: complete, within the size limit, redirects not followed."""

    status: int
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    endpoint: str = ""
    """The call that it answers, as :attr:`Call.endpoint`; blank where that is not known."""
    secrets: tuple[str, ...] = ()
    """Texts that must not be read from it, such as the API key."""

    @property
    def ok(self) -> bool:
        """Whether the HTTP status reports success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the class 2xx

    @functools.cached_property
    def text(self) -> str:
        """The body as text, without secrets."""
        return redact(read.decoded(self.body, self.headers), self.secrets)

    @functools.cached_property
    def document(self) -> Any:
        """The first JSON value of the body, without secrets; or :data:`read.NOTHING`."""
        return _document(self.body, self.headers, self.secrets)

    def header(self, name: str) -> str:
        """Return a header's value by its name in lower case; blank where there is none."""
        found = next((value for stated, value in self.headers.items() if stated.lower() == name), "")
        return redact(found, self.secrets)

    @property
    def retry_after(self) -> float | None:
        """Seconds that the upstream asks us to wait, by its own clock."""
        return retry_after(self.headers)


@dataclasses.dataclass(frozen=True)
class Callback:
    """A provider's request to our callback URL, as it was stored."""

    headers: Mapping[str, str]
    body: bytes
    received_at: float | None = None
    """Unix seconds; None where that is not known, and the time that the signature states is believed."""

    secrets: tuple[str, ...] = ()
    """Texts that must not be read from it, such as the API key."""

    @functools.cached_property
    def document(self) -> Any:
        """The first JSON value of the body, without secrets; or :data:`read.NOTHING`. A list of one object is the object."""
        found = _document(self.body, self.headers, self.secrets)
        return found[0] if isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict) else found


def _document(body: bytes, headers: Mapping[str, str], secrets: tuple[str, ...]) -> Any:
    """Return the first JSON value of a body, redacted where it may hold a secret, plain or escaped."""
    text = read.decoded(body, headers)
    found = read.document(body, headers, text)
    if "\\u" not in text and redact(text, secrets) == text:
        return found
    try:
        return redact_document(found, secrets)
    except RecursionError:
        return read.NOTHING


Exchange = Generator[Call, Reply, Update]
"""A conversation with an upstream: yield a Call, be sent a Reply, return an Update or raise an UpstreamError."""
DeleteExchange = Generator[Call, Reply, None]
"""The same for a deletion: it returns nothing, or raises an UpstreamError."""
ManyExchange = Generator[Call, Reply, Mapping[str, Update]]
"""The same for a batch query: updates by external id. An id that is missing was not in the answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Balance:
    """The remaining credit of an account."""

    left: float | None
    """None: there is no limit."""
    unit: str
    """The provider's own: ``credits``, ``USD``."""


BalanceExchange = Generator[Call, Reply, Balance]
"""The same for the account's balance."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelList:
    """The models that an upstream offers."""

    names: tuple[str, ...]
    complete: bool = True
    """Whether a model that is not among them is not offered. A list that goes on is not read to its end."""


ModelsExchange = Generator[Call, Reply, ModelList]
"""The same for the models that the account may use."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListedJob:
    """A job in a provider's list. It may be the job of a submission whose answer was lost."""

    external_id: str
    created_at: float
    """Unix seconds, by the provider's clock."""
    may_be: Callable[[Task], bool] = lambda _: True
    """Whether it may be the job of another task of the same dialect, by all that the list shows of it."""


JobsExchange = Generator[Call, Reply, Sequence[ListedJob]]
"""The same for the jobs in the provider's list that may be a task's."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredMedium:
    """A place at a provider's storage for one file, and what stands for the file in a job."""

    url: str
    """Where the file is posted to, without the upstream's key."""
    fields: Mapping[str, str]
    """The fields of the form before the ``file``."""
    uri: str


StoringExchange = Generator[Call, Reply, StoredMedium]
"""The same for a place that a file is posted to."""

MessageKind = Literal["submit_response", "poll_response", "callback", "error", "cancel_response"]
"""The kind of a recorded message."""
