"""Verify what is posted to a ``callback_url``."""

from collections.abc import Mapping, Sequence
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from service.client.errors import NotGenuine
from service.client.values import Message, Task, read_time


def verify_webhook(headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str]) -> Message:
    """Read a webhook that is signed as Standard Webhooks say.

    :param headers: of the request, in any case
    :param body: as it came, not parsed and written again
    :param secret: ``whsec_…``; while it is changed, the old one and the new one
    :raises NotGenuine: when it is not signed by any of the secrets, or more than five minutes old
    :raises ValueError: when a secret cannot be one
    """
    verifiers = [_verifier(each) for each in ([secret] if isinstance(secret, str) else secret)]
    given = {name.lower(): value for name, value in headers.items()}
    for verifier in verifiers:
        try:
            return _message(given["webhook-id"], verifier.verify(body, given))
        except WebhookVerificationError:
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotGenuine(f"this is no webhook about a task: {type(error).__name__}") from error
    raise NotGenuine("it is not signed with this secret, or it is too old")


def _verifier(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except Exception as error:  # its words may repeat the secret
        raise ValueError("the webhook secret is not of the form whsec_…") from error


def _message(message_id: str, document: Mapping[str, Any]) -> Message:
    task = Task.read(document["data"])
    return Message(
        id=message_id,
        type=document["type"],
        timestamp=read_time(document.get("timestamp")),
        sequence=document.get("sequence", task.sequence),
        task=task,
    )
