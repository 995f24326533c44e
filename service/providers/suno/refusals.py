"""Reading of what gateways answer to a submit that created no job."""

from service.domain.errors import Refused, Uncertain, UpstreamError
from service.providers.newapi import errors as newapi_errors
from service.providers.read import fields, identifier
from service.providers.suno.clips import status_word
from service.providers.wire import Reply

_INPUT_WORDS = ("invalid", "参数", "prompt", "lyrics", "tags", "title", "clip", "required", "empty")


def refusal_of(reply: Reply) -> UpstreamError:
    """Return the error that a submit's answer without a job means."""
    refusal = newapi_errors.refusal_in(reply, creating=True)
    said, message = fields(reply.document), refusal.message
    if not isinstance(refusal, Refused):
        return refusal
    if status_word(said.get("code")) == "error" and refusal.code != "content_policy":
        # The only code of one gateway: the input is refused if the text names it; otherwise it is uncertain.
        names_input = any(part in (message or "").lower() for part in _INPUT_WORDS)
        return Refused("invalid_input", message) if names_input else Uncertain("provider_error", message)
    if reply.ok and identifier(said.get("data")) is not None:
        return Uncertain(refusal.code, message)  # a refusal that names a job
    return refusal
