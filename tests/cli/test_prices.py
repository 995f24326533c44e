"""``dovecote prices refresh``: what it writes, and what it leaves as it is."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.cli import exits, main
from service.cli import prices as command
from service.domain.money.refresh import Row

OWN = """schema = 1

[[price]]
id = "mine"
upstream = "other"
unit = "USD"
rate = "7"
checked = 2026-11-27
"""


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Return the list that the gateway shows, to be filled."""
    rows: list[Row] = []

    async def ask(*_: Any) -> tuple[list[Row], int]:
        return rows, 0

    monkeypatch.setattr(command, "_ask", ask)
    return rows


def refresh(folder: Path, file: Path) -> Result:
    environment = {"DOVECOTE_DATABASE_URL": f"sqlite:///{folder / 'd.db'}", "ELKAPI_KEY": "a-sandbox-key"}
    arguments = ["prices", "refresh", "elkapi", "--write", str(file)]
    return CliRunner().invoke(main, arguments, env=environment, catch_exceptions=False)


def row(model: str, rate: str) -> Row:
    return Row(model=model, unit="USD", per="job", rate=Decimal(rate))


def ids(file: Path) -> list[str]:
    return [each["id"] for each in tomllib.loads(file.read_text(encoding="utf-8"))["price"]]


def test_other_rows_of_the_file_stay(tmp_path: Path, listed: list[Row]) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(OWN, encoding="utf-8")
    for model in ("a", "b"):
        listed[:] = [row("m", "0.1"), row(model, "0.2")]
        assert refresh(tmp_path, file).exit_code == exits.OK
    assert file.read_text(encoding="utf-8").startswith(OWN)
    assert sorted(ids(file)) == ["elkapi/a", "elkapi/b", "elkapi/m", "mine"]  # one has vanished, and is held


def test_file_that_would_have_mistakes_stays_as_it_is(tmp_path: Path, listed: list[Row]) -> None:
    file = tmp_path / "prices.toml"
    own = OWN.replace('"other"', '"elkapi"\nmodel = "m"')
    file.write_text(own, encoding="utf-8")
    listed[:] = [row("m", "0.1")]
    result = refresh(tmp_path, file)
    assert result.exit_code == exits.SETTINGS
    assert "nothing is written" in result.stderr
    assert "is about the same purchases as" in result.stderr
    assert file.read_text(encoding="utf-8") == own


def test_place_that_cannot_be_written_is_a_mistake_of_usage(tmp_path: Path, listed: list[Row]) -> None:
    listed[:] = [row("m", "0.1")]
    result = refresh(tmp_path, tmp_path / "missing" / "prices.toml")
    assert result.exit_code == exits.USAGE
    assert "cannot be written (No such file or directory)" in result.stderr
