"""``dovecote health``: the address that it queries, and its exit codes and messages."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli import exits, main
from service.cli.health import where
from service.sandbox import running
from service.web import health


@pytest.mark.parametrize(
    ("environment", "file", "place"),
    [
        pytest.param({}, "", ("127.0.0.1", 8080), id="defaults"),
        pytest.param({"DOVECOTE_HOST": " :: ", "DOVECOTE_PORT": "9\n"}, "", ("::", 9), id="environment"),
        pytest.param({}, 'host = "::"\nport = 7\n', ("::", 7), id="file"),
        pytest.param({"DOVECOTE_PORT": "9"}, "port = 7", ("127.0.0.1", 9), id="environment-over-file"),
        pytest.param({"DOVECOTE_PORT": "tcp://10.0.0.1:80"}, "port = 7", ("127.0.0.1", 7), id="kubernetes"),
    ],
)
def test_health_asks_where_the_settings_listen(
    environment: dict[str, str], file: str, place: tuple[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "dovecote.toml"
    path.write_text(file)
    assert where({**environment, "DOVECOTE_CONFIG": str(path)}) == place


def test_health_without_a_server_is_unavailable() -> None:
    result = CliRunner().invoke(main, ["health"], env={"DOVECOTE_HOST": "::", "DOVECOTE_PORT": "1"})
    assert result.exit_code == exits.UNAVAILABLE
    assert "no answer from ::1:1" in result.output


async def test_health_of_a_server_is_ok() -> None:
    import asyncio

    from starlette.applications import Starlette

    class Served:
        app = Starlette(routes=health.ROUTES)

    async with running(Served()) as url:
        environment = {"DOVECOTE_HOST": "0.0.0.0", "DOVECOTE_PORT": url.rpartition(":")[2]}  # noqa: S104
        result = await asyncio.to_thread(CliRunner().invoke, main, ["health"], env=environment)
    assert (result.exit_code, result.output) == (exits.OK, '{"status":"ok"}\n')
