"""The models that a key can use (GET /v1/models). Nothing is bought."""

from service.domain.errors import Uncertain
from service.domain.task import Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.openai.refusals import carries_error, refusal
from service.providers.read import fields, identifier, items
from service.providers.wire import Call, Reply


class Models(Dialect):
    """The list of models."""

    facts = Facts(
        family="openai",
        name="models",
        operations={"models": "/v1/models"},
        synchronous=frozenset({"models"}),
        free=frozenset({"models"}),
        typical_seconds={"models": 1.0},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that lists the models."""
        del callback_url
        return Call(method="GET", path=self.facts.operations[task.operation])

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: there is no job."""
        del task
        return Call(method="GET", path="/v1/models")

    def read_created(self, reply: Reply) -> Update:
        """Read the names of the models."""
        if not reply.ok or carries_error(reply.document):
            raise refusal(reply, creating=True)
        names = [identifier(fields(each).get("id")) for each in items(fields(reply.document).get("data"))]
        results = tuple(Result("text", text=name) for name in names if name is not None)
        if not results:
            raise Uncertain("unreadable", "the answer has no models")
        return Update(state=State.SUCCEEDED, results=results)

    def read_status(self, reply: Reply) -> Update:
        """Raise the error of a poll: there is no job."""
        raise refusal(reply, creating=False)

    def validate(self, task: Task) -> list[Mistake]:
        """Return a mistake for options: the call has no body."""
        found = super().validate(task)
        if task.options and task.operation in self.facts.operations:
            found.append(Mistake("options", "The list of models takes none."))
        return found
