"""The operations of Runway, and the checks that its protocols share."""

import functools
from collections.abc import Mapping

from service.domain.validation import Mistake
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import (
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

_REFERENCE = closed("", "url", url=text("URL of the image."), tag=text("Its name in the prompt."))
_AXES = ("x", "y", "z", "r", "bg_x_pan", "bg_y_pan")
_OWN: Schema = {
    "type": "object",
    "examples": [{"mode": "auto", "prompt": "A cat on a windowsill", "version": "2026-06"}],
}
FIELDS: Mapping[str, Schema] = SHARED | {
    "negative_prompt": text("Things to avoid, in words; for the models that support it."),
    "image": text(
        "URL of the image. Runway itself also takes `data:` and `runway://`.", examples=["https://example.com/cat.jpg"]
    ),
    "last_image": text("URL of the last image, for the models that support it."),
    "reference_images": several(
        "Images to take people, places or a style from; a tag lets the prompt name one, as `@tag`.",
        {"anyOf": [text("URL of the image."), _REFERENCE]},
    ),
    "keyframes": several(
        "Pictures that the edited video is to show, at a `second`, or at a `position` from 0 to 1; for aleph2.",
        closed(
            "",
            "image",
            image=text("URL of the picture."),
            second=number("Second of the video.", minimum=0),
            position=number("Place in the video, 0 to 1.", minimum=0, maximum=1),
        ),
        maxItems=5,
    ),
    "video": text(
        "URL of the video. Runway itself also takes `data:` and `runway://`.", examples=["https://example.com/cat.mp4"]
    ),
    "character_video": text("URL of a video of the character, instead of `image`."),
    "audio": text("URL of the recording.", examples=["https://example.com/voice.mp3"]),
    "duration": number(
        "Length in seconds. Of videos, gateways make 5 or 10, and Runway's own models 2 to 10.",
        exclusiveMinimum=0,
        examples=[5],
    ),
    "aspect_ratio": text(
        "Shape of the output, as `16:9` or `1280:720`; it is sent in the form that the provider and the model require.",
        pattern="^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}$",
        examples=["16:9"],
    ),
    "resolution": text("Resolution wanted: `720p`, `1k`, `2k`, `4k`.", examples=["2k"]),
    "scale": integer("How many times as wide and as high.", minimum=2, examples=[2]),
    "style": text("Style preset. Only `cinematic` is known, and only gateways have it."),
    "motion": closed(
        "Camera move, about -10 to 10 in each direction. Only gateways have it.",
        **{axis: {"type": "number"} for axis in _AXES},
    ),
    "strength": number("How far the structure of the video may change. Only gateways have it.", minimum=0, maximum=1),
    "body_control": switch("Whether gestures are played too, not the face alone."),
    "expression_intensity": integer("How strongly the face moves.", minimum=1, maximum=5),
    "voice": text("Name of one of Runway's preset voices.", default="Maya", examples=["Maya"]),
    "language": text("Code of the language wanted.", examples=["es"]),
    "recipe": text("Name of the recipe, such as `product_ad`.", examples=["multi_shot_video"]),
    "kind": choice("The kind of the output.", "video", "image", "audio"),
    "router": text("Slug of the router.", examples=["fast-video"]),
    "workflow": text("Id of the published workflow.", examples=["7f3c1f0e-9f44-4a1d-8f0e-1a2b3c4d5e6f"]),
    "input": _OWN | {"description": "The input, as Runway has it. It is sent as it is."},
    "node_outputs": _OWN | {"description": "Values for the nodes of the workflow, as Runway has them."},
}

_operation = functools.partial(operation, known=FIELDS)
_image = functools.partial(_operation, deadline=1200.0)
_audio = functools.partial(_operation, deadline=900.0)
"""A video has an hour: samples took up to 6 minutes, and a task over the account's limits waits as THROTTLED before it
runs. Pictures take half a minute and recordings less; ten times that, and the wait."""
_SHOT = "model seed negative_prompt style motion"

FAMILY = family(
    "runway",
    "Runway",
    _operation("text_to_video", "video", f"prompt* duration+ aspect_ratio+ {_SHOT}", aliases=("text2video",)),
    _operation(
        "image_to_video",
        "video",
        f"image* prompt+ last_image duration+ aspect_ratio {_SHOT}",
        aliases=("image2video",),
        meanings={"prompt": "Description of the motion, in words. Gateways and gen4.5 need it."},
    ),
    _operation(
        "video_to_video",
        "video",
        "video* prompt+ reference_images keyframes aspect_ratio model seed strength duration",
        aliases=("video2video",),
        meanings={
            "prompt": "The desired change, in words. Gateways need it.",
            "duration": "Length in seconds, for the models that can change it.",
        },
    ),
    _image("text_to_image", "image", "prompt* reference_images aspect_ratio+ model seed", aliases=("text2image",)),
    _operation("video_upscale", "video", "video* resolution+ model"),
    _operation("video_to_hdr", "video", "video* model"),
    _image("image_upscale", "image", "image* scale+ model"),
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
    _image("voice_dubbing", "audio", "audio* language* model"),
    _audio("voice_isolation", "audio", "audio* model"),
    _operation("recipe", "any", "recipe* input*"),
    _operation("routed", "any", "kind* router* input*", aliases=("generate",)),
    _operation("workflow", "any", "workflow* node_outputs"),
)


def missing(body: Mapping[str, object], needed: Mapping[str, str]) -> list[Mistake]:
    """Return a mistake for each field that a body lacks.

    :param needed: our name of a field by the provider's
    """
    return [Mistake(f"input.{ours}", "is required here") for theirs, ours in needed.items() if body.get(theirs) is None]
