"""Capabilities of a dialect besides creating and querying a job. Callers test them with ``isinstance``.

Python looks at every member of a protocol in each such test, several times for each task. Here it does so once for each class.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from service.domain.task import Task, Update
from service.providers.stream import Event, Piece
from service.providers.wire import (
    BalanceExchange,
    Call,
    Callback,
    DeleteExchange,
    Exchange,
    JobsExchange,
    ManyExchange,
    ModelsExchange,
    Reply,
    StoringExchange,
)

_ANSWERS: Final[dict[tuple[type, type], bool]] = {}


class _OnceForEachClass(type(Protocol)):  # type: ignore[misc]  # the class of protocols has no public name
    """The class of capabilities: it remembers which classes have them."""

    def __instancecheck__(cls, instance: object) -> bool:
        key = cls, type(instance)
        if key not in _ANSWERS:
            _ANSWERS[key] = super().__instancecheck__(instance)
        return _ANSWERS[key]


@runtime_checkable
class CanCancel(Protocol, metaclass=_OnceForEachClass):
    """A running job can be cancelled at the provider."""

    def cancel(self, task: Task) -> Exchange:
        """Request the cancellation of the job. The exchange must not destroy a result that is already there."""

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to the call that cancels."""


@runtime_checkable
class CanDelete(Protocol, metaclass=_OnceForEachClass):
    """The provider deletes an ended job with its outputs. This is requested only for a task whose content is erased."""

    def delete(self, task: Task) -> DeleteExchange:
        """Request the deletion of the job and of its outputs. A job that is gone already raises NotFound."""


@runtime_checkable
class CanPollMany(Protocol, metaclass=_OnceForEachClass):
    """One query reads several jobs, at most ``facts.batch_size``."""

    def poll_many(self, tasks: Sequence[Task]) -> ManyExchange:
        """Request the state of several tasks of one upstream."""


@runtime_checkable
class CanListJobs(Protocol, metaclass=_OnceForEachClass):
    """The provider lists the account's jobs. ``facts.jobs_listed_by`` names the key that this needs."""

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """List the jobs that may be the task's, by its operation, model and prompt as far as the list shows them."""


@runtime_checkable
class CanTellBalance(Protocol, metaclass=_OnceForEachClass):
    """The remaining credit of the account can be requested."""

    def balance(self) -> BalanceExchange:
        """Request the balance."""


@runtime_checkable
class CanListModels(Protocol, metaclass=_OnceForEachClass):
    """The models that the account may use can be requested, in a form of the provider's own.

    A list in OpenAI's form needs no method: the path is in ``Provider.models_path``.
    """

    def list_models(self) -> ModelsExchange:
        """Request the models."""


@runtime_checkable
class TakesInput(Protocol, metaclass=_OnceForEachClass):
    """The provider may request input while a job runs (``State.AWAITING_INPUT``)."""

    def send_input(self, task: Task, given: Mapping[str, Any]) -> Exchange:
        """Send the input that a task waits for."""


@runtime_checkable
class ReadsAccountEvents(Protocol, metaclass=_OnceForEachClass):
    """The provider calls one URL for a whole account, and signs. Its events name jobs, and only hasten their polls."""

    def jobs_in(self, callback: Callback) -> list[str]:
        """Return the ids of the jobs that an event is about; none where it is about something else."""


@runtime_checkable
class SignsCalls(Protocol, metaclass=_OnceForEachClass):
    """Calls are signed with a key pair, at the time at which they are made."""

    def sign(self, call: Call, key: str, *, host: str, content: bytes, now: float) -> Call:
        """Return the call with the credentials. A key that is no pair is used as ``authorize`` does.

        :param host: the host that the call goes to, with its port
        :param content: the body as it is sent
        :param now: Unix seconds
        """


@runtime_checkable
class StoresMedia(Protocol, metaclass=_OnceForEachClass):
    """The provider stores a file before a job takes it. So a medium can be sent that is too large for the request."""

    def store_medium(self, file_name: str) -> StoringExchange:
        """Request a place for a file."""

    def stored_medium(self) -> str:
        """Return a text that stands for a stored file where only its form is checked."""


@runtime_checkable
class SendsCallbackKey(Protocol, metaclass=_OnceForEachClass):
    """The provider signs a job's callbacks with a secret that the call which creates the job states."""

    def with_callback_key(self, call: Call, key: str) -> Call:
        """Return the creating call with the upstream's ``callback_key``. One without a callback URL is unchanged."""


@runtime_checkable
class Streams(Protocol, metaclass=_OnceForEachClass):
    """A synchronous answer can come as a stream, which :meth:`Dialect.read_created` reads as well."""

    def streamed(self, call: Call) -> Call:
        """Return the call that creates, so that its answer comes as a stream."""

    def read_pieces(self, event: Event) -> Sequence[Piece]:
        """Return the pieces of text in an event of the stream."""
