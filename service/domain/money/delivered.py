"""Compare what a provider made with what it billed: seconds, outputs, resolution. Pure."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal

from service.domain.money.amounts import plain, read_number
from service.domain.money.quotes import Quote
from service.domain.money.rules import quantity_of
from service.domain.money.shapes import SIZES
from service.domain.task import Result, State, Task

Kind = Literal["seconds", "outputs", "resolution"]
KINDS: Final = ("seconds", "outputs", "resolution")
TOLERANCE: Final = Decimal("0.05")
"""The part of a quantity by which files differ from their order without a fault."""
LEAST: Final = Decimal("0.5")
"""Seconds by which they differ: films end at a frame."""
ENOUGH: Final = Decimal("0.85")
"""The part of the pixels that other shapes than 16:9 have at the same resolution."""
_SECONDS: Final = ("duration", "seconds", "duration_seconds", "num_seconds")
_OUTPUTS: Final = ("count", "n", "num_images", "number_of_images", "num_outputs", "image_count", "num_results")
_RESOLUTIONS: Final = ("resolution", "size", "video_resolution", "quality", "mode")
_SIZE: Final = re.compile(r"([1-9][0-9]{1,4})\s*[x*×:]\s*([1-9][0-9]{1,4})")
_LINES: Final = re.compile(r"([1-9][0-9]{2,3})p")
_SMALLEST: Final = 100
"""Pixels of an edge: smaller numbers are the ratio of the sides."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A quantity that was billed otherwise than it was made."""

    kind: Kind
    billed: str
    made: str
    basis: str
    """The ground of the billed quantity: the provider's answer, the charge and the rate, or the request."""

    def as_json(self) -> dict[str, str]:
        """Return the JSON object that the API shows."""
        words = {"seconds": "s", "outputs": "outputs", "resolution": "pixels at the shorter edge"}[self.kind]
        return {
            "kind": self.kind,
            "billed": self.billed,
            "made": self.made,
            "basis": self.basis,
            "said": f"{self.billed} {words} billed ({self.basis}), {self.made} made",
        }


def differences(task: Task) -> tuple[Difference, ...]:
    """Return the differences between what was billed for a task and what its results are. Previews do not count."""
    made = [each for each in task.results if each.role == "result"]
    if task.state is not State.SUCCEEDED or not made or task.adopted or task.results_removed_at is not None:
        return ()
    return tuple(_differences(task, made))


def _differences(task: Task, made: Sequence[Result]) -> Iterator[Difference]:
    fields = {**task.input, **task.options}
    quote = next((each for each in task.quotes if each.upstream == task.upstream), None)
    charged = _charged(task, quote)
    lengths = _lengths(made)
    seconds = _billed(task, fields, quote, charged, "second") if lengths else None
    if seconds is not None and not any(_is_near(seconds[0], each) for each in lengths):
        yield Difference(kind="seconds", billed=plain(seconds[0]), made=plain(lengths[0]), basis=seconds[1])
    count = _count(made)
    outputs = None if count is None else _billed(task, fields, quote, charged, "image")
    if outputs is not None and outputs[0] != count:
        yield Difference(kind="outputs", billed=plain(outputs[0]), made=str(count), basis=outputs[1])
    small = _too_small(made, fields)
    if small is not None:
        yield Difference(kind="resolution", billed=str(small[0]), made=str(small[1]), basis="request")


def _charged(task: Task, quote: Quote | None) -> Decimal | None:
    """Return what the provider says that it charged, in the unit of the quote."""
    submission = str(task.submission_id)
    entry = next((each for each in task.settlements if each["submission"] == submission), None)
    if entry is None or quote is None or entry["computed"] or entry["unit"] != quote.unit:
        return None
    return read_number(entry["gross"])


def _billed(
    task: Task, fields: Mapping[str, Any], quote: Quote | None, charged: Decimal | None, per: str
) -> tuple[Decimal, str] | None:
    """Return the billed seconds or outputs with their ground; None where nobody says how many."""
    names, stated = (_SECONDS, "seconds") if per == "second" else (_OUTPUTS, "images")
    in_answer = read_number(task.usage.get(stated))
    if in_answer:
        return in_answer, "answer"
    asked = next((number for name in names if (number := quantity_of(fields.get(name))) is not None), None)
    if not asked or quote is None or quote.per != per or not quote.rate:
        return None
    if charged and quote.high == quote.rate * asked:
        return charged / quote.rate, "charge and rate"
    return asked, "request"


def _lengths(made: Sequence[Result]) -> list[Decimal]:
    """Return the seconds that may be meant: of the longest file, and of all together; empty where one is not known."""
    timed = [each.kept for each in made if each.kind in {"video", "audio"}]
    known = [read_number(each.duration) for each in timed if each is not None and each.duration is not None]
    lengths = [each for each in known if each is not None]
    if not timed or len(lengths) < len(timed):
        return []
    return [max(lengths), sum(lengths, Decimal(0))]


def _is_near(billed: Decimal, made: Decimal) -> bool:
    return abs(billed - made) <= max(LEAST, billed * TOLERANCE)


def _count(made: Sequence[Result]) -> int | None:
    """Return how many pictures were made; None for other outputs: a film is billed by its seconds."""
    pictures = [each for each in made if each.kind == "image"]
    return len(pictures) if len(pictures) == len(made) else None


def _ordered_edge(fields: Mapping[str, Any], kind: str) -> tuple[int, int] | None:
    """Return the shorter edge and the pixels that the request names."""
    for name in _RESOLUTIONS:
        stated = str(fields.get(name) or "").strip().lower()
        size, lines = _SIZE.fullmatch(stated), _LINES.fullmatch(stated)
        if size is not None and min(int(size[1]), int(size[2])) >= _SMALLEST:
            return min(int(size[1]), int(size[2])), int(size[1]) * int(size[2])
        if kind == "video" and (stated in SIZES or lines is not None):  # of pictures, 2K has many meanings
            edge = min(SIZES[stated]) if lines is None else int(lines[1])
            return edge, edge * edge * 16 // 9
    width, height = (quantity_of(fields.get(name)) for name in ("width", "height"))
    return None if width is None or height is None else (int(min(width, height)), int(width * height))


def _too_small(made: Sequence[Result], fields: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the ordered and the made shorter edge of the smallest file that has both less height and less pixels.

    A wide film has a shorter edge than its resolution says, and about as many pixels.
    """
    found: list[tuple[int, int]] = []
    for each in made:
        copy = each.kept
        if copy is None or not copy.width or not copy.height:
            continue
        ordered = _ordered_edge(fields, each.kind)
        if ordered is None:
            continue
        edge = min(copy.width, copy.height)
        if edge < ordered[0] * (1 - TOLERANCE) and copy.width * copy.height < ordered[1] * ENOUGH:
            found.append((ordered[0], edge))
    return min(found, key=lambda pair: pair[1]) if found else None
