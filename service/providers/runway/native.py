"""Runway's own request bodies (POST /v1/*), which gateways take too."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.dialect import merge, unsupported, whole
from service.providers.runway.family import FIELDS, missing
from service.providers.runway.ratios import fitting, reduced, requires_ratio

VERSION = {"X-Runway-Version": "2024-11-06"}
"""The only value that Runway takes. Gateways want it on some routes: it is always sent."""
MODELS = {
    "text_to_video": "gen4.5",
    "image_to_video": "gen4_turbo",
    "video_to_video": "aleph2",
    "text_to_image": "gen4_image",
    "video_upscale": "magnific_video_upscaler_creative",
    "image_upscale": "magnific_precision_upscaler_v2",
    "video_to_hdr": "ruby",
    "character_performance": "act_two",
    "text_to_speech": "eleven_multilingual_v2",
    "sound_effect": "eleven_text_to_sound_v2",
    "speech_to_speech": "eleven_multilingual_sts_v2",
    "voice_dubbing": "eleven_voice_dubbing",
    "voice_isolation": "eleven_voice_isolation",
}
"""Runway requires a model on every route; these are taken where none is named (Runway's SDK 5.24)."""
GATEWAY_MODELS = {
    "image_to_video": "gen3a_turbo",
    "text_to_image": "gen4_image",
    "video_to_video": "gen4_aleph",
    "video_upscale": "upscale_v1",
    "character_performance": "act_two",
}
"""The routes that CometAPI has under /runwayml/v1, each with the model that its page names."""
SIZES = {
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
SHAPES = {size: shape for sizes in (SIZES, _GEN3_SIZES) for shape, size in sizes.items()}
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
_SHAPES_OF_ALEPH = ("16:9", "4:3", "3:2", "1:1", "2:3", "3:4", "9:16", "21:9")
_PROMPT_VIDEO = ("klingO3", "hailuo3", "seedance2")
"""The models that take the source video as ``promptVideo``."""
_MAX_DATA_URI = 5 * 1024 * 1024
"""Characters of a medium that is given as ``data:`` (Runway's SDK 5.24)."""
_MEDIA = ("image", "last_image", "video", "character_video", "audio")

_LIMITS: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "gen3a_turbo": (512, (5, 10)),
    "gen4.5": (1000, tuple(range(2, 11))),
    "gen4": (1000, ()),
    "veo3.1": (1000, (4, 6, 8)),
    "veo3": (1000, (8,)),
    "seedance2_5": (15_000, ()),
    "seedance2": (3500, ()),
    "eleven_multilingual_v2": (1000, ()),
}
"""The maximum UTF-16 code units of a prompt, and the known durations, by prefix of the model."""


def native_body(task: Task, models: Mapping[str, str]) -> dict[str, Any]:
    """Return a task as Runway's own API takes it (POST /v1/*)."""
    given, model = task.input, task.model or models[task.operation]
    body: dict[str, Any] = {"model": model}
    makes_shots = task.operation in {"text_to_video", "image_to_video"} and model.startswith("gen4")
    body |= {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    body["duration"] = whole_seconds(given, 5 if makes_shots else 8 if model == "veo3" else None)
    return merge({**body, **_native_files(task, model), **_native_ratio(task, model)}, task.options)


def _native_files(task: Task, model: str) -> dict[str, Any]:
    """Return the fields of files. They have other names in nearly every operation."""
    given = task.input
    image, video, audio = given.get("image"), given.get("video"), given.get("audio")
    frames = [{"uri": image, "position": "first"}, {"uri": given.get("last_image"), "position": "last"}]
    references = [item if isinstance(item, dict) else {"url": item} for item in given.get("reference_images", ())]
    tagged = [merge({"uri": item["url"], "tag": item.get("tag")}, {}) for item in references]
    character = ("video", given["character_video"]) if "character_video" in given else ("image", image)
    voice = {"type": "runway-preset", "presetId": given.get("voice", "Maya")}
    by_operation: dict[str, dict[str, Any]] = {
        "image_to_video": {"promptImage": frames if "last_image" in given else image},
        "text_to_image": {"referenceImages": tagged or None},
        "video_to_video": {
            "promptVideo" if model.startswith(_PROMPT_VIDEO) else "videoUri": video,
            "references": [{"type": "image", "uri": item["url"]} for item in references] or None,
            "keyframes": _keyframes(given),
        },
        "character_performance": {
            "character": {"type": character[0], "uri": character[1]} if character[1] else None,
            "reference": {"type": "video", "uri": video},
        },
        "text_to_speech": {"voice": voice},
        "speech_to_speech": {"media": {"type": "audio", "uri": audio}, "voice": voice},
    }
    return by_operation.get(task.operation, {"imageUri": image, "videoUri": video, "audioUri": audio})


def _keyframes(given: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the pictures that an edited video is to show at a time."""
    renamed = {"image": "uri", "second": "seconds", "position": "at"}
    frames = [{renamed[name]: value for name, value in frame.items()} for frame in given.get("keyframes", ())]
    return frames or None


def _native_ratio(task: Task, model: str) -> dict[str, str]:
    """Return the ratio as the model requires it: a size in pixels for most, a shape for some."""
    required = task.operation in {"text_to_video", "image_to_video", "text_to_image"}
    ratio = task.input.get("aspect_ratio")
    if ratio is None and ((required and model.startswith(("gen4", "veo"))) or requires_ratio(task.operation, model)):
        ratio = "16:9"
    if ratio is None:
        return {}
    if model.startswith("aleph"):
        return {"targetAspectRatio": shape(ratio)}
    own = fitting(task.operation, model, ratio)
    if own is not None:
        return {"ratio": own}
    if task.operation == "text_to_image" and not model.startswith("gen"):
        return {"ratio": ratio}
    sizes = _IMAGE_SIZES if task.operation == "text_to_image" else _GEN3_SIZES if model.startswith("gen3") else SIZES
    return {"ratio": sizes.get(ratio, ratio)}


def native_mistakes(task: Task, models: Mapping[str, str]) -> list[Mistake]:
    """Return what Runway is known to refuse. Fields that ``options`` set are not checked."""
    body = native_body(task, models)
    given, model = task.input, str(body["model"])
    found = unsupported(task, FIELDS.keys() - {"style", "motion", "strength"}, "Runway's own format")
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
    found += _media_mistakes(given)
    if model.startswith("aleph"):
        if "reference_images" in given:
            found.append(Mistake("input.reference_images", f"{model} takes keyframes instead."))
        if body.get("targetAspectRatio") not in {None, *_SHAPES_OF_ALEPH} and "targetAspectRatio" not in task.options:
            found.append(Mistake("input.aspect_ratio", f"{model} makes {', '.join(_SHAPES_OF_ALEPH)}."))
    elif "keyframes" in given:
        found.append(Mistake("input.keyframes", f"{model} takes none: use aleph2, or reference_images."))
    needed = {
        ("image_to_video", "gen4.5"): {"promptText": "prompt"},
        ("text_to_image", "gen4_image_turbo"): {"referenceImages": "reference_images"},
        ("character_performance", model): {"character": "image"},
    }
    if models is GATEWAY_MODELS:  # CometAPI: reference_images_empty, although Runway can do without
        needed["text_to_image", model] = {"referenceImages": "reference_images"}
    return found + missing(body, needed.get((task.operation, model), {}))


def _media_mistakes(given: Mapping[str, Any]) -> list[Mistake]:
    """Return a mistake for each medium that Runway does not fetch, or that is too large as ``data:``."""
    found = []
    for name in _MEDIA:
        source = str(given.get(name, ""))
        if source[:7].lower() == "http://":
            found.append(Mistake(f"input.{name}", "Runway fetches https:// only."))
        if source[:5].lower() == "data:" and len(source) > _MAX_DATA_URI:
            found.append(Mistake(f"input.{name}", "Runway takes at most 5 MB as data:. Give a URL instead."))
    return found


def whole_seconds(given: Mapping[str, Any], default: int | None = None) -> float | None:
    """Return the duration; whole seconds without a decimal point, which a provider may refuse."""
    stated: float | None = whole(given.get("duration", default))
    return stated


def shape(ratio: str) -> str:
    """Return the shape of a size: ``1280:720``, and gen3's ``1280:768``, are ``16:9``."""
    return SHAPES[ratio] if ratio in SHAPES else reduced(ratio)
