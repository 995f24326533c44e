"""Draw the lifecycle of a task from the table of moves: ``python -m service.cli.lifecycle > docs/lifecycle.svg``."""

import sys
from collections.abc import Iterator
from typing import Final

from service.domain.task import ENDED, OPEN, State
from service.domain.transitions import MOVES

_OPEN: Final = [state for state in State if state in OPEN]
_ENDED: Final = [state for state in State if state in ENDED]
_STEP: Final = 140
_WIDTH: Final = 116
_LINE: Final = 250
"""The height of the line on which the states stand."""

_STYLE: Final = (
    "text{font:14px sans-serif;text-anchor:middle;fill:#1f2933}.note{font-size:13px;fill:#52606d}"
    "rect{fill:#e8f1fb;stroke:#2b6cb0}.ended{fill:#e9f5ec;stroke:#2f855a}"
    "path{fill:none;stroke:#52606d;stroke-width:1.4;marker-end:url(#tip)}.back{stroke:#b7791f}.tip{stroke:none;fill:#52606d}.all{fill:none;stroke:#52606d;stroke-dasharray:4 3}"
)

_TIP: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path class="tip" style="marker-end:none" d="M0,0 L8,4 L0,8 z"/></marker></defs>'
)


def drawing() -> str:
    """Return the drawing as SVG: open states in a row, forward moves above it, moves back below it."""
    width, height = _STEP * (len(_OPEN) + 1) + 30, _LINE + 190
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="Lifecycle of a task">',
            f"<style>{_STYLE}</style>",
            _TIP,
            f'<rect x="0" y="0" width="{width}" height="{height}" style="fill:#fff;stroke:none"/>',
            *_states(),
            *_moves(),
            f'<text class="note" x="{_x(2.5)}" y="20">Above: forward. Below: back. Each open state may end.</text>',
            "</svg>\n",
        )
    )


def _x(place: float) -> int:
    return round(75 + _STEP * place)


def _states() -> Iterator[str]:
    for place, state in enumerate(_OPEN):
        yield from _box(place, _LINE, state, "open")
    left = _x(len(_OPEN)) - _WIDTH // 2 - 7
    yield f'<rect class="all" x="{left}" y="{_LINE - 91}" width="{_WIDTH + 14}" height="182" rx="8"/>'
    for row, state in enumerate(_ENDED):
        yield from _box(len(_OPEN), _LINE - 66 + 44 * row, state, "ended")


def _box(place: int, y: int, state: State, kind: str) -> Iterator[str]:
    yield f'<rect class="{kind}" x="{_x(place) - _WIDTH // 2}" y="{y - 17}" width="{_WIDTH}" height="34" rx="6"/>'
    yield f'<text x="{_x(place)}" y="{y + 5}">{state}</text>'


def _moves() -> Iterator[str]:
    """Yield an arc for each move between open states, and one arrow to the ended states from all of them."""
    for start, state in enumerate(_OPEN):
        for end, other in enumerate(_OPEN):
            if other in MOVES[state]:
                yield _arc(start, end)
    if all(MOVES[state] >= ENDED for state in _OPEN):
        y, right = _LINE + 150, _x(len(_OPEN))
        yield f'<path d="M{_x(0) - 40},{y} H{right} V{_LINE + 92}"/>'
        for place in range(len(_OPEN)):
            yield f'<path style="marker-end:none" d="M{_x(place) - 40},{_LINE + 17} V{y}"/>'


def _arc(start: int, end: int) -> str:
    side = -1 if end > start else 1
    edge, reach = _LINE + side * 17, 34 * abs(end - start) + 12
    bend = edge + side * round(reach * 4 / 3)
    left, right = _x(start) + 10, _x(end) - 10
    kind = "" if end > start else ' class="back"'
    return f'<path{kind} d="M{left},{edge} C{left},{bend} {right},{bend} {right},{edge}"/>'


if __name__ == "__main__":
    sys.stdout.write(drawing())
