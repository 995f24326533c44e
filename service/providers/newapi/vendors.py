"""The vendors' own names of our input fields, for the routes of gateways that serve any model."""

import dataclasses
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

Body = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A family's name at a gateway, and the spelling of its input there."""

    models: Mapping[str, str | None]
    """The model of each operation; None where no page names one: there the client must."""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The vendor's name of each of our fields that it has; ``""`` where ``shape`` takes the field."""
    shape: Callable[[Mapping[str, Any]], Body] | None = None
    """Returns what has another form than ours."""

    def body(self, given: Mapping[str, Any]) -> Body:
        """Return an input in the vendor's names, without the model. A field that it does not have stays as it is."""
        plain = {self.names.get(field, field): value for field, value in given.items() if self.names.get(field) != ""}
        return plain | (self.shape(given) if self.shape is not None else {})


def _kling(given: Mapping[str, Any]) -> Body:
    """Return a duration as a text, as Kling requires."""
    return {"duration": f"{given['duration']:g}"} if "duration" in given else {}


def _luma(given: Mapping[str, Any]) -> Body:
    """Return Luma's keyframes, and a duration as ``5s``."""
    frames = {"frame0": given.get("image"), "frame1": given.get("last_image")}
    shown = {name: {"type": "image", "url": url} for name, url in frames.items() if url is not None}
    body: Body = {"keyframes": shown} if shown else {}
    return body | ({"duration": f"{given['duration']:g}s"} if "duration" in given else {})


def _images(given: Mapping[str, Any]) -> Body:
    """Return Vidu's list of one or two pictures."""
    images = [given[name] for name in ("image", "last_image") if name in given]
    return ({"images": images} if images else {}) | _whole_duration(given)


def _whole_duration(given: Mapping[str, Any]) -> Body:
    return {"duration": whole(given["duration"])} if "duration" in given else {}


def _seedance(given: Mapping[str, Any]) -> Body:
    """Return Seedance's list of contents."""
    content: list[Body] = [{"type": "text", "text": given["prompt"]}] if "prompt" in given else []
    for field, role in (("image", "first_frame"), ("last_image", "last_frame")):
        if field in given:
            content.append({"type": "image_url", "image_url": {"url": given[field]}, "role": role})
    return {"content": content} | _whole_duration(given)


def _wan(given: Mapping[str, Any]) -> Body:
    """Return Wan's size, and a whole duration."""
    size = WAN_SIZES.get(given.get("aspect_ratio", ""))
    return ({"size": size} if size is not None else {}) | _whole_duration(given)


def _jimeng(given: Mapping[str, Any]) -> Body:
    """Return the frames of a video, 24 a second and one."""
    return {"frames": round(Fraction(given["duration"]) * 24) + 1} if "duration" in given else {}


def whole(value: float) -> int | float:
    """Return a number as an integer where it is one."""
    return int(value) if float(value).is_integer() else value


WAN_SIZES = {"16:9": "1280*720", "9:16": "720*1280", "1:1": "960*960"}
_FRAMES = {"image": "", "last_image": "", "duration": ""}
_VIDEO = ("text_to_video", "image_to_video")
VENDORS: Mapping[str, Vendor] = {
    "kling": Vendor(
        models={"text_to_video": "kling-v3/text-to-video", "image_to_video": "kling-v2"},
        names={
            "prompt": "prompt",
            "negative_prompt": "negative_prompt",
            "image": "image",
            "last_image": "image_tail",
            "duration": "",
            "aspect_ratio": "aspect_ratio",
            "mode": "mode",
            "cfg_scale": "cfg_scale",
        },
        shape=_kling,
    ),
    "luma": Vendor(
        models=dict.fromkeys(_VIDEO, "luma-ray-2") | {"text_to_image": "luma-photon"},
        names={"prompt": "prompt", "aspect_ratio": "aspect_ratio", "resolution": "resolution", "loop": "loop"}
        | _FRAMES,
        shape=_luma,
    ),
    "veo": Vendor(
        models={"text_to_video": "veo-3"},
        names={"prompt": "prompt", "aspect_ratio": "aspect_ratio"},
    ),
    "minimax": Vendor(
        models=dict.fromkeys(_VIDEO, "minimax-video-01"),
        names={
            "prompt": "prompt",
            "image": "first_frame_image",
            "last_image": "last_frame_image",
            "resolution": "resolution",
            "duration": "",
        },
        shape=_whole_duration,
    ),
    "vidu": Vendor(
        models=dict.fromkeys(_VIDEO, "vidu-2.0"),
        names={"prompt": "prompt", "resolution": "resolution", "aspect_ratio": "aspect_ratio", "seed": "seed"}
        | {"motion": "movement_amplitude", "music": "bgm"}
        | _FRAMES,
        shape=_images,
    ),
    "jimeng": Vendor(
        models=dict.fromkeys(("text_to_video", "text_to_image"), "jimeng-v2"),
        names={"prompt": "prompt", "aspect_ratio": "aspect_ratio", "seed": "seed", "duration": ""},
        shape=_jimeng,
    ),
    "seedance": Vendor(
        models=dict.fromkeys(_VIDEO, "doubao-seedance-1-0-pro"),
        names={"prompt": "", "aspect_ratio": "ratio", "resolution": "resolution", "seed": "seed"} | _FRAMES,
        shape=_seedance,
    ),
    "flux": Vendor(
        models={"text_to_image": "flux-pro", "image_to_image": "flux-kontext-pro"},
        names={"prompt": "prompt", "image": "input_image", "aspect_ratio": "aspect_ratio", "seed": "seed"},
    ),
    "grok": Vendor(models={"text_to_image": "grok-2-image"}, names={"prompt": "prompt", "count": "n"}),
    "wan": Vendor(
        models=dict.fromkeys(("text_to_video", "text_to_image"), "wanx-v2"),
        names={"prompt": "prompt", "negative_prompt": "negative_prompt", "seed": "seed"}
        | {"duration": "", "aspect_ratio": "", "enhance_prompt": "prompt_extend"},
        shape=_wan,
    ),
    "runway": Vendor(
        models=dict.fromkeys(
            (*_VIDEO, "video_to_video", "character_performance", "text_to_image", "video_upscale"), None
        ),
    ),
}
"""The families of ElkAPI's page on POST /v1/task/submit, with its example models. It lists Runway without one."""
