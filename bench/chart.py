"""Draw the medians of a run as an SVG chart: ``python -m bench … --svg FILE``."""

from html import escape
from typing import Final

from bench.report import DATABASES, Run

_WIDTH, _LABEL, _BAR, _GAP, _HEAD = 760, 250, 16, 6, 34
_NAMES: Final = ("callbacks", "submits", "journeys")
_COLOURS: Final = {"dovecote": "#2a6f97", "obvious": "#b5651d"}
_OTHER: Final = "#8a8f94"


def draw(run: Run) -> str:
    """Return the chart: a bar for each contestant, as long as its requests a second in proportion to the fastest."""
    rows: list[str] = []
    y = 8
    for name in _NAMES:
        medians = run.of(name)
        if not medians:
            continue
        most = max(each.per_second for each in medians.values()) or 1.0
        y += 18
        rows.append(f'<text x="8" y="{y}" class="head">{name} per second</text>')
        y += _HEAD - 24
        for (database, contestant), figures in medians.items():
            colour = next((value for start, value in _COLOURS.items() if contestant.startswith(start)), _OTHER)
            length = max(figures.per_second / most * (_WIDTH - _LABEL - 90), 1)
            middle = y + _BAR - 4
            rows.append(
                f'<text x="{_LABEL}" y="{middle}" class="label">{escape(f"{DATABASES[database]}: {contestant}")}</text>'
            )
            rows.append(f'<rect x="{_LABEL + 8}" y="{y}" width="{length:.0f}" height="{_BAR}" fill="{colour}"/>')
            rows.append(f'<text x="{_LABEL + 14 + length:.0f}" y="{middle}">{figures.per_second:,.0f}</text>')
            y += _BAR + _GAP
        y += _GAP
    style = (
        "text{font:12px system-ui,sans-serif;fill:#222}.label{text-anchor:end}.head{font-weight:600}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
    )
    size = f'width="{_WIDTH}" height="{y + 8}" viewBox="0 0 {_WIDTH} {y + 8}"'
    title = "<title>Requests and journeys per second; the figures are in the tables</title>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>{title}<style>{style}</style>{"".join(rows)}</svg>\n'
