"""The kept plans of the hot statements: they cover every statement, and none reads a large table whole."""

import re
from pathlib import Path

import pytest

from bench.growth.statements import CLAIMS, IDLE, LISTS

PLANS = sorted((Path(__file__).parent / "plans").glob("*.txt"))


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_kept_plans_read_no_table_whole(file: Path) -> None:
    plans = dict(re.findall(r"^-- (.*)\n((?:(?!-- ).*\n)+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    assert plans.keys() == {*CLAIMS, *IDLE, *LISTS}
    large = r"(tasks|submissions|events|callbacks|webhook_messages)\b"
    whole = {name for name, plan in plans.items() if re.search(rf"Seq Scan on {large}|SCAN {large}(?! USING)", plan)}
    assert whole == set()
