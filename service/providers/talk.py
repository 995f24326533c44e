"""The common parts of families of text models: the fields of a conversation, and the check of its texts."""

from collections.abc import Mapping

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.operation import SOURCE, Schema, integer, number, several, text

_MESSAGE: Schema = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {"role": text("Who speaks: `system`, `developer`, `user`, `assistant`, `tool`.")},
}
TALK_FIELDS: Mapping[str, Schema] = {
    "messages": several("The conversation, as the API has it, in place of `prompt`, `system` and `images`.", _MESSAGE),
    "system": text("Instructions for the model.", examples=["Be brief."]),
    "images": several("URLs of images, or `data:`.", text("URL of an image, or `data:`.", pattern=SOURCE), maxItems=16),
    "max_tokens": integer("How many tokens the answer may have.", minimum=1, examples=[1024]),
    "temperature": number("How varied the answer is. Newer models refuse it.", minimum=0, maximum=2),
}
_NO_PROMPT = Mistake("input.prompt", "is required here, unless there are messages")
_BESIDE_MESSAGES = "Leave it out beside messages: they say it themselves."


def talk_mistakes(task: Task, *, field: str = "messages") -> list[Mistake]:
    """Return what is wrong with the words of a conversation: there are none, or they are given in two ways.

    :param field: the provider's field for the conversation; the words are not checked where ``options`` set it
    """
    if field in task.options:
        return []
    if "messages" not in task.input:
        return [] if "prompt" in task.input else [_NO_PROMPT]
    return [Mistake(f"input.{name}", _BESIDE_MESSAGES) for name in ("prompt", "system", "images") if name in task.input]
