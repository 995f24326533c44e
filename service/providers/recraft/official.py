"""Recraft's own API (/v1)."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.form import file, form, is_inline
from service.providers.read import fields, number
from service.providers.recraft.answers import read, refusal_of
from service.providers.recraft.family import FAMILY, fields_of, media_of, mistakes_in
from service.providers.wire import Balance, BalanceExchange, Call, Reply

_IMAGES = "/v1/images"
_ROUTES: Mapping[str, str] = {
    "text_to_image": f"{_IMAGES}/generations",
    "image_to_image": f"{_IMAGES}/imageToImage",
    "inpaint": f"{_IMAGES}/inpaint",
    "outpaint": f"{_IMAGES}/outpaint",
    "replace_background": f"{_IMAGES}/replaceBackground",
    "generate_background": f"{_IMAGES}/generateBackground",
    "remove_background": f"{_IMAGES}/removeBackground",
    "erase": f"{_IMAGES}/eraseRegion",
    "vectorize": f"{_IMAGES}/vectorize",
    "image_upscale": f"{_IMAGES}/crispUpscale",
    "remix": f"{_IMAGES}/variateImage",
    "explore": f"{_IMAGES}/explore",
    "explore_similar": f"{_IMAGES}/explore/similar",
    "create_style": "/v1/styles",
    "enhance_prompt": "/v1/prompts/enhance",
    "list_styles": "/v1/styles",
}
_CREATIVE = f"{_IMAGES}/creativeUpscale"
_TOOLS = frozenset({"vectorize", "remove_background", "image_upscale"})
"""The operations whose file part is ``file`` in Recraft's guide; others have ``image``."""
_URLS = {"image": "image_url", "mask": "mask_url", "images": "image_urls"}
_MAX_ANSWER = 32 * 1024 * 1024
"""Bytes: an answer may hold six pictures in base64."""
_DAY = 86400.0


class Official(Dialect):
    """external.api.recraft.ai. Every answer is the result: one that is lost may have been charged.

    Media given by URL are sent as JSON, and those given as ``data:`` as files of a form.
    """

    facts = Facts(
        family="recraft",
        name="official",
        operations=_ROUTES,
        synchronous=frozenset(_ROUTES),
        free=frozenset({"list_styles"}),
        typical_seconds={
            name: 5.0 if name in {"list_styles", "enhance_prompt"} else 20.0 for name in FAMILY.operations
        },
        result_lifetime=_DAY,
        cost_unit="units",
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the picture."""
        del callback_url
        path = _CREATIVE if task.input.get("mode") == "creative" else _ROUTES[task.operation]
        if task.operation == "list_styles":
            return Call(method="GET", path=path)
        media = media_of(task)
        if any(is_inline(each) for value in media.values() for each in _listed(value)):
            body = merge({**fields_of(task), **_parts(task, media)}, task.options)
            return Call(method="POST", path=path, form=form(body), max_answer=_MAX_ANSWER)
        urls = {_URLS[name]: value for name, value in media.items()}
        return Call(
            method="POST", path=path, json=merge({**fields_of(task), **urls}, task.options), max_answer=_MAX_ANSWER
        )

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: there is no job."""
        del task
        return Call(method="GET", path="/v1/users/me")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer: pictures, or texts."""
        update = read(reply) if reply.ok else None
        if update is None:
            raise refusal_of(reply, creating=True)
        return update

    def read_status(self, reply: Reply) -> Update:
        """Read an answer as a poll would."""
        update = read(reply) if reply.ok else None
        if update is None:
            raise refusal_of(reply, creating=False)
        return update

    def balance(self) -> BalanceExchange:
        """Request the credits: 1000 units are one dollar."""
        reply = yield Call(method="GET", path="/v1/users/me")
        left = number(fields(reply.document).get("credits"))
        if not reply.ok or left is None:
            raise refusal_of(reply, creating=False)
        return Balance(left, self.facts.cost_unit)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Recraft's pages rule out."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        if task.operation == "list_styles" and task.options:
            found.append(Mistake("options", "list_styles takes no fields of the provider's: leave them out."))
        media = [each for value in media_of(task).values() for each in _listed(value)]
        if len({is_inline(each) for each in media}) > 1:
            found.append(Mistake("input.image", "give all media as data:, or all by URL"))
        return found + mistakes_in(task)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _parts(task: Task, media: Mapping[str, Any]) -> dict[str, Any]:
    """Return the media as files. Their names are those of Recraft's guide."""
    if "images" in media:
        return {f"file{at}": _file(each, f"style-{at}") for at, each in enumerate(media["images"], start=1)}
    first = "file" if task.operation in _TOOLS else "image"
    names = {"image": first, "mask": "mask"}
    return {names[name]: _file(value, name) for name, value in media.items()}


def _file(source: Any, stem: str) -> Any:
    return file(source, stem) if is_inline(source) else source
