"""kie.ai's older endpoints, one for each product: Veo, Runway, Aleph, 4o images, Flux Kontext, Midjourney."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from service.domain.errors import Unavailable, Unreadable
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge, whole
from service.providers.kie.own_record import has_result, is_being_made, read_record
from service.providers.kie.results import media_mistakes
from service.providers.kie_envelope import agrees, credits_left, job_of, refusal_of, signature_is_right
from service.providers.read import fields
from service.providers.wire import BalanceExchange, Call, Callback, Reply


class _Product(NamedTuple):
    """The routes of a product."""

    submit: str
    record: str


_VEO = "/api/v1/veo/record-info"
_RUNWAY = "/api/v1/runway/record-detail"
_PRODUCTS: Mapping[str, _Product] = {
    "veo": _Product("/api/v1/veo/generate", _VEO),
    "veo_extend": _Product("/api/v1/veo/extend", _VEO),
    "veo_1080p": _Product("/api/v1/veo/get-1080p-video", _VEO),
    "veo_4k": _Product("/api/v1/veo/get-4k-video", _VEO),
    "runway": _Product("/api/v1/runway/generate", _RUNWAY),
    "runway_extend": _Product("/api/v1/runway/extend", _RUNWAY),
    "aleph": _Product("/api/v1/aleph/generate", "/api/v1/aleph/record-info"),
    "gpt4o_image": _Product("/api/v1/gpt4o-image/generate", "/api/v1/gpt4o-image/record-info"),
    "flux_kontext": _Product("/api/v1/flux/kontext/generate", "/api/v1/flux/kontext/record-info"),
    "midjourney": _Product("/api/v1/mj/generate", "/api/v1/mj/record-info"),
}
_SECONDS = {"flux_kontext": 30.0, "gpt4o_image": 120.0, "midjourney": 60.0, "veo_1080p": 60.0}
_NAMES: Mapping[str, Mapping[str, str]] = {
    "veo": {"seed": "seeds", "translate": "enableTranslation"},
    "runway": {"image": "imageUrl", "resolution": "quality", "aspect_ratio": "aspectRatio", "watermark": "waterMark"},
    "aleph": {"video": "videoUrl", "aspect_ratio": "aspectRatio", "watermark": "waterMark"},
    "gpt4o_image": {"mask": "maskUrl", "aspect_ratio": "size", "count": "nVariants"},
    "flux_kontext": {"image": "inputImage", "aspect_ratio": "aspectRatio"},
    "midjourney": {"image": "fileUrl", "aspect_ratio": "aspectRatio", "model": "version", "watermark": "waterMark"},
}
"""The names of our fields, by the product; others are kie.ai's as they are."""
_CHOICES: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("runway", "duration"): (5, 10),
    ("runway", "resolution"): ("720p", "1080p"),
    ("runway_extend", "resolution"): ("720p", "1080p"),
    ("gpt4o_image", "count"): (1, 2, 4),
    ("gpt4o_image", "aspect_ratio"): ("1:1", "3:2", "2:3"),
    ("veo", "aspect_ratio"): ("16:9", "9:16", "Auto"),
}
_SEEDS = range(10_000, 100_000)
_DAY = 86400.0


class Own(Dialect):
    """POST /api/v1/{product}/generate and GET /api/v1/{product}/record-info. A poll confirms a callback."""

    facts = Facts(
        family="kie",
        name="own",
        operations={name: product.submit for name, product in _PRODUCTS.items()},
        callbacks=True,
        confirms=True,
        signs=True,
        cost_unit="credits",
        reserved=frozenset({"callback_url", "callBackUrl"}),
        synchronous=frozenset({"veo_1080p"}),
        free=frozenset({"veo_1080p"}),
        typical_seconds={name: _SECONDS.get(name, 240.0) for name in _PRODUCTS},
        result_lifetime=_DAY,  # 14 days on most pages, 24 hours on some
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job; a video in 1080p is only asked for."""
        path = self.facts.operations[task.operation]
        if task.operation == "veo_1080p":
            job, index = task.inherited.get("external_id") or "", task.input.get("index", 0)
            return Call(method="GET", path=f"{path}?taskId={quote(str(job), safe='')}&index={index}")
        return Call(method="POST", path=path, json=merge({**_body(task), "callBackUrl": callback_url}, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the record."""
        product = _PRODUCTS[task.operation] if task.operation in _PRODUCTS else _PRODUCTS["veo"]
        return Call(method="GET", path=f"{product.record}?taskId={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id, or the file that was asked for."""
        if is_being_made(reply.document):
            raise Unavailable("overloaded", "the file is being made: it is asked for again")
        data = fields(fields(reply.document).get("data"))
        if reply.ok and agrees(reply.document) and has_result(data):
            update = read_record(reply.document)
            if update is not None and update.results:
                return dataclasses.replace(update, state=State.SUCCEEDED)
        job = job_of(data)
        if not reply.ok or not agrees(reply.document) or job is None:
            raise refusal_of(reply, creating=True, credit_is_429=False)
        return Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the record."""
        update = read_record(reply.document) if reply.ok else None
        if update is None:
            raise refusal_of(reply, creating=False, credit_is_429=False)
        return update

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the outputs, or a code and why it failed."""
        update = read_record(callback.document)
        if update is None:
            raise Unreadable("no task in it")
        return [update]

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether kie.ai's signature is right, where its key is set."""
        return signature_is_right(callback, secret)

    def balance(self) -> BalanceExchange:
        """Request the credits."""
        return credits_left("/api/v1/chat/credit")

    def validate(self, task: Task) -> list[Mistake]:
        """Return what kie.ai's pages rule out. Fields that ``options`` set are not checked."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        if task.operation == "veo_1080p" and task.options:
            found.append(Mistake("options", "veo_1080p takes no fields of the provider's: leave them out."))
        for name, value in task.input.items():
            allowed = _CHOICES.get((task.operation, name))
            if allowed is not None and value not in allowed:
                found.append(Mistake(f"input.{name}", f"kie.ai takes {', '.join(map(str, allowed))}."))
        if task.operation in {"veo", "veo_extend"} and task.input.get("seed", _SEEDS[0]) not in _SEEDS:
            found.append(Mistake("input.seed", "Veo takes 10000 to 99999 here."))
        return found + media_mistakes(task)


def _body(task: Task) -> dict[str, Any]:
    """Return the body of a product's submit."""
    product = task.operation.partition("_extend")[0]
    names = _NAMES.get(product, _NAMES["veo"])
    given = {names.get(name, name): whole(value) for name, value in task.input.items()}
    if task.operation in {"veo_extend", "veo_4k", "runway_extend"}:
        given["taskId"] = task.inherited.get("external_id")
    if product == "veo":
        images = [given.pop(name) for name in ("image", "last_image") if name in given]
        if images:
            kind = "FIRST_AND_LAST_FRAMES_2_VIDEO"
            given |= {"imageUrls": images, "generationType": kind}
    if product == "gpt4o_image" and "image" in given:
        given["filesUrl"] = [given.pop("image")]
    if product == "midjourney":
        given["taskType"] = "mj_img2img" if "image" in task.input else "mj_txt2img"
    return given
