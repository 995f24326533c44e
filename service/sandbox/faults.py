"""The faults of the sandbox in one table: words for a prompt, and the same as flags."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

SHAPES: Final = "ABCD"

_BRACKETED: Final = re.compile(r"\[(\w+)(?:=([^\[\]]*))?\]")


def _switch(text: str) -> bool:
    raise ValueError(f"takes no value, but got {text!r}")


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"needs seconds, 0 or more, not {text!r}")
    return number


def _times(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"needs a whole number, 0 or more, not {text!r}")
    return int(text)


def _shape(text: str) -> str:
    if text.upper() not in list(SHAPES):
        raise ValueError(f"needs one of {', '.join(SHAPES)}, not {text!r}")
    return text.upper()


def _word(sentence: str, read: Callable[[str], object] = _switch, plain: object = None, name: str = "") -> Any:
    """Describe a word. `plain` is its meaning without `=value`; None: a value is required."""
    switch = read is _switch
    meaning = {"sentence": sentence, "read": read, "plain": True if switch else plain, "name": name}
    return field(default=False if switch else None, metadata=meaning)


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one job, or (as flags of the sandbox) of every job.

    In a prompt a word is in brackets, in any case, with or without a value: `a cat [drop] [LATE=3]`. Where a
    route takes no prompt, any other text of the body serves (`https://example.com/[drop].mp4`). A prompt's word
    wins over the flag. Times of a job's life and of its callbacks follow the sandbox's clock; `slow` and `hang` are
    real waiting.
    """

    # What becomes of the job
    seconds: float | None = _word("the job takes this many seconds (the value is required)", _seconds)
    fail: bool = _word("the job fails with a reason, and its points are refunded")
    moderate: bool = _word("the job ends failed, with a reason that names the content policy")
    halffail: bool = _word("the job ends failed; of a song the first clip is finished all the same, and can be played")
    stuck: bool = _word("the job starts and never ends")
    contradict: float | None = _word(
        "the job says the opposite of its verdict, in one more callback and in every poll, so many seconds "
        "after its end (1)",
        _seconds,
        1.0,
    )

    # What the job waits for (Midjourney's window)
    modal: bool = _word("the job waits in its modal until that is answered; the submit's answer says so, code 21")
    hidemodal: bool = _word("the same, but the submit's answer says code 1 like any other, as new-api makes it")

    # At the submit, before anything is taken: no job, nothing paid
    refuse: bool = _word("the submit is refused with HTTP 400; together with moderate: for its content")
    refuse200: bool = _word("the submit is refused with HTTP 200 and a code other than 200 (Runway itself: HTTP 400)")
    nocredit: bool = _word("the submit is refused for lack of credit (gateways HTTP 403, Runway itself HTTP 400)")
    too_many: int | None = _word(
        "the first so many submits of this prompt are refused with HTTP 429 and Retry-After: 1 (1)", _times, 1, "429"
    )
    unavailable: int | None = _word(
        "the first so many submits of this prompt are refused with HTTP 503 (1)", _times, 1, "503"
    )

    fetch: bool = _word(
        "every URL of the order is fetched, by HEAD, in part and whole; without the file the submit is refused (400)"
    )

    # At the submit, after the job was taken and paid
    slow: float | None = _word("the submit is answered after so many seconds (3)", _seconds, 3.0)
    hang: bool = _word("the submit is never answered: after 300 seconds the connection is cut")
    cut: bool = _word("the connection is reset before any byte of the submit's answer")
    cutbody: bool = _word("the connection is closed in the middle of the submit's answer")
    server_error: bool = _word("the submit is answered HTTP 500", name="500")
    htmlsubmit: bool = _word("the submit is answered by an HTML page with HTTP 200")

    # Callbacks
    drop: bool = _word("no callback is sent")
    twice: bool = _word("every callback is sent twice")
    late: float | None = _word("every callback is sent so many seconds late (3)", _seconds, 3.0)
    disorder: bool = _word("the callback that says running is sent after the final one")
    early: bool = _word(
        "the job starts at once, and the callbacks due by then are sent and answered before the submit is "
        "answered (with seconds=0 the final one too)"
    )
    garbage: bool = _word("a callback of broken JSON is sent before the final one")

    # Polls
    html: bool = _word("every poll is answered by an HTML page with HTTP 200")
    flaky: bool = _word("the first, fourth, seventh … poll is answered HTTP 502 with an HTML page")
    ghost: float | None = _word("polls do not find the job in its first seconds (2)", _seconds, 2.0)
    ghost200: float | None = _word("the same with HTTP 200 (2; Runway itself keeps to its HTTP 404)", _seconds, 2.0)
    nodata: bool = _word("polls of a song hold no task until it has ended: data is null, or leaves it out")
    fade: bool = _word("a song's clips have videos and covers until they are finished, and lack them then")
    lag: float | None = _word(
        "polls, and submits that go on from the job, see it as it was so many seconds ago: the gateway's copy is late (15)",
        _seconds,
        15.0,
    )
    feed_shape: str | None = _word("gateways answer polls in this shape: A, B, C or D (the value is required)", _shape)

    # Files of the finished job
    filebytes: int | None = _word("the job's files have this many bytes (the value is required)", _times)
    filegone: float | None = _word("the job's files are gone so many seconds after its end (0)", _seconds, 0.0)
    filereset: int | None = _word("the first so many answers with a file break off in the middle (1)", _times, 1)
    file_unavailable: int | None = _word(
        "the first so many requests for a file are answered HTTP 503 (1)", _times, 1, "file503"
    )
    filepage: bool = _word("a request for a file is answered by an HTML page with HTTP 200 and the type of the file")
    filechunked: bool = _word("a file is sent without its length")
    fileshort: bool = _word("a file is announced with twice its length, and ends after its own")

    @classmethod
    def named(cls, words: Iterable[str]) -> Self:
        """Read words as `drop` or `late=3`, without brackets.

        Raises ValueError with a sentence for an unknown word or a value that makes no sense.
        """
        said: dict[str, object] = {}
        for text in words:
            word, equals, value = text.strip().lower().partition("=")
            if word not in _WORDS:
                raise ValueError(f"there is no fault {word!r}; there are {', '.join(_WORDS)}")
            name, meaning = _WORDS[word]
            said[name] = _meant(word, value if equals else None, meaning)
        return cls(**said)  # type: ignore[arg-type]

    @classmethod
    def in_text(cls, text: str) -> Self:
        """Read the bracketed words of a text; brackets around anything else are left alone.

        Raises ValueError with a sentence for a known word with a value that makes no sense.
        """
        found = ((word.lower(), value) for word, value in _BRACKETED.findall(text))
        return cls.named(f"{word}={value}" if value else word for word, value in found if word in _WORDS)

    def __or__(self, other: Self) -> Self:
        """Merge two sets of faults. The other one overrides."""
        return type(self)(**(self._said() | other._said()))

    def as_words(self) -> dict[str, Any]:
        """Return the faults that are set, by word."""
        names = {name: word for word, (name, _) in _WORDS.items()}
        return {names[name]: value for name, value in self._said().items()}

    def _said(self) -> dict[str, Any]:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        # By identity: 0.0 is a given value, although it equals False.
        return {name: value for name, value in values.items() if value is not None and value is not False}


def _meant(word: str, value: str | None, meaning: Mapping[str, Any]) -> object:
    if value is None:
        if meaning["plain"] is None:
            raise ValueError(f"the fault {word!r} needs a value: {word}=…")
        return meaning["plain"]
    try:
        return meaning["read"](value)
    except ValueError as mistake:
        raise ValueError(f"the fault {word!r} {mistake}") from None


_WORDS: Final[dict[str, tuple[str, Mapping[str, Any]]]] = {
    each.metadata["name"] or each.name: (each.name, each.metadata) for each in fields(Faults)
}

FAULTS: Final[dict[str, str]] = {word: meaning["sentence"] for word, (_, meaning) in _WORDS.items()}
"""Every word, and what it does in one sentence (a number in parentheses is its value where none is given)."""

NO_FAULTS: Final = Faults()
