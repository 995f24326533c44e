"""The signature of Standard Webhooks by itself, for `dovecote explain`: providers that use it have dialects of their own."""

from service.domain.errors import Unreadable
from service.domain.task import Update
from service.providers.dialect import Dialect, Facts
from service.providers.signatures import standard_webhook
from service.providers.wire import Callback, Reply


class StandardWebhooks(Dialect):
    """Messages of any sender that signs by standardwebhooks.com. It serves no operation, and reads no job."""

    facts = Facts(family="standard-webhooks", name="vectors", operations={}, confirms=True, signs=True)

    def read_created(self, reply: Reply) -> Update:
        """Refuse: nothing is created."""
        del reply
        raise Unreadable("standard-webhooks/vectors creates nothing")

    def read_status(self, reply: Reply) -> Update:
        """Refuse: nothing is polled."""
        del reply
        raise Unreadable("standard-webhooks/vectors polls nothing")

    def read_callback(self, callback: Callback) -> list[Update]:
        """Return no update: what a message says depends on its sender."""
        if not isinstance(callback.document, dict):
            raise Unreadable("no message in it")
        return []

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether the signature is right."""
        return None if secret is None else standard_webhook(callback, secret)
