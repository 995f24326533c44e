"""The types of webhook messages, and the types that each receiver gets. Pure."""

from collections.abc import Collection

from service.domain.task import ENDED, State

PROGRESS = "task.progress"
LATE = "task.late_result"
ERASED = "task.erased"
"""The content of the task was erased. Its ``callback_url`` was part of that, so only endpoints are told."""
SETTLED = "task.settled"
COST_CORRECTED = "task.cost_corrected"
RESULTS_KEPT = "task.results_kept"
"""Every file of the task is kept, or lost."""
TEST = "endpoint.test"
"""The message that a client requests to test an endpoint. It belongs to no task."""

BEGINNINGS = frozenset({State.SUBMITTED, State.RUNNING, State.AWAITING_INPUT})
"""The states before the end whose beginning is announced."""
ENDS = frozenset({*(f"task.{state}" for state in ENDED), LATE})
"""The types that a ``callback_url`` receives unless its task names others."""
CALLBACK_FORMATS = (
    "dovecote",
    "replicate",
    "fal",
    "elkapi",
    "openai",
    "midjourney-proxy",
    "runway-gateway",
    "suno",
)
"""The forms of messages about tasks: Dovecote's own, and those of other APIs. ``flows/webhooks/formats`` writes them."""
TYPES = (
    *(f"task.{state}" for state in State if state in BEGINNINGS | ENDED),
    LATE,
    RESULTS_KEPT,
    PROGRESS,
    SETTLED,
    COST_CORRECTED,
    ERASED,
)
"""Every type of a message about a task."""


ON_REQUEST = frozenset({PROGRESS, RESULTS_KEPT, SETTLED, COST_CORRECTED})
"""The types that an endpoint receives only if it names them."""


def callback_url_wants(wanted: Collection[str], kind: str) -> bool:
    """Return whether a task's ``callback_url`` receives a type of message.

    :param wanted: the task's ``callback_events``; empty means its end and late results
    """
    return kind in (wanted or ENDS)


def endpoint_wants(wanted: Collection[str], kind: str, *, own_form: bool = True) -> bool:
    """Return whether an endpoint receives a type of message.

    :param wanted: the endpoint's ``events``; empty means every type except those of :data:`ON_REQUEST`
    :param own_form: whether it gets Dovecote's own form. A message in another form does not name its type: then empty means the
        end and late results
    """
    if not own_form:
        return callback_url_wants(wanted, kind)
    return kind in wanted if wanted else kind not in ON_REQUEST
