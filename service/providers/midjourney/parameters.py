"""The parameters in a Midjourney prompt, checked before anything is bought.

Ranges and versions are those of Midjourney's pages on V7, V8 to V8.2 and niji 7. A parameter that this file does not know is sent as it is.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from service.domain.text import shortened

# Each begins with what is searched for, and looks back afterwards: a prompt may have millions of characters.
_DASHES = re.compile("[\u2013\u2014\u2015](?<!\\S[\u2013\u2014\u2015])(?=[A-Za-z])")
_START = re.compile(r"--(?<!\S--)(?=[A-Za-z])")
_PARAMETER = re.compile(r"([A-Za-z]+)(?:=|\s+|$)(.*)", re.DOTALL)
_BRACES = re.compile(r"\{(?<!\\\{)([^{}]*)\}")
_COMMA = re.compile(r"(?<!\\),")
_SHAPE = re.compile(r"[1-9][0-9]{0,3}:[1-9][0-9]{0,3}")
_ALIASES = {
    "aspect": "ar", "stylize": "s", "chaos": "c", "weird": "w", "quality": "q", "version": "v", "repeat": "r", "profile": "p",
}  # fmt: skip
_RANGES: Mapping[str, tuple[float, float]] = {
    "s": (0, 1000),
    "c": (0, 100),
    "w": (0, 3000),
    "seed": (0, 4_294_967_295),
    "exp": (0, 100),
    "iw": (0, 3),
    "ow": (1, 1000),
    "cw": (0, 100),
    "sw": (0, 1000),
}
_CHOICES: Mapping[str, Sequence[str]] = {"motion": ("low", "high"), "bs": ("1", "2", "4")}
_QUALITIES = ("1", "2", "3", "4")
"""The values of V7 and V8: 3 is taken as 4. Older versions have fractions."""
_STYLE_VERSIONS = ("4", "6", "7")
_STYLES_OF_NIJI_6 = ("cute", "scenic", "expressive", "original")
_V7, _V8 = 7.0, 8.0
_NIJI_6 = 6.0


class Version(NamedTuple):
    """The version that a prompt names; None where it names none, and the account's own counts."""

    number: float | None
    niji: bool = False

    def before(self, number: float) -> bool:
        """Return whether it is an older version of the main model."""
        return self.number is not None and not self.niji and self.number < number

    def since(self, number: float) -> bool:
        """Return whether it is this version of the main model, or a later one."""
        return self.number is not None and not self.niji and self.number >= number

    def __str__(self) -> str:
        """Return the version as Midjourney writes it."""
        return f"{'niji ' if self.niji else 'V'}{self.number:g}"


def plain_dashes(prompt: str) -> str:
    """Return a prompt with ``--`` where a phone wrote a dash before a parameter."""
    return "--".join(_pieces(_DASHES, prompt))


def _pieces(pattern: re.Pattern[str], text: str) -> list[str]:
    """Return what stands between the matches of a pattern. Other threads run between two matches, which may be millions."""
    pieces, end = [], 0
    for found in pattern.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
    return [*pieces, text[end:]]


def parameters_in(prompt: str) -> dict[str, str]:
    """Return the parameters of a prompt by their short names. Of one that is given twice the last counts."""
    parts = _pieces(_START, plain_dashes(prompt))[1:]
    found = [(each[1].lower(), each[2].strip()) for each in map(_PARAMETER.match, parts) if each is not None]
    return {_ALIASES.get(name, name): value for name, value in found}


def parameter_mistakes(prompt: str) -> Iterator[str]:
    """Yield why Midjourney would refuse a prompt, or buy more than one job for it."""
    given = parameters_in(prompt)
    yield from _several_jobs(prompt, given)
    yield from _wrong_values(given)
    version = _version(given)
    if version is not None:
        yield from (words for rule in _RULES for words in rule(given, version))


def _several_jobs(prompt: str, given: Mapping[str, str]) -> Iterator[str]:
    """Yield a mistake for a prompt that makes several jobs: a gateway returns the id of the first one only."""
    times = _number(given.get("r", "1"))
    if times is None or times > 1:
        yield "--repeat makes several jobs, and only the first can be followed: submit a task for each."
    if any(_COMMA.search(each[1]) for each in _BRACES.finditer(prompt)):
        yield "{a, b} makes a job for each choice, and only the first can be followed: submit a task for each."


def _wrong_values(given: Mapping[str, str]) -> Iterator[str]:
    for name, (least, most) in _RANGES.items():
        number = _number(given.get(name))
        if name in given and (number is None or not least <= number <= most):
            yield f"--{name} takes {least:g} to {most:.0f}, not {_quoted(given[name])}."
    for name, allowed in _CHOICES.items():
        if name in given and _first(given[name]) not in allowed:
            yield f"--{name} takes {', '.join(allowed)}, not {_quoted(given[name])}."
    if "ar" in given and not _SHAPE.fullmatch(_first(given["ar"])):
        yield f"--ar takes two whole numbers such as 16:9, not {_quoted(given['ar'])}."
    for name in ("v", "niji"):
        if given.get(name) and _number(given[name]) is None:
            yield f"--{name} takes the number of a version, not {_quoted(given[name])}."
    if "q" in given and _first(given["q"]) == "4" and "oref" in given:
        yield "--oref does not go with --q 4."


def _version(given: Mapping[str, str]) -> Version | None:
    """Return the version that a prompt names; None where it names none."""
    number = _number(given.get("niji")) or _number(given.get("v"))
    return None if number is None else Version(number, _number(given.get("niji")) is not None)


Rule = Callable[[Mapping[str, str], Version], Iterator[str]]


def _references(given: Mapping[str, str], version: Version) -> Iterator[str]:
    newer = version.number is not None and version.number > _NIJI_6 if version.niji else version.since(_V7)
    if newer and ("cref" in given or "cw" in given):
        hint = "" if version.niji else ": use --oref of V7"
        yield f"{version} has no --cref and --cw, which are for V6 and niji 6{hint}."
    if version.before(_V7) and ("oref" in given or "ow" in given):
        yield f"{version} has no --oref and --ow, which came with V7."
    if version.since(_V8) and "sv" in given and _first(given["sv"]) not in _STYLE_VERSIONS:
        yield f"--sv of {version} takes {', '.join(_STYLE_VERSIONS)}, not {_quoted(given['sv'])}."


def _resolutions(given: Mapping[str, str], version: Version) -> Iterator[str]:
    if version.before(_V8) and not given.keys().isdisjoint({"hd", "sd"}):
        yield f"{version} has no --hd and --sd, which came with V8."
    if version.since(_V7) and "q" in given and _first(given["q"]) not in _QUALITIES:
        yield f"--q of {version} takes 1, 2 or 4, not {_quoted(given['q'])}."


def _modes(given: Mapping[str, str], version: Version) -> Iterator[str]:
    if version.before(_V7):
        yield from (f"{version} has no --{name}, which came with V7." for name in ("draft", "exp") if name in given)
    style = _first(given.get("style", "")).lower()
    if style in _STYLES_OF_NIJI_6 and (version.since(_V7) or (version.niji and version.number != _NIJI_6)):
        yield f"{version} has no --style {style}: it has raw only."


_RULES: Sequence[Rule] = (_references, _resolutions, _modes)


def _first(value: str) -> str:
    """Return the first word of a value: words may follow a parameter by mistake, and Midjourney decides on them."""
    return next(iter(value.split()), "")


def _number(value: str | None) -> float | None:
    """Return the number that a value begins with; None for any other text."""
    stated = _first(value or "")
    return float(stated) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?|\.[0-9]{1,6}", stated, re.ASCII) else None


def _quoted(value: str) -> str:
    return repr(shortened(value, 40)) if value else "nothing"
