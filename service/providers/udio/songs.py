"""Reading of Udio's songs. They have no status word: a song is finished, has an error, or is still made."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.domain.task import Failure, Result, State
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import identifier, items, line, link

_ERRORS = ("error_detail", "error_type", "error_code")
"""The fields that say why a song failed, the clearest first."""
_NO_ERROR: Final = re.compile(r"[+-]?0+(\.0*)?")
"""An ``error_code`` that stands for none: zero, as a number of any type or as a text."""

Song = Mapping[str, Any]


def songs_in(value: Any) -> list[Song]:
    """Return the songs of a list."""
    return [each for each in items(value) if isinstance(each, dict)]


def state_of(songs: Sequence[Song]) -> State | None:
    """Return the state of a job; None where its songs do not say."""
    if not songs:
        return None
    if not all(song.get("finished") is True or reason_of([song]) is not None for song in songs):
        return State.RUNNING
    if results_of(songs):
        return State.SUCCEEDED
    return None if reason_of(songs) is None else State.FAILED


def results_of(songs: Sequence[Song]) -> tuple[Result, ...]:
    """Return the recordings in order, then their covers."""
    made = [(song, url) for song in songs if (url := link(song.get("song_path"), relative=False)) is not None]
    main = [Result("audio", url, item=identifier(song.get("id"))) for song, url in made]
    covers = [
        Result("image", url, role="cover", item=identifier(song.get("id")))
        for song, _ in made
        if (url := link(song.get("image_path"), relative=False)) is not None
    ]
    return (*main, *covers)


def reason_of(songs: Sequence[Song]) -> Failure | None:
    """Return why songs failed; None where none has an error."""
    stated = [line(song.get(name)) for song in songs for name in _ERRORS]
    texts = [text for text in stated if text is not None and _NO_ERROR.fullmatch(text) is None]
    if not texts:
        return None
    read = [failure_from_text(text) for text in texts]
    clear = next((each for each in read if each.code not in {"provider_error", "unknown"}), read[0])
    return Failure(clear.code, texts[0], retryable=clear.retryable)
