"""The folder of ``--output`` is made, or refused, before anything is bought."""

from pathlib import Path

import click
import pytest

from service.cli.saving import check_folder


def test_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    check_folder(None)
    check_folder(tmp_path / "a" / "b")
    check_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(click.UsageError, match="cannot be created"):
        check_folder(tmp_path / name)
