"""The operations of Udio, and the body that its two protocols share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.dialect import merge
from service.providers.operation import FIELDS, Schema, family, number, operation, switch, text

_FIELDS: Mapping[str, Schema] = FIELDS | {
    "prompt": text("Style and subject of the song, in words or tags.", examples=["rock, pop soul, a dove comes home"]),
    "lyrics": text("The lyrics. Without them Udio writes some, unless the song is instrumental."),
    "instrumental": switch("Whether the song has no voice. Not together with `lyrics`."),
    "model": text("Model: `udio32-v1.5` makes about 32 s, `udio130-v1.5` about 130 s.", examples=["udio130-v1.5"]),
    "prompt_strength": number("How closely it keeps to the prompt, 0 to 1.", minimum=0, maximum=1),
    "lyrics_strength": number("How clearly the lyrics are heard, 0 to 1.", minimum=0, maximum=1),
    "clarity": number("Clarity against naturalness, 0 to 1.", minimum=0, maximum=1),
    "quality": number("Quality against speed, 0 to 1.", minimum=0, maximum=1),
    "section_start": number("Where in a whole song the part begins, 0 to 1.", minimum=0, maximum=1),
    "section_end": number("Where in a whole song the part ends, 0 to 1.", minimum=0, maximum=1),
    "clip": text(
        "Id of the song: `item` of a result. With `parent_id` one of the songs of that task, and where it is left out the first.",
        examples=["4f6532fa-ef6f-495b-a7fe-98b58453c9bc"],
    ),
    "context_length": number("Seconds of the song that are listened to.", exclusiveMinimum=0),
}
_SONG = (
    "prompt* lyrics instrumental negative_prompt model seed prompt_strength lyrics_strength clarity quality "
    "section_start section_end"
)

FAMILY = family(
    "udio",
    "Udio",
    operation("music", "audio", _SONG, known=_FIELDS, aliases=("song",), deadline=1800.0),
    dataclasses.replace(
        operation("extend", "audio", f"{_SONG} clip+ context_length", known=_FIELDS, deadline=1800.0),
        parent="optional",
    ),
)

_SAME: Mapping[str, str] = {
    "prompt": "prompt",
    "lyrics": "lyrics",
    "negative_prompt": "negative_prompt",
    "seed": "seed",
    "prompt_strength": "prompt_strength",
    "lyrics_strength": "lyrics_strength",
    "clarity": "clarity_strength",
    "quality": "generation_quality",
    "section_start": "song_section_start",
    "section_end": "song_section_end",
}
"""Udio's names of our fields."""
_DEFAULTS: Mapping[str, Any] = {
    "bypass_prompt_optimization": False,
    "seed": -1,
    "prompt_strength": 0.5,
    "clarity_strength": 0.25,
    "lyrics_strength": 0.5,
    "generation_quality": 0.75,
    "negative_prompt": "",
}
"""The values that Udio's own page sends by default. Relays refuse a body without some of these."""
_MODEL = "udio130-v1.5"


def body_of(task: Task, *, wrapped: bool = True) -> dict[str, Any]:
    """Return the body of a submit: Udio's ``gen_params``, with the client's options over them.

    :param wrapped: whether the fields are in ``gen_params``, and not in the body itself
    """
    given = task.input
    lyrics = "instrumental" if given.get("instrumental") else "user" if "lyrics" in given else "generate"
    named = {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    params = {**_DEFAULTS, **named, "lyrics_type": lyrics, "model_type": given.get("model", _MODEL)}
    config: dict[str, Any] = {"mode": "regular"}
    if task.operation == "extend":
        source = {"source_type": "song", "song_id": clip_of(task)}
        config = {"mode": "precede", "context_length": given.get("context_length"), "source": source}
    body = merge(params, {"config": merge(config, {})})
    return merge({"gen_params": body} if wrapped else body, task.options)


def clip_of(task: Task) -> str | None:
    """Return the song that a task extends: the named one, else the first one of its parent."""
    clip = task.input.get("clip", task.inherited.get("clip"))
    return None if clip is None else str(clip)


def inherited_from(parent: Task) -> Mapping[str, Any] | list[Mistake]:
    """Return what a follow-up takes over from its parent: the id of the first song."""
    clip = next((result.item for result in parent.results if result.role == "result" and result.item), None)
    if clip is None:
        return [Mistake("parent_id", "the task has no song that can be extended")]
    return {"external_id": parent.external_id, "clip": clip}


def mistakes_in(task: Task) -> list[Mistake]:
    """Return what Udio's fields rule out."""
    found: list[Mistake] = []
    if task.input.get("instrumental") and "lyrics" in task.input:
        found.append(Mistake("input.lyrics", "go not with instrumental: leave one out"))
    if task.operation == "extend" and clip_of(task) is None and task.parent_id is None:
        found.append(Mistake("input.clip", "is required where there is no parent_id"))
    return found
