"""The bodies of Kling's older generation: the model is in the body, and gateways accept the same bodies."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake

Body = dict[str, Any]
ROUTES: Mapping[str, str] = {
    "text_to_video": "/v1/videos/text2video",
    "image_to_video": "/v1/videos/image2video",
    "reference_to_video": "/v1/videos/multi-image2video",
    "extend": "/v1/videos/video-extend",
    "lip_sync": "/v1/videos/lip-sync",
    "identify_face": "/v1/videos/identify-face",
    "advanced_lip_sync": "/v1/videos/advanced-lip-sync",
    "effect": "/v1/videos/effects",
    "avatar": "/v1/videos/avatar/image2video",
    "motion_control": "/v1/videos/motion-control",
    "omni_video": "/v1/videos/omni-video",
    "init_selection": "/v1/videos/multi-elements/init-selection",
    "add_selection": "/v1/videos/multi-elements/add-selection",
    "delete_selection": "/v1/videos/multi-elements/delete-selection",
    "clear_selection": "/v1/videos/multi-elements/clear-selection",
    "preview_selection": "/v1/videos/multi-elements/preview-selection",
    "multi_elements": "/v1/videos/multi-elements",
    "text_to_image": "/v1/images/generations",
    "image_to_image": "/v1/images/generations",
    "omni_image": "/v1/images/omni-image",
    "multi_image_to_image": "/v1/images/multi-image2image",
    "outpaint": "/v1/images/editing/expand",
    "virtual_try_on": "/v1/images/kolors-virtual-try-on",
    "sound_effect": "/v1/audio/text-to-audio",
    "video_to_audio": "/v1/audio/video-to-audio",
    "text_to_speech": "/v1/audio/tts",
}
"""The route of each operation (Kling's API reference). A task is queried below the route where it was made."""
_SHOT = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "model": "model_name",
    "duration": "duration",
    "cfg_scale": "cfg_scale",
    "generate_audio": "sound",
    "mode": "mode",
    "resolution": "mode",
}
_IMAGES = {"prompt": "prompt", "model": "model_name", "count": "n", "aspect_ratio": "aspect_ratio"}
_SIDES = {"left": "left", "right": "right", "top": "up", "bottom": "down"}
_FOOTAGE = {"video": "video_url", "video_id": "video_id"}
_SELECTION = {"frame": "frame_index", "points": "points"}
NAMES: Mapping[str, Mapping[str, str]] = {
    "text_to_video": _SHOT | {"aspect_ratio": "aspect_ratio"},
    "image_to_video": _SHOT | {"image": "image", "last_image": "image_tail"},
    "reference_to_video": _SHOT | {"images": "image_list", "aspect_ratio": "aspect_ratio"},
    "extend": {name: name for name in ("prompt", "negative_prompt", "video_id", "cfg_scale")},
    "lip_sync": _FOOTAGE | dict.fromkeys(("audio", "prompt", "voice", "language", "speed"), "input"),
    "identify_face": _FOOTAGE,
    "advanced_lip_sync": dict.fromkeys(("audio", "face", "start", "end", "insert"), "face_choose"),
    "effect": {"effect": "effect_scene"} | dict.fromkeys(("image", "images", "model", "mode", "duration"), "input"),
    "avatar": {"image": "image", "audio": "sound_file", "prompt": "prompt", "mode": "mode", "resolution": "mode"},
    "motion_control": {
        "video": "video_url",
        "image": "image_url",
        "orientation": "character_orientation",
        "mode": "mode",
        "resolution": "mode",
        "prompt": "prompt",
        "model": "model_name",
        "keep_sound": "keep_original_sound",
    },
    "omni_video": _SHOT
    | {"aspect_ratio": "aspect_ratio"}
    | dict.fromkeys(("image", "images", "last_image"), "image_list")
    | dict.fromkeys(("video", "keep_sound"), "video_list"),
    "init_selection": _FOOTAGE,
    "add_selection": _SELECTION,
    "delete_selection": _SELECTION,
    "clear_selection": {},
    "preview_selection": {},
    "multi_elements": {name: theirs for name, theirs in _SHOT.items() if name not in {"cfg_scale", "generate_audio"}}
    | {"edit": "edit_mode", "images": "image_list"},
    "text_to_image": _IMAGES | {"negative_prompt": "negative_prompt", "resolution": "resolution"},
    "image_to_image": _IMAGES | {"image": "image", "resolution": "resolution"},
    "omni_image": _IMAGES | {"images": "image_list", "resolution": "resolution"},
    "multi_image_to_image": _IMAGES
    | {"images": "subject_image_list", "scene_image": "scene_image", "style_image": "style_image"},
    "outpaint": {"image": "image", "prompt": "prompt", "count": "n"}
    | {ours: f"{theirs}_expansion_ratio" for ours, theirs in _SIDES.items()},
    "virtual_try_on": {"image": "human_image", "cloth_image": "cloth_image", "model": "model_name"},
    "sound_effect": {"prompt": "prompt", "duration": "duration"},
    "video_to_audio": _FOOTAGE | {"prompt": "sound_effect_prompt", "music_prompt": "bgm_prompt", "asmr": "asmr_mode"},
    "text_to_speech": {
        "prompt": "text",
        "voice": "voice_id",
        "language": "voice_language",
        "speed": "voice_speed",
    },
}
"""Kling's name of each of our fields that an operation has. Some stand within an object or a list of that name."""
_MODES = {"720p": "std", "1080p": "pro", "4k": "4k"}
_SWITCHES = {"generate_audio": {True: "on", False: "off"}, "keep_sound": {True: "yes", False: "no"}}
_ENTRIES = {"image_list": "image", "subject_image_list": "subject_image"}
SESSIONS = frozenset(
    {"advanced_lip_sync", "add_selection", "delete_selection", "clear_selection", "preview_selection", "multi_elements"}
)
"""Operations that continue a session, whose id is the external id of the parent."""
VIDEOS = frozenset({"extend", "lip_sync", "identify_face", "init_selection", "video_to_audio"})
"""Operations that take a video of the parent by its id."""


def body_of(task: Task) -> Body:
    """Return a task in Kling's fields, without those that Dovecote fills."""
    names = NAMES[task.operation]
    body = {names[name]: _value(task.operation, name, value) for name, value in task.input.items() if name in names}
    if task.input.get("mode") is not None and names.get("mode") == "mode":
        body["mode"] = task.input["mode"]
    if task.operation in SESSIONS:
        body["session_id"] = task.inherited.get("external_id")
    if task.operation in VIDEOS and task.inherited.get("video_id") is not None:
        body["video_id"] = task.inherited["video_id"]
    return body | _nested(task)


def _value(operation: str, name: str, value: Any) -> Any:
    """Return a value in Kling's form: durations are texts, pictures bare base64, switches words."""
    match name:
        case "duration":
            return value if operation == "sound_effect" else f"{value:g}"
        case "image" | "last_image" | "cloth_image" | "scene_image" | "style_image" | "audio":
            return bare(value)
        case "images":
            entry = _ENTRIES["subject_image_list" if operation == "multi_image_to_image" else "image_list"]
            return [{entry: bare(each)} for each in value]
        case "resolution":
            shown = value.lower()
            return shown if operation in {"text_to_image", "image_to_image", "omni_image"} else _MODES.get(shown, shown)
        case "generate_audio" | "keep_sound":
            return _SWITCHES[name][value]
    return value


def _nested(task: Task) -> Body:
    """Return the values within an object or a list."""
    given = task.input
    match task.operation:
        case "lip_sync":
            return _lip_sync(task)
        case "advanced_lip_sync":
            times = {"start": given.get("start", 0), "end": given.get("end"), "insert": given.get("insert", 0)}
            spoken = {f"sound_{name}_time": round(at * 1000) for name, at in times.items() if at is not None}
            sound = {"sound_file": bare(given["audio"])} if "audio" in given else {}
            return {"face_choose": [{"face_id": given.get("face", "0"), **sound, **spoken}]}
        case "effect":
            return {"input": _effect(given)}
        case "omni_video":
            return _omni(given)
    return {}


def _lip_sync(task: Task) -> Body:
    """Return the older lip-sync, which takes a video and a recording or a text by one call."""
    given = task.input
    footage = {"video_url": given.get("video"), "video_id": task.inherited.get("video_id") or given.get("video_id")}
    spoken: Body = {
        "mode": "audio2video" if "audio" in given else "text2video",
        "text": None if "audio" in given else given.get("prompt"),
        "voice_id": given.get("voice"),
        "voice_language": given.get("language"),
        "voice_speed": given.get("speed"),
    }
    audio = given.get("audio")
    if audio is not None:
        as_file = audio[:5].lower() == "data:"
        spoken |= (
            {"audio_type": "file", "audio_file": bare(audio)} if as_file else {"audio_type": "url", "audio_url": audio}
        )
    found = {**footage, **spoken}
    return {
        "video_url": None,
        "video_id": None,
        "input": {name: value for name, value in found.items() if value is not None},
    }


def _effect(given: Mapping[str, Any]) -> Body:
    body: Body = {"image": bare(given["image"])} if "image" in given else {}
    if "images" in given:
        body = {"images": [bare(each) for each in given["images"]]}
    named = {"model_name": given.get("model"), "mode": given.get("mode")}
    named["duration"] = f"{given['duration']:g}" if "duration" in given else None
    return body | {name: value for name, value in named.items() if value is not None}


def _omni(given: Mapping[str, Any]) -> Body:
    """Return the media that a prompt refers to."""
    images: list[Body] = [{"image_url": bare(given["image"]), "type": "first_frame"}] if "image" in given else []
    images += [{"image_url": bare(given["last_image"]), "type": "end_frame"}] if "last_image" in given else []
    images += [{"image_url": bare(each)} for each in given.get("images", ())]
    body: Body = {"image_list": images or None, "video_list": None}
    if "video" in given:
        kept = {"keep_original_sound": "yes" if given["keep_sound"] else "no"} if "keep_sound" in given else {}
        body["video_list"] = [{"video_url": given["video"], "refer_type": "feature", **kept}]
    return body


def bare(source: str) -> str:
    """Return a URL as it is, and of a ``data:`` URL only its base64: Kling takes no prefix."""
    return source.partition(",")[2] if source[:5].lower() == "data:" else source


# What is known to be refused -------------------------------------------------------------------------------------

_NO_FIELD = "Kling has no such field here: leave it out, or choose another upstream."
_LONGEST = {"sound_effect": 200, "text_to_speech": 1000, "lip_sync": 120}
_LONGEST_PROMPT = 2500
_MOST_IMAGES = {"reference_to_video": 4, "multi_image_to_image": 4, "omni_image": 10, "multi_elements": 2}
_DURATIONS = {"sound_effect": (3, 10)}
_SHORTEST, _LONGEST_VIDEO = 3, 15


def mistakes_of(task: Task) -> list[Mistake]:
    """Return what Kling is known to refuse of a task."""
    given, operation = task.input, task.operation
    names = NAMES[operation]
    found = [Mistake(f"input.{name}", _NO_FIELD) for name in given if name not in names]
    limit = _LONGEST.get(operation, _LONGEST_PROMPT)
    found += [
        Mistake(f"input.{name}", f"has more than {limit} characters")
        for name in ("prompt", "negative_prompt")
        if len(given.get(name) or "") > limit
    ]
    if len(given.get("images", ())) > _MOST_IMAGES.get(operation, 100):
        found.append(Mistake("input.images", f"has more than {_MOST_IMAGES[operation]} images"))
    return found + _duration(task) + _media(task) + _missing(task)


def _duration(task: Task) -> list[Mistake]:
    duration = task.input.get("duration")
    if duration is None:
        return []
    shortest, longest = _DURATIONS.get(task.operation, (_SHORTEST, _LONGEST_VIDEO))
    whole = task.operation == "sound_effect" or float(duration).is_integer()
    if whole and shortest <= duration <= longest:
        return []
    return [Mistake("input.duration", f"Kling makes {shortest} to {longest} seconds, in whole seconds for videos.")]


def _media(task: Task) -> list[Mistake]:
    """Return media in a form that Kling does not take: videos are URLs, other data is base64."""
    found = []
    for name in ("image", "last_image", "cloth_image", "scene_image", "style_image", "audio", "video"):
        source = task.input.get(name)
        if not isinstance(source, str) or source[:5].lower() != "data:":
            continue
        if name == "video":
            found.append(Mistake("input.video", "Kling takes a video by its URL only."))
        elif not source.partition(",")[0].lower().endswith(";base64"):
            found.append(Mistake(f"input.{name}", "is a data: URL without base64, which Kling does not take"))
    return found


def _missing(task: Task) -> list[Mistake]:
    given, operation = task.input, task.operation
    found = []
    if operation in VIDEOS:
        named = "video_id" in given or task.inherited.get("video_id") is not None
        path = "parent_id" if operation == "extend" else "input.video"
        if not named and "video" not in given:
            found.append(Mistake(path, "is required here, unless there is a video_id or a parent_id"))
        elif named and "video" in given:
            found.append(Mistake("input.video", "does not fit: the video is named by its id already"))
    if operation == "lip_sync" and ("audio" in given) == ("prompt" in given):
        found.append(Mistake("input.audio", "is required here, or a prompt that is to be said, and not both"))
    if operation == "lip_sync" and "prompt" in given and not {"voice", "language"} <= given.keys():
        found.append(Mistake("input.voice", "is required here with its language: it says the prompt"))
    if operation == "effect" and ("image" in given) == ("images" in given) and "input" not in task.options:
        found.append(Mistake("input.image", "is required here, or two images, and not both"))
    return found
