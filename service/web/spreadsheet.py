"""Tables as CSV, for spreadsheets."""

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins like this for a formula."""


def line(cells: Iterable[Any]) -> str:
    """Return one line of CSV. None is an empty cell, and a text that a spreadsheet would run is marked as a text."""
    texts = ("" if cell is None else str(cell) for cell in cells)
    written = io.StringIO()
    csv.writer(written).writerow([f"'{text}" if text.startswith(_FORMULA) else text for text in texts])
    return written.getvalue()
