"""Runway: videos, images and voices, by its own API and by the two protocols that gateways put before it.

In this order: what its words mean, what can be asked for, the dialects, how they say a task, how they read one.
"""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

from service.domain.errors import NotFound, Unreadable
from service.domain.task import Failure, Result, ResultKind, ResultRole, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import (
    UNREACHABLE_CALLBACK,
    Balance,
    BalanceExchange,
    Call,
    Callback,
    Dialect,
    Exchange,
    Family,
    Reply,
    fields,
    identifier,
    kind_of,
    link,
    links,
    merge,
    number,
    operation,
    percent,
    word,
)
from service.providers.newapi import errors as newapi_errors


class Words(NamedTuple):
    """What the words of a protocol mean, in lower case."""

    status: Mapping[str, State | None]
    state: Mapping[str, State | None]
    """``state``, a newer twin of ``status``: it counts where that is blank."""


OWN_WORDS = Words(
    status={
        "pending": State.SUBMITTED,
        "throttled": State.SUBMITTED,  # over the concurrency limit: kept and run later, not refused
        "running": State.RUNNING,
        "succeeded": State.SUCCEEDED,
        "failed": State.FAILED,
        "cancelled": State.CANCELLED,
    },
    state={},
)
"""Runway's own task object (GET /v1/tasks/{id})."""

GATEWAY_WORDS = Words(
    status={
        **newapi_errors.STATES,
        **OWN_WORDS.status,
        "": State.SUBMITTED,  # a submit may be answered by the whole record, blank
        "0": State.SUBMITTED,
        "1": State.RUNNING,
        "2": State.FAILED,  # 2 is the failure and 3 the success, whatever one reseller's page prints
        "3": State.SUCCEEDED,
    },
    state={
        "pending": State.SUBMITTED,
        "running": State.RUNNING,
        "succeeded": State.SUCCEEDED,
        "success": State.SUCCEEDED,
        "error": State.FAILED,
        "failed": State.FAILED,
    },
)
"""POST /runway/feed of DeerAPI and CometAPI: the record's numbers, and the words of the wrappers around it."""

FAILURE_CODES = {
    "SAFETY": "content_policy",
    "INPUT_PREPROCESSING.SAFETY": "content_policy",
    "ASSET.INVALID": "invalid_input",
    "THIRD_PARTY.UNAVAILABLE": "overloaded",
}
"""``failureCode`` by prefix (Runway's docs, task failures). Any other, and none, counts as INTERNAL: provider_error."""


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": description, **more}


def _number(description: str, kind: str = "integer", **limits: Any) -> dict[str, Any]:
    return {"type": kind, "description": description, **limits}


def _object(description: str, *required: str, **properties: Any) -> dict[str, Any]:
    closed = {"type": "object", "additionalProperties": False, "required": list(required)}
    return {**closed, "description": description, "properties": properties}


_URL = _text("URL of the image.")
_AXES = ("x", "y", "z", "r", "bg_x_pan", "bg_y_pan")
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "prompt": _text("What is wanted, in words.", examples=["A cat on a windowsill, rain outside"]),
    "negative_prompt": _text("What is not wanted, in words; for the models that know it."),
    "image": _text(
        "URL of the image. Runway itself also takes `data:` and `runway://`.", examples=["https://example.com/cat.jpg"]
    ),
    "last_image": _text("URL of the image to end on, for the models that know it."),
    "reference_images": {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [_URL, _object("", "url", url=_URL, tag=_text("Its name in the prompt."))]},
        "description": "Images to take people, places or a style from; a tag lets the prompt name one, as `@tag`.",
    },
    "video": _text(
        "URL of the video. Runway itself also takes `data:` and `runway://`.", examples=["https://example.com/cat.mp4"]
    ),
    "character_video": _text("URL of a video of the character, instead of `image`."),
    "audio": _text("URL of the recording.", examples=["https://example.com/voice.mp3"]),
    "duration": _number(
        "Length in seconds. Of videos, gateways make 5 or 10, and Runway's own models 2 to 10.",
        "number",
        exclusiveMinimum=0,
        examples=[5],
    ),
    "aspect_ratio": _text(
        "Shape of the output, as `16:9` or `1280:720`; it is said the way the provider and the model want it.",
        pattern="^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}$",
        examples=["16:9"],
    ),
    "resolution": _text("Resolution wanted: `720p`, `1k`, `2k`, `4k`.", examples=["2k"]),
    "scale": _number("How many times as wide and as high.", minimum=2, examples=[2]),
    "model": _text("Model, by the provider's name. A name that Dovecote does not know is passed on."),
    "seed": _number("The same seed and input give similar results.", minimum=0),
    "style": _text("Style preset. Only `cinematic` is known, and only gateways have it."),
    "motion": _object(
        "Camera move, about -10 to 10 in each direction. Only gateways have it.",
        **{axis: {"type": "number"} for axis in _AXES},
    ),
    "strength": _number(
        "How far the structure of the video may change. Only gateways have it.", "number", minimum=0, maximum=1
    ),
    "body_control": {"type": "boolean", "description": "Whether gestures are played too, not the face alone."},
    "expression_intensity": _number("How strongly the face moves.", minimum=1, maximum=5),
    "voice": _text("Name of one of Runway's preset voices.", default="Maya", examples=["Maya"]),
    "language": _text("Code of the language wanted.", examples=["es"]),
    "loop": {"type": "boolean", "description": "Whether its end leads into its beginning."},
}

_operation = functools.partial(operation, known=_FIELDS)
_short = functools.partial(_operation, deadline=1200.0)
_audio = functools.partial(_operation, deadline=900.0)
"""A video has an hour: samples took up to 6 minutes, and a task over the account's limits waits as THROTTLED before it
runs. Pictures take half a minute and recordings less; ten times that, and the wait."""
_SHOT = "model seed negative_prompt style motion"
_OPERATIONS = (
    _operation("text_to_video", "video", f"prompt* duration+ aspect_ratio+ {_SHOT}", aliases=("text2video",)),
    _operation(
        "image_to_video",
        "video",
        f"image* prompt+ last_image duration+ aspect_ratio {_SHOT}",
        aliases=("image2video",),
        meanings={"prompt": "What is to happen, in words. Gateways and gen4.5 need it."},
    ),
    _operation(
        "video_to_video",
        "video",
        "video* prompt+ reference_images aspect_ratio model seed strength duration",
        aliases=("video2video",),
        meanings={
            "prompt": "What is to be different, in words. Gateways need it.",
            "duration": "Length in seconds, for the models that can change it.",
        },
    ),
    _short("text_to_image", "image", "prompt* reference_images aspect_ratio+ model seed", aliases=("text2image",)),
    _operation("video_upscale", "video", "video* resolution+ model"),
    _short("image_upscale", "image", "image* scale+ model"),
    _operation(
        "character_performance",
        "video",
        "video* image+ character_video aspect_ratio body_control expression_intensity model seed",
        aliases=("act_one", "act_two"),
        meanings={
            "video": "URL of the performance, 3 to 30 seconds.",
            "image": "URL of an image of the character. This or `character_video` is needed.",
        },
    ),
    _audio("text_to_speech", "audio", "prompt* voice+ model", aliases=("tts",)),
    _audio("sound_effect", "audio", "prompt* duration+ loop model"),
    _audio("speech_to_speech", "audio", "audio* voice+ model"),
    _short("voice_dubbing", "audio", "audio* language* model"),
    _audio("voice_isolation", "audio", "audio* model"),
)

FAMILY = Family("runway", "Runway", {known.name: known for known in _OPERATIONS})

_VERSION = {"X-Runway-Version": "2024-11-06"}
"""The only value that Runway takes. Gateways want it on some routes: it is always sent."""

_FEED_ROUTES = {
    "text_to_video": "/runway/pro/generate",
    "image_to_video": "/runway/pro/generate",
    "video_to_video": "/runway/pro/video2video",
    "character_performance": "/runway/pro/act_one",
}
_FEED_FIELDS = {
    "text_to_video": frozenset({"prompt", "duration", "aspect_ratio", "model", "style", "motion"}),
    "image_to_video": frozenset(
        {"prompt", "image", "last_image", "duration", "aspect_ratio", "model", "style", "motion"}
    ),
    "video_to_video": frozenset({"prompt", "video", "duration", "model", "strength"}),
    "character_performance": frozenset({"video", "image"}),
}
"""Which of our fields POST /runway/pro/* has words for."""

_MODELS = {
    "text_to_video": "gen4.5",
    "image_to_video": "gen4_turbo",
    "video_to_video": "aleph2",
    "text_to_image": "gen4_image",
    "video_upscale": "magnific_video_upscaler_creative",
    "image_upscale": "magnific_precision_upscaler_v2",
    "character_performance": "act_two",
    "text_to_speech": "eleven_multilingual_v2",
    "sound_effect": "eleven_text_to_sound_v2",
    "speech_to_speech": "eleven_multilingual_sts_v2",
    "voice_dubbing": "eleven_voice_dubbing",
    "voice_isolation": "eleven_voice_isolation",
}
"""Runway requires a model on every route; these are taken where none is named (Runway's SDK 5.24)."""

_GATEWAY_MODELS = {
    "image_to_video": "gen3a_turbo",
    "text_to_image": "gen4_image",
    "video_to_video": "gen4_aleph",
    "video_upscale": "upscale_v1",
    "character_performance": "act_two",
}
"""The routes that CometAPI has under /runwayml/v1, each with the model that its page names."""

_SIZES = {
    "16:9": "1280:720",
    "9:16": "720:1280",
    "1:1": "960:960",
    "4:3": "1104:832",
    "3:4": "832:1104",
    "21:9": "1584:672",
}
_GEN3_SIZES = {"16:9": "1280:768", "9:16": "768:1280"}  # the nearest that gen3 can make
_IMAGE_SIZES = {
    "16:9": "1920:1080",
    "9:16": "1080:1920",
    "1:1": "1024:1024",
    "4:3": "1440:1080",
    "3:4": "1080:1440",
    "21:9": "1680:720",
}
_SHAPES = {size: shape for sizes in (_SIZES, _GEN3_SIZES) for shape, size in sizes.items()}

_SAME = {
    "prompt": "promptText",
    "negative_prompt": "negativePrompt",
    "seed": "seed",
    "resolution": "resolution",
    "scale": "scaleFactor",
    "loop": "loop",
    "language": "targetLang",
    "body_control": "bodyControl",
    "expression_intensity": "expressionIntensity",
}
"""Our names and Runway's, where the value is the same."""

_LIMITS: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "gen3a_turbo": (512, (5, 10)),
    "gen4.5": (1000, tuple(range(2, 11))),
    "gen4": (1000, ()),
    "veo3.1": (1000, (4, 6, 8)),
    "eleven_multilingual_v2": (1000, ()),
}
"""By prefix of the model: how many UTF-16 code units a prompt may have, and which durations it makes if that is known."""

_SECONDARY: tuple[tuple[str, ResultRole, ResultKind], ...] = (
    ("poster", "cover", "image"),
    ("last_frame", "last_frame", "image"),
    ("raw_video_url", "extra", "video"),
    ("image_url", "extra", "image"),
)
_TYPICAL: Mapping[ResultKind, float] = {"video": 90.0, "image": 30.0, "audio": 15.0}
"""A first guess: nothing is published, and medians of our own take over."""
_OWN_FIELDS = frozenset({"output", "failure", "failureCode", "fail_reason", "video_url", "createdAt"})
"""What tells a task without an id from any other object with a status, such as an error."""
_DEPTH = 5
_OK = range(200, 300)


class Aggregator(Dialect):
    """POST /runway/pro/* and /runway/feed of CometAPI ('reverse' or 'compatibility format'), DeerAPI and ElkAPI."""

    family = "runway"
    name = "aggregator"
    operations = _FEED_ROUTES
    callbacks = True
    cost_unit = "points"
    refunds = True
    typical_seconds = dict.fromkeys(_FEED_ROUTES, 240.0)  # documented samples took 104, 291 and 359 s

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Say which call creates the job. CometAPI and DeerAPI refuse one without a callback URL."""
        mapped = {"callback_url": callback_url or UNREACHABLE_CALLBACK, **_feed_body(task)}
        body = merge(mapped, task.options)
        return Call(method="POST", path=self.operations[task.operation], json=body, headers=_VERSION)

    def query(self, task: Task) -> Call:
        """Ask the feed."""
        return Call(method="POST", path="/runway/feed", json={"task_id": task.external_id}, headers=_VERSION)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id alone, the whole record, or a refusal with HTTP 200."""
        return _accepted(reply, GATEWAY_WORDS)

    def read_status(self, reply: Reply) -> Update:
        """Read the feed."""
        return _polled(reply, GATEWAY_WORDS)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the feed's record without its envelope, or with one."""
        if not _is_task(callback.document):
            raise Unreadable("no task in it")
        return [_read(callback.document, GATEWAY_WORDS)]

    def validate(self, task: Task) -> list[Mistake]:
        """Say what the gateways' pages rule out."""
        found = super().validate(task)
        if task.operation not in self.operations:
            return found
        needed = {"image": "image"} if task.operation == "character_performance" else {"prompt": "prompt"}
        found += _unsaid(task, _FEED_FIELDS[task.operation], "The gateways' own Runway format")
        found += _missing(self.create(task, None).json, needed)
        if task.input.get("duration", 5) not in {5, 10} and "seconds" not in fields(task.options.get("options")):
            found.append(Mistake("input.duration", "Gateways make videos of 5 or 10 seconds."))
        return found

    def creates(self, endpoint: str) -> bool:
        """Whether an endpoint creates: the feed is a POST that only asks."""
        return super().creates(endpoint) and not endpoint.endswith("/feed")


class AggregatorOfficial(Dialect):
    """/runwayml/v1/* of CometAPI and its siblings: Runway's own bodies, without text_to_video, cancel and callbacks."""

    family = "runway"
    name = "aggregator-official"
    operations: ClassVar[Mapping[str, str]] = {name: f"/runwayml/v1/{name}" for name in _GATEWAY_MODELS}
    typical_seconds = dict.fromkeys(_GATEWAY_MODELS, 120.0)
    cost_unit = "credits"
    refunds = True

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Say which call creates the job."""
        del callback_url  # no page knows a field for it
        body = _native_body(task, _GATEWAY_MODELS)
        return Call(method="POST", path=self.operations[task.operation], json=body, headers=_VERSION)

    def query(self, task: Task) -> Call:
        """Ask for the task."""
        return Call(method="GET", path=f"/runwayml/v1/tasks/{quote(task.external_id or '', safe='')}", headers=_VERSION)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: a bare id."""
        return _accepted(reply, GATEWAY_WORDS)

    def read_status(self, reply: Reply) -> Update:
        """Read the task: in the gateway's wrapper by older pages, Runway's bare object by newer ones."""
        return _polled(reply, GATEWAY_WORDS)

    def validate(self, task: Task) -> list[Mistake]:
        """Say what CometAPI's pages rule out, and Runway's reference."""
        found = super().validate(task)
        return found + _native_mistakes(task, _GATEWAY_MODELS) if task.operation in self.operations else found


class Official(Dialect):
    """Runway's own API: https://api.dev.runwayml.com/v1. It has no callbacks."""

    family = "runway"
    name = "official"
    operations: ClassVar[Mapping[str, str]] = {name: f"/v1/{name}" for name in _MODELS}
    typical_seconds: ClassVar[Mapping[str, float]] = {known.name: _TYPICAL[known.produces] for known in _OPERATIONS}
    cancels = True
    cost_unit = "credits"

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Say which call creates the job."""
        del callback_url
        body = _native_body(task, _MODELS)
        return Call(method="POST", path=self.operations[task.operation], json=body, headers=_VERSION)

    def query(self, task: Task) -> Call:
        """Ask for the task."""
        return Call(method="GET", path=f"/v1/tasks/{quote(task.external_id or '', safe='')}", headers=_VERSION)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: a bare id, in newer versions with an estimate of the cost."""
        return _accepted(reply, OWN_WORDS)

    def read_status(self, reply: Reply) -> Update:
        """Read the task."""
        return _polled(reply, OWN_WORDS)

    def cancel(self, task: Task) -> Exchange:
        """Stop the task. A DELETE of a finished one would destroy its outputs, so it is looked at first."""
        seen = self.read_status((yield self.query(task)))
        if seen.state not in {State.SUBMITTED, State.RUNNING}:
            return seen
        reply = yield dataclasses.replace(self.query(task), method="DELETE")
        return dataclasses.replace(self.cancelled(reply), external_id=task.external_id)

    def cancelled(self, reply: Reply) -> Update:
        """Read the answer to a DELETE: 204 without a body. From then on the task is unknown, hardly ever CANCELLED."""
        refusal = newapi_errors.refusal_in(reply, creating=False)
        if reply.status not in _OK and not isinstance(refusal, NotFound):
            raise refusal
        return Update(state=State.CANCELLED)

    def balance(self) -> BalanceExchange:
        """Ask for the organisation's credits; one is worth US$0.01."""
        reply = yield Call(method="GET", path="/v1/organization", headers=_VERSION)
        credit = number(fields(reply.document).get("creditBalance"))
        if reply.status not in _OK or credit is None:
            raise newapi_errors.refusal_in(reply, creating=False)
        return Balance(credit, self.cost_unit)

    def validate(self, task: Task) -> list[Mistake]:
        """Say what Runway's reference rules out."""
        found = super().validate(task)
        return found + _native_mistakes(task, _MODELS) if task.operation in self.operations else found


def _feed_body(task: Task) -> dict[str, Any]:
    """Say a task as the gateways' own Runway format has it."""
    given, ratio = task.input, task.input.get("aspect_ratio")
    if task.operation == "character_performance":
        return {"video": given.get("video"), "image": given.get("image")}
    body = {"prompt": given.get("prompt"), "model": given.get("model", "gen4_turbo"), "style": given.get("style")}
    motion = given.get("motion")
    options: dict[str, Any] = {"seconds": _seconds(given, 5)}
    match task.operation:
        case "text_to_video":
            body |= {"style": given.get("style", "cinematic"), "ratio": _shape(ratio or "16:9")}
            motion = motion or {}
        case "image_to_video":
            body |= {"image": given.get("image"), "last_image": given.get("last_image")}
            body["ratio"] = ratio and _SIZES.get(ratio, ratio)
        case _:
            body["video"] = given.get("video")
            options = {"seconds": _seconds(given), "structure_transformation": given.get("strength")}
    if motion is not None:
        still = dict.fromkeys(("x", "y", "z", "r", "bg_x_pan", "bg_y_pan"), 0)
        options["motion_vector"] = {**still, **motion}
    said = {name: value for name, value in options.items() if value is not None}
    return body | ({"options": said} if said else {})


def _seconds(given: Mapping[str, Any], default: int | None = None) -> float | None:
    """Say a duration: whole seconds without a point, which a provider may not take."""
    stated: float | None = given.get("duration", default)
    return int(stated) if isinstance(stated, float) and stated.is_integer() else stated


def _shape(ratio: str) -> str:
    """Say a size as the shape that it stands for: ``1280:720``, and gen3's ``1280:768``, are ``16:9``."""
    if ratio in _SHAPES:
        return _SHAPES[ratio]
    width, height = (int(side) for side in ratio.split(":"))
    divisor = math.gcd(width, height)
    return f"{width // divisor}:{height // divisor}"


def _native_body(task: Task, models: Mapping[str, str]) -> dict[str, Any]:
    """Say a task as Runway's own API has it (POST /v1/*)."""
    given, model = task.input, task.model or models[task.operation]
    body: dict[str, Any] = {"model": model}
    makes_shots = task.operation in {"text_to_video", "image_to_video"} and model.startswith("gen4")
    body |= {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    body["duration"] = _seconds(given, 5 if makes_shots else None)
    return merge({**body, **_native_files(task), **_native_ratio(task, model)}, task.options)


def _native_files(task: Task) -> dict[str, Any]:
    """Say the files: they have other names in nearly every one of Runway's operations."""
    given = task.input
    image, video, audio = given.get("image"), given.get("video"), given.get("audio")
    frames = [{"uri": image, "position": "first"}, {"uri": given.get("last_image"), "position": "last"}]
    references = [item if isinstance(item, dict) else {"url": item} for item in given.get("reference_images", ())]
    tagged = [merge({"uri": item["url"], "tag": item.get("tag")}, {}) for item in references]
    character = ("video", given["character_video"]) if "character_video" in given else ("image", image)
    voice = {"type": "runway-preset", "presetId": given.get("voice", "Maya")}
    said: dict[str, dict[str, Any]] = {
        "image_to_video": {"promptImage": frames if "last_image" in given else image},
        "text_to_image": {"referenceImages": tagged or None},
        "video_to_video": {
            "videoUri": video,
            "references": [{"type": "image", "uri": item["url"]} for item in references] or None,
        },
        "character_performance": {
            "character": {"type": character[0], "uri": character[1]} if character[1] else None,
            "reference": {"type": "video", "uri": video},
        },
        "text_to_speech": {"voice": voice},
        "speech_to_speech": {"media": {"type": "audio", "uri": audio}, "voice": voice},
    }
    return said.get(task.operation, {"imageUri": image, "videoUri": video, "audioUri": audio})


def _native_ratio(task: Task, model: str) -> dict[str, str]:
    """Say the ratio as Runway's own models want it; other vendors' models have ways of their own, and get it as given."""
    required = task.operation in {"text_to_video", "image_to_video", "text_to_image"}
    ratio = task.input.get("aspect_ratio")
    if ratio is None and required and model.startswith(("gen4", "veo")):
        ratio = "16:9"
    if ratio is None:
        return {}
    if model.startswith("aleph"):
        return {"targetAspectRatio": _shape(ratio)}
    if not model.startswith(("gen", "veo", "act_")):
        return {"ratio": ratio}
    sizes = _IMAGE_SIZES if task.operation == "text_to_image" else _GEN3_SIZES if model.startswith("gen3") else _SIZES
    return {"ratio": sizes.get(ratio, ratio)}


def _native_mistakes(task: Task, models: Mapping[str, str]) -> list[Mistake]:
    """Say what Runway is known to refuse. What ``options`` set is the client's own affair."""
    body = _native_body(task, models)
    given, model = task.input, str(body["model"])
    found = _unsaid(task, _FIELDS.keys() - {"style", "motion", "strength"}, "Runway's own format")
    most, seconds = next((limits for prefix, limits in _LIMITS.items() if model.startswith(prefix)), (None, ()))
    prompt = "" if "promptText" in task.options else given.get("prompt", "")
    if most is not None and len(prompt.encode("utf-16-le", "surrogatepass")) // 2 > most:
        found.append(Mistake("input.prompt", f"{model} takes {most} UTF-16 code units at most."))
    if seconds and "duration" not in task.options and given.get("duration", seconds[0]) not in seconds:
        found.append(Mistake("input.duration", f"{model} makes videos of {', '.join(map(str, seconds))} seconds."))
    shapes = ("1280:720", "720:1280")
    if (
        (task.operation, model) == ("text_to_video", "gen4.5")
        and body.get("ratio") not in shapes
        and "ratio" not in task.options
    ):
        found.append(Mistake("input.aspect_ratio", "gen4.5 makes 16:9 and 9:16 from words alone."))
    for name in ("image", "last_image", "video", "character_video", "audio"):
        if str(given.get(name, "")).startswith("http://"):
            found.append(Mistake(f"input.{name}", "Runway fetches https:// only."))
    needed = {
        ("image_to_video", "gen4.5"): {"promptText": "prompt"},
        ("text_to_image", "gen4_image_turbo"): {"referenceImages": "reference_images"},
        ("character_performance", model): {"character": "image"},
    }
    if models is _GATEWAY_MODELS:  # CometAPI: reference_images_empty, although Runway can do without
        needed["text_to_image", model] = {"referenceImages": "reference_images"}
    return found + _missing(body, needed.get((task.operation, model), {}))


def _unsaid(task: Task, says: Collection[str], who: str) -> list[Mistake]:
    """Name the fields that a protocol has no word for: to drop them silently would be a lie."""
    return [
        Mistake(f"input.{name}", f"{who} has nothing like it: leave it out, or choose another upstream.")
        for name in task.input
        if name not in says
    ]


def _missing(body: Mapping[str, Any], needed: Mapping[str, str]) -> list[Mistake]:
    """Name the fields that a body lacks, by our names for theirs."""
    return [Mistake(f"input.{ours}", "is required here") for theirs, ours in needed.items() if body.get(theirs) is None]


def _accepted(reply: Reply, words: Words) -> Update:
    """Read the answer to a submit. Where there is an id the job may exist, whatever else is said."""
    update = _read(reply.document, words)
    if reply.status not in _OK or update.external_id is None:
        raise newapi_errors.refusal_in(reply, creating=True)
    return dataclasses.replace(update, state=update.state or State.SUBMITTED)


def _polled(reply: Reply, words: Words) -> Update:
    if reply.status not in _OK or not _is_task(reply.document):
        raise newapi_errors.refusal_in(reply, creating=False)
    return _read(reply.document, words)


Record = Mapping[str, Any]


def _chain(document: Any) -> list[Record]:
    """List the objects that wrap one another as ``data``, outermost first: envelope, record, Runway's own object."""
    chain: list[Record] = []
    while isinstance(document, dict) and len(chain) < _DEPTH:
        chain.append(document)
        document = document.get("data")
    return chain


def _identifier(chain: list[Record]) -> str | None:
    """Find the job's id. A wrapper's id is the gateway's; the vendor's, deeper in, would be unknown to it."""
    named = (identifier(record.get(name)) for record in chain for name in ("task_id", "id"))
    return next((found for found in named if found is not None), None)


def _stated(record: Record, name: str) -> str | None:
    """Read a status word: blank is a word too, None says that there is none."""
    value = record.get(name)
    return str(value).strip().lower() if isinstance(value, str | int) and not isinstance(value, bool) else None


def _speaks(record: Record) -> bool:
    return _stated(record, "status") is not None or _stated(record, "state") is not None


def _is_task(document: Any) -> bool:
    chain = _chain(document)
    if _identifier(chain) is not None or any(_speaks(record) for record in chain[1:]):
        return True
    return bool(chain) and _speaks(chain[0]) and not _OWN_FIELDS.isdisjoint(chain[0])


def _read(document: Any, words: Words) -> Update:
    """Read every shape of a task: the feed's record, a gateway's wrapper, its flat form, Runway's own object.

    The outermost status counts: a gateway may have given up what still runs inside. What it wraps only adds results.
    """
    chain = _chain(document)
    if not chain:
        return Update()
    records = chain[next((depth for depth, record in enumerate(chain) if _speaks(record)), len(chain) - 1) :]
    state, unknown_word = _state(records[0], words)
    outputs = _outputs(records)
    if link(records[0].get("video_url")):
        state, unknown_word = State.SUCCEEDED, None  # the safety net: there is no video of a failure
    elif not outputs and state is State.SUCCEEDED:
        state = None  # it will come; a success without an output settles nothing
    return Update(
        state=state,
        external_id=_identifier(chain),
        progress=_progress(records),
        results=_results(records, outputs) if state is State.SUCCEEDED else (),
        failure=_failure(records, state),
        cost=_cost(records[0], state),
        refunded=_refunded(records[0], state),
        unknown_word=unknown_word,
    )


def _state(record: Record, words: Words) -> tuple[State | None, str | None]:
    """Translate the status, or else its twin; and give the word back when no table has it."""
    status, twin = _stated(record, "status"), _stated(record, "state")
    known, text = (words.state, twin) if twin and not status else (words.status, twin if status is None else status)
    if text is None:
        return None, None
    return known.get(text), None if text in known else word(text)


def _progress(records: list[Record]) -> int | None:
    """Read the outermost progress: a percentage in a gateway's record, a fraction in Runway's own object."""
    for record in records:
        value = record.get("progress")
        fraction = "task_id" not in record and isinstance(value, int | float) and value <= 1
        if (found := percent(value, fraction=fraction)) is not None:
            return found
    return None


def _outputs(records: list[Record]) -> list[str]:
    """Find the main outputs. Old gateways put the URL of a success into ``fail_reason``."""
    first = records[0]
    candidates = [first.get("video_url"), first.get("result_url"), *(record.get("output") for record in records)]
    candidates += [*(record.get("video_url") for record in records[1:]), first.get("fail_reason")]
    return next((found for candidate in candidates if (found := links(candidate))), [])


def _results(records: list[Record], outputs: list[str]) -> tuple[Result, ...]:
    """Put the outputs first, and what goes with them after."""
    found = [Result(kind_of(url, "video"), url) for url in outputs]
    for name, role, kind in _SECONDARY:
        url = next((url for record in records if (url := link(record.get(name)))), None)
        if url is not None and url not in outputs:
            found.append(Result(kind, url, role=role))
    return tuple(found)


def _failure(records: list[Record], state: State | None) -> Failure | None:
    """Say why: by the innermost ``failureCode``, else by the text."""
    texts = (word(record.get(name)) for record in records for name in ("fail_reason", "msg", "failure"))
    text = next((text for text in texts if text is not None), None)
    if state is State.CANCELLED:
        return Failure("cancelled", text) if text else None
    if state is not State.FAILED:
        return None
    for record in reversed(records):
        if (stated := word(record.get("failureCode"))) is not None:
            code = next((ours for prefix, ours in FAILURE_CODES.items() if stated.startswith(prefix)), "provider_error")
            return Failure(code, word(record.get("failure")) or text, retryable=code in newapi_errors.RETRYABLE)
    if records[0].keys().isdisjoint({"task_id", "fail_reason", "msg"}):
        return Failure("provider_error", text, retryable=True)  # Runway's own object: no code counts as INTERNAL
    if text is None and any(_stated(record, "status") == "cancelled" for record in records[1:]):
        return Failure("cancelled")
    return newapi_errors.failure_from_text(text)


def _cost(record: Record, state: State | None) -> float | None:
    """Read the price: points, which a failure gives back, or Runway's credits."""
    points = number(record.get("point"))
    if points is None:
        return number(fields(record.get("cost")).get("credits"))
    return 0.0 if _refunded(record, state) else points


def _refunded(record: Record, state: State | None) -> bool | None:
    """Read whether the price was given back: by the feed as a flag or as the points themselves; by Runway as a cost of 0."""
    refund, credits_ = number(record.get("refund")), number(fields(record.get("cost")).get("credits"))
    if state not in {State.FAILED, State.CANCELLED}:
        return None
    if refund is None:
        return None if credits_ is None else credits_ == 0
    if refund in {0, 1}:
        return refund == 1
    return True if refund == number(record.get("point")) else None
