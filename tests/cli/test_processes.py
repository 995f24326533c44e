"""Helper processes of the tests are started, watched, killed, and always ended."""

import contextlib
import http.client
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.cli.processes import NotStarted, ProcessGroup, Served, clean_environment, ended_by_signals, free_ports

pytestmark = pytest.mark.xdist_group("demo")


def receiver(folder: Path, *more: str, environment: Mapping[str, str] | None = None) -> Served:
    (port,) = free_ports(1)
    return Served(
        name="receiver",
        arguments=("receiver", "--port", str(port), *more),
        environment=environment or clean_environment(),
        port=port,
        folder=folder,
    )


def answers(served: Served) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=2)) as connection:
        try:
            connection.request("GET", "/healthz")
        except OSError:
            return False
        return connection.getresponse().status == 200


def test_processes_end_when_the_block_raises(tmp_path: Path) -> None:
    served = receiver(tmp_path)
    with contextlib.suppress(ZeroDivisionError), ProcessGroup() as group:
        group.start(served)
        served.wait_ready()
        assert answers(served)
        raise ZeroDivisionError
    assert served.process is not None
    assert served.process.returncode == 0  # it ended in order
    assert not answers(served)
    assert "Receiver at" in served.tail()


@pytest.mark.long
def test_killed_process_can_restart_on_its_port(tmp_path: Path) -> None:
    served = receiver(tmp_path)
    with ProcessGroup() as group:
        group.start(served)
        served.wait_ready()
        served.kill()
        assert not served.alive
        with pytest.raises(NotStarted, match="ended by itself"):
            served.ready()
        served.start()
        served.wait_ready()
    assert not answers(served)


def test_process_that_does_not_start_is_reported(tmp_path: Path) -> None:
    served = receiver(tmp_path, "--nonsense")
    with ProcessGroup() as group:
        group.start(served)
        with pytest.raises(NotStarted, match="receiver has ended by itself"):
            served.wait_ready()
    assert "No such option '--nonsense'" in served.tail()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_unwinds_the_stack(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with ended_by_signals(), pytest.raises(SystemExit) as caught:
        signal.raise_signal(number)
    assert caught.value.code == code
    assert signal.getsignal(number) is before


def test_environment_of_the_user_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOVECOTE_DATABASE_URL", "DOVECOTE_API_KEY", "ELKAPI_KEY", "COMETAPI_KEY", "RUNWAYML_API_SECRET"):
        monkeypatch.setenv(name, "real")
    given = clean_environment()
    assert "real" not in given.values()
    assert given["PATH"] == os.environ["PATH"]


def test_free_ports_differ_and_are_not_in_use() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(20_000 <= port < 32_000 for port in ports)
