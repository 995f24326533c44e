"""What every provider file is written in: calls, replies, exchanges, and the Dialect that they fill in."""

import dataclasses
import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Literal

from service.domain.errors import Refused, UpstreamError
from service.domain.task import ResultKind, State, Task, Update
from service.domain.validation import Mistake

UNREACHABLE_CALLBACK = "https://callback.invalid/"
"""Satisfies a required callback field without telling anybody: ``.invalid`` is reserved and never resolves."""

SYNCHRONOUS_TIMEOUT = 600.0
"""Seconds to wait for an answer that is the finished work."""
_TEXT_CAP = 4000

_MEDIA: Mapping[ResultKind, frozenset[str]] = {
    "video": frozenset({"mp4", "mov", "webm", "mkv", "m4v"}),
    "image": frozenset({"png", "jpg", "jpeg", "webp", "gif", "avif"}),
    "audio": frozenset({"mp3", "wav", "m4a", "ogg", "opus", "flac", "aac"}),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request that a dialect wants sent. It carries no credentials: those enter through ``authorize``."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """Below the upstream's base URL, with a leading slash."""
    json: Any = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    creates: bool = False
    """Whether it buys a job. Such a call is never repeated by itself, and is the last of its exchange."""
    read_timeout: float = 30.0
    """Seconds without a byte from the upstream."""
    account: bool = False
    """Whether it is made with the account's own token instead of the API key."""
    asks_quota: bool = False
    """Whether it goes to the upstream's host for balances, with the key for that, which stands in the query string."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What came back: complete, within the size limit, redirects not followed."""

    status: int
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""

    @property
    def document(self) -> Any:
        """The first JSON value of the body, or :data:`NOTHING` when there is none.

        Old gateways append a second object to the same body, and declare JSON as text/plain.
        """
        return first_json(self.body)

    @property
    def retry_after(self) -> float | None:
        """Seconds that the upstream asked us to wait: as a number, or until a date by its own clock (RFC 9110, 10.2.3)."""
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        stated = headers.get("retry-after", "")[:100]
        if stated.isascii() and stated.isdigit():
            return float(stated)
        until, now = http_date(stated), http_date(headers.get("date", ""))
        return max((until - now).total_seconds(), 0.0) if until is not None and now is not None else None


@dataclasses.dataclass(frozen=True, slots=True)
class Callback:
    """A provider's POST to us, as it was stored."""

    headers: Mapping[str, str]
    body: bytes
    received_at: float | None = None
    """Unix seconds; None where nobody knows, and a signature's own time has to be believed."""

    @property
    def document(self) -> Any:
        """The first JSON value of the body, or :data:`NOTHING`."""
        return first_json(self.body)


def http_date(text: str) -> datetime | None:
    """Read a date as HTTP headers have it; None where there is none."""
    try:
        read = parsedate_to_datetime(text)
    except ValueError:
        return None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read


class _Nothing:
    """Stands for 'not JSON', which differs from JSON's null."""

    def __bool__(self) -> bool:
        return False


NOTHING = _Nothing()

Exchange = Generator[Call, Reply, Update]
"""A conversation with an upstream: yield a Call, be sent a Reply, return an Update or raise an UpstreamError."""
ManyExchange = Generator[Call, Reply, Mapping[str, Update]]
"""The same for a batch query: updates by external id. An id that is missing was not in the answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Balance:
    """What is left on an account."""

    left: float | None
    """None: there is no limit."""
    unit: str
    """The provider's own: ``credits``, ``USD``."""


BalanceExchange = Generator[Call, Reply, Balance]
"""The same for the account's balance."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A job in a provider's list that may be the one of a submission whose answer got lost."""

    external_id: str
    created_at: float
    """Unix seconds, by the provider's clock."""
    may_be: Callable[[Task], bool] = lambda _: True
    """Whether it may as well be the job of another task of the same dialect, by all that the list shows of it."""


RecallExchange = Generator[Call, Reply, Sequence[Listed]]
"""The same for the jobs in the provider's list that may be a task's."""

MessageKind = Literal["submit_response", "poll_response", "callback", "error", "cancel_response"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A verb within a family, with the schema of its input in our names."""

    name: str
    title: str
    input: Mapping[str, Any]
    """JSON Schema (2020-12) of the task's input."""
    produces: ResultKind
    aliases: tuple[str, ...] = ()
    """Names that users know from providers; accepted, stored under ``name``."""
    deadline: float = 3600.0
    """Seconds after which we stop waiting, unless the client says otherwise."""
    parent: Literal["required", "optional"] | None = None
    """Whether it goes on from another task, named by ``parent_id``."""
    answer: Mapping[str, Any] | None = None
    """JSON Schema of the input that the provider may ask for on the way; None where it never does."""


def operation(
    name: str,
    produces: ResultKind,
    takes: str,
    *,
    known: Mapping[str, Mapping[str, Any]],
    aliases: tuple[str, ...] = (),
    meanings: Mapping[str, str] | None = None,
    deadline: float = 3600.0,
) -> Operation:
    """Compose an operation whose input is an object of known fields and no others.

    :param takes: names of its fields; a star marks what is required, a plus what else the example shows
    :param known: JSON Schema by field name
    :param meanings: descriptions of fields that mean something of their own here
    """
    required = [field[:-1] for field in takes.split() if field.endswith("*")]
    shown = [field[:-1] for field in takes.split() if field.endswith(("*", "+"))]
    properties = {field: dict(known[field]) for field in (marked.rstrip("*+") for marked in takes.split())}
    for field, meaning in (meanings or {}).items():
        properties[field]["description"] = meaning
    example = {field: properties[field]["examples"][0] for field in shown}
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
        "examples": [example],
    }
    title = name.replace("_", " ").capitalize()
    return Operation(name=name, title=title, input=schema, produces=produces, aliases=aliases, deadline=deadline)


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """What is asked for, in our names, whoever serves it."""

    name: str
    title: str
    operations: Mapping[str, Operation]


class Dialect:
    """One wire protocol for a family. It describes HTTP and never performs it.

    A dialect overrides what its protocol has; every default works. Depth of inheritance: one.
    """

    family: ClassVar[str]
    name: ClassVar[str]
    operations: ClassVar[Mapping[str, str]]
    """Path of the creating route by operation."""
    callbacks: ClassVar[bool] = False
    """Whether the provider can be given a callback URL."""
    batch_size: ClassVar[int] = 1
    """How many tasks one query may ask for; 1: no batch query."""
    typical_seconds: ClassVar[Mapping[str, float]] = {}
    """What a task usually takes, by operation, until enough samples of our own are there."""
    reserved: ClassVar[frozenset[str]] = frozenset({"callback_url"})
    """Fields of the provider's body that are ours to fill: refused in ``options``."""
    cancels: ClassVar[bool] = False
    """Whether a running task can be cancelled at the provider."""
    submit_timeout: ClassVar[float] = 120.0
    """Seconds to wait for the answer to a creating call."""
    first_look: ClassVar[float | None] = None
    """Seconds after the submit at which to ask once, whatever the plan: the answer to the submit may hide something."""
    confirms: ClassVar[bool] = False
    """Whether a callback only hastens a poll, because it proves nothing by itself."""
    synchronous: ClassVar[frozenset[str]] = frozenset()
    """Operations whose answer is the result: there is no job to ask about, and no callback to give a URL for."""
    free: ClassVar[frozenset[str]] = frozenset()
    """Operations that buy nothing: they only ask, and may be sent again whatever went wrong."""
    cost_unit: ClassVar[str] = "units"
    """What costs are counted in, where the provider tells them."""
    refunds: ClassVar[bool] = False
    """Whether its pages say that the price of a job that failed is given back. Not every job's answer says so."""

    @property
    def key(self) -> str:
        """The name under which it is known: ``runway/aggregator``."""
        return f"{self.family}/{self.name}"

    lists: ClassVar[Literal["key", "account"] | None] = None
    """Whether it can list the jobs of the account, and what that takes: the API key, or the account's own token."""

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Say which call creates the job."""
        raise NotImplementedError

    def query(self, task: Task) -> Call:
        """Say which call asks for the job's state."""
        raise NotImplementedError

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to :meth:`create`: an update with an id, or an UpstreamError."""
        raise NotImplementedError

    def read_status(self, reply: Reply) -> Update:
        """Read the answer to :meth:`query`."""
        raise NotImplementedError

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Hand the task over. The call that creates is the last one."""
        reply = yield self.purchase(task, self.create(task, callback_url))
        return self.read_created(reply)

    def purchase(self, task: Task, call: Call) -> Call:
        """Mark the call that creates, with the time that its answer may take. One that buys nothing is a question."""
        free = task.operation in self.free
        return dataclasses.replace(call, creates=not free, read_timeout=self.patience(task.operation))

    def patience(self, operation: str) -> float:
        """Seconds to wait for the answer to a submit; one that is the result takes as long as the work."""
        works_at_once = operation in self.synchronous and operation not in self.free
        return SYNCHRONOUS_TIMEOUT if works_at_once else self.submit_timeout

    def offers(self, family: str, operation: str) -> bool:
        """Whether it serves an operation."""
        return family == self.family and operation in self.operations

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Say what a follow-up takes over from its parent, or what is wrong with going on from there."""
        del task
        return {"external_id": parent.external_id}

    def answer(self, task: Task, given: Mapping[str, Any]) -> Exchange:
        """Give the provider the input that it wants of a task that awaits it."""
        del task, given
        raise Refused("invalid_input", f"{self.family}/{self.name} never asks for input.")
        yield  # pragma: no cover - makes this a generator, like every other exchange

    def poll(self, task: Task) -> Exchange:
        """Ask for the task's state."""
        reply = yield self.query(task)
        return self.read_status(reply)

    def poll_many(self, tasks: Sequence[Task]) -> ManyExchange:
        """Ask for the state of several tasks at once, at most :attr:`batch_size`."""
        raise NotImplementedError

    def cancel(self, task: Task) -> Exchange:
        """Ask the provider to stop. Must not destroy a result that is already there."""
        del task
        raise Refused("invalid_input", f"{self.family}/{self.name} has no cancel: the job runs on at the provider.")
        yield  # pragma: no cover - makes this a generator, like every other exchange

    def cancelled(self, reply: Reply) -> Update:
        """Read the answer to the call that cancels."""
        return self.read_status(reply)

    def find_lost_jobs(self, task: Task) -> RecallExchange:
        """List the provider's jobs that have the task's fingerprint: its operation, model, prompt, as far as the list says."""
        del task
        raise Refused("invalid_input", f"{self.family}/{self.name} has no list of jobs.")
        yield  # pragma: no cover - makes this a generator, like every other exchange

    def balance(self) -> BalanceExchange:
        """Ask what is left on the account."""
        raise Refused("invalid_input", f"{self.family}/{self.name} has no query for the balance.")
        yield  # pragma: no cover - makes this a generator, like every other exchange

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback. Raises Unreadable when it is not of this protocol."""
        del callback
        raise Refused("invalid_input", f"{self.family}/{self.name} has no callbacks.")

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Verify the provider's signature; None where the provider does not sign."""
        del callback, secret
        return None

    def authorize(self, call: Call, key: str) -> Call:
        """Add the credentials. The only place where a key meets a call."""
        return dataclasses.replace(call, headers={**call.headers, "Authorization": f"Bearer {key}"})

    def validate(self, task: Task) -> list[Mistake]:
        """Say what this dialect is known to refuse about the task. What is not known is sent and left to the provider."""
        if not self.offers(task.family, task.operation):
            return [Mistake("operation", f"{self.family}/{self.name} has no {task.operation}.")]
        taken = sorted(self.reserved & task.options.keys())
        return [Mistake(f"options.{name}", f"Leave {name} out: it is Dovecote's to fill.") for name in taken]

    def creates(self, endpoint: str) -> bool:
        """Whether an endpoint, such as ``POST /v1/text_to_video``, is one that creates."""
        return endpoint.startswith("POST ")

    def read(self, kind: MessageKind, endpoint: str, reply: Reply) -> Update:
        """Read any recorded message the way the journeys would; for ``explain`` and the tests."""
        if kind == "callback":
            updates = self.read_callback(Callback(reply.headers, reply.body))
            return updates[0] if updates else Update()
        if kind == "cancel_response":
            return self.cancelled(reply)
        if kind == "submit_response" or (kind == "error" and self.creates(endpoint)):
            return self.read_created(reply)
        return self.read_status(reply)


def first_json(body: bytes) -> Any:
    """Parse the first JSON value; NOTHING when there is none, or when it is nested beyond reason."""
    try:
        return json.JSONDecoder().raw_decode(body.decode("utf-8-sig").lstrip())[0]
    except (ValueError, RecursionError):
        return NOTHING


def word(value: Any) -> str | None:
    """Read a text that a provider sent: None for anything empty or not a text; safe to store anywhere."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()
    return text[:_TEXT_CAP] or None


def identifier(value: Any) -> str | None:
    """Read a job id: a text or a number; never empty, never a container, and never the 0 of an unset column."""
    return None if value == 0 or isinstance(value, float) else word(value)


def link(value: Any) -> str | None:
    """Read a URL of an output; anything that is not http(s) or data is no URL."""
    if not isinstance(value, str):
        return None
    text = value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()
    return text if text.startswith(("http://", "https://", "data:")) else None


def links(value: Any) -> list[str]:
    """Read a list of URLs, or one."""
    found = [link(item) for item in (value if isinstance(value, list) else [value])]
    return [url for url in found if url is not None]


def percent(value: Any, *, fraction: bool = False) -> int | None:
    """Read a progress: ``45``, ``"45%"``, or 0.45 where the protocol states fractions. None when it is no number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(str(value).strip().removesuffix("%")) * (100 if fraction else 1)
        return min(max(round(number), 0), 100)
    except (ValueError, OverflowError):  # not a number, or NaN and infinity
        return None


def number(value: Any) -> float | None:
    """Read an amount: ``320`` or ``"320"``. None when it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        amount = float(value)
    except (ValueError, OverflowError):
        return None
    return amount if math.isfinite(amount) else None


def kind_of(url: str, default: ResultKind) -> ResultKind:
    """Tell the kind of an output by the extension or the media type in its URL."""
    if url.startswith("data:"):
        family = url[5:].partition("/")[0]
        return next((kind for kind in _MEDIA if kind == family), default)
    extension = url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()
    return next((kind for kind, extensions in _MEDIA.items() if extension in extensions), default)


def fields(value: Any) -> Mapping[str, Any]:
    """Read an object; anything else counts as an empty one."""
    return value if isinstance(value, dict) else {}


def merge(mapped: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a client's options over the mapped body: options win, objects are merged."""
    merged = {name: value for name, value in mapped.items() if value is not None}
    for name, value in options.items():
        below = merged.get(name)
        merged[name] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def reading(update: Update) -> dict[str, Any]:
    """Say an update in the vocabulary of ``dovecote explain``."""
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
    """Say a refusal in the vocabulary of ``dovecote explain``."""
    return {"error": error.outcome, "code": error.code, "message": error.message}
