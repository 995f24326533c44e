"""The price list of the tests: one price of the upstream elkapi, in its points."""

from pathlib import Path


def prices_file(folder: Path, *, rate: str, in_usd: bool = False, **fields: str) -> Path:
    """Write a price list into a folder and return the file.

    :param rate: the points of one task
    :param in_usd: whether the list says what a point is in US dollars
    :param fields: further fields of the price, or other values than the usual ones
    """
    price = {"id": "elk", "upstream": "elkapi", "unit": "points", "rate": rate, **fields}
    unit = ["[unit.elkapi]", 'points = { usd = "0.01", checked = "2026-11-27" }'] if in_usd else []
    lines = ["schema = 1", *unit, "[[price]]", *(f'{name} = "{value}"' for name, value in price.items())]
    file = folder / "prices.toml"
    file.write_text("\n".join([*lines, "checked = 2026-11-27", ""]), encoding="utf-8")
    return file
