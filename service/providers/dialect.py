"""The base of every wire protocol, and the facts that it states about itself."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

from service.domain.errors import AnotherJob, Unreadable
from service.domain.task import State, Task, Update
from service.domain.text import shortened
from service.domain.validation import Mistake
from service.providers.form import unreadable_media
from service.providers.wire import Call, Callback, Exchange, Reply

_SHOWN = 80
"""Characters of an id that an error quotes."""
SYNCHRONOUS_TIMEOUT = 600.0
"""Seconds to wait for an answer that is the finished work."""
TYPICAL_SECONDS = 60.0
"""The usual duration of a task where its dialect states none."""
SUBMIT_TIMEOUT = 120.0
"""Seconds to wait for any other answer to a creating call."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The constant facts of a dialect."""

    family: str
    """``any`` where the dialect serves several families."""
    name: str
    operations: Mapping[str, str]
    """The path of the creating route, by operation."""
    callbacks: bool = False
    """Whether the provider can be given a callback URL."""
    confirms: bool = False
    """Whether a callback only hastens a poll, because it proves nothing by itself."""
    batch_size: int = 1
    """How many tasks one query of a dialect that ``CanPollMany`` may ask for."""
    jobs_listed_by: Literal["key", "account"] = "key"
    """The credential that a dialect with ``CanListJobs`` needs for the list: the API key, or the account's own token."""
    typical_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The usual duration of a task, by operation, until enough samples are there."""
    reserved: frozenset[str] = frozenset({"callback_url"})
    """Fields of the provider's body that Dovecote fills, such as the callback URL's: refused in ``options``."""
    submit_timeout: float = SUBMIT_TIMEOUT
    """Seconds to wait for the answer to a creating call."""
    first_poll: float | None = None
    """Seconds after the submit at which to poll once in any case: the answer to the submit may hide something."""
    synchronous: frozenset[str] = frozenset()
    """Operations whose answer is the result: there is no job to poll, and no callback."""
    free: frozenset[str] = frozenset()
    """Operations that buy nothing: they may be sent again after any error."""
    queries: tuple[str, ...] = ()
    """Parts of the paths of routes that ask and create nothing, such as ``/feed``."""
    cost_unit: str = "units"
    """The unit of costs, where the provider states them."""
    refunds: bool = False
    """Whether the provider's pages say that the price of a failed job is given back."""
    uploads: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """By operation: the input fields whose media the provider takes as files. Media at a URL are downloaded for it."""
    signs: bool = False
    """Whether the provider signs its callbacks, so that ``verify_signature`` can tell."""
    result_lifetime: float | Mapping[str, float] | None = None
    """Seconds for which the provider keeps an output, or that by operation; None where its pages do not say.
    An expiry that an answer states, or that a signed URL bears, counts instead."""
    models_are_listed: bool = True
    """Whether the ``model`` of a task is a name in the upstream's list of models, or a part of one."""
    experimental: bool = False
    """Whether it is built from doubtful sources, such as the code of third parties only."""

    @property
    def key(self) -> str:
        """The dialect's name in settings: ``runway/aggregator``."""
        return f"{self.family}/{self.name}"

    def typical(self, operation: str) -> float:
        """Return the usual duration of a task of an operation, in seconds."""
        return self.typical_seconds.get(operation, TYPICAL_SECONDS)

    def lifetime(self, operation: str) -> float | None:
        """Return the seconds for which the provider keeps an output of an operation; None where that is not known."""
        if isinstance(self.result_lifetime, Mapping):
            return self.result_lifetime.get(operation)
        return self.result_lifetime

    def read_timeout(self, operation: str) -> float:
        """Return the seconds to wait for the answer to a submit."""
        works_at_once = operation in self.synchronous and operation not in self.free
        return SYNCHRONOUS_TIMEOUT if works_at_once else self.submit_timeout

    def creating(self, operation: str, call: Call) -> Call:
        """Return a call marked as the one that creates, with its time limit. One that buys nothing is a query."""
        return dataclasses.replace(call, creates=operation not in self.free, read_timeout=self.read_timeout(operation))

    def creates(self, endpoint: str) -> bool:
        """Return whether an endpoint, such as ``POST /v1/text_to_video``, is one that creates."""
        method, _, path = endpoint.partition(" ")
        if method == "POST":
            return not any(part in path for part in self.queries)
        routes = (route for operation, route in self.operations.items() if operation not in self.free and "{" in route)
        # The route of an operation may have such a part itself.
        return any(
            re.search(_pattern(route), path) and not any(part in path and part not in route for part in self.queries)
            for route in routes
        )


def _pattern(route: str) -> str:
    """Return a pattern for a route with placeholders."""
    return re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(route)) + "$"


class Dialect:
    """One wire protocol for a family. It describes HTTP and never performs it.

    A subclass states its ``facts`` and overrides the methods that its protocol needs. Depth of inheritance: one.
    Optional abilities are in ``capabilities.py``.
    """

    facts: Facts
    """Stated by the class, or by an instance where one class serves several variants of a protocol."""

    def offers(self, family: str, operation: str) -> bool:
        """Return whether it serves an operation."""
        return family == self.facts.family and operation in self.facts.operations

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        raise NotImplementedError

    def query(self, task: Task) -> Call:
        """Return the call that queries the job's state."""
        raise NotImplementedError

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to :meth:`create`: an update with an id, or an UpstreamError."""
        raise NotImplementedError

    def read_status(self, reply: Reply) -> Update:
        """Read the answer to :meth:`query`."""
        raise NotImplementedError

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback. Raises Unreadable when it is not of this protocol."""
        del callback
        raise Unreadable(f"{self.facts.key} has no callbacks")

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Submit the task. The call that creates is the last one."""
        call = self.facts.creating(task.operation, self.create(task, callback_url))
        reply = yield call
        return self.read_created(dataclasses.replace(reply, endpoint=call.endpoint))

    def poll(self, task: Task) -> Exchange:
        """Request the task's state."""
        call = self.query(task)
        reply = yield call
        return about(task, self.read_status(dataclasses.replace(reply, endpoint=call.endpoint)))

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the values that a follow-up inherits from its parent, or the mistakes that rule the parent out."""
        del task
        return {"external_id": parent.external_id}

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether the provider's signature is right; None where the provider does not sign."""
        del callback, secret
        return None

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the credentials. The only place where a key meets a call."""
        return dataclasses.replace(call, headers={**call.headers, "Authorization": f"Bearer {key}"})

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that this dialect is known to refuse. The provider decides on everything else."""
        if not self.offers(task.family, task.operation):
            return [Mistake("operation", f"{self.facts.key} has no {task.operation}.")]
        taken = sorted(self.facts.reserved & task.options.keys())
        found = [Mistake(f"options.{name}", f"Leave {name} out: Dovecote fills it.") for name in taken]
        return found + unreadable_media(task, self.facts.uploads.get(task.operation, ()))


def about(task: Task, update: Update, *, stated: str | None = None) -> Update:
    """Return an update that is about the task's own job. One about another job is no news.

    :param stated: the job's id as the answer states it, where that differs from the update's
    :raises AnotherJob: when the answer states the id of another job
    """
    found = stated or update.external_id
    if found is not None and task.external_id is not None and found != task.external_id:
        asked, other = shortened(task.external_id, _SHOWN), shortened(found, _SHOWN)
        raise AnotherJob(f"asked about job {asked}, and answered about job {other}")
    return update


def merge(mapped: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapped body, overridden by the client's options. Objects are merged, and None is left out."""
    merged = {name: value for name, value in mapped.items() if value is not None}
    for name, value in options.items():
        below = merged.get(name)
        merged[name] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def accepted(update: Update) -> Update:
    """Return the update of a submit that was accepted. It is queued where the answer has no status word."""
    started = update.state is not None or update.unknown_word is not None
    return update if started else dataclasses.replace(update, state=State.SUBMITTED)


def unsupported(task: Task, known: Collection[str], protocol: str) -> list[Mistake]:
    """Return a mistake for each field that a protocol has no word for. Such a field is never dropped silently."""
    words = f"{protocol} has no such field: leave it out, or choose another upstream."
    return [Mistake(f"input.{name}", words) for name in task.input if name not in known]


def whole(value: Any) -> Any:
    """Return a whole number without its decimal point, which a provider may refuse; any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
