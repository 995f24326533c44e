"""OpenAI's webhooks: one URL for a whole project. An event only names a job, so it only triggers a poll."""

from service.domain.errors import Unreadable
from service.domain.task import Update
from service.providers.dialect import Dialect, Facts
from service.providers.read import fields, identifier, word
from service.providers.signatures import standard_webhook
from service.providers.wire import Callback, Reply

_ABOUT_TASKS = ("response.", "video.")
"""The start of the types of events about jobs that a task may have."""


class Webhooks(Dialect):
    """The events of an account. It serves no operation: its events are about the jobs of the other dialects."""

    facts = Facts(family="openai", name="webhooks", operations={}, confirms=True, signs=True)

    def read_created(self, reply: Reply) -> Update:
        """Refuse: nothing is created."""
        del reply
        raise Unreadable("openai/webhooks creates nothing")

    def read_status(self, reply: Reply) -> Update:
        """Refuse: nothing is polled."""
        del reply
        raise Unreadable("openai/webhooks polls nothing")

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read the id of the job that an event is about; no id where it is about no task."""
        event = fields(callback.document)
        kind = word(event.get("type"))
        if kind is None or not isinstance(callback.document, dict):
            raise Unreadable("no event in it")
        job = identifier(fields(event.get("data")).get("id")) if kind.startswith(_ABOUT_TASKS) else None
        return [Update(external_id=job)]

    def jobs_in(self, callback: Callback) -> list[str]:
        """Return the id of the job that an event is about."""
        updates = self.read_callback(callback)
        return [update.external_id for update in updates if update.external_id is not None]

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether the signature is right; OpenAI takes a secret without ``whsec_`` as it is."""
        return None if secret is None else standard_webhook(callback, secret, plain=True)
