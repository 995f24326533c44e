"""The operations of Kling."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

from service.domain.task import ResultKind
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import (
    Operation,
    Schema,
    choice,
    closed,
    family,
    integer,
    number,
    operation,
    several,
    switch,
    text,
)

_IMAGE: Schema = text("URL of an image, or `data:`.")
_TWO = [["https://example.com/cat.jpg", "https://example.com/dog.jpg"]]
_SHARE: Schema = {"minimum": 0, "maximum": 2, "examples": [0.2]}
FIELDS: Mapping[str, Schema] = SHARED | {
    "images": several("URLs of the images, or `data:`.", _IMAGE, examples=_TWO),
    "cloth_image": text("URL of the clothing, or `data:`.", examples=["https://example.com/shirt.jpg"]),
    "scene_image": text("URL of a picture of the scene, or `data:`."),
    "style_image": text("URL of a picture in the style wanted, or `data:`."),
    "video_id": text("Kling's id of the video, for one that no task of yours has made."),
    "mode": choice(
        "Quality mode. Without it, `resolution` decides: `720p` is std, `1080p` is pro.", "std", "pro", "4k"
    ),
    "generate_audio": switch("Whether the video gets sound, for the models that can."),
    "cfg_scale": number("How closely the prompt is followed; for kling-v1 models.", minimum=0, maximum=1),
    "voice": text("Kling's id of the voice.", examples=["oversea_male1"]),
    "language": choice("Language of the voice.", "zh", "en"),
    "speed": number("Speed of the speech, 0.8 to 2.", minimum=0.8, maximum=2),
    "effect": text("Name of the effect, such as `hug_pro`. A new one is passed on.", examples=["hug_pro"]),
    "orientation": choice("Whether the figure faces as in the image or as in the video.", "image", "video"),
    "keep_sound": switch("Whether the sound of the video is kept."),
    "face": text("Id of the face, from the answer of the parent.", default="0"),
    "start": number("Second of the recording at which to start.", minimum=0, default=0),
    "end": number("Second of the recording at which to end.", exclusiveMinimum=0, examples=[3]),
    "insert": number("Second of the video at which the recording begins.", minimum=0, default=0),
    "frame": integer("Number of the frame, counted from 0.", minimum=0, examples=[0]),
    "points": several(
        "Points on what is meant, as shares of width and height from the top left.",
        closed("", "x", "y", x=number("", minimum=0, maximum=1), y=number("", minimum=0, maximum=1)),
        maxItems=10,
        examples=[[{"x": 0.5, "y": 0.3}]],
    ),
    "edit": choice("What to do with the selection.", "addition", "swap", "removal"),
    "top": number("Share of the height to add above.", **_SHARE),
    "bottom": number("Share of the height to add below.", **_SHARE),
    "left": number("Share of the width to add on the left.", **_SHARE),
    "right": number("Share of the width to add on the right.", **_SHARE),
    "music_prompt": text("What music is wanted, in words."),
    "asmr": switch("Whether the sounds are close and detailed."),
    "product_images": several("URLs of pictures of the product.", _IMAGE, maxItems=5, examples=_TWO),
    "person_images": several("URLs of pictures of who shows it.", _IMAGE, maxItems=5),
}
_PARENT = "URL of the video. A task of yours that made it is named by `parent_id` instead."
HELPERS = (
    "identify_face",
    "init_selection",
    "add_selection",
    "delete_selection",
    "clear_selection",
    "preview_selection",
)
"""Calls that answer at once and make no task. What they answer is kept as JSON beside the session's id."""


def _operation(
    name: str,
    produces: ResultKind,
    takes: str,
    *,
    parent: Literal["required", "optional"] | None = None,
    deadline: float = 7200.0,
    **more: Any,
) -> Operation:
    known = operation(name, produces, takes, known=FIELDS, deadline=deadline, **more)
    return dataclasses.replace(known, parent=parent)


_image = functools.partial(_operation, deadline=1800.0)
_helper = functools.partial(_operation, deadline=900.0)
_SHOT = "negative_prompt model mode resolution generate_audio cfg_scale"
FAMILY = family(
    "kling",
    "Kling",
    _operation("text_to_video", "video", f"prompt* duration+ aspect_ratio+ seed {_SHOT}", aliases=("text2video",)),
    _operation(
        "image_to_video",
        "video",
        f"image* prompt+ last_image duration+ aspect_ratio seed {_SHOT}",
        aliases=("image2video",),
        meanings={"prompt": "What is to happen, in words."},
    ),
    _operation(
        "reference_to_video",
        "video",
        "images* prompt* duration+ aspect_ratio+ negative_prompt model mode resolution",
        aliases=("multi_image_to_video", "multi-image2video", "multi_image2video"),
    ),
    _operation(
        "extend",
        "video",
        "prompt+ negative_prompt video_id cfg_scale",
        parent="optional",
        aliases=("video-extend", "video_extend"),
        meanings={"prompt": "What is to happen next, in words."},
    ),
    _operation(
        "lip_sync",
        "video",
        "video+ video_id audio+ prompt voice language speed",
        parent="optional",
        aliases=("lip-sync",),
        meanings={"video": _PARENT, "prompt": "What is said, in words, instead of `audio`. It needs a `voice`."},
    ),
    _helper("identify_face", "json", "video+ video_id", parent="optional", meanings={"video": _PARENT}),
    _operation(
        "advanced_lip_sync",
        "video",
        "audio* end* face start insert",
        parent="required",
        aliases=("advanced-lip-sync",),
        meanings={"audio": "URL of the recording, or `data:`. The parent is an `identify_face`."},
    ),
    _operation("effect", "video", "effect* image+ images model mode duration", aliases=("effects", "video_effects")),
    _operation("avatar", "video", "image* audio* prompt mode resolution"),
    _operation(
        "motion_control",
        "video",
        "video* image* orientation* mode resolution prompt model keep_sound",
        aliases=("motion-control",),
        meanings={"video": "URL of the video with the movement.", "image": "URL of the figure that is to move."},
    ),
    _operation(
        "omni_video",
        "video",
        "prompt* image images last_image video duration+ aspect_ratio+ model mode resolution generate_audio keep_sound",
        aliases=("omni-video",),
        meanings={
            "prompt": "What is wanted; media are named as `<<<image_1>>>` and `<<<video_1>>>`.",
            "image": "URL of the image to start with.",
            "video": "URL of a video to go by.",
        },
    ),
    _helper(
        "init_selection",
        "json",
        "video+ video_id",
        parent="optional",
        aliases=("init-selection",),
        meanings={"video": _PARENT},
    ),
    _helper("add_selection", "json", "frame* points*", parent="required", aliases=("add-selection",)),
    _helper("delete_selection", "json", "frame* points*", parent="required", aliases=("delete-selection",)),
    _helper("clear_selection", "json", "", parent="required", aliases=("clear-selection",)),
    _helper("preview_selection", "video", "", parent="required", aliases=("preview-selection",)),
    _operation(
        "multi_elements",
        "video",
        "edit* prompt* images negative_prompt duration+ model mode resolution",
        parent="required",
        aliases=("multi-elements",),
        meanings={"prompt": "What to do; media are named as `<<<video_1>>>` and `<<<image_1>>>`."},
    ),
    _image(
        "text_to_image",
        "image",
        "prompt* negative_prompt aspect_ratio+ resolution count model",
        aliases=("text2image",),
    ),
    _image("image_to_image", "image", "image* prompt* aspect_ratio+ resolution count model", aliases=("image2image",)),
    _image("omni_image", "image", "prompt* images aspect_ratio+ resolution count model", aliases=("omni-image",)),
    _image(
        "multi_image_to_image",
        "image",
        "images* prompt+ scene_image style_image aspect_ratio+ count model",
        aliases=("multi-image2image", "multi_image2image"),
        meanings={"images": "One to four pictures of the subject."},
    ),
    _image(
        "outpaint",
        "image",
        "image* left+ right+ top+ bottom+ prompt count",
        aliases=("expand", "image_expansion"),
    ),
    _image(
        "virtual_try_on",
        "image",
        "image* cloth_image* model",
        aliases=("kolors-virtual-try-on",),
        meanings={"image": "URL of the person, or `data:`."},
    ),
    _image("sound_effect", "audio", "prompt* duration+", aliases=("text_to_audio", "text-to-audio")),
    _image(
        "video_to_audio",
        "video",
        "video+ video_id prompt+ music_prompt asmr",
        parent="optional",
        aliases=("video-to-audio",),
        meanings={"video": _PARENT, "prompt": "What sounds are wanted, in words."},
    ),
    _image(
        "text_to_speech",
        "audio",
        "prompt* voice* language* speed",
        aliases=("tts",),
        meanings={"prompt": "What is said, at most 1,000 characters."},
    ),
    _operation(
        "product_video",
        "video",
        "video* product_images* person_images prompt+ aspect_ratio",
        aliases=("clothing_dupe",),
        meanings={
            "video": "URL of the video to copy, 5 to 180 seconds.",
            "prompt": "What the product is, in words.",
        },
    ),
)
