"""The responses about families and upstreams as types."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from service.web.api.schema import Time, about, one_of


class OperationDialect(TypedDict):
    """The abilities of a wire protocol for an operation."""

    name: str
    upstreams: Annotated[list[str], about("Configured upstreams that serve the operation by it.")]
    callbacks: Annotated[bool, about("Whether the provider can call back. Without that, Dovecote polls.")]
    signs: Annotated[bool, about("Whether the provider signs its callbacks.")]
    synchronous: Annotated[bool, about("Whether the answer to the submit is the result.")]
    poll_batch: Annotated[int, about("How many tasks one poll asks for.")]
    cancel: Annotated[bool, about("Whether a running job can be cancelled at the provider.")]
    typical_seconds: Annotated[float, about("The usual duration of a task, until Dovecote has measured it.")]
    result_lifetime_seconds: Annotated[
        float | None, about("How long the provider keeps outputs. Null: its pages do not say.")
    ]
    cost_unit: Annotated[str, about("The unit of `cost`, where the provider states a cost.")]
    experimental: Annotated[bool, about("Whether it is built from doubtful sources. Test it before you rely on it.")]


class Operation(TypedDict):
    """An operation of a family."""

    name: str
    title: str
    aliases: list[str]
    produces: str
    deadline_seconds: float
    parent: Annotated[str | None, one_of(["required", "optional", None], "Whether it takes a `parent_id`.")]
    answer: Annotated[Mapping[str, Any] | None, about("JSON Schema of the input that it may request while it runs.")]
    upstreams: Annotated[list[str], about("Configured upstreams that serve it, in order.")]
    dialects: Annotated[
        list[OperationDialect], about("The wire protocols that have it, also those of other upstreams.")
    ]
    input: Annotated[Mapping[str, Any], about("JSON Schema of the task's input.")]


class Family(TypedDict):
    """A kind of media model, with its operations."""

    name: str
    title: str
    operations: list[Operation]


class Circuit(TypedDict):
    """The circuit breaker of an upstream for one dialect."""

    dialect: str
    state: Annotated[str, one_of(["closed", "open", "half_open", "probing"])]
    failures: Annotated[int, about("Failures in the last minute.")]
    opened_at: Time | None
    open_until: Time | None


class Limits(TypedDict):
    """The configured limits of an upstream."""

    open_tasks: int | None
    submits_per_second: float | None
    polls_per_second: float | None


class Credit(TypedDict):
    """The balance of the account at an upstream."""

    left: Annotated[
        float | None, about("The balance. Null: the account has no limit, or (with `error`) it is unknown.")
    ]
    unit: str | None
    low: Annotated[bool, about("Whether the balance is below `low_credit`.")]
    error: Annotated[str | None, about("Why the latest query failed.")]
    at: Time | None


class Held(TypedDict):
    """An upstream that gets no tasks until an operator resumes it."""

    mode: Annotated[
        Literal["paused", "draining"],
        about(
            "`paused`: tasks wait for it. `draining`: the next upstream of their route serves them, where there is one."
        ),
    ]
    by: Annotated[str, about("The client whose key did it.")]
    since: Time


class Upstream(TypedDict):
    """An account at a provider or gateway."""

    name: str
    base_url: str
    dialects: list[str]
    callbacks: Annotated[bool, about("Whether callbacks can arrive from it at present.")]
    callback_share: Annotated[
        float | None, about("Share of its recent outcomes that arrived by callback, where a callback was expected.")
    ]
    circuits: Annotated[
        list[Circuit], about("Dialects that failed recently. Dovecote skips those that are not `closed`.")
    ]
    open_tasks: Annotated[int, about("Tasks that are being submitted to it or that it works on.")]
    waiting: Annotated[int, about("Tasks that wait for it.")]
    limits: Limits
    credit: Annotated[Credit | None, about("The balance. Null: the provider does not report it, or not yet.")]
    held: Annotated[Held | None, about("How an operator holds it. Null: it gets tasks.")]


class ModelList(TypedDict):
    """The models that an upstream offers."""

    upstream: str
    models: Annotated[list[str], about("Names of models, as the upstream lists them.")]
    complete: Annotated[bool, about("False where the upstream has more models than are listed here.")]
    at: Annotated[Time | None, about("When the list was read. It is requested again after ten minutes.")]
    error: Annotated[str | None, about("Why the latest request got no list: then an older list is shown.")]


class FamilyList(TypedDict):
    """All families."""

    families: list[Family]


class UpstreamList(TypedDict):
    """The configured upstreams, in routing order."""

    upstreams: list[Upstream]
