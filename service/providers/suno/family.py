"""The operations of Suno, and the checks that its protocols share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from service.domain.task import ResultKind, Task
from service.domain.validation import Mistake
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import Operation, Schema, family, number, operation, switch, text

_FIELDS: Mapping[str, Schema] = SHARED | {
    "prompt": text(
        "The subject of the song, in words. Suno then writes lyrics, style and title. Not together with these three.",
        examples=["A song about a dove that finds its way home"],
    ),
    "lyrics": text(
        "The lyrics, with marks such as `[Verse]`; used with `style` and `title`. Up to 3000 characters, "
        "and 5000 from model 4.5 on.",
        examples=["[Verse]\nOver the hills and over the bay\nthe dove comes home at the end of the day"],
    ),
    "style": text("Style of the music, with commas. Up to 200 characters, and 1000 from model 4.5 on.", examples=["folk, waltz"]),
    "title": text("Title of the song.", examples=["Homing"]),
    "negative_prompt": text("Styles that are not wanted, with commas."),
    "instrumental": switch("Whether the song has no voice. Use it with `prompt`, or with `style` and without `lyrics`."),
    "vocal_gender": {"enum": ["m", "f"], "description": "Whose voice it should be."},
    "style_weight": number("How closely it keeps to the style, 0 to 1.", maximum=1),
    "weirdness": number("How far it may stray, 0 to 1.", maximum=1),
    "audio_weight": number("Similarity to the source recording, 0 to 1.", maximum=1),
    "model": text("Model, by the provider's name for it (`mv`, such as `chirp-auk`; or `V4_5`). It is passed on as it is."),
    "duration": number("Length of the song in seconds, for the models V5_5 and V6.", minimum=10, maximum=360),
    "clip": text(
        "Id of the clip: `item` of a result. With `parent_id` one of the clips of that task, and where it is left out "
        "the first of them. Needed where there is no `parent_id`.",
        examples=["e9893d04-6a63-4007-8473-64b706eca4d1"],
    ),
    "continue_at": number("The second of the clip at which the new part begins.", examples=[60]),
    "uploaded": switch("Whether the clip is an upload. A parent that is an upload says so by itself."),
    "start": number("The second at which the part to be replaced begins.", examples=[10]),
    "end": number("The second at which it ends: later than `start`.", examples=[24]),
    "persona": text("Id of the persona. Default: the persona that the task of `parent_id` created.", examples=["0f6e8077-a7ba"]),
    "split": {"enum": ["two", "twelve"], "default": "two", "description": "Into the voice and all the rest, or into a track for each instrument."},
    "infill": switch("Whether the clip is of `infill`, not of `extend`. The parent says so by itself."),
    "audio": text("URL of the recording.", examples=["https://example.com/whistling.mp3"]),
    "name": text("Name of the persona.", examples=["The homing pigeon"]),
    "description": text("How the persona sings.", examples=["A warm alto, close to the microphone"]),
    "public": {**switch("Whether others may use the persona."), "default": False},
}  # fmt: skip


def _operation(name: str, produces: ResultKind, takes: str, *, deadline: float = 1800.0, **more: Any) -> Operation:
    """Return an operation; one that takes a clip may continue a task that has made clips."""
    made = operation(name, produces, takes, known=_FIELDS, deadline=deadline, **more)
    return dataclasses.replace(made, parent="optional") if "clip" in made.input["properties"] else made


def _music() -> Operation:
    """Return the operation that makes a new song. Its input has two forms, which its schema separates."""
    made = _operation("music", "audio", f"prompt+ lyrics style title duration {_SOUND}", aliases=("song",))
    written = {name: _FIELDS[name]["examples"][0] for name in ("lyrics", "style", "title")}
    played = {"style": "ambient, strings", "title": "Loft", "instrumental": True}
    apart = {"prompt": {"properties": dict.fromkeys(written, False)}}
    examples = [*made.input["examples"], written, played]
    return dataclasses.replace(made, input={**made.input, "dependentSchemas": apart, "examples": examples})


_SOUND = "instrumental negative_prompt vocal_gender style_weight weirdness audio_weight model"
_WORDED = f"lyrics+ style+ title {_SOUND}"
_PART = {"lyrics": "The words to be sung in that part."}
_SUBJECT = {"prompt": "The subject of the lyrics, in words."}
_BRIEF = {"style": "The style to be spelt out."}
_RECORDING = {"audio": "URL of a recording of your own, up to 8 minutes."}
_QUICK = 900.0
"""Seconds, for operations that make no song: lyrics take some 20 s, files a minute; Suno-API gives up after 10 minutes."""
FAMILY = family(
    "suno",
    "Suno",
    _music(),
    _operation("extend", "audio", f"clip+ continue_at+ uploaded {_WORDED}", aliases=("continue", "upload_extend")),
    _operation("cover", "audio", f"clip+ {_WORDED}"),
    _operation("infill", "audio", f"clip+ start* end* {_WORDED}", aliases=("replace_section",), meanings=_PART),
    _operation("persona_music", "audio", f"persona+ clip+ {_WORDED}", aliases=("artist_consistency",)),
    _operation("stems", "audio", "clip+ split title model", aliases=("gen_stem",)),
    _operation("lyrics", "text", "prompt* model", deadline=_QUICK, meanings=_SUBJECT),
    _operation("concat", "audio", "clip+ infill"),
    _operation("upload", "audio", "audio*", deadline=_QUICK),
    _operation("cover_audio", "audio", f"audio* {_WORDED}", meanings=_RECORDING),
    _operation("extend_audio", "audio", f"audio* continue_at+ {_WORDED}", meanings=_RECORDING),
    _operation("persona", "text", "clip+ name* description+ public", aliases=("persona_create",), deadline=_QUICK),
    _operation("wav", "audio", "clip+", deadline=_QUICK),
    _operation("mp4", "video", "clip+", deadline=_QUICK),
    _operation("timing", "text", "clip+", deadline=_QUICK),
    _operation("style_tags", "text", "style*", aliases=("tags",), deadline=_QUICK, meanings=_BRIEF),
)

RECORDINGS = ("cover_audio", "extend_audio")
"""The operations on a recording of the client's own, by kie.ai and sunoapi.org."""
SONGS = ("music", "extend", "cover", "infill", "persona_music", "stems")
TYPICAL_SECONDS = {
    **dict.fromkeys(SONGS, 120.0),
    "lyrics": 20.0,
    "concat": 60.0,
    "upload": 30.0,
    "mp4": 60.0,
}
"""Songs take 1 to 3 minutes; the rest is a guess until there are medians of our own."""
_LIMITS = (
    (("chirp-v3", "chirp-v4", "V3_5"), 3000, 200),
    (("chirp-auk", "chirp-bluejay", "chirp-crow", "chirp-fenix", "V4_", "V5", "V6"), 5000, 1000),
    (("V4",), 3000, 200),
)
"""The maximum characters of lyrics and of style, by prefix of the model. The first matching row counts."""


def clip_of(task: Task) -> str | None:
    """Return the clip that a task works on: the parent's, or the one that its input names."""
    clip: str | None = task.inherited.get("clip", task.input.get("clip"))
    return clip


def inherited_from(task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
    """Return the clip that a follow-up continues: the named one, or the first of the parent's."""
    made = [result for result in parent.results if result.role == "result"]
    clips = list(dict.fromkeys(result.item for result in made if result.item is not None))
    persona = next((result.text for result in made if parent.operation == "persona"), None)
    named = task.input.get("clip")
    if not clips and persona is None:
        return [Mistake("parent_id", f"a task of {parent.operation} has no clip to continue")]
    if named is not None and clips and named not in clips:
        return [Mistake("input.clip", f"is not one of the parent's clips: it has {', '.join(clips)}")]
    clip = named or next(iter(clips), None)
    job = None if "," in (parent.external_id or "") else parent.external_id
    return {"clip": clip, "task_id": job, "operation": parent.operation, "persona": persona}


NO_CLIP = Mistake("input.clip", "is required here: name a clip, or a parent_id that has clips")
NO_SUBJECT = Mistake("input.prompt", "is required here, unless there are lyrics, or a style")


def inline_recording(task: Task) -> list[Mistake]:
    """Return a mistake for a recording that is not at a URL: every protocol of Suno fetches it."""
    if str(task.input.get("audio", ""))[:5].lower() != "data:":
        return []
    return [Mistake("input.audio", "Suno fetches recordings: give a URL.")]


def too_long(task: Task, model: Any, sent: Mapping[str, Any]) -> list[Mistake]:
    """Return a mistake for each text that is longer than the model allows."""
    row = next((row for row in _LIMITS if str(model).startswith(row[0])), None)
    if row is None:
        return []
    return [
        Mistake(f"input.{name}", f"{model} takes {most} characters at most.")
        for name, most in zip(("lyrics", "style"), row[1:], strict=True)
        if name in task.input and isinstance(sent[name], str) and len(sent[name]) > most
    ]
