"""``dovecote try``: one process that has everything for a first task."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from service.cli import exits, main
from service.cli.processes import free_ports


def test_try_with_its_port_in_use_ends_and_prints_no_instructions() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["try", "--port", str(port)])
    assert result.exit_code == exits.UNAVAILABLE
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "choose another port (--port)" in result.stderr
    assert "Dovecote runs" not in result.stderr


@pytest.mark.long
def test_try_is_one_process_in_which_the_first_task_is_done_and_told(tmp_path: Path) -> None:
    [port] = free_ports(1)
    command = [sys.executable, "-m", "service.cli", "try", "--port", str(port), "--seconds", "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603 - a command of ours
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C stops" in line:
                break
        url, receiver = f"http://127.0.0.1:{port}", re.search(r"(http\S+)/done", said)
        assert receiver is not None, said
        assert "/ui/start" in said
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with httpx.Client(base_url=url, timeout=60, follow_redirects=True) as client:
            assert str(client.get("/").url).endswith("/ui/start")
            document = {
                "family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"},
                "callback_url": receiver[0],
            }  # fmt: skip
            task = client.post("/v1/tasks", json=document).json()
            while task["state"] != "succeeded":
                task = client.get(f"/v1/tasks/{task['id']}", params={"wait": 20}).json()
            received = [""]
            while not any(task["id"] in each for each in received):
                received = [httpx.get(f"{receiver[1]}/receiver/received").text]
        if children.exists():
            assert children.read_text() == "", "it started another process"
        process.terminate()
        process.stdout.read()
    assert process.returncode == 0
