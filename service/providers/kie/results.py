"""The outputs of kie.ai's records, and the inputs that it does not accept."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.domain.task import Result, ResultRole, Task
from service.domain.validation import Mistake
from service.providers.read import compact, fields, items, kind_of, link, links, nested, prose

_SECONDARY: tuple[tuple[str, ResultRole], ...] = (("firstFrameUrl", "extra"), ("lastFrameUrl", "last_frame"))
_AUDIO = ("audio_url", "audioUrl")
_COVERS = ("image_url", "imageUrl")
_MEDIA = ("image", "last_image", "video", "mask")


def results_of(stated: Any) -> tuple[Result, ...]:
    """Return the outputs in ``resultJson``, which is JSON as a text, or an object."""
    held = fields(stated)
    found = [Result(kind_of(url, "image"), url) for url in links(held.get("resultUrls"))]
    found += _tracks(held) + _object(held)
    for name, role in _SECONDARY:
        url = link(held.get(name))
        if found and url is not None:
            found.append(Result("image", url, role=role))
    return tuple(found)


def _tracks(held: Mapping[str, Any]) -> list[Result]:
    """Return Suno's songs, or its lyrics. A stream's address ends with the work, and is no output."""
    listed = [fields(each) for each in [*items(held.get("data")), *items(held.get("sunoData"))]]
    return [result for track in listed for result in _of_track(track)]


def _of_track(track: Mapping[str, Any]) -> Iterator[Result]:
    audio = next((url for name in _AUDIO if (url := link(track.get(name))) is not None), None)
    cover = next((url for name in _COVERS if (url := link(track.get(name))) is not None), None)
    text = prose(track.get("text"))
    if audio is not None:
        yield Result(kind_of(audio, "audio"), audio)
        if cover is not None:
            yield Result("image", cover, role="cover")
    elif text is not None:
        yield Result("text", text=text)


def _object(held: Mapping[str, Any]) -> list[Result]:
    """Return a structured output: a text as it is, an address, or compact JSON."""
    made = nested(held.get("resultObject"))
    if isinstance(made, str):
        url = link(made, relative=False)
        text = prose(made)
        return [Result(kind_of(url, "image"), url)] if url else [Result("text", text=text)] if text else []
    return [Result("json", text=compact(made))] if isinstance(made, dict | list) and made else []


def media_mistakes(task: Task) -> list[Mistake]:
    """Return a mistake for each medium that is given as ``data:``: kie.ai fetches media from URLs."""
    return [
        Mistake(f"input.{name}", "kie.ai fetches media from URLs only: give an http(s) URL.")
        for name in _MEDIA
        if str(task.input.get(name, ""))[:5].lower() == "data:"
    ]
