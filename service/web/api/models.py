"""The responses of the API as types. Their JSON Schema is published in the OpenAPI document."""

import functools
from typing import Annotated, Any, NotRequired, get_args

from typing_extensions import TypedDict

from service.domain.errors import CODES
from service.domain.kept import KeptState
from service.domain.money.terms import OnModerated, Prefer, WhenOver
from service.domain.task import CallbackWhen, Policy, ResultKind, ResultRole, Source, State
from service.domain.webhook_events import TYPES
from service.flows.render import MAX_BRIEF
from service.flows.submission.request import REQUEST
from service.web.api import (
    callback_models,
    catalogue_models,
    erasure_models,
    money_models,
    result_models,
    webhook_models,
)
from service.web.api.money_models import Amount, BillingDifference, Quote, Settlement
from service.web.api.schema import Id, Time, about, components, one_of, ref
from service.web.problems import TITLES

STATE: dict[str, Any] = {"type": "string", "enum": [str(state) for state in State]}
"""JSON Schema of a task's state."""
TASK_EXAMPLE: dict[str, Any] = {
    "family": "runway",
    "operation": "text_to_video",
    "input": {"prompt": "a dove comes home at dusk", "duration": 5, "aspect_ratio": "16:9"},
    "labels": {"project": "intro"},
}
"""The request that the reference shows."""


class Result(TypedDict):
    """One output of a task: a URL or a text."""

    kind: ResultKind
    role: ResultRole
    url: NotRequired[Annotated[str, about("The output at the provider. The URL is temporary: download it soon.")]]
    text: NotRequired[str]
    item: NotRequired[
        Annotated[
            str, about("Groups outputs that belong together, such as a song and its cover: for example a clip's id.")
        ]
    ]
    expires_at: NotRequired[
        Annotated[
            Time,
            about(
                "When the provider deletes the output: as it states, or by the time for which it keeps outputs, counted "
                "from when Dovecote saw this one. Absent where that is not known."
            ),
        ]
    ]
    kept: NotRequired[
        Annotated[
            str,
            one_of([*get_args(KeptState), "off"]),
            about(
                "The copy that Dovecote makes of the file: `pending`, `kept`, `lost` (it could not be fetched), `deleted` or `off`. "
                "Absent for a text."
            ),
        ]
    ]
    content_url: NotRequired[Annotated[str, about("The kept copy. It needs your API key.")]]
    sha256: NotRequired[Annotated[str, about("SHA-256 of the kept copy, in hexadecimal.")]]
    size: NotRequired[Annotated[int, about("Bytes of the kept copy.")]]
    media_type: NotRequired[Annotated[str, about("The type that the content of the kept copy shows.")]]
    width: NotRequired[Annotated[int, about("Pixels, of pictures and videos.")]]
    height: NotRequired[int]
    duration: NotRequired[Annotated[float, about("Seconds, of videos and sounds.")]]
    marked: NotRequired[Annotated[bool, about('Whether the copy that is served has the mark "made by AI".')]]
    not_marked_because: NotRequired[Annotated[str, about("Why it has no mark, where marks are set up.")]]
    lost_because: NotRequired[Annotated[str, about("Why there is no copy.")]]


class Action(TypedDict):
    """A follow-up that a finished task offers."""

    id: str
    label: str


class Failure(TypedDict):
    """The reason why a task did not succeed."""

    code: Annotated[str, one_of(sorted(CODES))]
    message: Annotated[str | None, about("The provider's message, for diagnosis. Do not show it to end users.")]
    retryable: Annotated[bool, about("Whether the same input may succeed when it is submitted again.")]


class TaskWarning(TypedDict):
    """A possible mistake. The task is submitted all the same."""

    code: Annotated[str, one_of(["model_not_listed"])]
    message: str


class AwaitedInput(TypedDict):
    """The input that a task waits for."""

    input: Annotated[dict[str, Any], about("JSON Schema of the body of `POST /v1/tasks/{id}/input`.")]


class Task(TypedDict):
    """A media generation job, from acceptance to outcome."""

    id: Id
    family: str
    operation: str
    state: Annotated[str, one_of(State)]
    explanation: Annotated[str, about("One sentence: the state of the task, and why it is not finished yet.")]
    progress: Annotated[int | None, about("Percent, as the provider reports it.")]
    results: list[Result]
    next_actions: Annotated[
        list[Action], about("Follow-ups of a finished task. Submit an `action` task with one of these ids.")
    ]
    awaits: Annotated[AwaitedInput | None, about("Set in `awaiting_input`: the input that the provider needs.")]
    failure: Failure | None
    route: Annotated[list[str], about("The upstreams that may serve the task, in order.")]
    skipped_upstreams: Annotated[
        dict[str, str], about("The upstreams that cannot express the task's input, with the reason.")
    ]
    on_uncertain: Annotated[
        Policy, about("The policy for a submit without a usable answer, when no lookup can resolve it.")
    ]
    adopted: Annotated[
        bool, about("Whether the job was bought elsewhere. Dovecote follows such a job and never submits the task.")
    ]
    warnings: Annotated[list[TaskWarning], about("Possible mistakes in the task, which is submitted all the same.")]
    upstream: Annotated[str | None, about("The upstream of the latest submission.")]
    dialect: Annotated[str | None, about("The protocol of the latest submission.")]
    external_id: Annotated[str | None, about("The provider's id of the job.")]
    quote: Annotated[
        list[Quote], about("What each upstream of the route was expected to charge when the task was accepted.")
    ]
    max_cost: Annotated[Amount | None, about("The most that the task may cost, as its request has it.")]
    prefer: Annotated[str | None, one_of([*get_args(Prefer), None], "The requested order of the upstreams.")]
    when_over_budget: Annotated[
        str | None, one_of([*get_args(WhenOver), None], "The requested behaviour when a budget has no room.")
    ]
    on_moderated: Annotated[
        str | None, one_of([*get_args(OnModerated), None], "What happens when a provider withholds a finished output.")
    ]
    moderated_retries: Annotated[int | None, about("How many times it may be bought again for that reason.")]
    cost: Annotated[float | None, about("The price in the provider's own unit, as the provider states it.")]
    cost_unit: Annotated[str | None, about("The unit of `cost`.")]
    usage: Annotated[
        dict[str, float], about("Quantities that the provider charges by, as it states them, such as `tokens`.")
    ]
    settlements: Annotated[list[Settlement], about("What each submission of the task cost, by the latest evidence.")]
    billing_differences: Annotated[
        list[BillingDifference], about("What was billed otherwise than it was made, by the kept files and the results.")
    ]
    refunded: Annotated[bool | None, about("Whether the provider reports that it refunded the price.")]
    outcome_source: Annotated[str | None, one_of([*Source, None], "How Dovecote learned the outcome.")]
    queue_position: NotRequired[
        Annotated[
            int,
            about("Position in the queue, in answers to `GET /v1/tasks/{id}` for a task that waits: 1 is next."),
        ]
    ]
    forward_callbacks_to: NotRequired[
        Annotated[
            str,
            about(
                "In answers to `POST /v1/tasks` and `GET /v1/tasks/{id}` for an adopted task: forward the provider's "
                "callbacks about the job to this URL. Keep it secret: anyone who knows it can report on the job."
            ),
        ]
    ]
    waits_for: Annotated[
        str | None, about("The queue that the task waits in: an upstream's free slot, or its recovery in one dialect.")
    ]
    input: dict[str, Any]
    options: dict[str, Any]
    labels: dict[str, str]
    parent_id: Annotated[Id | None, about("The task that this one continues.")]
    callback_url: str | None
    callback_events: Annotated[
        list[str],
        about("Event types that are sent to the `callback_url`. Empty: the outcome, and a result that arrives late."),
    ]
    callback_when: Annotated[
        CallbackWhen,
        about("When the outcome is sent to the `callback_url`: at the end, or once every file is kept or lost."),
    ]
    callback_format: Annotated[str, about("The form of the messages to the `callback_url`.")]
    sequence: Annotated[int, about("Sequence number of the task's latest event.")]
    created_at: Time
    updated_at: Time
    submitted_at: Time | None
    finished_at: Time | None
    deadline_at: Time
    input_removed_at: Annotated[
        Time | None, about("When the input and the options were removed, as retention requires. The model is kept.")
    ]
    results_removed_at: Annotated[
        Time | None, about("When the results and the message of the failure were removed, as retention requires.")
    ]
    erased_at: Annotated[Time | None, about("When the content was erased because a client asked for it.")]
    next_check_at: Annotated[Time | None, about("When Dovecote processes the task next. Null: never.")]
    truncated: NotRequired[
        Annotated[
            bool,
            about(
                f"True when the task exceeds {MAX_BRIEF} bytes: then large fields are shortened or empty. Never in `getTask`."
            ),
        ]
    ]
    url: NotRequired[Annotated[str, about("The address of the whole task, in a truncated task.")]]
    client: NotRequired[Annotated[str, about("The client that owns the task. Shown to keys with the scope `admin`.")]]


class Event(TypedDict):
    """One entry of a task's history."""

    sequence: int
    type: str
    source: Annotated[str, one_of(Source)]
    at: Time
    data: dict[str, Any]


class FeedEvent(TypedDict):
    """One event of a client's feed."""

    id: Annotated[str, about("The event's position in the feed. It is a cursor.")]
    type: Annotated[str, one_of(TYPES)]
    timestamp: Time
    sequence: Annotated[int, about("Sequence number of the event in the task's history.")]
    task_id: Id
    data: Task


class Mistake(TypedDict):
    """One error in a request."""

    path: Annotated[str, about("The field, as a dotted path.")]
    message: str


class Problem(TypedDict):
    """An error as RFC 9457 defines it."""

    type: Annotated[str, one_of(["about:blank"])]
    title: str
    status: int
    code: Annotated[str, one_of(sorted(TITLES))]
    detail: Annotated[str, about("The fault and the remedy.")]
    errors: NotRequired[Annotated[list[Mistake], about("The errors of the request, up to 50.")]]
    newest: NotRequired[
        Annotated[str, about("Your newest cursor, with the codes `cursor_unknown` and `cursor_expired`.")]
    ]
    budget: NotRequired[
        Annotated[str, about("The budget's name, with the code `budget_exceeded`, like the following.")]
    ]
    unit: NotRequired[Annotated[str, about("The budget's unit.")]]
    left: NotRequired[Annotated[str, about("What is left of the budget.")]]
    held: NotRequired[Annotated[str, about("What is reserved for tasks in progress.")]]
    needed: NotRequired[Annotated[str, about("What the task needs. Absent where that is not known.")]]
    renews_at: NotRequired[Annotated[Time, about("When the budget renews.")]]


class TaskList(TypedDict):
    """A page of tasks, newest first."""

    tasks: list[Task]
    next: Annotated[str | None, about("The cursor of the next page. Null: this is the last one.")]


class Upload(TypedDict):
    """A file that tasks take as a medium."""

    id: Annotated[str, about('Its id: a task takes it as `{"upload": "upl_…"}`.')]
    name: Annotated[str, about("The name of the file, as it was stated.")]
    content_type: Annotated[str, about("The type, recognised by the first bytes.")]
    size: Annotated[int, about("Bytes.")]
    sha256: str
    created_at: Time
    expires_at: Annotated[Time, about("When it is deleted. A task that takes it may make this later.")]


class UploadList(TypedDict):
    """A page of uploads, newest first."""

    uploads: list[Upload]
    next: Annotated[str | None, about("The cursor of the next page. Null: this is the last one.")]


class EventList(TypedDict):
    """Events of a task, oldest first."""

    events: list[Event]


class FeedPage(TypedDict):
    """A page of a client's feed, oldest first."""

    events: list[FeedEvent]
    next: Annotated[str, about("The cursor behind these events.")]


@functools.cache
def all_components() -> dict[str, Any]:
    """Return the components of the OpenAPI document. Building them takes as long as a quarter of a start."""
    lists = (
        TaskList,
        EventList,
        UploadList,
        FeedPage,
        catalogue_models.FamilyList,
        catalogue_models.UpstreamList,
        catalogue_models.ModelList,
    )
    more = (callback_models, erasure_models, money_models, result_models, webhook_models)
    others = tuple(model for module in more for model in module.MODELS)
    return {
        "TaskRequest": {"title": "TaskRequest", **REQUEST},
        "Budget": money_models.BUDGET,
        "ClaimMark": money_models.CLAIM_MARK,
        **webhook_models.REQUESTS,
        "ErasureRequest": {"title": "ErasureRequest", **erasure_models.REQUEST},
        **components(*lists, Problem, *others),
    }


__all__ = ["STATE", "Problem", "Task", "all_components", "ref"]
