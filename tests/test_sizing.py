"""The arithmetic of docs/scaling.md."""

from pathlib import Path

import pytest

from bench import sizing
from bench.sizing import Costs, size_of


def test_size_grows_with_the_load_and_never_is_less_than_one_process_of_each() -> None:
    small, large = (size_of(callbacks=load, per_task=10, days=30, costs=Costs()) for load in (1, 10_000))
    assert (small.serving, small.working) == (1, 1)
    assert large.tasks_per_second == 1000
    assert large.stored_tasks == 1000 * 86_400 * 30
    assert large.serving > 2
    assert large.working > large.serving


def test_page_shows_the_table_that_the_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    sizing.main([])
    page = (Path(__file__).parents[1] / "docs/scaling.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in page
